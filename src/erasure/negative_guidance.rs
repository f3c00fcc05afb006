//! Learning to predict away from a concept, by the weights themselves.

use super::partial_sampling::PartialSampling;
use crate::generator::{Conditioning, Denoiser};
use crate::torch::{Kind, Rng, Tensor, no_grad};
use crate::training::{self, LentWeights, MicroBatch, Objective};

/// Learns to predict away from the concept. What prompts say has a row a pair.
pub(super) struct NegativeGuidance<'a> {
    /// A short name; part of the seed of every step.
    pub name: &'static str,
    /// How far away from the concept.
    pub eta: f64,
    /// Latents in a step.
    pub batch: i64,
    pub sampling: PartialSampling,
    /// Whether partial samples are the base's, and not the trained network's.
    pub of_base: bool,
    pub model: &'a dyn Denoiser,
    pub trained: &'a [(String, Tensor)],
    pub frozen: &'a [Tensor],
    pub concept: Conditioning,
    pub begin: Conditioning,
    /// What the network is asked while it learns: the concept, or the carrier.
    pub asked: Conditioning,
    pub empty: Conditioning,
    pub recipe: String,
}

impl Objective for NegativeGuidance<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.trained.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    fn fingerprint(&self) -> String {
        self.recipe.clone()
    }

    fn splits(&self) -> bool {
        self.batch > 1
    }

    fn loss(&mut self, _: u64, rng: &mut Rng, part: MicroBatch) -> Result<Tensor, training::Error> {
        let (model, n) = (self.model, self.batch);
        let pairs = rng.below(self.concept.count(), &[n]).to_device(model.compute().device.tch());
        let of = |texts: &Conditioning| texts.select(&pairs);
        let (concept, begin, asked) = (of(&self.concept), of(&self.begin), of(&self.asked));
        let as_base = || LentWeights::pointing(self.trained.iter().map(|(_, w)| w), self.frozen);
        let base = self.of_base.then(as_base);
        let sample = self.sampling.draw(model, model.latent_shape(), &asked, &self.empty, rng)?;
        drop(base);
        let rows = part.rows(n);
        let (from, len) = (rows.start, rows.end - rows.start);
        let mine = |whole: &Conditioning| whole.narrow(from, len);
        let (z, t) = (sample.latents.narrow(0, from, len), sample.timesteps.narrow(0, from, len));
        let target = {
            let _base = as_base();
            let conditioning =
                Conditioning::cat(&[&mine(&begin), &mine(&concept), &self.empty.repeat(len)]);
            let three = |x: &Tensor| Tensor::cat(&[x, x, x], 0);
            let output = no_grad(|| model.predict(&three(&z), &three(&t), &conditioning));
            let of = |i: i64| output.narrow(0, i * len, len);
            target(&of(0), &of(1), &of(2), self.eta)
        };
        let output = model.predict(&z, &t, &mine(&asked));
        Ok((output - target).square().mean(Kind::Float) * (len as f64 / n as f64))
    }
}

/// `ε_b - η (ε_c - ε_0)`.
pub(super) fn target(begin: &Tensor, concept: &Tensor, empty: &Tensor, eta: f64) -> Tensor {
    begin - (concept - empty) * eta
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against plain PyTorch (`tests/golden/erasure.py`): target, loss and its gradient.
    #[test]
    fn the_target_is_the_formula_s() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/erasure.json")).unwrap();
        let wave = |phase: f64| {
            let values: Vec<f32> =
                (0..10).map(|i| (0.7 * f64::from(i) + phase).sin() as f32).collect();
            Tensor::from_slice(&values)
        };
        let near = |found: &Tensor, wanted: &serde_json::Value| {
            for (i, wanted) in (0..).zip(wanted.as_array().unwrap()) {
                let apart = found.double_value(&[i]) - wanted.as_f64().unwrap();
                assert!(apart.abs() < 1e-5, "{i}: {apart}");
            }
        };
        for case in golden["esd"].as_array().unwrap() {
            let eta = case["eta"].as_f64().unwrap();
            let output = wave(2.9).set_requires_grad(true);
            let target = target(&wave(0.3), &wave(0.9), &wave(1.7), eta);
            near(&target, &case["target"]);
            let loss = (&output - target).square().mean(Kind::Float);
            assert!((loss.double_value(&[]) - case["loss"].as_f64().unwrap()).abs() < 1e-5);
            near(
                &crate::torch::grad(&loss, &[&output]).unwrap()[0].as_ref().unwrap().copy(),
                &case["gradient"],
            );
        }
    }
}
