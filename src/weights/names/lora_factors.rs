//! What an adapter adds to one module.

use super::lora_scaling::Scaling;
use crate::torch::{Kind, Tensor, no_grad};
use crate::weights::{Error, Weights};

/// What one module's adapter adds: `up · down · alpha / rank`.
#[derive(Debug)]
pub struct Factors {
    /// The module's weight by full name, `unet.….weight`.
    pub name: String,
    pub(super) down: String,
    pub(super) up: String,
    pub(super) scaling: Scaling,
}

impl Factors {
    /// The product of two tensors, for a weight.
    pub(super) fn new(name: String, down: String, up: String) -> Self {
        Self { name, down, up, scaling: Scaling::default() }
    }

    /// The module's weight in f32 with `strength` of the adapter added.
    ///
    /// # Errors
    /// Factors whose shapes do not fit the weight.
    pub fn added(&self, file: &Weights, weight: &Tensor, strength: f64) -> Result<Tensor, Error> {
        let (down, up) = (file.floats(&self.down)?, file.floats(&self.up)?);
        let (d, u, shape) = (down.size(), up.size(), weight.size());
        let rank = d.first().copied().unwrap_or(0);
        let inputs: i64 = d.iter().skip(1).product();
        let fits = d.len() >= 2
            && u.len() >= 2
            && rank > 0
            && u[0] == shape[0]
            && u[1..].iter().product::<i64>() == rank
            && inputs == shape[1..].iter().product::<i64>();
        if !fits {
            return Err(Error::unfit(
                file.path(&self.up),
                format!(
                    "`{}` {u:?} times `{}` {d:?} is no {shape:?}, which `{}` is",
                    self.up, self.down, self.name
                ),
            ));
        }
        let scale = strength * self.scaling.factor(rank as f64);
        Ok(no_grad(|| {
            let (down, up) = (down.to_kind(Kind::Float), up.to_kind(Kind::Float));
            let product = up.reshape([shape[0], rank]).matmul(&down.reshape([rank, inputs]));
            weight.to_kind(Kind::Float) + product.view(shape.as_slice()) * scale
        }))
    }
}
