//! The one resumable training loop, and the recipes that make the miniature from nothing.

mod adversarial;
mod alone;
mod autoencoder;
mod bout;
mod contest;
mod contrast;
mod denoising;
mod folders;
mod frozen;
mod gallery;
mod guide;
pub mod miniature;
pub mod miniature_gan;
mod pause;
mod scaler;
mod schooling;
mod sitting;
mod state;
mod tracing;
mod waves;
mod world;

pub use adversarial::{can_compete, compete, compete_on_loan};
pub use autoencoder::Autoencoding;
pub use contest::{Contest, Exam, Kept, Known, Oversampled, Pull, Reals, Rivals, Rules, Shunned};
pub use contrast::Contrast;
pub use denoising::Denoising;
pub use frozen::Frozen;
pub use gallery::Gallery;
pub use guide::{Guide, Regions};
pub use pause::Pause;
pub use schooling::{Lesson, Outcome, Plan, Share, train};

/// Why a training ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user stopped it; the state is saved.
    #[error("interrupted at step {0}; the same command goes on from there")]
    Interrupted(u64),
    /// The loss is no number any more.
    #[error("the loss is {loss} at step {step}: {origin} (the learning rate is {lr:e})")]
    NotANumber {
        /// Where.
        step: u64,
        /// NaN or infinite.
        loss: f64,
        /// The learning rate there.
        lr: f64,
        /// Where it began, and what to do.
        origin: &'static str,
    },
    /// The loss has left every reasonable range.
    #[error(
        "the training diverges: the mean loss is {mean:.4} at step {step}, it was {best:.4}; lower the learning rate"
    )]
    Diverged {
        /// Where.
        step: u64,
        /// The running mean.
        mean: f64,
        /// The best running mean before.
        best: f64,
    },
    /// Rules of a contest under which these networks cannot compete.
    #[error("{0}")]
    Rules(String),
    /// Whoever looks on the way cannot.
    #[error("{0}")]
    Exam(String),
    /// A saved state that belongs to another training.
    #[error(
        "{path} is the state of another training ({found}, this is {wanted}); remove it or choose another --out"
    )]
    OtherState {
        /// The file.
        path: std::path::PathBuf,
        /// Its fingerprint.
        found: String,
        /// This training's.
        wanted: String,
    },
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A network.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

impl Error {
    /// Whether there was too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Torch(error) | Self::Model(crate::model::Error::Torch(error)) => error.is_out_of_memory(),
            _ => false,
        }
    }
}
