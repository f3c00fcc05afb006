//! `unsee demo`, `unsee run`, `unsee erase` and `unsee train`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::bars::{Bars, span};
use super::{Common, ModelArgs, default_out, output};
use crate::command::train::{TrainRecipe, train as train_recipe};
use crate::generator::ModelKind;
use crate::measure::TargetClass;
use crate::pipeline::{Judged, MethodSetting, Pipeline, needs_no_prompt};
use crate::study;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Folder of the run
    #[arg(long)]
    out: Option<PathBuf>,
    /// Change a setting, for example `concept.forget=["object:Cat"]`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The pipeline file
    pipeline: PathBuf,
    /// Folder of the run [default: outputs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Change a setting of the pipeline, for example method.steps=400
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The seed of the erasure
    #[arg(long)]
    seed: Option<u64>,
    /// Inception-v3's weights, by whose features a GAN's pictures are compared [default: the
    /// judge's features]
    #[arg(long, value_name = "FILE")]
    inception: Option<PathBuf>,
    /// Say what would run and how long it would take, and do nothing
    #[arg(long)]
    plan: bool,
    /// Do not blur the grid of a sensitive concept
    #[arg(long)]
    show_sensitive: bool,
}

/// The help of `--method`.
fn methods() -> String {
    let usual = [ModelKind::Diffusion, ModelKind::Gan].map(MethodSetting::usual);
    let [diffusion, gan] =
        usual.map(|method| method.map_or_else(String::new, |method| method.name().to_owned()));
    let names = MethodSetting::names().join(", ");
    format!("By which method: {names} [default: {diffusion}, of a GAN {gan}]")
}

#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    /// What to forget, in words that bring it out, as in "van gogh"
    #[arg(required_unless_present = "forget", conflicts_with = "forget")]
    words: Option<String>,
    /// What the words are to become [default: nothing in particular]
    #[arg(long, default_value = "", requires = "words")]
    anchor: String,
    /// What to forget: style:NAME or object:NAME; may be given more than once
    #[arg(long)]
    forget: Vec<TargetClass>,
    #[arg(long, help = methods())]
    method: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Change a setting, for example method.density=0.3
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the run
    #[arg(long)]
    out: Option<PathBuf>,
    /// The seed of the erasure [default: 0]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// The recipe: pipelines/miniature.toml, pipelines/miniature-gan.toml
    recipe: PathBuf,
    /// Folder of the run [default: outputs/miniature, outputs/miniature-gan]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Change a setting: key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

const DEMO: &str = include_str!("../../pipelines/demo.toml");

pub(super) fn demo(args: DemoArgs, common: &Common) -> anyhow::Result<()> {
    let pipeline = Pipeline::parse("demo", DEMO, &args.set)?;
    studied(&pipeline, args.out, false, common)
}

/// Refuses a setting that an option says too: which of them is meant is not to be guessed.
fn said_once(option: &str, keys: &[&str], settings: &[String]) -> anyhow::Result<()> {
    let key = |setting: &String| setting.split('=').next().unwrap_or_default().trim().to_owned();
    match settings.iter().map(key).find(|key| keys.contains(&key.as_str())) {
        Some(key) => {
            anyhow::bail!("{option} and --set {key} say the same thing; leave one of them out")
        }
        None => Ok(()),
    }
}

pub(super) fn run(args: RunArgs, common: &Common) -> anyhow::Result<()> {
    let path = args.pipeline.display().to_string();
    let text = fs_err::read_to_string(&args.pipeline)?;
    let mut pipeline = Pipeline::parse(&path, &text, &args.set)?;
    if let Some(seed) = args.seed {
        said_once("--seed", &["seed"], &args.set)?;
        pipeline.seed = seed;
    }
    if let Some(file) = args.inception {
        said_once("--inception", &["judge.inception"], &args.set)?;
        if !matches!(pipeline.judged(), Judged::Latents(_)) {
            anyhow::bail!(
                "--inception is for a GAN's pipeline; this one compares no sets of pictures"
            );
        }
        pipeline.judge.inception = Some(file);
    }
    if args.show_sensitive && !pipeline.concept.sensitive {
        anyhow::bail!(
            "--show-sensitive is for a concept that its pipeline calls sensitive; nothing is \
             blurred here"
        );
    }
    if args.plan {
        return plan(&pipeline, common);
    }
    studied(&pipeline, args.out, args.show_sensitive, common)
}

