//! The autoencoder learns by reconstruction plus a little of the KL term (Rombach et al. 2022,
//! appendix G).
//!
//! There is neither a perceptual nor an adversarial loss: at 64×64 with flat colours and hard lines
//! an absolute difference is sharp enough, and nothing that was trained on photographs is needed.

use super::canvas_images::CanvasImages;
use crate::model::vae::Vae;
use crate::torch::{Device, Kind, Rng, Tensor};
use crate::training::{Error, MicroBatch, Objective};

/// Pictures to latents and back.
#[derive(Debug)]
pub(super) struct AutoencoderObjective<'a> {
    pub(super) vae: &'a Vae,
    pub(super) images: &'a CanvasImages,
    /// Pictures a step.
    pub(super) batch: i64,
    /// Weight of the KL term, per latent number.
    pub(super) kl: f64,
    pub(super) device: Device,
}

impl Objective for AutoencoderObjective<'_> {
    fn name(&self) -> &'static str {
        "vae"
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.vae
            .parameters()
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            .collect()
    }

    fn loss(&mut self, _step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, Error> {
        let rows = rng.below(self.images.len(), &[self.batch]);
        let pictures = self.images.pictures(&rows, self.device);
        let moments = self.vae.encode(&pictures);
        let noise = rng.normal(&moments.mean.size()).to_device(self.device.tch());
        let (mean, log_variance) =
            (moments.mean.to_kind(Kind::Float), moments.log_variance.to_kind(Kind::Float));
        let kl = (mean.square() + log_variance.exp() - 1.0 - &log_variance).mean(Kind::Float) * 0.5;
        let drawn = self.vae.decode(&moments.sample(&noise)).to_kind(Kind::Float);
        let apart = drawn - pictures;
        let reconstruction = apart.abs().mean(Kind::Float) + apart.square().mean(Kind::Float);
        Ok(reconstruction + kl * self.kl)
    }
}
