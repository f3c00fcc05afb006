//! How soon a diffusion model learns again what was taken out of it: it is fine-tuned on a few
//! pictures, and at certain steps the concept's prompts are drawn. What was only hidden comes back
//! at once.
//!
//! Three arms: `concept`, pictures of it under their prompts; `unrelated`, other pictures, after
//! which it comes back by itself where an erasure is loose (2410.08074); and `control`, the floor:
//! the concept's pictures under a word that the model never knew in the place of the concept's, and
//! that word is drawn. A concept that is gone comes back no sooner than a new one is learned.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract::denoiser_of;
use super::saved_curves::SavedCurves;
use super::{
    Arm, Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Evaluation, Findings,
};
use crate::generator::{Component, Conditioning, Denoiser, LatentDistribution, Model};
use crate::pictures::Picture;
use crate::settings::Configurable;
use crate::torch::{Kind, Rng, Tensor};
use crate::training::{
    self, LentWeights, LowRankAdapter, MicroBatch, Objective, TrainConfig, train,
};

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relearning {
    /// Pictures that each arm learns from.
    pub pictures: usize,
    /// Steps at which is looked, in order; the last ends it.
    pub checkpoints: Vec<u64>,
    /// What moves.
    pub adapter: Adapted,
    /// The adapter's rank, which counts as its alpha too.
    pub rank: i64,
    /// Adam's learning rate.
    pub lr: f64,
    /// Pictures in a step.
    pub batch: i64,
}

/// What moves while a concept is learned again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adapted {
    /// A low-rank adapter on the attention.
    Lora,
    /// All of the denoiser.
    Full,
}

impl Default for Relearning {
    fn default() -> Self {
        Self {
            pictures: 10,
            checkpoints: vec![0, 5, 10, 20, 50, 100, 200],
            adapter: Adapted::Lora,
            rank: 4,
            lr: 1e-4,
            batch: 4,
        }
    }
}

impl Configurable for Relearning {
    fn name(&self) -> &'static str {
        "relearning"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let rising = self.checkpoints.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || self.checkpoints.first() != Some(&0) || self.checkpoints.len() < 2 {
            return Err(format!(
                "relearning's checkpoints are {:?}; they are steps that rise from 0 to the last",
                self.checkpoints
            ));
        }
        let numbers = self.pictures < 1 || self.rank < 1 || self.batch < 1;
        if numbers || !self.lr.is_finite() || self.lr <= 0.0 {
            return Err(format!(
                "relearning has {} pictures, rank {}, batch {} and lr {}; all are above 0",
                self.pictures, self.rank, self.batch, self.lr
            ));
        }
        Ok(())
    }
}

impl Attack for Relearning {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { training_images: self.pictures, ..AttackNeeds::WEIGHTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let evaluations = ARMS * self.checkpoints.len() as u64;
        let images = evaluations * requests as u64;
        AttackCost {
            steps: self.steps(),
            arms: ARMS,
            images,
            batch: self.batch as usize,
            ..AttackCost::default()
        }
    }

    fn shortened(&self, steps: u64) -> Option<Box<dyn Attack>> {
        Some(Box::new(Self { checkpoints: vec![0, steps], ..self.clone() }))
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let AttackTask { exposure, judge, seed, .. } = *task;
        let denoiser = denoiser_of(&model, self.name())?;
        let arms = [
            (Arm::CONCEPT, &exposure.concept, &exposure.requests),
            (Arm::UNRELATED, &exposure.unrelated, &exposure.requests),
            (Arm::CONTROL, &exposure.control, &exposure.control_requests),
        ];
        let mut curves = SavedCurves::open(context)?;
        let given = arms.into_iter().filter(|(_, pictures, _)| !pictures.is_empty());
        let each = given.map(|(name, pictures, requests)| {
            let last = curves.of(name).last().map(|last| last.step);
            if last != Some(self.steps()) {
                let count = || judge.count(&model, requests);
                let looks = Looks { name, count: &count, curves: &mut curves };
                self.train(denoiser, pictures, looks, seed, context)?;
            }
            curves.finished(name)
        });
        each.collect::<Result<Vec<_>, Error>>().map(Findings::Curves)
    }
}

/// Concept, unrelated and control.
const ARMS: u64 = 3;

type CountNow<'a> = dyn Fn() -> Result<(usize, usize), Error> + 'a;

/// How an arm is looked at.
struct Looks<'a> {
    /// The arm.
    name: &'static str,
    count: &'a CountNow<'a>,
    curves: &'a mut SavedCurves,
}

