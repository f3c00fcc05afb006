//! The change of a weight as a product of two matrices (`LoRA`, Hu et al. 2021).

use crate::torch::{Kind, Tensor, no_grad};

/// What is added to one weight: `up · down · alpha / rank`.
#[derive(Debug)]
pub struct LowRank {
    /// The weight by full name, `unet.….weight`.
    pub name: String,
    /// `[rank, inputs]`, or `[rank, inputs, h, w]` for a convolution.
    pub down: Tensor,
    /// `[outputs, rank]`, or `[outputs, rank, 1, 1]`.
    pub up: Tensor,
    /// What the product is scaled by, times the rank.
    pub alpha: f64,
}

impl LowRank {
    /// How many rows the lower factor has.
    pub fn rank(&self) -> i64 {
        self.down.size()[0]
    }

    /// `multiplier` times the change, added to a weight `[outputs, inputs, …]`; in `f32`. Of the
    /// same factors and weight it is always the same to the bit.
    pub fn added_to(&self, weight: &Tensor, multiplier: f64) -> Tensor {
        no_grad(|| {
            let rank = self.rank();
            let up = self.up.to_kind(Kind::Float).reshape([-1, rank]);
            let down = self.down.to_kind(Kind::Float).reshape([rank, -1]);
            let change = up.matmul(&down).view(weight.size().as_slice());
            weight.to_kind(Kind::Float) + change * (multiplier * self.alpha / rank as f64)
        })
    }
}
