//! Methods that take a concept out of a model. One method a file; a method knows no other method
//! and no judge. Each returns an [`Edit`] and leaves the model as it was.

mod adapt_then_unlearn;
mod adaptation;
mod encoded;
mod ensemble;
mod ewc;
mod extrapolation;
mod feedback;
mod fine_tuning;
mod parameter_subset;
mod positives;
mod relabelling;
mod repulsion;
mod saliency;
pub mod salun;
#[cfg(test)]
mod small;
mod training_images;
mod variant;

use std::path::Path;

pub use adapt_then_unlearn::AdaptThenUnlearn;
pub use adaptation::Adaptation;
pub use extrapolation::Extrapolation;
pub use feedback::{Evaluator, Feedback, Progress, StopSettings};
pub use parameter_subset::ParameterSubset;
pub use positives::PositivesOnly;
pub use repulsion::{Distance, Form, Repulsion};
pub use salun::SalUn;
pub use training_images::{PromptedImage, TrainingImages};
pub use variant::Variant;

use crate::watch::Watch;
use crate::weights::Edit;

/// What the user asked for, in prompts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Task {
    /// The concept's name, for messages and records: `style:Mosaic`.
    pub concept: String,
    /// Prompts of the concept, each with what it is to become.
    pub pairs: Vec<Pair>,
    /// Prompts whose pictures are to stay.
    pub remain: Vec<String>,
    /// Seed of every random number.
    pub seed: u64,
}

/// What a diffusion method is told: prompts, and pictures of them to learn from.
#[derive(Debug, Clone, Copy)]
pub struct DiffusionTask<'a> {
    /// What is asked for.
    pub task: &'a Task,
    /// What there is to learn from.
    pub material: &'a TrainingImages,
}

/// A prompt to forget and its anchor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pair {
    /// The prompt.
    pub forget: String,
    /// What it is to become.
    pub anchor: String,
}

/// Why an erasure failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings or material that cannot work.
    #[error("{0}")]
    Task(String),
    /// The training.
    #[error(transparent)]
    Training(#[from] crate::training::Error),
    /// The model.
    #[error(transparent)]
    Generator(#[from] crate::generator::Error),
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

impl Error {
    /// Whether there was too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Training(error) => error.is_out_of_memory(),
            Self::Generator(error) => error.is_out_of_memory(),
            Self::Torch(error) => error.is_out_of_memory(),
            _ => false,
        }
    }
}

/// Removes a concept from a model of kind `M`, about which it is told `A`.
pub trait Erasure<M: ?Sized, A: ?Sized> {
    /// Finds the edit. `state` is where an interrupted erasure goes on from.
    ///
    /// # Errors
    /// Settings that make no sense, a training that fails, interruption.
    fn erase(
        &self,
        model: &mut M,
        asked: &A,
        state: Option<&Path>,
        watch: &mut dyn Watch,
    ) -> Result<Edit, Error>;
}
