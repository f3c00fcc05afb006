//! The one resumable training loop, and what runs in it: one network that learns by one loss, and
//! the two networks of a GAN that learn in turns.
//!
//! Whatever implements [`Trainable`] is driven by [`train_loop`]. One network with one loss is an
//! [`Objective`], and [`train`] drives it; a GAN is a [`GanTraining`], and [`train_gan`] does.

mod class_conditioning;
mod gan;
mod gan_latents;
mod gan_step;
mod gan_training;
mod grad_scaler;
mod gradients_for;
mod lent_weights;
mod low_rank_adapter;
mod objective;
mod path_lengths;
mod picture_distance;
mod real_images;
mod single_network;
mod state;
mod train;
mod train_config;
mod trainable;
mod trainer;

pub use class_conditioning::{ClassConditioning, ConditioningSettings};
pub use gan::{check_gan_compute, train_gan, train_gan_and_restore};
pub use gan_training::{
    EarlyStopping, GanConfig, GanOutcome, GanTraining, LatentImages, NegativeImages,
    OversampledLatents, ParameterPenalty, RetainedImages,
};
pub use gradients_for::GradientsFor;
pub use lent_weights::LentWeights;
pub use low_rank_adapter::LowRankAdapter;
pub use objective::{MicroBatch, Objective};
pub use picture_distance::{energy_score, picture_distance};
pub use real_images::{FixedImages, RealImages};
pub use state::LoopState;
pub use train::{Outcome, train};
pub use train_config::TrainConfig;
pub use trainable::Trainable;
pub use trainer::train_loop;

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
        "the training diverges: the mean loss is {mean:.4} at step {step}, it was {best:.4}; lower \
         the learning rate"
    )]
    Diverged {
        /// Where.
        step: u64,
        /// The running mean.
        mean: f64,
        /// The best running mean before.
        best: f64,
    },
    /// A configuration under which these networks cannot train.
    #[error("{0}")]
    GanConfig(String),
    /// No score can be given on the way.
    #[error("{0}")]
    EarlyStopping(String),
    /// What an objective learns from cannot be drawn.
    #[error("{0}")]
    Objective(String),
    /// A saved state that belongs to another training.
    #[error(
        "{path} is the state of another training ({found}, this is {wanted}); remove it or choose \
         another --out"
    )]
    OtherState {
        /// The file.
        path: std::path::PathBuf,
        /// Its fingerprint.
        found: String,
        /// This training's.
        wanted: String,
    },
    // duplicate: a room's errors are what the rooms before it may say
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
            Self::Torch(error) | Self::Model(crate::model::Error::Torch(error)) => {
                error.is_out_of_memory()
            }
            _ => false,
        }
    }

    /// What has no gradient, because what is drawn does not depend on it.
    fn unreached(what: &str) -> Self {
        Self::Model(crate::model::Error::Config(format!("{what} do not reach what is drawn")))
    }
}
