//! libtorch, made safe for the rest of the crate: devices, precision, random numbers, gradients,
//! optimizers.
//!
//! This is the only module with C++. It knows nothing of weights, networks or pictures.

mod compute;
mod device;
mod ema;
mod ffi;
mod finite;
mod fused;
mod gradient;
mod memory;
mod optimizer;
mod precision;
mod random;
mod stage;

pub use compute::{Compute, MemoryMode};
pub use device::{Choice, Device, LIBTORCH, VERSION, set_threads, threads};
pub use ema::Ema;
pub use ffi::exit_now;
pub use finite::{finite_each, not_finite};
pub use fused::{channels_last, gated_gelu, group_norm, layer_norm, leaky_relu, upsample_twice};
pub use gradient::{
    checkpoint, grad, grad_and_keep, grad_each, grad_of_grad, no_grad, will_be_differentiated,
};
pub use memory::{Peak, free_memory, keep_memory};
pub use optimizer::{Adam, AdamSettings};
pub use precision::{CpuFeatures, Precision};
pub use random::{Rng, bits_of_seed, seed_from};
pub use stage::stage;

pub use tch::{IndexOp, Kind, Tensor};

/// What can go wrong below the networks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch threw; the C++ stack is cut off.
    #[error("libtorch: {0}")]
    Libtorch(String),
    /// A stage of the program panicked inside a tensor operation.
    #[error("{stage}: {message}")]
    Stage {
        /// What was being done.
        stage: String,
        /// The panic's first lines.
        message: String,
    },
    /// CUDA was asked for and is not there.
    #[error("cuda was asked for and is not available: {0}; use --device cpu or --device auto")]
    NoCuda(String),
    /// A precision that this device cannot use well.
    #[error("{0}")]
    Precision(String),
    /// A loss without a graph, a parameter that is no leaf, or state of another shape.
    #[error("{0}")]
    Misuse(String),
}

impl Error {
    /// Whether there was too little memory, on the host or on the device.
    pub fn is_out_of_memory(&self) -> bool {
        let text = self.to_string();
        text.contains("out of memory") || text.contains("can't allocate memory")
    }

    fn libtorch(text: &str) -> Self {
        Self::Libtorch(first_lines(text).to_owned())
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::libtorch(&error.to_string())
    }
}

/// The message without libtorch's C++ stack. tch panics with the debug form of its error, where
/// line ends are written as `\n`.
fn first_lines(text: &str) -> &str {
    let end = ["\nException raised from", "\\nException raised from", "\nC++ CapturedTraceback"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .unwrap_or(text.len());
    let text = &text[..end];
    text.split_once("value: Torch(\"").map_or(text, |(_, message)| message).trim_end()
}
