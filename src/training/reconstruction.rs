//! Teaches a generator to trace: to draw, from the latent that stands for a canvas picture, that
//! picture.
//!
//! It sees what it is to draw, so it learns in minutes where things are and what colour they have.
//! What no latent says, the grain of a style, comes out as its median by the absolute difference
//! alone. Where two drawings of one latent under different noise are asked to differ as much as
//! each differs from the picture, the noise becomes the grain: that is the energy score (Gneiting
//! and Raftery, JASA 2007, section 4.3), which is least for a generator whose pixels are spread as
//! the canvas' are.

use super::canvas_dataset::CanvasDataset;
use super::stripe_probe::StripeProbe;
use super::{Error, MicroBatch, Objective};
use crate::model::stylegan2::{Generator, Noise, is_mapping};
use crate::torch::{Device, Kind, Rng, Tensor};

/// How many times as fast as in a GAN training the mapping moves: alone, with weights a hundred
/// times as large as others, it would stand still in so short a time.
const MAPPING: f64 = 30.0;

/// The mean absolute difference of pictures `[n, 3, size, size]` at their size and at halves of it
/// down to `coarsest`: each view counts as much as the finest, whose grain no latent tells.
pub(super) fn difference(drawn: &Tensor, pictures: &Tensor, coarsest: i64) -> Tensor {
    let mut apart = drawn - pictures;
    let mut views = vec![apart.abs().mean(Kind::Float)];
    while apart.size()[2] > coarsest {
        apart = apart.avg_pool2d([2; 2], [2; 2], [0; 2], false, true, None);
        views.push(apart.abs().mean(Kind::Float));
    }
    Tensor::stack(&views, 0).mean(Kind::Float)
}

/// How far two drawings of the same latents are from their pictures, less how far they are from
/// each other times half the `spread`; all `[n, 3, size, size]`. With a spread of 1 it is the
/// energy score of each number of each view.
pub(super) fn energy_score(
    [drawn, again]: [&Tensor; 2],
    pictures: &Tensor,
    coarsest: i64,
    noise_energy: f64,
) -> Tensor {
    let missed = difference(drawn, pictures, coarsest) + difference(again, pictures, coarsest);
    (missed - difference(drawn, again, coarsest) * noise_energy) * 0.5
}

/// Pixels on a side from which on a picture shows no grain.
const NO_GRAIN: i64 = 16;

/// Pictures `[n, 3, size, size]` without their grain, at most 16 pixels on a side.
pub(super) fn from_afar(pictures: &Tensor) -> Tensor {
    let shrink = (pictures.size()[2] / NO_GRAIN).max(1);
    pictures.avg_pool2d([shrink; 2], [shrink; 2], [0; 2], false, true, None)
}

/// Pictures and their latents.
pub(super) struct Reconstruction<'a> {
    pub generator: &'a Generator,
    pub world: &'a CanvasDataset,
    pub batch: i64,
    /// Pixels on a side of the coarsest view that is compared.
    pub coarsest: i64,
    /// How much it counts that two drawings of a latent differ: 0 draws one, 1 is the energy score.
    pub noise_energy: f64,
    /// Stripes that its levels must know, and how much that counts.
    pub stripe_probe: Option<(StripeProbe, f64)>,
    pub device: Device,
}

impl Objective for Reconstruction<'_> {
    fn name(&self) -> &'static str {
        "tracing"
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        let stripe_probe =
            self.stripe_probe.iter().flat_map(|(stripe_probe, _)| stripe_probe.parameters());
        self.generator.parameters().named_leaves().into_iter().chain(stripe_probe).collect()
    }

    fn lr_scale(&self, name: &str) -> f64 {
        if is_mapping(name) { MAPPING } else { 1.0 }
    }

    fn loss(&mut self, _step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, Error> {
        let config = self.generator.config();
        let (pictures, z) = self.world.with_latents(self.batch, config.style_dim, rng);
        let styles = self.generator.broadcast(&self.generator.map(&z));
        let mut missed = Vec::new();
        let mut see = |level: usize, features: &Tensor| {
            missed.extend(
                self.stripe_probe
                    .as_ref()
                    .and_then(|(stripe_probe, _)| stripe_probe.missed(level, features)),
            );
        };
        let mut draw = |see: &mut dyn FnMut(usize, &Tensor)| {
            let noises = config.noises(self.batch, rng, self.device);
            self.generator.synthesize_seen(&styles, Noise::Given(&noises), see).to_kind(Kind::Float)
        };
        let drawn = draw(&mut see);
        let apart = if self.noise_energy > 0.0 {
            let again = draw(&mut |_, _| ());
            energy_score([&drawn, &again], &pictures, self.coarsest, self.noise_energy)
        } else {
            difference(&drawn, &pictures, self.coarsest)
        };
        Ok(match &self.stripe_probe {
            Some((_, weight)) => apart + Tensor::stack(&missed, 0).mean(Kind::Float) * *weight,
            None => apart,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_energy_score_wants_as_much_grain_as_there_is() {
        let noise = |seed: u64| Rng::new(seed).normal(&[16, 3, 16, 16]);
        let pictures = noise(1) + 0.3;
        let best = |noise_energy: f64| {
            let score = |&grain_weight: &f64| {
                let [drawn, again] = [2, 3].map(|seed| noise(seed) * grain_weight + 0.3);
                energy_score([&drawn, &again], &pictures, 16, noise_energy).double_value(&[])
            };
            let grains = [0.0, 0.4, 0.7, 1.0, 1.3, 1.6];
            grains.into_iter().min_by(|a, b| score(a).total_cmp(&score(b)))
        };
        assert_eq!(best(1.0), Some(1.0));
        assert_eq!(best(0.0), Some(0.0));
    }
}
