//! The command line: arguments in, results to stdout, everything else to stderr. No arithmetic.

mod bars;
mod doctor;
mod evaluate;
mod exports;
mod generate;
mod grids;
mod inspect;
mod jobs;
mod label;
mod output;
mod pipeline_table;
#[cfg(feature = "hub")]
mod pull;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::checkpoint_timer::CheckpointTimer;
use crate::pipeline::{Batch, ModelSettings};
use crate::run::Error;
use crate::sampler::{Prediction, Solver};
use crate::torch::{Choice, Compute, Device, MemoryMode, Precision, set_threads};
use crate::watch::Watch as _;
use crate::weights::EmaChoice;

/// Takes a concept out of an image generator and proves that it is gone.
#[derive(Debug, Parser)]
#[command(name = "unsee", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Args)]
struct Common {
    /// Where to compute: auto, cpu, cuda, cuda:N
    #[arg(long, global = true, default_value = "auto")]
    device: Choice,
    /// f32, bf16, and on a GPU f16 or tf32 [default: the fastest that is safe here]
    #[arg(long, global = true)]
    precision: Option<Precision>,
    /// What training gives up for memory: nothing (fast), time (balanced), or also exactness (low)
    #[arg(long, global = true, default_value = "fast", value_name = "MODE")]
    memory: MemoryMode,
    /// Threads inside an operation [default: all]
    #[arg(long, global = true, value_parser = threads)]
    threads: Option<usize>,
    /// Seconds of work between two checkpoints, at least; a slow disk wants more [default: 3]
    #[arg(long, global = true, value_name = "SECONDS")]
    checkpoint_seconds: Option<u32>,
    /// Print one JSON object instead of tables
    #[arg(long, global = true)]
    json: bool,
    /// No progress on stderr
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl Common {
    fn compute(&self) -> Result<Compute, crate::torch::Error> {
        let device = Device::open(self.device)?;
        Ok(Compute {
            device,
            precision: Precision::choose(self.precision, device)?,
            memory: self.memory,
        })
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Erase a style from the shipped miniature and show that it is gone: a table, a grid, a run
    /// folder
    #[command(after_help = "Example:\n  unsee demo\n  unsee demo --out /tmp/first-run")]
    Demo(jobs::DemoArgs),
    /// Run a pipeline: draw, erase, draw again, judge; start it again to go on where it stopped
    #[command(after_help = "Example:\n  unsee run pipelines/salun-style.toml\n  unsee run \
            pipelines/salun-style.toml --set method.steps=400 --out outputs/longer\n  unsee run \
            pipelines/salun-style.toml --plan\n  unsee run pipelines/gan-adapt-then-unlearn.toml \
            --set 'concept.forget=[\"object:Cat\"]'")]
    Run(jobs::RunArgs),
    /// Draw pictures from a prompt or a list of prompts, or from a GAN's seeds
    #[command(after_help = "Example:\n  unsee generate \"A Cat image in Mosaic style.\" --seeds \
            1,2,3 --out outputs/cats\n  unsee generate --csv prompts.csv --model \
            ~/models/stable-diffusion-v1-5 --out outputs/list\n  unsee generate --model \
            miniature-gan --seeds 0-24 --truncation 0.7 --out outputs/gan")]
    Generate(generate::GenerateArgs),
    /// Erase a concept and save the edit
    #[command(
        after_help = "Example:\n  unsee erase \"van gogh\" --method METHOD --model MODEL\n  unsee \
            erase --forget style:Mosaic --out \
            outputs/no-mosaic\n  unsee erase --forget object:Cat --set method.density=0.3 --out \
            outputs/no-cats\n  unsee erase --model miniature-gan --forget object:Cat --out \
            outputs/gan-no-cats"
    )]
    Erase(jobs::EraseArgs),
    /// Attack an erasure, wherever it was made, and say whether the concept comes back
    #[command(after_help = "Example:\n  unsee attack --concept style:Mosaic --edit \
            outputs/demo/edits/style-Mosaic-salun.safetensors --with \
            seeds\n  unsee attack --model MODEL --edit peer.pt --concept \"van \
            gogh\" --with seeds --set 'judge.shows=[\"a painting by van gogh\"]' --set \
            'judge.clear=[\"a painting\"]' --plan")]
    Attack(jobs::AttackArgs),
    /// Judge a folder of pictures, wherever they were drawn
    #[command(after_help = "Example:\n  unsee evaluate outputs/demo/pictures/base\n  unsee \
            evaluate after/ --base before/ --forget style:Mosaic --json\n  unsee evaluate \
            outputs/gan --unprompted --reference aligned-canvas")]
    Evaluate(evaluate::EvaluateArgs),
    /// Put pictures side by side, with labels
    #[command(after_help = "Example:\n  unsee grid outputs/demo/pictures/base \
            outputs/demo/pictures/style-Mosaic-salun --only Cat --out cats.png\n  unsee grid \
            outputs/strip --rows prompt --out strip.png\n  unsee grid outputs/demo outputs/methods \
            --out benchmark.png")]
    Grid(grids::GridArgs),
    /// Draw the canvas: styles × objects in `UnlearnCanvas`' folder layout
    #[command(after_help = "Example:\n  unsee canvas --out canvas --per-cell 20\n  unsee canvas \
            --sheet sheet.png")]
    Canvas(grids::CanvasArgs),
    /// Train the miniature and its judge, or the miniature GAN and its labeller, from nothing
    #[command(after_help = "Example:\n  unsee train pipelines/miniature.toml --out \
            outputs/miniature\n  unsee train pipelines/miniature-gan.toml --out \
            outputs/miniature-gan")]
    Train(jobs::TrainArgs),
    /// Draw a GAN's samples onto numbered pages, and read back which of them show what is to go
    #[command(after_help = "Example:\n  unsee label outputs/cats --model miniature-gan --samples \
            300\n  unsee label outputs/cats --shows 3,7,12-15")]
    Label(label::LabelArgs),
    /// Bring a model from the Hugging Face hub into its cache; the only command that touches the
    /// network
    #[cfg(feature = "hub")]
    #[command(
        after_help = "Example:\n  unsee pull stable-diffusion-v1-5/stable-diffusion-v1-5\n  \
            HF_TOKEN=... unsee pull stabilityai/stable-diffusion-2-1@main"
    )]
    Pull(pull::PullArgs),
    /// Write a model, edited or not, for diffusers, A1111, `ComfyUI` or rosinality's `StyleGAN2`
    #[command(after_help = "Example:\n  unsee export no-mosaic --edit \
            outputs/demo/edits/style-Mosaic-salun.safetensors\n  unsee export \
            no-mosaic.safetensors --as single-file \
            --dtype f16 --edit outputs/demo/edits/style-Mosaic-salun.safetensors\n  unsee export \
            lora.safetensors --as \
            lora --rank 16 --edit outputs/demo/edits/style-Mosaic-salun.safetensors\n  unsee \
            export gan.pt --as \
            rosinality --model network.pkl")]
    Export(exports::ExportArgs),
    /// Say by block how far two models are apart
    #[command(after_help = "Example:\n  unsee diff models/miniature no-mosaic\n  unsee diff \
            miniature miniature --edit-b outputs/demo/edits/style-Mosaic-salun.safetensors\n  \
            unsee diff miniature-gan \
            gan.pt")]
    Diff(exports::DiffArgs),
    /// Say what a file or folder is: edit, weights, model folder, run
    #[command(after_help = "Example:\n  unsee inspect \
            outputs/demo/edits/style-Mosaic-salun.safetensors\n  unsee \
            inspect miniature-gan")]
    Inspect(inspect::InspectArgs),
    /// Say what this machine can do, and why not more
    #[command(after_help = "Example:\n  unsee doctor\n  unsee doctor --json")]
    Doctor,
}

