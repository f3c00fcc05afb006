//! Teaches a generator to trace: to draw, from the latent that stands for a canvas picture, that picture.
//!
//! It sees what it is to draw, so it learns in minutes where things are and what colour they have. What no latent says, the
//! grain of a style, comes out as its mean; that is left to the contest.

use super::world::World;
use super::{Error, Lesson, Share};
use crate::model::stylegan2::{Generator, Noise};
use crate::torch::{Device, Kind, Rng, Tensor};

/// Pictures and their latents.
pub(super) struct Tracing<'a> {
    pub generator: &'a Generator,
    pub world: &'a World,
    pub batch: i64,
    pub device: Device,
}

impl Lesson for Tracing<'_> {
    fn name(&self) -> &'static str {
        "tracing"
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.generator.parameters().named_leaves()
    }

    fn loss(&mut self, _step: u64, rng: &mut Rng, _: Share) -> Result<Tensor, Error> {
        let config = self.generator.config();
        let (pictures, z) = self.world.with_latents(self.batch, config.style_dim, rng);
        let noise = |side: i64| rng.normal(&[self.batch, 1, side, side]).to_device(self.device.tch());
        let noises: Vec<Tensor> = config.noise_sides().into_iter().map(noise).collect();
        let styles = self.generator.broadcast(&self.generator.map(&z));
        let drawn = self.generator.synthesize(&styles, Noise::Given(&noises)).to_kind(Kind::Float);
        Ok((drawn - pictures).abs().mean(Kind::Float))
    }
}
