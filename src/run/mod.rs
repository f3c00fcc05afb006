//! A run is a folder in `outputs/`, and this room alone writes there: its record, what is drawn
//! into it, and what judges said of each picture.

pub mod batch;
pub mod drawing;
pub mod evidence;
pub mod folder;
pub mod hashes;
pub mod judging;
pub mod opening;
pub mod record;

use std::path::PathBuf;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline.
    #[error(transparent)]
    Pipeline(crate::pipeline::Error),
    /// Something that was asked for does not exist, or cannot be.
    #[error("{0}")]
    Unknown(String),
    /// Another process works in the folder.
    #[error("{0} is in use by another unsee; wait for it, or choose another folder with --out")]
    Locked(PathBuf),
    /// The folder holds something else.
    #[error("{path} holds another run ({why}); choose another folder with --out, or remove it")]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// The user stopped it.
    #[error("interrupted; the same command goes on from here")]
    Interrupted,
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Pictures.
    #[error(transparent)]
    Pictures(#[from] crate::pictures::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
    /// The generator.
    #[error(transparent)]
    Generator(crate::generator::Error),
    /// The method.
    #[error(transparent)]
    Erasure(crate::erasure::Error),
    /// The attack.
    #[error(transparent)]
    Attack(crate::attack::Error),
    /// The judge.
    #[error(transparent)]
    Judge(#[from] crate::judge::Error),
    /// The measures.
    #[error(transparent)]
    Measure(#[from] crate::measure::Error),
    /// The hub.
    #[error(transparent)]
    Hub(crate::hub::Error),
    /// The training of a miniature.
    #[error(transparent)]
    Training(crate::training::Error),
}

impl From<crate::generator::Error> for Error {
    fn from(error: crate::generator::Error) -> Self {
        match error {
            crate::generator::Error::Interrupted => Self::Interrupted,
            other => Self::Generator(other),
        }
    }
}

impl From<crate::pipeline::Error> for Error {
    fn from(error: crate::pipeline::Error) -> Self {
        match error {
            crate::pipeline::Error::Hub(hub) => hub.into(),
            other => Self::Pipeline(other),
        }
    }
}

impl From<crate::hub::Error> for Error {
    fn from(error: crate::hub::Error) -> Self {
        match error {
            crate::hub::Error::Interrupted => Self::Interrupted,
            other => Self::Hub(other),
        }
    }
}

impl From<crate::training::Error> for Error {
    fn from(error: crate::training::Error) -> Self {
        match error {
            crate::training::Error::Interrupted(_) => Self::Interrupted,
            other => Self::Training(other),
        }
    }
}

impl From<crate::attack::Error> for Error {
    fn from(error: crate::attack::Error) -> Self {
        match error {
            crate::attack::Error::Training(training) => training.into(),
            crate::attack::Error::Generator(generator) => generator.into(),
            other => Self::Attack(other),
        }
    }
}

impl From<crate::erasure::Error> for Error {
    fn from(error: crate::erasure::Error) -> Self {
        match error {
            crate::erasure::Error::Training(training) => training.into(),
            crate::erasure::Error::Generator(generator) => generator.into(),
            other => Self::Erasure(other),
        }
    }
}
