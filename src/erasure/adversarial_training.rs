//! Learning to predict away from a concept under prompts that an attacker has made worse
//! (AdvUnlearn, equation 5): before each step vectors are looked for that bring the concept back,
//! and the step unlearns it under those.

use super::InnerAttack;
use super::negative_guidance::target;
use super::replay_pool::{ReplayPool, Replayed};
use crate::generator::{Component, Conditioning, Denoiser};
use crate::prompt_search::{self, AllowedTokens, Frames, PredictionTarget, SoftSearch};
use crate::torch::{Kind, Rng, Tensor, no_grad};
use crate::training::{self, LentWeights, MicroBatch, Objective};

/// What is trained, against what, and what it is to keep.
pub(super) struct AdversarialTraining<'a> {
    /// A short name; part of the seed of every step.
    pub name: &'static str,
    pub model: &'a dyn Denoiser,
    pub trained: &'a [(String, Tensor)],
    /// The base's values of what is trained.
    pub originals: &'a [Tensor],
    /// How many times as fast as the text encoder's the UNet's parameters move.
    pub unet_rate: f64,
    pub concept: Concept,
    pub retain: Option<Retain>,
    pub attack: &'a InnerAttack,
    /// Whether attacks are the published code's: gradients add up over their steps, and the last
    /// step is not taken.
    pub official: bool,
    pub allowed: AllowedTokens,
    /// How far away from the concept.
    pub eta: f64,
    /// Steps before the first attack.
    pub warmup: u64,
    /// Samples in a step.
    pub batch: i64,
    pub stop: Stop,
    pub recipe: String,
    pub state: AdversarialState,
}

/// The prompts that are unlearned.
pub(super) struct Concept {
    /// What the text encoder reads of each, `[prompts, tokens]`.
    pub ids: Tensor,
    /// Each with free tokens in it, a row each.
    pub frames: Vec<Frames>,
    /// Samples under them, with what the base predicts under what the target begins with, the
    /// concept and the empty prompt.
    pub pool: ReplayPool,
}

/// The prompts under which it is to predict as before.
pub(super) struct Retain {
    /// `[prompts, tokens]`.
    pub ids: Tensor,
    /// Samples under them, with what the base predicts under the same.
    pub pool: ReplayPool,
    /// What they count.
    pub weight: f64,
    /// Samples in a step.
    pub batch: i64,
    /// Steps of its own after each step of unlearning; 0: both losses in one step.
    pub own_steps: u64,
}

/// When it has learned enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// The share of the way back to the concept that attacks still come, on average.
    pub attack: Option<f64>,
    /// How far what is to stay is off, relative to its size, on average.
    pub drift: Option<f64>,
}

/// What changes beside the parameters, as tensors, so that it is kept with them.
pub(super) struct AdversarialState {
    /// What the last attack on each prompt found, `[prompts, k, width]`; zeros before.
    pub latest: Vec<Tensor>,
    /// Passes of the UNet forward and back, the running means of attack and drift, and how many
    /// numbers each is of.
    pub tracked: Tensor,
}

/// Places in [`AdversarialState::tracked`].
const FORWARD: i64 = 0;
const BACKWARD: i64 = 1;
const ATTACK: i64 = 2;
const DRIFT: i64 = 3;
/// From a mean's place to that of its number.
const COUNT: i64 = 2;
/// Weight of one step in a running mean.
const SMOOTHING: f64 = 0.05;
/// Of so many steps a mean is no chance.
const SETTLED: f64 = 1.0 / SMOOTHING;

impl AdversarialState {
    /// Before the first step.
    pub(super) fn new(frames: &[Frames], model: &dyn Denoiser) -> Self {
        let latest = frames.iter().map(|frames| frames.own(model).detach().zeros_like());
        // No mean of anything yet.
        let tracked = Tensor::from_slice(&[0.0, 0.0, f64::NAN, f64::NAN, 0.0, 0.0]);
        Self { latest: latest.collect(), tracked }
    }

