//! Pipelines that a command's options stand for: written down as a file would have them, so that
//! everything about them is checked in one place.

use std::path::PathBuf;

use clap::Args;

use super::ModelArgs;
use crate::measure::TargetClass;
use crate::pipeline::needs_no_prompt;

/// What commands that are pipelines take.
#[derive(Debug, Args)]
pub(super) struct PipelineArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// Change a setting: method.density=0.3, attack.images=20, attack.NAME.images=20 where there
    /// are several
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Folder of the run
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// The seed of erasure and attacks [default: 0]
    #[arg(long)]
    pub(super) seed: Option<u64>,
}

/// The tables of a pipeline.
pub(super) struct PipelineTable {
    tables: toml::Table,
    /// Whether the model is a GAN.
    of_gan: bool,
}

impl PipelineTable {
    /// Of a model; what its options say must not be in the settings too.
    pub(super) fn new(args: &PipelineArgs) -> anyhow::Result<Self> {
        let of_model = ["model", "model.path", "model.ema", "model.config", "model.prediction"];
        said_once("--model, --ema, --config or --prediction", &of_model, &args.set)?;
        let mut tables = toml::Table::new();
        if let Some(seed) = args.seed {
            said_once("--seed", &["seed"], &args.set)?;
            tables.insert("seed".to_owned(), toml::Value::try_from(seed)?);
        }
        let settings = args.model.settings();
        let of_gan = needs_no_prompt(&settings)?;
        if of_gan {
            tables.insert("latents".to_owned(), entries([]));
        }
        tables.insert("model".to_owned(), toml::Value::try_from(settings)?);
        Ok(Self { tables, of_gan })
    }

    /// Forgets what words bring out; returns a name for it in names of files.
    pub(super) fn forget_words(&mut self, words: &str, anchor: &str) -> anyhow::Result<String> {
        if self.of_gan {
            anyhow::bail!("a StyleGAN2 reads no words; name a class, style:NAME or object:NAME");
        }
        let prompts = |text: &str| toml::Value::Array(vec![text.into()]);
        let judged = [("concept", prompts(words)), ("keep", prompts("a picture"))];
        let pair = entries([("forget", words.into()), ("anchor", anchor.into())]);
        let concept = [("name", words.into()), ("pairs", toml::Value::Array(vec![pair]))];
        self.tables.insert("prompts".to_owned(), entries(judged));
        self.tables.insert("concept".to_owned(), entries(concept));
        Ok(words.replace([' ', '/'], "-"))
    }

    /// Forgets classes; returns a name for them in names of files.
    pub(super) fn forget_classes(&mut self, classes: &[TargetClass]) -> String {
        let names: Vec<String> = classes.iter().map(ToString::to_string).collect();
        let name = names.join("-").replace(':', "-");
        self.tables.insert("concept".to_owned(), entries([("forget", names.into())]));
        name
    }

    /// Adds a list of tables.
    pub(super) fn list(&mut self, key: &str, tables: Vec<toml::Value>) {
        self.tables.insert(key.to_owned(), toml::Value::Array(tables));
    }

    /// As a file has it, under a name.
    pub(super) fn text(mut self, name: &str) -> anyhow::Result<String> {
        self.tables.insert("name".to_owned(), name.into());
        Ok(toml::to_string(&self.tables)?)
    }
}

/// A table with these entries.
fn entries<const N: usize>(entries: [(&str, toml::Value); N]) -> toml::Value {
    let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
    toml::Value::Table(entries.collect())
}

/// A method or an attack with its usual settings.
pub(super) fn named(name: &str) -> toml::Value {
    entries([("name", name.into())])
}

/// Refuses a setting that an option says too: which of them is meant is not to be guessed.
pub(super) fn said_once(option: &str, keys: &[&str], settings: &[String]) -> anyhow::Result<()> {
    let key = |setting: &String| setting.split('=').next().unwrap_or_default().trim().to_owned();
    match settings.iter().map(key).find(|key| keys.contains(&key.as_str())) {
        Some(key) => {
            anyhow::bail!("{option} and --set {key} say the same thing; leave one of them out")
        }
        None => Ok(()),
    }
}
