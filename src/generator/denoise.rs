//! A part of a sampling: latents on their way from noise to a picture.

use std::ops::Range;

use super::Conditioning;
use crate::sampler::{History, Sampler};
use crate::torch::{Kind, Tensor, no_grad};

/// What latents are drawn under, by classifier-free guidance.
#[derive(Debug)]
pub struct Guided<'a> {
    /// What to draw, `n` rows.
    pub prompt: &'a Conditioning,
    /// What to stay away from, `n` rows.
    pub negative: &'a Conditioning,
    /// `ε_- + guidance (ε_+ - ε_-)`.
    pub guidance: f64,
}

// duplicate: what the trait's method is by default, which has no `&dyn` of itself
pub(super) fn denoise(
    predict: impl Fn(&Tensor, &Tensor, &Conditioning) -> Tensor,
    sampler: &Sampler,
    latents: &Tensor,
    steps: Range<usize>,
    guided: &Guided,
    noise: &mut dyn FnMut(&Tensor) -> Option<Tensor>,
) -> Tensor {
    let n = latents.size()[0];
    let both = Conditioning::cat(&[guided.negative, guided.prompt]);
    no_grad(|| {
        let begins = steps.start == 0;
        let mut latents = if begins { latents * sampler.begin() } else { latents.shallow_clone() };
        let mut history = History::default();
        for i in steps {
            let t = sampler.timesteps()[i];
            let shown = sampler.input(i, &latents);
            let timesteps = Tensor::full([2 * n], t, (Kind::Float, latents.device()));
            let output = predict(&Tensor::cat(&[&shown, &shown], 0), &timesteps, &both);
            let (without, with) = (output.narrow(0, 0, n), output.narrow(0, n, n));
            let output = &without + (with - &without) * guided.guidance;
            let fresh = noise(&latents);
            latents = sampler.step(i, &latents, &output, fresh.as_ref(), &mut history);
        }
        latents
    })
}