impl Command {
    /// Options of all commands that were given, and that this one does nothing with.
    fn idle(&self, common: &Common) -> Vec<&'static str> {
        let trains = matches!(
            self,
            Self::Demo(_) | Self::Run(_) | Self::Erase(_) | Self::Attack(_) | Self::Train(_)
        );
        let computes = trains || matches!(self, Self::Generate(_) | Self::Label(_) | Self::Doctor);
        let places = computes || matches!(self, Self::Evaluate(_));
        let given = [
            ("--memory", common.memory != MemoryMode::default(), trains),
            ("--checkpoint-seconds", common.checkpoint_seconds.is_some(), trains),
            ("--precision", common.precision.is_some(), computes),
            ("--device", common.device != Choice::Auto, places),
        ];
        given
            .into_iter()
            .filter(|(_, given, used)| *given && !used)
            .map(|(option, ..)| option)
            .collect()
    }
}

/// Which model; shared by several commands.
#[derive(Debug, Clone, Args)]
struct ModelArgs {
    /// The shipped `miniature` or `miniature-gan`, a diffusers folder, a single file, or a
    /// `StyleGAN2` (.pt, .pkl, .safetensors)
    #[arg(long, default_value = "miniature")]
    model: String,
    /// Whether a single file's averaged UNet is taken, of the model and of edits: yes, no, or as
    /// diffusers does (auto: no)
    #[arg(long, default_value = "auto")]
    ema: EmaChoice,
    /// A diffusers folder whose configuration and tokenizer belong to a single file, and the
    /// components that it lacks
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// What the UNet predicts: epsilon or `v_prediction` [default: what its files say]
    #[arg(long)]
    prediction: Option<Prediction>,
}

