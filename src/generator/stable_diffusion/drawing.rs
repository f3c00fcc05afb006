//! From latents of noise to pixels: the loop over the sampler's steps.

use super::StableDiffusion;
use crate::generator::pixels::first_not_finite;
use crate::generator::{AncestralNoise, Conditioning, Denoiser as _, Error, ImageRequest};
use crate::sampler::{History, Sampler};
use crate::torch::{Compute, IndexOp, Kind, Precision, Tensor, finite_each, no_grad};
use crate::watch::Watch;

impl StableDiffusion {
    /// Draws requests that may share a batch, from latents `[n, c, h, w]` of unit variance, to
    /// pixels `[n, 3, h, w]` in [0, 1].
    ///
    /// # Errors
    /// Steps that the schedule does not have, interruption.
    pub fn draw_latents(
        &self,
        latents: &Tensor,
        requests: &[ImageRequest],
        watch: &mut dyn Watch,
    ) -> Result<Tensor, Error> {
        let first = &requests[0];
        let Compute { device, .. } = self.compute;
        let sampler = Sampler::new(first.sampler, &self.schedule, first.steps)?;
        let n = requests.len() as i64;
        let prompts: Vec<&str> = requests.iter().map(|request| request.prompt.as_str()).collect();
        let mut conditioning = self.condition(&prompts)?;
        if first.guides() {
            let negatives: Vec<&str> =
                requests.iter().map(|request| request.negative.as_str()).collect();
            conditioning = Conditioning::cat(&[&self.condition(&negatives)?, &conditioning]);
        }
        let wrong = |index: usize, step: Option<usize>| self.not_finite(&requests[index], step);
        let scales: Vec<f32> = requests.iter().map(|request| request.guidance as f32).collect();
        let scales = Tensor::from_slice(&scales).to_device(device.tch()).view([n, 1, 1, 1]);

        no_grad(|| {
            // One scope over all steps: the parameters are cast once.
            let _scope = self.compute.scope();
            let mut latents = latents.to_device(device.tch()) * sampler.begin();
            let mut history = History::default();
            let mut fresh =
                AncestralNoise::after_latents(sampler.is_ancestral(), requests, &latents);
            let mut finite = Vec::with_capacity(sampler.timesteps().len());
            for (i, &t) in sampler.timesteps().iter().enumerate() {
                let timesteps =
                    Tensor::full([conditioning.count()], t, (Kind::Float, device.tch()));
                let shown = sampler.input(i, &latents);
                let output = if first.guides() {
                    let both = Tensor::cat(&[&shown, &shown], 0);
                    let both = self.predict(&both, &timesteps, &conditioning);
                    let (without, with) = (both.i(..n), both.i(n..));
                    &without + (with - &without) * &scales
                } else {
                    self.predict(&shown, &timesteps, &conditioning)
                };
                let noise = fresh.draw(&latents);
                latents = sampler.step(i, &latents, &output, noise.as_ref(), &mut history);
                finite.push(finite_each(&latents));
                // To look on a GPU is to wait for it: that is done once, in the end.
                if !device.is_cuda()
                    && let Some(index) = first_not_finite(&finite[i])
                {
                    return Err(wrong(index, Some(i)));
                }
                if watch.interrupted() {
                    return Err(Error::Interrupted);
                }
            }
            for (i, each) in finite.iter().enumerate().filter(|_| device.is_cuda()) {
                if let Some(index) = first_not_finite(each) {
                    return Err(wrong(index, Some(i)));
                }
            }
            let pixels = self.decode(&latents);
            if let Some(index) = first_not_finite(&finite_each(&pixels)) {
                return Err(wrong(index, None));
            }
            Ok((pixels * 0.5 + 0.5).clamp(0.0, 1.0))
        })
    }

    /// Why a picture is none: its latents at a step, or its pixels.
    fn not_finite(&self, request: &ImageRequest, step: Option<usize>) -> Error {
        let advice = match self.compute.precision {
            Precision::F16 => "numbers of f16 end at 65504: use --precision bf16 or f32",
            _ if self.edited.is_empty() => {
                "take another copy of the model, a smaller guidance, or --precision f32"
            }
            _ => {
                "leave the edits out or take less of them (FILE@0.5), a smaller guidance, or \
                 --precision f32"
            }
        };
        Error::NotFinite {
            what: step.map_or_else(
                || "its pixels".to_owned(),
                |step| format!("its latents after step {} of {}", step + 1, request.steps),
            ),
            prompt: request.prompt.clone(),
            seed: request.seed,
            advice,
        }
    }
}
