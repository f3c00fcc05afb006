//! The commands that compute: demo, run, erase, generate, evaluate, train.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::bars::{Bars, span};
use super::{Common, DrawArgs, ModelArgs, default_out, output};
use crate::measure::Target;
use crate::run::{
    self, Adapter, AnswerSettings, Column, Embedding, EvaluateRequest, GanGenerateRequest,
    GenerateRequest, Job, JudgeSettings, Pipeline, PromptRow, Screening, Seeding, Unlearning,
};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Folder of the run
    #[arg(long)]
    out: Option<PathBuf>,
    /// Change a setting, for example `task.forget=["object:Cat"]`
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

#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    /// What to forget: style:NAME or object:NAME; may be given more than once
    #[arg(long, required = true)]
    forget: Vec<Target>,
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
pub(super) struct GenerateArgs {
    /// The prompt; a GAN has none
    #[arg(conflicts_with = "csv")]
    prompt: Option<String>,
    /// CSV with a column `prompt`, optionally `case_number`, `evaluation_seed`,
    /// `evaluation_guidance` and others' names of these
    #[arg(long)]
    csv: Option<PathBuf>,
    /// A column of the CSV under a name of its own, as in `prompt=adv_prompt` (case, seed,
    /// guidance, width and height too)
    #[arg(long, value_name = "KIND=NAME", requires = "csv")]
    column: Vec<Column>,
    /// Seeds for prompts without one of their own, as in 1,5,10-15
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = seeds)]
    seeds: Vec<RangeInclusive<u64>>,
    /// How far a GAN's styles may lie from their mean: 1 as they come, lower is more alike and
    /// cleaner; several are a sweep
    #[arg(long, value_delimiter = ',', default_value = "1")]
    truncation: Vec<f64>,
    /// Pictures on the way from each of a GAN's seeds to the next
    #[arg(long, value_name = "PICTURES", default_value_t = 0)]
    strip: usize,
    /// A seed whose style takes over in a GAN's layers from LAYER on
    #[arg(long, value_name = "SEED@LAYER", value_parser = mix)]
    mix: Option<(u64, i64)>,
    /// What a GAN's seeds mean: torch's numbers, or nvidia, which draws what NVIDIA's scripts draw
    /// for a seed
    #[arg(long, default_value = "torch")]
    seeding: Seeding,
    /// What to stay away from
    #[arg(long, default_value = "")]
    negative: String,
    /// Edit, part of a model, or `LoRA` to put onto the model, with `@STRENGTH` behind it or not
    #[arg(long, value_name = "FILE")]
    edit: Vec<Adapter>,
    /// A word that was learned from pictures (textual inversion): FILE, or WORD=FILE
    #[arg(long, value_name = "FILE")]
    embedding: Vec<Embedding>,
    /// Pixels, as in 512x512 [default: the model's own]
    #[arg(long, value_parser = size)]
    size: Option<(i64, i64)>,
    #[command(flatten)]
    draw: DrawArgs,
    /// Folder for the pictures
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// Folder of pictures {style}_{object}_seed{n}.png or .jpg
    pictures: PathBuf,
    /// The same pictures before the erasure
    #[arg(long)]
    base: Option<PathBuf>,
    /// What was erased: style:NAME or object:NAME
    #[arg(long)]
    forget: Option<Target>,
    /// CSV that maps files to prompts: columns file and prompt, or file, style, object, seed
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Names of the styles, with commas [default: the canvas']
    #[arg(long, value_delimiter = ',')]
    styles: Vec<String>,
    /// Names of the objects, with commas [default: the canvas']
    #[arg(long, value_delimiter = ',')]
    objects: Vec<String>,
    /// The shipped `judge`, or a Hugging Face CLIP folder
    #[arg(long, default_value = "judge")]
    judge: String,
    /// How the judge decides: text, prototypes or probe
    #[arg(long, default_value = "text")]
    decide: String,
    /// candle, libtorch, or auto: libtorch on a GPU, candle on a CPU
    #[arg(long, default_value = "auto")]
    engine: String,
    /// Pictures whose truth is known: canvas, aligned-canvas, none, or a folder STYLE/OBJECT/n.png
    #[arg(long, default_value = "canvas")]
    reference: String,
    /// Reference pictures of each style × object [default: 8]
    #[arg(long)]
    check: Option<u32>,
    /// Where the evidence of each picture goes (JSON lines)
    #[arg(long)]
    evidence: Option<PathBuf>,
    /// The pictures are a GAN's, which no prompt asked for: say what is seen in them, how surely,
    /// and how often
    #[arg(long, conflicts_with_all = ["base", "forget", "csv", "evidence"])]
    unprompted: bool,
    /// With --unprompted: the least probability at which a name counts
    #[arg(long, default_value = "0.5", requires = "unprompted", value_parser = probability)]
    confidence: f64,
    /// With --unprompted: Inception-v3's weights, by whose features the distance to the canvas is
    /// [default: the judge's]
    #[arg(long, value_name = "FILE", requires = "unprompted")]
    inception: Option<PathBuf>,
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
    study(&pipeline, args.out, common)
}

