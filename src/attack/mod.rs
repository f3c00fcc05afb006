//! Attacks on erasures. One attack a file; it asks whoever judges through a closure, never by name.

mod base_weights;
mod completion;
mod concept_inversion;
mod concept_vector;
mod contract;
mod custom_sampling;
mod encoder_swap;
mod free_tokens;
mod gan_relearning;
mod judged_lists;
mod noise;
mod p4d;
mod prompts;
mod random_prefix;
mod relearning;
mod ring_a_bell;
mod sampling_probe;
mod saved_curves;
mod seeds;
mod trial;
mod trials;
mod unlearn_diff_atk;
mod verdict;
mod word_search;

pub use completion::Completion;
pub use concept_inversion::ConceptInversion;
pub use contract::{
    Access, Arm, Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, ConceptJudge,
    Evaluation, Exposure, Findings, MAX_EVALUATION_IMAGES,
};
pub use encoder_swap::EncoderSwap;
pub use free_tokens::FreeTokens;
pub use gan_relearning::GanRelearning;
pub use noise::NoiseProbe;
pub use p4d::P4d;
pub use prompts::ListedPrompts;
pub use random_prefix::RandomPrefix;
pub use relearning::{Adapted, Relearning};
pub use ring_a_bell::{Encoder, RingABell};
pub use seeds::Seeds;
pub use trial::{Found, Trial, TrialArm};
pub use trials::attacked_picture;
pub use unlearn_diff_atk::UnlearnDiffAtk;
pub use verdict::Verdict;

/// What an attack finds with the same settings may change with the program; findings and states of
/// another number are none of this one's.
pub const VERSION: u32 = 1;

use crate::prompt_search;
use crate::settings::{Entry, given_over};

/// Every attack by name.
pub const ATTACKS: &[Entry<dyn Attack>] = &[
    Entry { name: "prompts", read: |given| Ok(given_over(&ListedPrompts::default(), given)?) },
    Entry { name: "seeds", read: |given| Ok(given_over(&Seeds::default(), given)?) },
    Entry { name: "random-prefix", read: |given| Ok(given_over(&RandomPrefix::default(), given)?) },
    Entry {
        name: unlearn_diff_atk::FULL,
        read: |given| Ok(given_over(&UnlearnDiffAtk::default(), given)?),
    },
    Entry {
        name: unlearn_diff_atk::SHORT,
        read: |given| Ok(given_over(&UnlearnDiffAtk::short(), given)?),
    },
    Entry { name: p4d::N, read: |given| Ok(given_over(&P4d::n(), given)?) },
    Entry { name: p4d::K, read: |given| Ok(given_over(&P4d::k(), given)?) },
    Entry { name: "ring-a-bell", read: |given| Ok(given_over(&RingABell::default(), given)?) },
    Entry {
        name: "concept-inversion",
        read: |given| Ok(given_over(&ConceptInversion::default(), given)?),
    },
    Entry { name: "noise", read: |given| Ok(given_over(&NoiseProbe::default(), given)?) },
    Entry { name: "completion", read: |given| Ok(given_over(&Completion::default(), given)?) },
    Entry { name: "encoder-swap", read: |given| Ok(given_over(&EncoderSwap::default(), given)?) },
    Entry { name: "relearning", read: |given| Ok(given_over(&Relearning::default(), given)?) },
    Entry {
        name: "gan-relearning",
        read: |given| Ok(given_over(&GanRelearning::default(), given)?),
    },
];

// duplicate: a room's errors are what the rooms before it may say
/// Why an attack failed to run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it was given.
    #[error("{0}")]
    Task(String),
    /// The training.
    #[error(transparent)]
    Training(#[from] crate::training::Error),
    /// The model.
    #[error(transparent)]
    Generator(#[from] crate::generator::Error),
    /// A picture.
    #[error(transparent)]
    Pictures(#[from] crate::pictures::Error),
    /// A state's file.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

impl From<prompt_search::Error> for Error {
    fn from(error: prompt_search::Error) -> Self {
        match error {
            prompt_search::Error::Torch(torch) => torch.into(),
            other @ prompt_search::Error::Search(_) => Self::Task(other.to_string()),
        }
    }
}
