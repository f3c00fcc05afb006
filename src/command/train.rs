//! Trains a recipe's models into a run folder.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::miniature::{MiniatureGanRecipe, MiniatureRecipe, train_miniature, train_miniature_gan};
use crate::pipeline::{Error as PipelineError, overridden};
use crate::run::Error;
use crate::run::folder::RunFolder;
use crate::run::hashes::content_hash;
use crate::run::record::Machine;
use crate::torch::Compute;
use crate::watch::Watch;

/// What can be trained from nothing.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum TrainRecipe {
    /// A Stable Diffusion in small and its judge.
    Miniature(MiniatureRecipe),
    /// A `StyleGAN2` in small and its labeller.
    MiniatureGan(MiniatureGanRecipe),
}

impl TrainRecipe {
    /// Reads a recipe; one with a part `gan` is a `StyleGAN2`'s.
    ///
    /// # Errors
    /// A text that is no recipe, sizes and names that make no sense.
    pub fn parse(path: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|error| PipelineError::Pipeline(format!("{path}: {error}")))?;
        let recipe = if table.contains_key("gan") {
            Self::MiniatureGan(overridden(path, text, sets)?)
        } else {
            Self::Miniature(overridden(path, text, sets)?)
        };
        let checked = match &recipe {
            Self::MiniatureGan(recipe) => recipe.check(),
            Self::Miniature(recipe) => recipe.check(),
        };
        checked.map_err(|why| PipelineError::Pipeline(format!("{path}: {why}")))?;
        Ok(recipe)
    }

    /// What it makes, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Miniature(_) => "miniature",
            Self::MiniatureGan(_) => "miniature-gan",
        }
    }

    /// The folders that it makes.
    fn models(&self) -> &'static [&'static str] {
        match self {
            Self::Miniature(_) => &["miniature", "judge"],
            Self::MiniatureGan(recipe) if recipe.labeller.is_none() => &["miniature-gan"],
            Self::MiniatureGan(_) => &["miniature-gan", "labeller"],
        }
    }
}

/// Trains it into `root`, or goes on with it; returns the models' folders.
///
/// # Errors
/// Whatever stops it; what was finished is kept.
pub fn train(
    training: &TrainRecipe,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<PathBuf>, Error> {
    let from = match training {
        TrainRecipe::MiniatureGan(recipe) => {
            recipe.gan.from.as_deref().map(content_hash).transpose()?
        }
        TrainRecipe::Miniature(_) => None,
    };
    RunFolder::within(root, training, &[], Machine::here(compute), watch, |run, watch| {
        if let Some(from) = from {
            run.record.bind("generator to begin with", from.to_hex().as_str())?;
        }
        run.phase("training", compute.device, |run| {
            let out = run.root();
            match training {
                TrainRecipe::Miniature(recipe) => {
                    train_miniature(recipe, out, compute, watch)?;
                }
                TrainRecipe::MiniatureGan(recipe) => {
                    train_miniature_gan(recipe, out, compute, watch)?;
                }
            }
            Ok(())
        })
    })?;
    Ok(training.models().iter().map(|name| root.join(name)).collect())
}
