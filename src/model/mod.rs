//! Networks: a configuration that is read from the model's own `config.json`, construction,
//! `forward`. Names and shapes of parameters are Hugging Face's. Knows no prompt text, no path, no
//! command line.
//!
//! Inside a network tch's panicking operators read like the formula; callers wrap a stage of work
//! in [`crate::torch::stage`].

pub mod clip;
pub mod inception;
mod layers;
mod parameters;
pub mod safety;
pub mod stylegan2;
pub mod unet;
pub mod vae;

pub use parameters::{Builder, Parameters};

/// What can be wrong with a network's configuration or weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor of another shape than the configuration asks for.
    #[error(
        "`{name}` in {path} is {found:?}, the config wants {wanted:?}; do the weights and \
         config.json belong together?"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Its file.
        path: std::path::PathBuf,
        /// Its shape there.
        found: Vec<i64>,
        /// What the configuration asks for.
        wanted: Vec<i64>,
    },
    /// A configuration that asks for what is not built here.
    #[error("{0}")]
    Config(String),
    /// A configuration's field.
    #[error(transparent)]
    Fields(#[from] crate::fields::Error),
    /// The file.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}
