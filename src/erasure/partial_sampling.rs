//! Latents on their way from noise to a picture, at the noise level of one of the sampler's
//! timesteps: what ESD and LECO train on instead of pictures.

use super::Error;
use crate::generator::Denoiser;
use crate::sampler::{History, Sampler, Solver};
use crate::torch::{Kind, Rng, Tensor, no_grad};

/// How partial samples are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartialSampling {
    /// Steps of the whole sampling.
    pub steps: usize,
    /// Scale of classifier-free guidance.
    pub guidance: f64,
}

/// Latents `[n, c, h, w]` and their timestep.
#[derive(Debug)]
pub(super) struct PartialSample {
    pub latents: Tensor,
    /// `[n]`, the same for all.
    pub timesteps: Tensor,
}

impl PartialSampling {
    /// Denoises latents `[n, c, h, w]` of the shape `[c, h, w]` by DDIM under `text`
    /// `[n, tokens, width]`, away from `negative` `[1, tokens, width]`, to a timestep by chance. No
    /// step of it wants gradients.
    ///
    /// # Errors
    /// More steps than the schedule has.
    pub(super) fn draw(
        self,
        model: &dyn Denoiser,
        shape: [i64; 3],
        text: &Tensor,
        negative: &Tensor,
        rng: &mut Rng,
    ) -> Result<PartialSample, Error> {
        let sampler = Sampler::new(Solver::Ddim, model.schedule(), self.steps)
            .map_err(crate::generator::Error::from)?;
        let n = text.size()[0];
        let device = model.compute().device.tch();
        let [channels, height, width] = shape;
        let noise = rng.normal(&[n, channels, height, width]).to_device(device);
        let count = sampler.timesteps().len();
        let until = rng.below(count as i64, &[1]).int64_value(&[0]) as usize;
        let at =
            |i: usize, n: i64| Tensor::full([n], sampler.timesteps()[i], (Kind::Float, device));
        no_grad(|| {
            let mut latents = noise * sampler.begin();
            let mut history = History::default();
            let both = Tensor::cat(&[&negative.expand_as(text), text], 0);
            for i in 0..until {
                let shown = sampler.input(i, &latents);
                let output =
                    model.predict(&Tensor::cat(&[&shown, &shown], 0), &at(i, 2 * n), &both);
                let (without, with) = (output.narrow(0, 0, n), output.narrow(0, n, n));
                let output = &without + (with - &without) * self.guidance;
                latents = sampler.step(i, &latents, &output, None, &mut history);
            }
            Ok(PartialSample { latents, timesteps: at(until, n) })
        })
    }
}