impl Relearning {
    fn steps(&self) -> u64 {
        self.checkpoints.last().copied().unwrap_or_default()
    }

    /// Trains on the pictures, looks at the checkpoints and gives the weights back.
    fn train(
        &self,
        model: &dyn Denoiser,
        pictures: &[(Picture, String)],
        looks: Looks<'_>,
        seed: u64,
        context: &mut AttackContext<'_>,
    ) -> Result<(), Error> {
        let weights = self.trained(model);
        let lent = LentWeights::restoring(weights.iter().map(|(_, weight)| weight));
        let originals = lent.originals();
        let adapter =
            || LowRankAdapter::new(&weights, originals, self.rank, self.rank as f64, seed);
        let images: Vec<Picture> = pictures.iter().map(|(image, _)| image.clone()).collect();
        let prompts: Vec<&str> = pictures.iter().map(|(_, prompt)| prompt.as_str()).collect();
        let folder = looks.curves.training(looks.name);
        let mut objective = Denoising {
            model,
            clean: model.encode_pictures(&images)?,
            texts: model.condition(&prompts)?,
            adapter: (self.adapter == Adapted::Lora).then(adapter),
            weights: &weights,
            batch: self.batch,
            checkpoints: &self.checkpoints,
            looks,
        };
        let config = TrainConfig::constant(self.steps(), self.lr, seed);
        train(&mut objective, &config, model.compute(), folder.as_deref(), context.watch)?;
        Ok(objective.evaluate_at(config.steps)?)
    }

    fn trained(&self, model: &dyn Denoiser) -> Vec<(String, Tensor)> {
        let mut all = model.parameters(Component::Unet);
        if self.adapter == Adapted::Lora {
            all.retain(|(name, weight)| {
                let attention = name.contains(".attn1.") || name.contains(".attn2.");
                attention && name.ends_with(".weight") && weight.dim() == 2
            });
        }
        all
    }
}

/// Denoising of a few pictures under their prompts (Ho et al. 2020, equation 14).
struct Denoising<'a> {
    model: &'a dyn Denoiser,
    clean: LatentDistribution,
    /// `[pictures, tokens, width]`.
    texts: Conditioning,
    adapter: Option<LowRankAdapter>,
    weights: &'a [(String, Tensor)],
    batch: i64,
    checkpoints: &'a [u64],
    looks: Looks<'a>,
}

impl Denoising<'_> {
    /// Looks at what the model draws after `step` steps, where that is a checkpoint.
    fn evaluate_at(&mut self, step: u64) -> Result<(), training::Error> {
        let Looks { name, count, curves } = &mut self.looks;
        let seen = curves.of(name).last().is_some_and(|last| last.step == step);
        if let Some(adapter) = &self.adapter {
            adapter.merge(1.0);
        }
        if self.checkpoints.contains(&step) && !seen {
            let counted = count();
            let (hits, n) =
                counted.map_err(|error| training::Error::EarlyStopping(error.to_string()))?;
            curves.add(name, Evaluation { step, hits, n })?;
        }
        Ok(())
    }
}

impl Objective for Denoising<'_> {
    fn name(&self) -> &'static str {
        self.looks.name
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        match &self.adapter {
            Some(adapter) => adapter.parameters(),
            None => self.weights.iter().map(|(n, w)| (n.clone(), w.shallow_clone())).collect(),
        }
    }

    fn loss(&mut self, step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, training::Error> {
        self.evaluate_at(step)?;
        let schedule = self.model.schedule();
        let rows = rng
            .below(self.texts.count(), &[self.batch])
            .to_device(self.model.compute().device.tch());
        let of = |whole: &Tensor| whole.index_select(0, &rows);
        let mean = of(&self.clean.mean);
        let mut normal = || rng.normal(&mean.size()).to_device(mean.device());
        let clean = &mean + of(&self.clean.deviation) * normal();
        let noise = normal();
        let timesteps = rng.below(schedule.steps(), &[self.batch]).to_device(mean.device());
        let noisy = schedule.add_noise(&clean, &noise, &timesteps);
        let output = self.model.predict(&noisy, &timesteps, &self.texts.select(&rows));
        let target = schedule.target(&clean, &noise, &timesteps);
        let loss = (output - target).square().mean(Kind::Float);
        match &self.adapter {
            Some(adapter) => adapter.carry(&loss, 1.0),
            None => Ok(loss),
        }
    }
}