    fn get(&self, place: i64) -> f64 {
        self.tracked.double_value(&[place])
    }

    fn set(&self, place: i64, value: f64) {
        let _ = self.tracked.narrow(0, place, 1).fill_(value);
    }

    /// A pass forward.
    fn passed(&self) {
        self.set(FORWARD, self.get(FORWARD) + 1.0);
    }

    /// A pass forward that a pass back follows.
    fn passed_both_ways(&self) {
        self.passed();
        self.set(BACKWARD, self.get(BACKWARD) + 1.0);
    }

    /// What the last attack on a prompt found, where there was one.
    fn latest(&self, prompt: usize) -> Option<&Tensor> {
        let latest = &self.latest[prompt];
        (latest.abs().max().double_value(&[]) > 0.0).then_some(latest)
    }

    fn track(&self, place: i64, value: f64) {
        let mean = self.get(place);
        self.set(place, if mean.is_nan() { value } else { mean + SMOOTHING * (value - mean) });
        self.set(place + COUNT, self.get(place + COUNT) + 1.0);
    }

    /// A running mean, once it is one of enough steps.
    fn settled(&self, place: i64) -> Option<f64> {
        (self.get(place + COUNT) >= SETTLED).then(|| self.get(place))
    }

    /// What is to be said of it in the record.
    pub(super) fn found(&self) -> serde_json::Value {
        let known = |value: f64| value.is_finite().then_some(value);
        serde_json::json!({
            "unet_forward": self.get(FORWARD), "unet_backward": self.get(BACKWARD),
            "attack": known(self.get(ATTACK)), "drift": known(self.get(DRIFT)),
        })
    }
}