fn studied(
    pipeline: &Pipeline,
    out: Option<PathBuf>,
    show_sensitive: bool,
    common: &Common,
) -> anyhow::Result<()> {
    let compute = common.compute()?;
    let root = out.unwrap_or_else(|| default_out(&pipeline.name));
    let mut bars = Bars::new(common.quiet);
    let report = study::run(pipeline, &root, show_sensitive, compute, &mut bars)?;
    if common.json {
        return output::json(&report);
    }
    output::report(&report);
    Ok(())
}

fn plan(pipeline: &Pipeline, common: &Common) -> anyhow::Result<()> {
    let forecast = study::forecast(pipeline, common.compute()?, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&forecast);
    }
    output::line(&format!(
        "would erase {}, each from the base, by {}",
        forecast.targets.join(", "),
        forecast.methods.join(", ")
    ));
    output::line(&format!("pictures to draw: {}", forecast.pictures));
    output::line(&format!("training steps: {}", forecast.steps));
    if let Some(minutes) = forecast.minutes {
        output::line(&format!("predicted time: {}", span(minutes * 60.0)));
    }
    for (what, bytes) in
        [("predicted peak memory", forecast.memory), ("on the GPU", forecast.device_memory)]
    {
        if let Some(bytes) = bytes {
            output::line(&format!("{what}: {} MiB", bytes >> 20));
        }
    }
    if let Some(missing) = forecast.missing {
        output::line(&format!("time and memory cannot be predicted yet: {missing}"));
    }
    output::line("nothing was done");
    Ok(())
}

pub(super) fn erase(args: EraseArgs, common: &Common) -> anyhow::Result<()> {
    if args.seed.is_some() {
        said_once("--seed", &["seed"], &args.set)?;
    }
    let of_model = ["model", "model.path", "model.ema", "model.config", "model.prediction"];
    said_once("--model, --ema, --config or --prediction", &of_model, &args.set)?;
    let model = args.model.settings();
    let mut text = toml::Table::new();
    let (concept, name) = if let Some(words) = &args.words {
        said_once("the words", &["concept.name", "concept.pairs"], &args.set)?;
        if needs_no_prompt(&model)? {
            anyhow::bail!("{} reads no words; name a class (--forget)", args.model.model);
        }
        let prompts = |text: &str| toml::Value::Array(vec![text.into()]);
        // Nobody judges here, so that these are never drawn.
        let judged = [("concept", prompts(words)), ("keep", prompts("a picture"))];
        text.insert("prompts".to_owned(), table(judged));
        let pair = [("forget", words.as_str().into()), ("anchor", args.anchor.clone().into())];
        let pairs = toml::Value::Array(vec![table(pair)]);
        (table([("name", words.as_str().into()), ("pairs", pairs)]), words.replace([' ', '/'], "-"))
    } else {
        said_once("--forget", &["concept.forget"], &args.set)?;
        let names: Vec<String> = args.forget.iter().map(ToString::to_string).collect();
        if needs_no_prompt(&model)? {
            text.insert("latents".to_owned(), table([]));
        }
        let name = names.join("-").replace(':', "-");
        (table([("forget", names.into())]), name)
    };
    let name = format!("erase-{name}");
    let root = args.out.unwrap_or_else(|| default_out(&name));
    text.insert("name".to_owned(), name.into());
    text.insert("concept".to_owned(), concept);
    text.insert("model".to_owned(), toml::Value::try_from(model)?);
    if let Some(method) = args.method {
        said_once("--method", &["method.name"], &args.set)?;
        let method = table([("name", method.into())]);
        text.insert("method".to_owned(), toml::Value::Array(vec![method]));
    }
    let mut pipeline = Pipeline::parse_erasure("erase", &toml::to_string(&text)?, &args.set)?;
    pipeline.seed = args.seed.unwrap_or(pipeline.seed);
    let files = study::erase(&pipeline, &root, common.compute()?, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&serde_json::json!({ "edits": files }));
    }
    for file in files {
        output::line(&file.display().to_string());
    }
    Ok(())
}

/// A TOML table.
fn table<const N: usize>(entries: [(&str, toml::Value); N]) -> toml::Value {
    let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
    toml::Value::Table(entries.collect())
}

pub(super) fn train(args: TrainArgs, common: &Common) -> anyhow::Result<()> {
    let path = args.recipe.display().to_string();
    let text = fs_err::read_to_string(&args.recipe)?;
    let recipe = TrainRecipe::parse(&path, &text, &args.set)?;
    let root = args.out.unwrap_or_else(|| default_out(recipe.name()));
    let made = train_recipe(&recipe, &root, common.compute()?, &mut Bars::new(common.quiet))
        .with_context(|| format!("training {path}"))?;
    if common.json {
        return output::json(&serde_json::json!({ "models": made }));
    }
    for model in made {
        output::line(&model.display().to_string());
    }
    Ok(())
}
