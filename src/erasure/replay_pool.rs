//! Partial samples of the base and what the base predicts of them, drawn once: where methods learn
//! from a teacher that never moves, neither depends on the weights that they train.

use std::path::Path;

use super::Error;
use super::partial_sampling::PartialSampling;
use crate::generator::{Conditioning, Denoiser, Error as GeneratorError};
use crate::torch::{Rng, Tensor, no_grad};
use crate::watch::Watch;
use crate::weights::{Weights, save};

/// Partial samples under prompts, as many of each prompt.
#[derive(Debug)]
pub(super) struct ReplayPool {
    /// `[each · prompts, c, h, w]`: one of each prompt, then the next of each. Where there are as
    /// many prompts as a batch has samples, those of one are in different batches, each at a
    /// timestep of its own.
    latents: Tensor,
    /// `[each · prompts]`.
    timesteps: Tensor,
    /// What the base predicts under each of the things that it was asked, `[each · prompts, c, h,
    /// w]`.
    predictions: Vec<Tensor>,
    prompts: i64,
    /// Samples of each prompt.
    each: i64,
    /// Passes of the UNet that it took.
    pub calls: u64,
}

/// How a pool is drawn.
pub(super) struct PoolPlan<'a> {
    /// In progress, in files and in seeds.
    pub name: &'a str,
    pub sampling: PartialSampling,
    /// What is drawn, a row a prompt.
    pub prompts: &'a Conditioning,
    /// What samples stay away from, one row.
    pub negative: &'a Conditioning,
    /// What the base is asked of each sample, a row a prompt each.
    pub asked: &'a [&'a Conditioning],
    /// Samples of each prompt.
    pub each: i64,
    /// Samples that are drawn together, to the same timestep.
    pub batch: i64,
    pub seed: u64,
}

/// Some of a pool's samples.
pub(super) struct Replayed {
    /// `[n, c, h, w]`.
    pub latents: Tensor,
    /// `[n]`.
    pub timesteps: Tensor,
    /// By what was asked, `[n, c, h, w]`.
    pub predictions: Vec<Tensor>,
}

impl ReplayPool {
    /// Draws it, from where an earlier session stopped where `folder` is one; `of` says what of.
    ///
    /// # Errors
    /// Interruption, a disk that is full, more steps than the schedule has.
    pub(super) fn draw(
        model: &dyn Denoiser,
        plan: &PoolPlan<'_>,
        of: &str,
        folder: Option<&Path>,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let total = plan.prompts.count() * plan.each;
        let (mut parts, mut calls) = (Vec::new(), 0);
        watch.begin(plan.name, total as u64);
        for first in (0..total).step_by(plan.batch.max(1) as usize) {
            watch.at(first as u64, "");
            if watch.interrupted() {
                return Err(GeneratorError::Interrupted.into());
            }
            let len = plan.batch.min(total - first);
            let file = folder.map(|folder| folder.join(format!("{first}.safetensors")));
            let known = file.as_deref().and_then(|file| read(file, of, model));
            let (part, taken) = if let Some(known) = known {
                known
            } else {
                let (part, taken) = plan.part(model, first, len)?;
                if let Some(file) = &file {
                    let about = [("of", of.to_owned()), ("calls", taken.to_string())];
                    let named = (0..).zip(&part).map(|(i, t)| (i.to_string(), t.shallow_clone()));
                    save(file, &named.collect::<Vec<_>>(), &about)?;
                }
                (part, taken)
            };
            calls += taken;
            parts.push(part);
        }
        watch.end();
        let column = |i: usize| {
            Tensor::cat(&parts.iter().map(|part: &Vec<Tensor>| &part[i]).collect::<Vec<_>>(), 0)
        };
        Ok(Self {
            latents: column(0),
            timesteps: column(1),
            predictions: (0..plan.asked.len()).map(|i| column(2 + i)).collect(),
            prompts: plan.prompts.count(),
            each: plan.each,
            calls,
        })
    }

    /// `n` samples of a prompt, by chance.
    pub(super) fn of_prompt(&self, prompt: i64, n: i64, rng: &mut Rng) -> Replayed {
        self.rows(&(rng.below(self.each, &[n]) * self.prompts + prompt))
    }

    /// The first `n` samples of a prompt, or all that there are: always the same.
    pub(super) fn first_of_prompt(&self, prompt: i64, n: i64) -> Replayed {
        let options = (crate::torch::Kind::Int64, tch::Device::Cpu);
        self.rows(&(Tensor::arange(n.min(self.each), options) * self.prompts + prompt))
    }

    fn rows(&self, rows: &Tensor) -> Replayed {
        let rows = rows.to_device(self.latents.device());
        let of = |all: &Tensor| all.index_select(0, &rows);
        Replayed {
            latents: of(&self.latents),
            timesteps: of(&self.timesteps),
            predictions: self.predictions.iter().map(of).collect(),
        }
    }
}

impl PoolPlan<'_> {
    /// Latents, timesteps and predictions of some of the samples, and the passes that they took.
    fn part(
        &self,
        model: &dyn Denoiser,
        first: i64,
        len: i64,
    ) -> Result<(Vec<Tensor>, u64), Error> {
        let mut rng = Rng::for_step(self.seed, self.name, first as u64);
        let _scope = model.compute().scope();
        let device = model.compute().device.tch();
        let options = (crate::torch::Kind::Int64, device);
        let of_prompt =
            Tensor::arange_start(first, first + len, options).remainder(self.prompts.count());
        let prompt = self.prompts.select(&of_prompt);
        let sample =
            self.sampling.draw(model, model.latent_shape(), &prompt, self.negative, &mut rng)?;
        let mut part = vec![sample.latents, sample.timesteps];
        for asked in self.asked {
            let asked = asked.select(&of_prompt);
            part.push(no_grad(|| model.predict(&part[0], &part[1], &asked)));
        }
        Ok((part, sample.calls + self.asked.len() as u64))
    }
}

/// A part that an earlier session drew of the same.
fn read(file: &Path, of: &str, model: &dyn Denoiser) -> Option<(Vec<Tensor>, u64)> {
    let saved = Weights::open(file).ok()?;
    let about = saved.metadata();
    if about.get("of")? != of {
        return None;
    }
    let device = model.compute().device.tch();
    let tensor = |i: usize| saved.tensor(&i.to_string()).ok().map(|t| t.to_device(device));
    let all: Option<Vec<Tensor>> = (0..saved.names().count()).map(tensor).collect();
    Some((all?, about.get("calls")?.parse().ok()?))
}