impl AdversarialTraining<'_> {
    /// Steps of the optimizer for each step of unlearning.
    pub(super) fn cycle(&self) -> u64 {
        1 + self.retain.as_ref().map_or(0, |retain| retain.own_steps)
    }

    fn trains(&self, component: Component) -> bool {
        let prefix = format!("{}.", component.name());
        self.trained.iter().any(|(name, _)| name.starts_with(&prefix))
    }

    /// Which text encoder an iteration reads prompts with: where both networks are trained, every
    /// second attack and its steps have the base's. Else the UNet relies on one that has
    /// forgotten, and whoever puts the base's back has undone the erasure.
    fn reader(&self, iteration: u64) -> Reader {
        let learns = self.trains(Component::TextEncoder);
        let turns = learns && self.trains(Component::Unet);
        // Counted from the first attack, so that iterations that share one share a reader.
        let turn = iteration.abs_diff(self.warmup) / self.attack.every;
        if !turns || turn.is_multiple_of(2) {
            return Reader { _base: None, learns };
        }
        let prefix = format!("{}.", Component::TextEncoder.name());
        let all = self.trained.iter().zip(self.originals);
        let text = all.filter(|((name, _), _)| name.starts_with(&prefix));
        let (now, base): (Vec<&Tensor>, Vec<Tensor>) =
            text.map(|((_, now), base)| (now, base.shallow_clone())).unzip();
        Reader { _base: Some(LentWeights::pointing(now, &base)), learns: false }
    }

    /// The text encoder on vectors of tokens, with a graph where it learns.
    fn encode(&self, vectors: &Tensor, reader: &Reader) -> Conditioning {
        if reader.learns {
            self.model.encode(vectors)
        } else {
            no_grad(|| self.model.encode(vectors))
        }
    }

    fn read(&self, ids: &Tensor, reader: &Reader) -> Conditioning {
        self.encode(&self.model.embed(ids).detach(), reader)
    }

    /// What a step unlearns: away from the concept.
    fn unlearning(&self, sample: &Replayed) -> PredictionTarget {
        let [begin, concept, empty] = &sample.predictions[..] else {
            unreachable!("the pool was asked three things")
        };
        let target = target(begin, concept, empty, self.eta);
        PredictionTarget {
            noisy: sample.latents.shallow_clone(),
            timesteps: sample.timesteps.shallow_clone(),
            target,
        }
    }

    /// Looks for vectors under which the model as it is predicts the concept, `[1, k, width]`.
    fn attack(&self, prompt: usize, rng: &mut Rng) -> Result<Tensor, training::Error> {
        let (attack, model) = (self.attack, self.model);
        let frames = &self.concept.frames[prompt];
        let search = SoftSearch {
            steps: attack.steps,
            lr: attack.lr,
            update: attack.update,
            ball: attack.ball,
            accumulate: self.official,
        };
        let (mut best, mut least) = (frames.own(model).detach(), f64::INFINITY);
        for restart in 0..attack.restarts {
            let begin = self.begin(prompt, restart, rng);
            let path = search.run(&begin, |_, free| {
                let sample = self.concept.pool.of_prompt(prompt as i64, 1, rng);
                let prediction = attacked(sample);
                let conditioning = self.model.encode(&frames.fill(model, free));
                self.state.passed_both_ways();
                let errors = prediction.errors(model, &conditioning);
                Ok::<_, prompt_search::Error>(errors.sum(Kind::Float))
            });
            let mut path = path.map_err(of_training)?;
            if self.official {
                path.pop();
            }
            let found = path.pop().unwrap_or(begin);
            let error = if attack.restarts > 1 { self.error(prompt, &found) } else { 0.0 };
            if error < least || restart == 0 {
                (best, least) = (found, error);
            }
        }
        Ok(best)
    }

    /// Where an attack begins.
    fn begin(&self, prompt: usize, restart: u64, rng: &mut Rng) -> Tensor {
        let frames = &self.concept.frames[prompt];
        let continues = self.attack.begins_with_latest() && restart == 0;
        if let Some(latest) = self.state.latest(prompt).filter(|_| continues) {
            return latest.copy();
        }
        if self.attack.adds() {
            return frames.own(self.model).detach();
        }
        let device = self.model.compute().device.tch();
        let chosen = rng.below(self.allowed.count(), &[1, frames.free()]).to_device(device);
        self.allowed.vectors(&chosen).detach()
    }

    /// How far the model is from the concept under these vectors, on samples that are always the
    /// same.
    fn error(&self, prompt: usize, free: &Tensor) -> f64 {
        let sample = self.concept.pool.first_of_prompt(prompt as i64, COMPARED);
        let prediction = attacked(sample);
        let n = prediction.timesteps.size()[0];
        self.state.passed();
        no_grad(|| {
            let frames = &self.concept.frames[prompt];
            let conditioning = self.model.encode(&frames.fill(self.model, free)).repeat(n);
            prediction.errors(self.model, &conditioning).mean(Kind::Float).double_value(&[])
        })
    }

    /// One step of unlearning, under the prompt that an attack made worse once there are attacks.
    fn unlearn(
        &self,
        iteration: u64,
        reader: &Reader,
        rng: &mut Rng,
    ) -> Result<Tensor, training::Error> {
        let prompts = self.concept.frames.len() as i64;
        let prompt = rng.below(prompts, &[1]).int64_value(&[0]) as usize;
        let attacks = iteration >= self.warmup;
        if attacks && (iteration - self.warmup).is_multiple_of(self.attack.every) {
            let found = self.attack(prompt, rng)?;
            no_grad(|| self.state.latest[prompt].shallow_clone().copy_(&found));
        }
        let latest = self.state.latest(prompt).filter(|_| attacks);
        let sample = self.concept.pool.of_prompt(prompt as i64, self.batch, rng);
        let prediction = self.unlearning(&sample);
        let conditioning = match latest {
            Some(latest) => {
                self.encode(&self.concept.frames[prompt].fill(self.model, latest), reader)
            }
            None => self.read(&self.concept.ids.narrow(0, prompt as i64, 1), reader),
        };
        let conditioning = conditioning.repeat(self.batch);
        let errors = prediction.errors(self.model, &conditioning);
        self.state.passed_both_ways();
        if latest.is_some() {
            let way = (&sample.predictions[1] - &prediction.target).square().mean(Kind::Float);
            let left = errors.mean(Kind::Float).double_value(&[]) / way.double_value(&[]);
            self.state.track(ATTACK, left);
        }
        Ok(errors.mean(Kind::Float))
    }

    /// How far it is off under what is to stay.
    fn keep(&self, retain: &Retain, reader: &Reader, rng: &mut Rng) -> Tensor {
        let (mut parts, mut rows) = (Vec::new(), Vec::new());
        for _ in 0..retain.batch {
            let prompt = rng.below(retain.ids.size()[0], &[1]).int64_value(&[0]);
            parts.push(retain.pool.of_prompt(prompt, 1, rng));
            rows.push(prompt);
        }
        let cat = |of: &dyn Fn(&Replayed) -> &Tensor| {
            Tensor::cat(&parts.iter().map(of).collect::<Vec<_>>(), 0)
        };
        let prediction = PredictionTarget {
            noisy: cat(&|part| &part.latents),
            timesteps: cat(&|part| &part.timesteps),
            target: cat(&|part| &part.predictions[0]),
        };
        let rows = Tensor::from_slice(&rows).to_device(retain.ids.device());
        let conditioning = self.read(&retain.ids.index_select(0, &rows), reader);
        let errors = prediction.errors(self.model, &conditioning).mean(Kind::Float);
        self.state.passed_both_ways();
        let size = prediction.target.square().mean(Kind::Float).double_value(&[]);
        self.state.track(DRIFT, errors.double_value(&[]) / size.max(1e-12));
        errors
    }
}

