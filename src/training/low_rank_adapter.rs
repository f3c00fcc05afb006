//! Trains products of two small matrices beside frozen weights (`LoRA`), whatever the network.
//!
//! The network knows nothing of them: what they add is written into its weights before a step, and
//! the gradient of a weight is carried on to its factors by the chain rule. With
//! `W = W₀ + s · up · down` it is `∂up = s · ∂W · downᵀ` and `∂down = s · upᵀ · ∂W`, exactly.

use super::Error;
use crate::torch::{Kind, Rng, Tensor, grad, no_grad};
use crate::weights::LowRank;

/// Gradients of weights are taken of so many times the loss, so that f16 holds the small ones.
const SCALE: f64 = 1024.0;

/// Factors beside the weights that they change.
#[derive(Debug)]
pub struct LowRankAdapter {
    /// The weights, which share the network's memory; leaves.
    weights: Vec<Tensor>,
    /// Their values without the adapter.
    originals: Vec<Tensor>,
    factors: Vec<LowRank>,
}

impl LowRankAdapter {
    /// Beside every weight a lower factor by chance (uniform, as He et al. 2015 for linear units)
    /// and an upper one of zeros: it changes nothing yet. `originals` are the weights' values.
    pub fn new(
        weights: &[(String, Tensor)],
        originals: &[Tensor],
        rank: i64,
        alpha: f64,
        seed: u64,
    ) -> Self {
        let factors = weights.iter().zip(0..).map(|((name, weight), i)| {
            let shape = weight.size();
            let inputs: i64 = shape[1..].iter().product();
            let bound = (3.0 / inputs as f64).sqrt();
            let uniform =
                Rng::for_step(seed, "low-rank adapter", i).uniform(&[rank, inputs]) * 2.0 - 1.0;
            let mut down = vec![rank];
            down.extend(&shape[1..]);
            let mut up = vec![shape[0], rank];
            up.extend(shape[2..].iter().map(|_| 1));
            let leaf = |tensor: Tensor| tensor.to_device(weight.device()).set_requires_grad(true);
            LowRank {
                name: name.clone(),
                down: leaf((uniform * bound).view(down.as_slice())),
                up: leaf(Tensor::zeros(up, (Kind::Float, tch::Device::Cpu))),
                alpha,
            }
        });
        Self {
            factors: factors.collect(),
            weights: weights.iter().map(|(_, weight)| weight.shallow_clone()).collect(),
            originals: originals.iter().map(Tensor::shallow_clone).collect(),
        }
    }

    /// What moves: both factors of every weight, leaves in `f32`.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let both = |factors: &LowRank| {
            [("down", &factors.down), ("up", &factors.up)]
                .map(|(half, tensor)| (format!("{}.{half}", factors.name), tensor.shallow_clone()))
        };
        self.factors.iter().flat_map(both).collect()
    }

    /// Writes the weights as they are with so much of the adapter.
    pub fn merge(&self, multiplier: f64) {
        for ((weight, original), factors) in
            self.weights.iter().zip(&self.originals).zip(&self.factors)
        {
            no_grad(|| weight.detach().copy_(&factors.added_to(original, multiplier)));
        }
    }

    /// The same loss as a function of the factors: its gradients are theirs. The weights are as
    /// [`merge`](Self::merge) left them with this multiplier.
    ///
    /// # Errors
    /// libtorch's.
    pub fn carry(&self, loss: &Tensor, multiplier: f64) -> Result<Tensor, Error> {
        let inputs: Vec<&Tensor> = self.weights.iter().collect();
        let gradients = grad(&(loss * SCALE), &inputs)?;
        let mut carried = loss.detach();
        for (gradient, factors) in gradients.into_iter().zip(&self.factors) {
            let Some(gradient) = gradient else { continue };
            let rank = factors.rank();
            let scale = multiplier * factors.alpha / rank as f64 / SCALE;
            let (of_down, of_up) = no_grad(|| {
                let gradient =
                    gradient.to_kind(Kind::Float).reshape([gradient.size()[0], -1]) * scale;
                let of_up = gradient.matmul(&factors.down.reshape([rank, -1]).tr());
                (factors.up.reshape([-1, rank]).tr().matmul(&gradient), of_up)
            });
            // Worth nothing, and of the right slope.
            for (slope, factor) in [(of_down, &factors.down), (of_up, &factors.up)] {
                let moved = factor - factor.detach();
                carried += (moved * slope.view(factor.size().as_slice())).sum(Kind::Float);
            }
        }
        Ok(carried)
    }

    /// The adapter with factors that a training found, in the order of
    /// [`parameters`](Self::parameters).
    pub fn into_factors(self, trained: Vec<Tensor>) -> Vec<LowRank> {
        let mut trained = trained.into_iter();
        let mut next = |old: Tensor| trained.next().unwrap_or(old).detach();
        let mut found = Vec::with_capacity(self.factors.len());
        for LowRank { name, down, up, alpha } in self.factors {
            let down = next(down);
            found.push(LowRank { name, down, up: next(up), alpha });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against autograd through the product itself, for a linear and a convolution.
    #[test]
    fn its_gradients_are_those_of_the_product() {
        let mut rng = Rng::new(3);
        for (shape, multiplier) in [(vec![5, 4], 1.0), (vec![3, 2, 3, 3], -0.5)] {
            let original = rng.normal(&shape);
            let weight = original.copy().set_requires_grad(true);
            let named = [("w".to_owned(), weight.shallow_clone())];
            let adapter = LowRankAdapter::new(&named, &[original.copy()], 2, 6.0, 1);
            let parameters = adapter.parameters();
            let (down, up) = (&parameters[0].1, &parameters[1].1);
            adapter.merge(multiplier);
            assert!(weight.equal(&original), "it begins with no change");
            no_grad(|| up.detach().copy_(&rng.normal(&up.size())));
            adapter.merge(multiplier);
            let points = rng.normal(&shape);
            let loss_of = |weight: &Tensor| (weight * &points).tanh().square().sum(Kind::Float);
            let carried = adapter.carry(&loss_of(&weight), multiplier).unwrap();
            let product = up.reshape([-1, 2]).matmul(&down.reshape([2, -1])).view(&*shape);
            let whole = loss_of(&(&original + product * (multiplier * 3.0)));
            assert!((carried.double_value(&[]) - whole.double_value(&[])).abs() < 1e-5);
            let wanted = grad(&whole, &[down, up]).unwrap();
            let found = grad(&carried, &[down, up]).unwrap();
            for (found, wanted) in found.iter().zip(&wanted) {
                let (found, wanted) = (found.as_ref().unwrap(), wanted.as_ref().unwrap());
                let apart = (found - wanted).abs().max().double_value(&[]);
                assert!(apart < 1e-5 && wanted.abs().max().double_value(&[]) > 1e-2, "{apart}");
            }
        }
    }
}
