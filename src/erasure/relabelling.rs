//! SalUn's training: the concept's prompts learn to give what other prompts give, under the mask,
//! while the remaining set is learned as usual (equation 6).

use serde::{Deserialize, Serialize};

use super::encoded::{EncodedImages, EncodedPrompts, rows_of_step};
use crate::generator::{Conditioning, Denoiser};
use crate::torch::{Kind, Rng, Tensor, no_grad};
use crate::training::{self, LentWeights, MicroBatch, Objective};

/// Where a pseudo prompt comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pseudo {
    /// The task's anchor.
    Anchor,
    /// The next prompt of the remaining set, always the same for a prompt (the published code's).
    Next,
    /// A random prompt of the remaining set at each step (the paper's random relabelling).
    Random,
}

/// Which network gives the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetNetwork {
    /// The one that is being trained.
    Current,
    /// The base.
    Frozen,
}

/// Learns what the concept's prompts are to give.
pub(super) struct Relabelling<'a> {
    /// The method's.
    pub(super) name: &'static str,
    pub(super) pseudo: Pseudo,
    pub(super) target_network: TargetNetwork,
    /// Whether the target's prediction sees another sample of the autoencoder.
    pub(super) samples_twice: bool,
    /// Weight of the remaining set's loss.
    pub(super) alpha: f64,
    /// Pictures of each set in a step.
    pub(super) batch: i64,
    pub(super) model: &'a dyn Denoiser,
    pub(super) texts: &'a EncodedPrompts,
    pub(super) forget: &'a EncodedImages,
    pub(super) remain: Option<&'a EncodedImages>,
    pub(super) chosen: &'a [(String, Tensor)],
    pub(super) base: &'a [Tensor],
    pub(super) masks: &'a [Tensor],
    pub(super) seed: u64,
    /// Of all that the erasure depends on.
    pub(super) key: &'a str,
}

impl Objective for Relabelling<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.chosen.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    fn fingerprint(&self) -> String {
        self.key.to_owned()
    }

    fn splits(&self) -> bool {
        self.batch > 1
    }

    fn loss(
        &mut self,
        step: u64,
        rng: &mut Rng,
        micro_batch: MicroBatch,
    ) -> Result<Tensor, training::Error> {
        let (model, schedule) = (self.model, self.model.schedule());
        let here = model.compute().device.tch();
        let (n, total) = (self.batch, schedule.steps());

        let rows = rows_of_step(self.seed, "forget", step, n, self.forget.len()).to_device(here);
        let clean = self.forget.sample(&rows, rng);
        let noise = rng.normal(&clean.size()).to_device(here);
        let timesteps = rng.below(total, &[n]).to_device(here);
        let noisy = schedule.add_noise(&clean, &noise, &timesteps);
        let prompts = self.forget.prompts.index_select(0, &rows);
        let text = self.texts.forget.select(&prompts);
        let pseudo = self.pseudo(&prompts, rng);
        let for_target = if self.samples_twice {
            schedule.add_noise(&self.forget.sample(&rows, rng), &noise, &timesteps)
        } else {
            noisy.shallow_clone()
        };
        // Everything above is drawn for the whole batch, so that its halves see the same.
        let mine = micro_batch.rows(n);
        let (from, len) = (mine.start, mine.end - mine.start);
        let part = |whole: &Tensor| whole.narrow(0, from, len);
        let weight = len as f64 / n as f64;
        let part_of = |whole: &Conditioning| whole.narrow(from, len);
        let ([noisy, at], text) = ([&noisy, &timesteps].map(part), part_of(&text));
        let target =
            self.as_target_network(|| model.predict(&part(&for_target), &at, &part_of(&pseudo)));

        let Some(remain) = self.remain.filter(|_| self.alpha > 0.0) else {
            let output = model.predict(&noisy, &at, &text);
            return Ok((output - target).square().mean(Kind::Float) * weight);
        };
        let rows = rows_of_step(self.seed, "remain", step, n, remain.len()).to_device(here);
        let retain_latents = remain.sample(&rows, rng);
        let kept_noise = rng.normal(&retain_latents.size()).to_device(here);
        let kept_timesteps = rng.below(total, &[n]).to_device(here);
        let kept_noisy = schedule.add_noise(&retain_latents, &kept_noise, &kept_timesteps);
        let texts = self.texts.remain.as_ref().unwrap_or(&self.texts.empty);
        let kept_text = texts.select(&remain.prompts.index_select(0, &rows));

        // Both sets go through the network together.
        let output = model.predict(
            &Tensor::cat(&[noisy, part(&kept_noisy)], 0),
            &Tensor::cat(&[at, part(&kept_timesteps)], 0),
            &Conditioning::cat(&[&text, &part_of(&kept_text)]),
        );
        let output = output.split(len, 0);
        let kept_target = part(&schedule.target(&retain_latents, &kept_noise, &kept_timesteps));
        let forgetting = (&output[0] - target).square().mean(Kind::Float);
        let keeping = (&output[1] - kept_target).square().mean(Kind::Float);
        Ok((forgetting + keeping * self.alpha) * weight)
    }

    fn mask_gradient(&self, i: usize, gradient: &mut Tensor) {
        let _ = gradient.g_mul_(&self.masks[i]);
    }
}

impl Relabelling<'_> {
    fn pseudo(&self, prompts: &Tensor, rng: &mut Rng) -> Conditioning {
        let remain = self.texts.remain.as_ref().unwrap_or(&self.texts.empty);
        let n = remain.count();
        match self.pseudo {
            Pseudo::Anchor => self.texts.anchor.select(prompts),
            Pseudo::Next => remain.select(&(prompts + 1).remainder(n)),
            Pseudo::Random => {
                remain.select(&rng.below(n, &prompts.size()).to_device(prompts.device()))
            }
        }
    }

    /// Runs `predict` without gradients on the network that gives the target.
    fn as_target_network(&self, predict: impl FnOnce() -> Tensor) -> Tensor {
        if self.target_network == TargetNetwork::Current {
            return no_grad(predict);
        }
        let _base = LentWeights::pointing(self.chosen.iter().map(|(_, tensor)| tensor), self.base);
        no_grad(predict)
    }
}