fn probability(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or_else(|| "a probability is a number from 0 to 1".to_owned())
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
    let mut job = Job::parse(&path, &text, &args.set)?;
    if let Some(seed) = args.seed {
        said_once("--seed", &["seed"], &args.set)?;
        job.set_seed(seed);
    }
    if let Some(file) = args.inception {
        job.set_inception(file)?;
    }
    if args.show_sensitive && !matches!(&job, Job::Concept(pipeline) if pipeline.concept.sensitive)
    {
        anyhow::bail!(
            "--show-sensitive is for a concept that its pipeline calls sensitive; nothing is \
             blurred here"
        );
    }
    if args.plan {
        return plan(&job, common);
    }
    match &job {
        Job::Classes(pipeline) => study(pipeline, args.out, common),
        Job::Concept(pipeline) => screen(pipeline, args.out, args.show_sensitive, common),
        Job::Gan(pipeline) => unlearn(pipeline, args.out, common),
    }
}

fn study(pipeline: &Pipeline, out: Option<PathBuf>, common: &Common) -> anyhow::Result<()> {
    let compute = common.compute()?;
    let root = out.unwrap_or_else(|| default_out(&pipeline.name));
    let summary = run::run(pipeline, &root, compute, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&summary);
    }
    output::summary(&summary);
    Ok(())
}

fn screen(
    pipeline: &Screening,
    out: Option<PathBuf>,
    show_sensitive: bool,
    common: &Common,
) -> anyhow::Result<()> {
    let compute = common.compute()?;
    let root = out.unwrap_or_else(|| default_out(&pipeline.name));
    let screened =
        run::screen(pipeline, &root, show_sensitive, compute, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&screened);
    }
    output::screened(&screened);
    Ok(())
}

fn unlearn(pipeline: &Unlearning, out: Option<PathBuf>, common: &Common) -> anyhow::Result<()> {
    let compute = common.compute()?;
    let root = out.unwrap_or_else(|| default_out(&pipeline.name));
    let unlearned = run::unlearn(pipeline, &root, compute, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&unlearned);
    }
    output::unlearned(&unlearned);
    Ok(())
}

fn plan(job: &Job, common: &Common) -> anyhow::Result<()> {
    let forecast = run::forecast(job, common.compute()?, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&forecast);
    }
    output::line(&format!("would erase {}, each from the base", forecast.targets.join(", ")));
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
    said_once("--forget", &["forget", "task.forget"], &args.set)?;
    let of_model = ["model", "model.path", "model.ema", "model.config", "model.prediction"];
    said_once("--model, --ema, --config or --prediction", &of_model, &args.set)?;
    let names: Vec<String> = args.forget.iter().map(ToString::to_string).collect();
    let name = format!("erase-{}", names.join("-").replace(':', "-"));
    let (model, root) = (args.model.settings(), args.out.unwrap_or_else(|| default_out(&name)));
    let mut bars = Bars::new(common.quiet);
    if run::needs_no_prompt(&model)? {
        let mut pipeline = Unlearning::of_one(&name, &names, &model, &args.set)?;
        pipeline.seed = args.seed.unwrap_or(pipeline.seed);
        return edits(run::erase_shown(&pipeline, &root, common.compute()?, &mut bars)?, common);
    }
    let mut text = toml::Table::new();
    text.insert("name".to_owned(), name.clone().into());
    let mut task = toml::Table::new();
    task.insert("forget".to_owned(), names.into());
    text.insert("task".to_owned(), task.into());
    text.insert("model".to_owned(), toml::Value::try_from(model)?);
    let mut pipeline = Pipeline::parse("erase", &toml::to_string(&text)?, &args.set)?;
    pipeline.seed = args.seed.unwrap_or(pipeline.seed);
    edits(run::erase_only(&pipeline, &root, common.compute()?, &mut bars)?, common)
}

/// Says where edits are.
fn edits(files: Vec<PathBuf>, common: &Common) -> anyhow::Result<()> {
    if common.json {
        return output::json(&serde_json::json!({ "edits": files }));
    }
    for file in files {
        output::line(&file.display().to_string());
    }
    Ok(())
}

