//! Teaches the UNet to denoise (Ho et al. 2020, equation 14, in latent space), with the prompt left
//! out now and then so that classifier-free guidance works (Ho & Salimans 2022).

use super::canvas_images::{cell_count, cells};
use super::{CanvasImages, Error, MicroBatch, Objective};
use crate::canvas::captions;
use crate::model::unet::UNet;
use crate::model::vae::Vae;
use crate::sampler::Schedule;
use crate::torch::{Compute, Device, Kind, Rng, Tensor, no_grad};
use crate::watch::Watch;

/// Latents and text embeddings, computed once: the encoder and the text tower do not move.
#[derive(Debug)]
pub struct DenoisingObjective<'a> {
    unet: &'a UNet,
    schedule: &'a Schedule,
    /// Scaled means and deviations, `[n, c, h, w]` each.
    means: Tensor,
    deviations: Tensor,
    /// `[cells, captions, tokens, width]`.
    texts: Tensor,
    /// `[tokens, width]`.
    empty: Tensor,
    per_cell: i64,
    batch: i64,
    device: Device,
}

/// How often the prompt is empty.
const EMPTY: f64 = 0.1;
/// How often the caption is `UnlearnCanvas`' template; the others share the rest.
const TEMPLATE: f64 = 0.6;

impl<'a> DenoisingObjective<'a> {
    /// Encodes the images and all captions. `embed` gives hidden states `[n, tokens, width]`.
    #[expect(clippy::too_many_arguments, reason = "everything that the lesson is made of, once")]
    pub fn new(
        unet: &'a UNet,
        vae: &Vae,
        schedule: &'a Schedule,
        images: &CanvasImages,
        embed: &dyn Fn(&[String]) -> Tensor,
        batch: i64,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Self {
        let scale = vae.config().scaling_factor;
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        watch.begin("encoding pictures", images.len() as u64);
        no_grad(|| {
            let _scope = compute.scope();
            for rows in images.batches(128) {
                let moments = vae.encode(&images.pictures(&rows, compute.device));
                means.push(moments.mean.to_kind(Kind::Float) * scale);
                deviations.push((moments.log_variance.to_kind(Kind::Float) * 0.5).exp() * scale);
                watch.at((means.len() * 128) as u64, "");
            }
        });
        watch.end();
        let texts: Vec<Tensor> =
            no_grad(|| cells().map(|(style, object)| embed(&captions(style, object))).collect());
        let empty = no_grad(|| embed(&[String::new()]).squeeze_dim(0));
        Self {
            unet,
            schedule,
            means: Tensor::cat(&means, 0),
            deviations: Tensor::cat(&deviations, 0),
            texts: Tensor::stack(&texts, 0),
            empty,
            per_cell: images.per_cell(),
            batch,
            device: compute.device,
        }
    }
}

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
        let cells = rng.below(cell_count(), &[n]);
        let rows = (&cells * self.per_cell + rng.below(self.per_cell, &[n])).to_device(here);
        let (mean, deviation) =
            (self.means.index_select(0, &rows), self.deviations.index_select(0, &rows));
        let clean = mean + deviation * rng.normal(&self.shape(n)).to_device(here);

        let (_, kinds, tokens, width) =
            self.texts.size4().expect("[cells, captions, tokens, width]");
        let chance = rng.uniform(&[n]);
        let others = rng.below(kinds - 1, &[n]) + 1;
        let kind = others.where_self(&chance.ge(EMPTY + TEMPLATE), &others.zeros_like());
        let texts = self.texts.view([-1, tokens, width]);
        let texts = texts.index_select(0, &(cells * kinds + kind).to_device(here));
        let empty = chance.lt(EMPTY).to_device(here).view([n, 1, 1]);
        let texts = self.empty.unsqueeze(0).where_self(&empty, &texts);

        let noise = rng.normal(&self.shape(n)).to_device(here);
        let timesteps = rng.below(self.schedule.steps(), &[n]).to_device(here);
        let noisy = self.schedule.add_noise(&clean, &noise, &timesteps);
        let output = self.unet.forward(&noisy, &timesteps, &texts).to_kind(Kind::Float);
        let target = self.schedule.target(&clean, &noise, &timesteps);
        Ok((output - target).square().mean(Kind::Float))
    }
}

impl DenoisingObjective<'_> {
    fn shape(&self, n: i64) -> Vec<i64> {
        let mut shape = self.means.size();
        shape[0] = n;
        shape
    }
}
