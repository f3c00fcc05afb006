//! Methods that take a concept out of a model. One method a file; a method knows no other method
//! and no judge. Each returns an [`Edit`] and leaves the model as it was.

mod adapt_then_unlearn;
mod adaptation;
mod adv_unlearn;
mod adversarial_training;
mod concept_tokens;
mod encoded;
mod ensemble;
mod esd;
mod ewc;
mod extrapolation;
mod feedback;
mod fine_tuning;
mod given;
mod inner_attack;
mod leco;
mod leco_prompts;
mod low_rank_guidance;
mod method;
mod negative_guidance;
mod parameter_subset;
mod partial_sampling;
mod positives;
mod relabelling;
mod replay_pool;
mod repulsion;
mod saliency;
mod saliency_mask;
mod salun;
#[cfg(test)]
mod small;
mod text_encoder_subset;
mod training_images;
mod uce;
mod variant;

pub use adapt_then_unlearn::AdaptThenUnlearn;
pub use adaptation::Adaptation;
pub use adv_unlearn::{AdvUnlearn, RetainForm, RetainSettings, Trains};
pub use esd::{Base, Esd};
pub use extrapolation::Extrapolation;
pub use feedback::{Evaluator, Feedback, Progress, StopSettings};
pub use given::GivenEdit;
pub use inner_attack::{Begin, InnerAttack};
pub use leco::Leco;
pub use method::{Context, Cost, Method, Needs, Pair, Task};
pub use parameter_subset::ParameterSubset;
pub use positives::PositivesOnly;
pub use relabelling::{Pseudo, TargetNetwork};
pub use repulsion::{Distance, Form, Repulsion};
pub use salun::SalUn;
pub use text_encoder_subset::{LayerPart, TextEncoderSubset};
pub use training_images::{PromptedImage, TrainingImages};
pub use uce::Uce;
pub use variant::Variant;

use crate::prompt_search;
use crate::settings::{Entry, given_over};

/// Every method by name. The first that edits a kind of model is the usual one for it.
pub const METHODS: &[Entry<dyn Method>] = &[
    Entry { name: "salun", read: |given| Ok(given_over(&SalUn::default(), given)?) },
    Entry { name: "esd", read: |given| Ok(given_over(&Esd::default(), given)?) },
    Entry { name: "uce", read: |given| Ok(given_over(&Uce::default(), given)?) },
    Entry { name: "leco", read: |given| Ok(given_over(&Leco::default(), given)?) },
    Entry { name: "adv-unlearn", read: |given| Ok(given_over(&AdvUnlearn::default(), given)?) },
    Entry {
        name: "adapt-then-unlearn",
        read: |given| Ok(given_over(&AdaptThenUnlearn::default(), given)?),
    },
    Entry {
        name: "extrapolation",
        read: |given| Ok(given_over(&Extrapolation::default(), given)?),
    },
    Entry { name: "positives", read: |given| Ok(given_over(&PositivesOnly::default(), given)?) },
    Entry { name: "positives-ewc", read: |given| Ok(given_over(&PositivesOnly::ewc(), given)?) },
    Entry { name: "given-edit", read: |given| Ok(given_over(&GivenEdit::default(), given)?) },
];

/// Why an erasure failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings or pictures that cannot work.
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

impl From<prompt_search::Error> for Error {
    fn from(error: prompt_search::Error) -> Self {
        match error {
            prompt_search::Error::Torch(torch) => torch.into(),
            other @ prompt_search::Error::Search(_) => Self::Task(other.to_string()),
        }
    }
}
