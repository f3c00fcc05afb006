//! Latents on their way from noise to a picture, at the noise level of one of the sampler's
//! timesteps, to train on instead of pictures.

use crate::generator::{Conditioning, Denoiser, Guided};
use crate::sampler::{Sampler, SamplingRun, Solver};
use crate::torch::{Kind, Rng, Tensor};
use crate::training;

/// How partial samples are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartialSampling {
    /// Steps of the whole sampling.
    pub steps: usize,
    /// Scale of classifier-free guidance.
    pub guidance: f64,
    /// Whether networks are told a timestep 39 to 58 above the samples' own, as in AdvUnlearn's
    /// published code.
    pub told_noisier: bool,
}

/// Latents `[n, c, h, w]` and their timestep.
#[derive(Debug)]
pub(super) struct PartialSample {
    pub latents: Tensor,
    /// `[n]`, the same for all.
    pub timesteps: Tensor,
    /// Passes of the UNet that they took.
    pub calls: u64,
}

impl PartialSampling {
    /// Whether a model's schedule has so many steps.
    ///
    /// # Errors
    /// What it says.
    pub(super) fn fits(self, model: &dyn Denoiser) -> Result<(), String> {
        self.sampler(model).map(drop).map_err(|error| format!("sampling_steps: {error}"))
    }

    fn sampler(self, model: &dyn Denoiser) -> Result<Sampler, crate::sampler::Error> {
        Sampler::new(Solver::Ddim, model.schedule(), self.steps)
    }

    /// Denoises latents of the shape `[c, h, w]` by DDIM under `prompt`, a row each, away from
    /// `negative`, one row for all, to a timestep by chance. No step of it wants gradients.
    ///
    /// # Errors
    /// More steps than the schedule has.
    pub(super) fn draw(
        self,
        model: &dyn Denoiser,
        shape: [i64; 3],
        prompt: &Conditioning,
        negative: &Conditioning,
        rng: &mut Rng,
    ) -> Result<PartialSample, training::Error> {
        let sampler =
            self.sampler(model).map_err(|error| training::Error::Objective(error.to_string()))?;
        let n = prompt.count();
        let device = model.compute().device.tch();
        let [channels, height, width] = shape;
        let noise = rng.normal(&[n, channels, height, width]).to_device(device);
        let count = sampler.timesteps().len();
        let until = rng.below(count as i64, &[1]).int64_value(&[0]) as usize;
        let negative = &negative.repeat(n);
        let guided = Guided { prompt, negative, guidance: self.guidance };
        let mut run = SamplingRun::new(&sampler);
        let latents = model.denoise(&mut run, until, &noise, &guided, &mut |_| None);
        let own = sampler.timesteps()[until];
        let told = if self.told_noisier {
            let above = 39 + rng.below(20, &[1]).int64_value(&[0]);
            (own + above as f64).min((model.schedule().steps() - 1) as f64)
        } else {
            own
        };
        let timesteps = Tensor::full([n], told, (Kind::Float, device));
        Ok(PartialSample { latents, timesteps, calls: until as u64 })
    }
}
