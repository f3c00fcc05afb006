//! Pictures that no request alone describes: drawn under vectors that are no word's, with noise of
//! another strength in each step, or begun by the base.

use super::base_weights::BaseModel;
use super::{AttackTask, Error};
use crate::generator::{
    AncestralNoise, Conditioning, Denoiser, Error as GeneratorError, Guided, ImageRequest,
};
use crate::pictures::Picture;
use crate::sampler::{Sampler, SamplingRun};
use crate::torch::{Tensor, no_grad, stage};

/// Fresh noise in each step of DDIM (Song et al. 2021).
#[derive(Debug, Clone, Copy)]
pub(super) struct StepNoise {
    /// η.
    pub eta: f64,
    /// What the noise is multiplied with.
    pub factor: f64,
}

/// How pictures are drawn otherwise than by their requests alone.
#[derive(Default)]
pub(super) struct CustomSampling<'a> {
    /// By DDIM with noise, whatever the requests' sampler.
    pub noise: Option<StepNoise>,
    /// The base that begins, and how many steps it takes.
    pub begun_by: Option<(&'a BaseModel, usize)>,
}

/// Reads prompts of requests, a row each.
pub(super) type ReadPrompts<'a> = dyn Fn(&[ImageRequest]) -> Result<Conditioning, Error> + 'a;

impl CustomSampling<'_> {
    /// Draws requests under what `read` makes of their prompts.
    ///
    /// # Errors
    /// Steps that the schedule does not have, numbers that are none.
    pub(super) fn draw(
        &self,
        model: &dyn Denoiser,
        task: &AttackTask<'_>,
        requests: &[ImageRequest],
        read: &ReadPrompts<'_>,
    ) -> Result<Vec<Picture>, Error> {
        let requests: Vec<ImageRequest> =
            requests.iter().map(|request| request.clone().sampled(task.sampling)).collect();
        let mut pictures = Vec::new();
        for alike in requests.chunk_by(|one, other| settings(one) == settings(other)) {
            for batch in alike.chunks(task.judge.at_once().max(1)) {
                let latents = stage("drawing", || self.latents(model, batch, read))?;
                pictures.extend(model.pictures(&latents)?);
            }
        }
        Ok(pictures)
    }

    /// Draws requests that differ in prompt and seed alone.
    fn latents(
        &self,
        model: &dyn Denoiser,
        requests: &[ImageRequest],
        read: &ReadPrompts<'_>,
    ) -> Result<Tensor, Error> {
        let first = &requests[0];
        let sampler = match self.noise {
            Some(noise) => Sampler::ddim_with_noise(model.schedule(), first.steps, noise.eta),
            None => Sampler::new(first.sampler, model.schedule(), first.steps),
        };
        let sampler = sampler.map_err(GeneratorError::from)?;
        let noise = model.latents(requests);
        let factor = self.noise.map_or(1.0, |noise| noise.factor);
        let mut fresh = AncestralNoise::after_latents(sampler.is_ancestral(), requests, &noise);
        let mut fresh = |now: &Tensor| fresh.draw(now).map(|noise| noise * factor);
        let latents = noise.to_device(model.compute().device.tch());
        let end = sampler.timesteps().len();
        let negatives: Vec<&str> =
            requests.iter().map(|request| request.negative.as_str()).collect();
        let mut run = SamplingRun::new(&sampler);
        let mut steps = |latents: &Tensor, until| {
            let _scope = model.compute().scope();
            let (prompt, negative) =
                no_grad(|| Ok::<_, Error>((read(requests)?, model.condition(&negatives)?)))?;
            let guidance = if first.guidance > 1.0 { first.guidance } else { 1.0 };
            let guided = Guided { prompt: &prompt, negative: &negative, guidance };
            Ok::<_, Error>(model.denoise(&mut run, until, latents, &guided, &mut fresh))
        };
        match self.begun_by {
            Some((base, count)) => {
                let begun = base.lent(|| steps(&latents, count))?;
                steps(&begun, end)
            }
            None => steps(&latents, end),
        }
    }
}

/// What requests must have in common to be drawn in one batch.
fn settings(request: &ImageRequest) -> impl PartialEq + use<> {
    (request.steps, request.sampler, request.size, request.guidance.to_bits())
}

/// As the model reads them.
pub(super) fn as_written(
    model: &dyn Denoiser,
) -> impl Fn(&[ImageRequest]) -> Result<Conditioning, Error> + use<'_> {
    move |requests| {
        let prompts: Vec<&str> = requests.iter().map(|request| request.prompt.as_str()).collect();
        Ok(model.condition(&prompts)?)
    }
}
