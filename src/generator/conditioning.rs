//! What a denoiser is told of its prompts.

use crate::torch::Tensor;

/// What a denoiser is told beside latents and timesteps, a row a picture. A struct, so that what
/// other models are told too (SDXL: a pooled text and sizes) is a field more, and no parameter
/// more.
#[derive(Debug)]
pub struct Conditioning {
    /// Hidden states of the prompts, `[n, tokens, width]`, in `f32`.
    pub states: Tensor,
}

impl Conditioning {
    /// Rows.
    pub fn count(&self) -> i64 {
        self.states.size()[0]
    }

    /// One below the other.
    pub fn cat(parts: &[&Self]) -> Self {
        let states: Vec<&Tensor> = parts.iter().map(|part| &part.states).collect();
        Self { states: Tensor::cat(&states, 0) }
    }

    /// Rows by their index `[m]`, each as often as it is named.
    #[must_use]
    pub fn select(&self, rows: &Tensor) -> Self {
        Self { states: self.states.index_select(0, rows) }
    }

    /// `count` rows from `first` on.
    #[must_use]
    pub fn narrow(&self, first: i64, count: i64) -> Self {
        Self { states: self.states.narrow(0, first, count) }
    }

    /// A single row, `n` times.
    #[must_use]
    pub fn repeat(&self, n: i64) -> Self {
        Self { states: self.states.expand([n, -1, -1], false) }
    }
}
