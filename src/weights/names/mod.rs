//! What other programs call the tensors that diffusers names, in both directions.

pub(super) mod compvis;
pub(super) mod inception;
pub(super) mod kinds;
pub(super) mod lora;
pub(super) mod lora_factors;
mod lora_numbered;
pub(super) mod lora_scaling;
mod modules;
pub(super) mod openclip;
pub(super) mod positions;
pub(super) mod stylegan;

use super::View;
use crate::torch::Tensor;

/// How a tensor changes its shape on the way from diffusers' names to another program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shaping {
    Same,
    /// A linear layer becomes a 1×1 convolution.
    Convolution,
}

impl Shaping {
    /// The way back.
    fn view(self) -> View {
        match self {
            Self::Same => View::Whole,
            Self::Convolution => View::Flat,
        }
    }

    fn apply(self, tensor: &Tensor) -> Tensor {
        match self {
            Self::Convolution if tensor.dim() == 2 => tensor.unsqueeze(-1).unsqueeze(-1),
            _ => tensor.shallow_clone(),
        }
    }
}
