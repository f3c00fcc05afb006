//! The UNet learns to denoise (Ho et al. 2020, equation 14, in latent space), with the prompt left
//! out now and then so that classifier-free guidance works (Ho & Salimans 2022).

use super::encoded_canvas::EncodedCanvas;
use crate::model::unet::UNet;
use crate::sampler::Schedule;
use crate::torch::{Device, Kind, Rng, Tensor};
use crate::training::{Error, MicroBatch, Objective};

/// Denoising of the canvas' latents under its captions.
#[derive(Debug)]
pub(super) struct DenoisingObjective<'a> {
    pub(super) unet: &'a UNet,
    pub(super) schedule: &'a Schedule,
    pub(super) canvas: &'a EncodedCanvas,
    /// Pictures a step.
    pub(super) batch: i64,
    /// How often the caption is `UnlearnCanvas`' template; the others share the rest.
    pub(super) template: f64,
    /// Numbers of the cells that it learns, `[m]`.
    pub(super) cells: Tensor,
    pub(super) device: Device,
}

/// How often the prompt is empty.
const EMPTY: f64 = 0.1;

impl Objective for DenoisingObjective<'_> {
    fn name(&self) -> &'static str {
        "unet"
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.unet
            .parameters()
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            .collect()
    }

    fn loss(&mut self, _step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, Error> {
        let (n, here) = (self.batch, self.device.tch());
        let EncodedCanvas { means, deviations, texts, empty, per_cell } = self.canvas;
        let mut shape = means.size();
        shape[0] = n;
        let cells = self.cells.index_select(0, &rng.below(self.cells.size()[0], &[n]));
        let rows = (&cells * *per_cell + rng.below(*per_cell, &[n])).to_device(here);
        let (mean, deviation) = (means.index_select(0, &rows), deviations.index_select(0, &rows));
        let clean = mean + deviation * rng.normal(&shape).to_device(here);

        let (_, kinds, tokens, width) = texts.size4().expect("[cells, captions, tokens, width]");
        let chance = rng.uniform(&[n]);
        let others = rng.below(kinds - 1, &[n]) + 1;
        let kind = others.where_self(&chance.ge(EMPTY + self.template), &others.zeros_like());
        let texts = texts.view([-1, tokens, width]);
        let texts = texts.index_select(0, &(cells * kinds + kind).to_device(here));
        let is_empty = chance.lt(EMPTY).to_device(here).view([n, 1, 1]);
        let texts = empty.unsqueeze(0).where_self(&is_empty, &texts);

        let noise = rng.normal(&shape).to_device(here);
        let timesteps = rng.below(self.schedule.steps(), &[n]).to_device(here);
        let noisy = self.schedule.add_noise(&clean, &noise, &timesteps);
        let output = self.unet.forward(&noisy, &timesteps, &texts).to_kind(Kind::Float);
        let target = self.schedule.target(&clean, &noise, &timesteps);
        Ok((output - target).square().mean(Kind::Float))
    }
}
