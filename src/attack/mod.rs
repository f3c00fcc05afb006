//! Attacks on erasures. One attack a file; it asks whoever judges through a closure, never by name.

mod contract;
mod gan_relearning;
mod relearning;

pub use contract::{
    Arm, Attack, AttackCost, ConceptCounter, Evaluation, Exposure, MAX_EVALUATION_IMAGES,
};
pub use gan_relearning::GanRelearning;
pub use relearning::{Adapted, Relearning};

use crate::settings::{Entry, given_over};

/// Every attack by name.
pub const ATTACKS: &[Entry<dyn Attack>] = &[
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
}