/// The text encoder that an iteration has, as long as it lives.
struct Reader {
    /// The base's, in the trained one's place.
    _base: Option<LentWeights>,
    /// Whether it is the one that learns.
    learns: bool,
}

/// What an attack wants: the concept.
fn attacked(sample: Replayed) -> PredictionTarget {
    let Replayed { latents, timesteps, mut predictions } = sample;
    PredictionTarget { noisy: latents, timesteps, target: predictions.swap_remove(1) }
}

/// Samples on which the results of restarts are compared.
const COMPARED: i64 = 8;

impl Objective for AdversarialTraining<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.trained.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    fn lr_scale(&self, name: &str) -> f64 {
        if name.starts_with("unet.") { self.unet_rate } else { 1.0 }
    }

    fn fingerprint(&self) -> String {
        self.recipe.clone()
    }

    fn loss(&mut self, step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, training::Error> {
        let (iteration, within) = (step / self.cycle(), step % self.cycle());
        let reader = &self.reader(iteration);
        let Some(retain) = &self.retain else { return self.unlearn(iteration, reader, rng) };
        if within > 0 {
            return Ok(self.keep(retain, reader, rng));
        }
        let loss = self.unlearn(iteration, reader, rng)?;
        if retain.own_steps > 0 {
            return Ok(loss);
        }
        Ok(loss + self.keep(retain, reader, rng) * retain.weight)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let latest = self.state.latest.iter().enumerate();
        let mut all: Vec<(String, Tensor)> =
            latest.map(|(i, found)| (format!("latest.{i}"), found.shallow_clone())).collect();
        all.push(("tracked".to_owned(), self.state.tracked.shallow_clone()));
        all
    }

    /// It rises as soon as there are attacks.
    fn loss_falls(&self) -> bool {
        false
    }

    fn done(&self) -> bool {
        let mean = |place, most: Option<f64>| Some((self.state.settled(place)?, most?));
        // An attack that comes nowhere leaves the error that unlearning itself has: 0 of the way.
        mean(ATTACK, self.stop.attack).is_some_and(|(mean, most)| mean < most)
            || mean(DRIFT, self.stop.drift).is_some_and(|(mean, most)| mean > most)
    }
}

/// What a search says, where a training asks.
fn of_training(error: prompt_search::Error) -> training::Error {
    match error {
        prompt_search::Error::Torch(torch) => torch.into(),
        other @ prompt_search::Error::Search(_) => training::Error::Objective(other.to_string()),
    }
}
