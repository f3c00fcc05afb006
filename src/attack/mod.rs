//! Attacks on erasures. One attack a file; it asks whoever judges through a closure, never by name.

mod relearning;

pub use relearning::{RelearnCurve, RelearnPoint, Relearning};

/// Why an attack failed to run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The training.
    #[error(transparent)]
    Training(#[from] crate::training::Error),
    /// The model.
    #[error(transparent)]
    Generator(#[from] crate::generator::Error),
}