impl ModelArgs {
    fn settings(&self) -> ModelSettings {
        ModelSettings {
            path: self.model.clone(),
            ema: self.ema,
            config: self.config.clone(),
            prediction: self.prediction,
        }
    }
}

/// Which model, and how it draws.
#[derive(Debug, Clone, Args)]
struct DrawArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// ddim, pndm, dpm++, dpm++karras, euler, `euler_a`, heun or lms [default: the model's own]
    #[arg(long)]
    sampler: Option<Solver>,
    /// Sampling steps [default: 20]
    #[arg(long)]
    steps: Option<usize>,
    /// Scale of classifier-free guidance; up to 1 the prompt draws alone [default: 2]
    #[arg(long, value_parser = guidance)]
    guidance: Option<f64>,
    /// Pictures in a batch, or auto: as many as fit into free memory
    #[arg(long, default_value = "16")]
    batch: Batch,
}

/// A number of threads that makes sense.
fn threads(text: &str) -> Result<usize, String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = (4 * cores).max(64);
    match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("1 to {most} threads make sense here, where there are {cores} cores")),
    }
}

fn guidance(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| "guidance is a number and not negative, 7.5 for example".to_owned())
}

/// Runs the program.
pub fn main() -> ExitCode {
    bars::listen();
    crate::torch::keep_memory();
    let cli = Cli::parse();
    let json = cli.common.json;
    match dispatch(cli).and_then(|()| output::finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let interrupted = matches!(error.downcast_ref::<Error>(), Some(Error::Interrupted));
            output::failure(&error, json);
            ExitCode::from(if interrupted { 130 } else { 1 })
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let common = &cli.common;
    if let Some(threads) = common.threads {
        set_threads(threads);
    }
    if let Some(seconds) = common.checkpoint_seconds {
        CheckpointTimer::at_least(Duration::from_secs(seconds.into()));
    }
    for option in cli.command.idle(common) {
        bars::Bars::new(common.quiet).warn(&format!("{option} has no effect on this command"));
    }
    match cli.command {
        Command::Demo(args) => jobs::demo(args, common),
        Command::Run(args) => jobs::run(args, common),
        Command::Generate(args) => generate::generate(args, common),
        Command::Erase(args) => jobs::erase(args, common),
        Command::Attack(args) => jobs::attack(args, common),
        Command::Evaluate(args) => evaluate::evaluate(args, common),
        Command::Grid(args) => grids::grid(args, common),
        Command::Canvas(args) => grids::canvas(args, common),
        Command::Train(args) => jobs::train(args, common),
        Command::Label(args) => label::label(args, common),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::pull(args, common),
        Command::Export(args) => exports::export(args, common),
        Command::Diff(args) => exports::diff(args, common),
        Command::Inspect(args) => inspect::inspect(args, common),
        Command::Doctor => doctor::doctor(common),
    }
}

/// `outputs/<name>` in the current folder.
fn default_out(name: &str) -> PathBuf {
    PathBuf::from("outputs").join(name)
}
