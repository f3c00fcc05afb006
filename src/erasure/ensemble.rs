//! Several generators that went the wrong way, as one place to stay away from.
//!
//! The mean square distance to N points is the square distance to their mean plus a constant: `1/N
//! Σ ‖θ - θᵐ‖² = ‖θ - θ̄‖² + 1/N Σ ‖θᵐ - θ̄‖²`. The mean and one number do for all of them, so that
//! time and memory do not depend on how many they are.

use crate::torch::{Kind, Tensor, no_grad};

/// The mean of the generators' parameters, and how far each tensor lies around it.
#[derive(Debug)]
pub(super) struct Ensemble {
    pub(super) mean: Vec<Tensor>,
    /// `Σ_m ‖θᵐ - θ̄‖²` of each tensor.
    pub(super) spread: Vec<f64>,
    /// How many generators.
    pub(super) models: usize,
}

impl Ensemble {
    /// From each generator's parameters, in the same order.
    ///
    /// # Panics
    /// Without a generator.
    pub(super) fn new(models: &[Vec<Tensor>]) -> Self {
        no_grad(|| {
            let of = |i: usize| models.iter().map(move |model| &model[i]);
            let tensors = models.first().expect("at least one adapted model").len();
            let mean: Vec<Tensor> = (0..tensors)
                .map(|i| {
                    of(i).fold(of(i).next().expect("one").zeros_like(), |sum, tensor| sum + tensor)
                        / models.len() as f64
                })
                .collect();
            let spread = (0..tensors)
                .map(|i| of(i).map(|tensor| square_distance(tensor, &mean[i])).sum())
                .collect();
            Self { mean, spread, models: models.len() }
        })
    }
}

/// `‖a - b‖²`.
pub(super) fn square_distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).square().sum(Kind::Double).double_value(&[])
}