pub(super) fn generate(args: GenerateArgs, common: &Common) -> anyhow::Result<()> {
    let mut bars = Bars::new(common.quiet);
    let prompts = match (&args.csv, args.prompt) {
        (Some(csv), _) if run::needs_no_prompt(&args.draw.model.settings())? => {
            anyhow::bail!(
                "{} is a StyleGAN2: it reads no prompt and no list of prompts ({}); its pictures \
                 are seeds (--seeds, --truncation)",
                args.draw.model.model,
                csv.display()
            )
        }
        (Some(csv), _) => run::read_prompts(csv, &args.column, &mut bars)?,
        (None, None) if !run::needs_no_prompt(&args.draw.model.settings())? => {
            let missing = clap::error::ErrorKind::MissingRequiredArgument;
            clap::Error::raw(
                missing,
                "a prompt is needed: give one, or a list of them with --csv\n",
            )
            .exit()
        }
        (None, Some(prompt)) if prompt.trim().is_empty() => {
            anyhow::bail!(
                "the prompt is empty; a picture of nothing in particular is drawn by --guidance 0 \
                 and any prompt, or by a list (--csv)"
            )
        }
        (None, prompt) => {
            vec![PromptRow::bare(0, &prompt.unwrap_or_default())]
        }
    };
    let commission = GenerateRequest {
        model: args.draw.model.settings(),
        edits: args.edit,
        embeddings: args.embedding,
        prompts,
        seeds: args.seeds.into_iter().flatten().collect(),
        negative: args.negative,
        guidance: args.draw.guidance,
        steps: args.draw.steps,
        sampler: args.draw.sampler,
        gan: GanGenerateRequest {
            truncation: args.truncation,
            strip: args.strip,
            mix: args.mix,
            seeding: args.seeding,
        },
        size: args.size,
        batch: args.draw.batch,
    };
    let root = args.out.unwrap_or_else(|| default_out("generate"));
    let drawn = run::generate(&commission, &root, common.compute()?, &mut bars)?;
    if common.json {
        return output::json(&serde_json::json!({ "pictures": drawn }));
    }
    for picture in drawn {
        output::line(&picture.file.display().to_string());
    }
    Ok(())
}

pub(super) fn evaluate(args: EvaluateArgs, common: &Common) -> anyhow::Result<()> {
    if args.check.is_some() && args.reference == "none" {
        anyhow::bail!(
            "--check is the number of reference pictures, and there are none (--reference none)"
        );
    }
    let device = common.compute()?.device;
    let answers = AnswerSettings { styles: args.styles, objects: args.objects, seeds: Vec::new() };
    let judge = JudgeSettings {
        path: args.judge,
        decide: args.decide,
        engine: args.engine,
        reference: Some(args.reference).filter(|reference| reference != "none"),
        check: args.check.unwrap_or(JudgeSettings::default().check),
        ..JudgeSettings::default()
    };
    if args.unprompted {
        let mut bars = Bars::new(common.quiet);
        let by = (args.confidence, args.inception.as_deref());
        let survey = run::survey(&args.pictures, &judge, &answers, by, device, &mut bars)?;
        if common.json {
            return output::json(&survey);
        }
        output::survey(&survey);
        return Ok(());
    }
    let inquiry = EvaluateRequest {
        pictures: args.pictures,
        base: args.base,
        forget: args.forget,
        csv: args.csv,
        answers,
        judge,
        evidence: args.evidence,
    };
    let mut bars = Bars::new(common.quiet);
    let verdict = run::evaluate(&inquiry, device, &mut bars)?;
    if common.json {
        return output::json(&verdict);
    }
    if !verdict.scores.is_empty() {
        output::scores(&verdict.scores);
    }
    if let Some(became) = &verdict.became {
        output::became(became);
    }
    output::judge(&verdict.judge);
    output::agreement(&verdict.agreement);
    output::line(&format!("evidence: {}", verdict.evidence.display()));
    Ok(())
}

pub(super) fn train(args: TrainArgs, common: &Common) -> anyhow::Result<()> {
    let path = args.recipe.display().to_string();
    let course = run::TrainRecipe::parse(&path, &fs_err::read_to_string(&args.recipe)?, &args.set)?;
    let root = args.out.unwrap_or_else(|| default_out(course.name()));
    let made = run::train(&course, &root, common.compute()?, &mut Bars::new(common.quiet))
        .with_context(|| format!("training {path}"))?;
    if common.json {
        return output::json(&serde_json::json!({ "models": made }));
    }
    for model in made {
        output::line(&model.display().to_string());
    }
    Ok(())
}

/// A seed, or the first and the last of several.
fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    /// More would be a slip of the finger.
    const MOST: u64 = 1_000_000;
    let wrong = || format!("`{text}` is no seed; write 5, or 10-15 for all of them from 10 to 15");
    let named = run::range(text).ok_or_else(wrong)?;
    if named.is_empty() || named.end() - named.start() >= MOST {
        return Err(wrong());
    }
    Ok(named)
}

fn mix(text: &str) -> Result<(u64, i64), String> {
    let wrong = || format!("`{text}` is no seed and layer; write SEED@LAYER, for example 7@4");
    let (seed, layer) = text.split_once('@').ok_or_else(wrong)?;
    Ok((seed.parse().map_err(|_| wrong())?, layer.parse().map_err(|_| wrong())?))
}

fn size(text: &str) -> Result<(i64, i64), String> {
    /// No network here draws larger pictures, and a slip of the finger would take all memory.
    const MOST: i64 = 8192;
    let wrong = || format!("write WIDTHxHEIGHT in pixels, 1 to {MOST} each, for example 512x512");
    let side =
        |text: &str| text.parse().ok().filter(|side| (1..=MOST).contains(side)).ok_or_else(wrong);
    let (width, height) = text.split_once('x').ok_or_else(wrong)?;
    Ok((side(width)?, side(height)?))
}
