//! `unsee demo`, `unsee run`, `unsee erase` and `unsee train`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::bars::{Bars, span};
use super::pipeline_table::{PipelineArgs, PipelineTable, named, said_once};
use super::{Common, default_out, output};
use crate::command::train::{TrainRecipe, train as train_recipe};
use crate::generator::{Adapter, ModelKind};
use crate::measure::TargetClass;
use crate::pipeline::{AttackSetting, Judged, MethodSetting, Pipeline};
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
    #[arg(long, default_value = "", hide_default_value = true, requires = "words")]
    anchor: String,
    /// What to forget: style:NAME or object:NAME; may be given more than once
    #[arg(long)]
    forget: Vec<TargetClass>,
    #[arg(long, help = methods())]
    method: Option<String>,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// The help of `--with`.
fn attacks() -> String {
    let names = AttackSetting::names().join(", ");
    format!("The attacks, with commas between them: {names}")
}

#[derive(Debug, Args)]
pub(super) struct AttackArgs {
    /// What was erased: style:NAME or object:NAME, or words that bring it out
    #[arg(long)]
    concept: String,
    /// What the words were to become [default: nothing in particular]
    #[arg(long, default_value = "", hide_default_value = true)]
    anchor: String,
    /// What erased it: an edit, a LoRA, a model or a part of one; FILE@STRENGTH for so much of it;
    /// of several, all of them together
    #[arg(long, value_name = "FILE", required = true)]
    edit: Vec<Adapter>,
    #[arg(long, value_delimiter = ',', required = true, value_name = "NAMES", help = attacks())]
    with: Vec<String>,
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Say what would run and how long it would take, and do nothing
    #[arg(long)]
    plan: bool,
    /// Do not blur the grids of a concept that is called sensitive (--set concept.sensitive=true)
    #[arg(long)]
    show_sensitive: bool,
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
    for attack in &forecast.attacks {
        let steps = attack.training_steps + attack.search_steps;
        let time = attack.minutes.map_or_else(String::new, |m| format!(", {}", span(m * 60.0)));
        output::line(&format!(
            "{}: at most {steps} steps and {} pictures{time}",
            attack.attack, attack.pictures
        ));
    }
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
    let sets = &args.pipeline.set;
    let mut table = PipelineTable::new(&args.pipeline)?;
    let name = if let Some(words) = &args.words {
        said_once("the words", &["concept.name", "concept.pairs"], sets)?;
        table.forget_words(words, &args.anchor)?
    } else {
        said_once("--forget", &["concept.forget"], sets)?;
        table.forget_classes(&args.forget)
    };
    let name = format!("erase-{name}");
    let root = args.pipeline.out.unwrap_or_else(|| default_out(&name));
    if let Some(method) = args.method {
        said_once("--method", &["method.name"], sets)?;
        table.list("method", vec![named(&method)]);
    }
    let pipeline = Pipeline::parse_erasure("erase", &table.text(&name)?, sets)?;
    let files = study::erase(&pipeline, &root, common.compute()?, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&serde_json::json!({ "edits": files }));
    }
    for file in files {
        output::line(&file.display().to_string());
    }
    Ok(())
}

pub(super) fn attack(args: AttackArgs, common: &Common) -> anyhow::Result<()> {
    let sets = &args.pipeline.set;
    said_once("--concept", &["concept.forget", "concept.name", "concept.pairs"], sets)?;
    said_once("--edit", &["method.name", "method.files"], sets)?;
    said_once("--with", &["attack.name"], sets)?;
    let mut table = PipelineTable::new(&args.pipeline)?;
    let name = match args.concept.parse::<TargetClass>() {
        Ok(class) if args.anchor.is_empty() => table.forget_classes(&[class]),
        Ok(class) => anyhow::bail!(
            "--anchor is for words; what {class} became is said with --set \
             concept.style_anchor=NAME or concept.object_anchor=NAME"
        ),
        Err(_) => table.forget_words(&args.concept, &args.anchor)?,
    };
    let stem = |adapter: &Adapter| {
        let stem = adapter.path.file_stem().unwrap_or_default().to_string_lossy();
        stem.replace(|c: char| !c.is_alphanumeric() && !"-_.".contains(c), "-")
    };
    let label = args.edit.iter().map(stem).collect::<Vec<_>>().join("-");
    let files = args.edit.iter().map(ToString::to_string).collect();
    let edit = MethodSetting::given(label.clone(), files, args.pipeline.model.ema);
    table.list("method", vec![toml::Value::try_from(edit)?]);
    table.list("attack", args.with.iter().map(|attack| named(attack)).collect());
    let name = format!("attack-{name}-{label}");
    let pipeline = Pipeline::parse("attack", &table.text(&name)?, sets)?;
    if args.plan {
        return plan(&pipeline, common);
    }
    studied(&pipeline, args.pipeline.out, args.show_sensitive, common)
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
