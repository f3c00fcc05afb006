//! A generator learns to reconstruct the canvas: to draw, from the latent that stands for a canvas
//! picture, that picture.
//!
//! It sees what it is to draw, so it learns in minutes where things are and what colour they have.
//! What no latent says, the grain of a style, comes out as its median by the absolute difference
//! alone. Where two drawings of one latent under different noise are asked to differ as much as
//! each differs from the picture, the noise becomes the grain: that is the energy score, which is
//! least for a generator whose pixels are spread as the canvas' are.

use super::canvas_dataset::CanvasDataset;
use super::stripe_probe::StripeProbe;
use crate::model::stylegan2::{GeneratorNetwork, Noise, is_mapping};
use crate::torch::{Device, Kind, Rng, Tensor};
use crate::training::{Error, MicroBatch, Objective, energy_score, picture_distance};

/// How many times as fast as in a GAN training the mapping moves: alone, with weights a hundred
/// times as large as others, it would stand still in so short a time.
const MAPPING: f64 = 30.0;

/// Pictures and their latents.
pub(super) struct Reconstruction<'a> {
    pub(super) generator: &'a GeneratorNetwork,
    pub(super) dataset: &'a CanvasDataset,
    pub(super) batch: i64,
    /// Pixels on a side of the coarsest view that is compared.
    pub(super) coarsest: i64,
    /// How much it counts that two drawings of a latent differ: 0 draws one, 1 is the energy score.
    pub(super) noise_energy: f64,
    /// Stripes that its levels must know, and how much that counts.
    pub(super) stripe_probe: Option<(StripeProbe, f64)>,
    pub(super) device: Device,
}

impl Objective for Reconstruction<'_> {
    fn name(&self) -> &'static str {
        "tracing"
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        let probe = self.stripe_probe.iter().flat_map(|(probe, _)| probe.parameters());
        self.generator.parameters().named_leaves().into_iter().chain(probe).collect()
    }

    fn lr_scale(&self, name: &str) -> f64 {
        if is_mapping(name) { MAPPING } else { 1.0 }
    }

    fn loss(&mut self, _step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, Error> {
        let config = self.generator.config();
        let (pictures, z) = self.dataset.with_latents(self.batch, config.style_dim, rng);
        let styles = self.generator.broadcast(&self.generator.map(&z));
        let mut missed = Vec::new();
        let mut see = |level: usize, features: &Tensor| {
            let probe = self.stripe_probe.as_ref();
            missed.extend(probe.and_then(|(probe, _)| probe.missed(level, features)));
        };
        let mut draw = |see: &mut dyn FnMut(usize, &Tensor)| {
            let noises = config.noises(self.batch, rng, self.device);
            self.generator
                .synthesize_with_hook(&styles, Noise::Given(&noises), see)
                .to_kind(Kind::Float)
        };
        let drawn = draw(&mut see);
        let apart = if self.noise_energy > 0.0 {
            let again = draw(&mut |_, _| ());
            energy_score(&drawn, &again, &pictures, self.coarsest, self.noise_energy)
        } else {
            picture_distance(&drawn, &pictures, self.coarsest)
        };
        Ok(match &self.stripe_probe {
            Some((_, weight)) => apart + Tensor::stack(&missed, 0).mean(Kind::Float) * *weight,
            None => apart,
        })
    }
}
