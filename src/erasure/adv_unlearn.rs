//! AdvUnlearn: adversarial training for concept erasure (Zhang et al. 2024, arXiv 2405.15234).
//!
//! ESD's target is learned under prompts that an inner attack has made worse; the text encoder
//! learns it, or the UNet, or both. What the base predicts of partial samples, and of prompts that
//! are to stay, is drawn once into a pool: the teacher is the base and never moves, so one UNet is
//! in memory and the published hundreds of thousands of passes become tens of thousands.
//!
//! `variant = "official"` keeps what the published code does otherwise: the inner attack's
//! gradients add up over its steps, the prompt is split behind as many tokens as it has words (so
//! that pieces of longer words fall away), samples are 39 to 58 timesteps cleaner than the networks
//! are told, and the vectors of the step before the last are taken.
//! Of it is not kept: `fast_at`, whose signs are left in the gradient that the next step adds to
//! and go through Adam; that a UNet in training samples what it learns from itself; that samples
//! of the first two of its fifty times run through all steps; prompts to keep without replacement.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adversarial_training::{AdversarialState, AdversarialTraining, Concept, Retain, Stop};
use super::method::denoiser_of;
use super::parameter_subset::changed;
use super::partial_sampling::PartialSampling;
use super::replay_pool::{PoolPlan, ReplayPool};
use super::{
    Base, Context, Cost, Error, InnerAttack, Method, Needs, Pair, ParameterSubset, Task,
    TextEncoderSubset, Variant,
};
use crate::generator::{Denoiser, Model};
use crate::prompt_search::{AllowedTokens, Frames, names};
use crate::settings::Configurable;
use crate::torch::Tensor;
use crate::training::{GradientsFor, LentWeights, TrainConfig, train};
use crate::watch::Watch;
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvUnlearn {
    /// What moves.
    pub trains: Trains,
    /// Which part of the text encoder, where it moves.
    pub text_encoder: TextEncoderSubset,
    /// Which part of the UNet, where it moves, in ESD's words.
    pub unet: ParameterSubset,
    /// How many times as fast as the text encoder's the UNet's parameters move.
    pub unet_rate: f64,
    /// What the target begins with.
    pub base: Base,
    /// How far away from the concept.
    pub eta: f64,
    /// Other names of the concept, unlearned and attacked like its prompts.
    pub synonyms: Vec<String>,
    /// Training steps.
    pub steps: u64,
    /// Of them, those before the first attack.
    pub warmup: u64,
    /// Adam's learning rate.
    pub lr: f64,
    /// Samples in a step.
    pub batch: i64,
    /// What prompts are made worse by.
    pub attack: InnerAttack,
    /// How prompts that are to stay are kept.
    pub retain: RetainSettings,
    /// Guidance of partial samples.
    pub guidance: f64,
    /// Steps of a whole sampling, of which partial samples do some.
    pub sampling_steps: usize,
    /// Partial samples of the concept in all; each prompt has as many.
    pub pool: i64,
    /// Ends the training once attacks come less than this share of the way back, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_attack: Option<f64>,
    /// Ends the training once what is to stay is off by more than this share of its size, on
    /// average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_drift: Option<f64>,
    /// `paper` or `official`.
    pub variant: Variant,
}

/// What moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trains {
    /// The text encoder: other models' UNet can take it too, and whoever puts the old one back
    /// undoes it.
    TextEncoder,
    /// The UNet.
    Unet,
    /// Both, the UNet with the base's text encoder in every second step, so that it holds where
    /// that is put back.
    Both,
}

/// How prompts that are to stay are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetainSettings {
    /// How.
    pub form: RetainForm,
    /// What they count, in the form `reg`.
    pub weight: f64,
    /// Samples in a step.
    pub batch: i64,
    /// Steps of their own after each step of unlearning, in the form `iter`.
    pub steps: u64,
    /// Partial samples in all; each prompt has as many.
    pub pool: i64,
}

/// A form of keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetainForm {
    /// A second loss in each step.
    Reg,
    /// Steps of their own.
    Iter,
    /// Nothing is kept.
    None,
}

impl Default for AdvUnlearn {
    fn default() -> Self {
        Self {
            trains: Trains::TextEncoder,
            text_encoder: TextEncoderSubset::default(),
            unet: ParameterSubset::X,
            unet_rate: 1.0,
            base: Base::Uncond,
            eta: 1.0,
            synonyms: Vec::new(),
            steps: 1000,
            warmup: 200,
            lr: 1e-5,
            batch: 1,
            attack: InnerAttack::default(),
            retain: RetainSettings::default(),
            guidance: 3.0,
            sampling_steps: 50,
            pool: 256,
            stop_attack: None,
            stop_drift: None,
            variant: Variant::Paper,
        }
    }
}

impl Default for RetainSettings {
    fn default() -> Self {
        Self { form: RetainForm::Reg, weight: 0.3, batch: 5, steps: 1, pool: 256 }
    }
}

impl RetainSettings {
    /// Steps of their own after each step of unlearning.
    fn own_steps(&self) -> u64 {
        if self.form == RetainForm::Iter { self.steps } else { 0 }
    }
}

impl AdvUnlearn {
    fn is_official(&self) -> bool {
        self.variant == Variant::Official
    }

    fn sampling(&self) -> PartialSampling {
        PartialSampling {
            steps: self.sampling_steps,
            guidance: self.guidance,
            told_noisier: self.is_official(),
        }
    }

    /// The prompts that are unlearned, each with what it is to become.
    fn pairs(&self, pairs: &[Pair]) -> Vec<Pair> {
        let anchor = pairs.first().map(|pair| pair.anchor.clone()).unwrap_or_default();
        let of_synonym =
            |synonym: &String| Pair { forget: synonym.clone(), anchor: anchor.clone() };
        pairs.iter().cloned().chain(self.synonyms.iter().map(of_synonym)).collect()
    }

    /// The prompts that stay, without those that name the concept after all; says which these are.
    fn kept(&self, task: &Task, watch: &mut dyn Watch) -> Vec<String> {
        if self.retain.form == RetainForm::None {
            return Vec::new();
        }
        let concept = task.concept.rsplit(':').next().unwrap_or(task.concept);
        let of_pairs = task.pairs.iter().flat_map(Pair::words);
        let words = of_pairs.chain(self.synonyms.iter().cloned()).chain([concept.to_owned()]);
        let words: Vec<String> = words.collect();
        let named = |prompt: &&String| words.iter().any(|words| names(prompt, words));
        let (left, kept): (Vec<&String>, Vec<&String>) = task.keep.iter().partition(named);
        if let Some(first) = left.first() {
            watch.note(&format!(
                "AdvUnlearn: {} of {} prompts to keep name the concept and are left out, «{first}» \
                 first",
                left.len(),
                task.keep.len()
            ));
        }
        kept.into_iter().cloned().collect()
    }

    fn trained(&self, model: &dyn Denoiser) -> Result<Vec<(String, Tensor)>, Error> {
        let mut trained = Vec::new();
        if self.trains != Trains::Unet {
            trained.extend(self.text_encoder.of(model)?);
        }
        if self.trains != Trains::TextEncoder {
            trained.extend(self.unet.of(model)?);
        }
        Ok(trained)
    }

    /// Each prompt with free tokens in it.
    fn frames(&self, model: &dyn Denoiser, pairs: &[Pair]) -> Result<Vec<Frames>, Error> {
        let InnerAttack { placement, count, .. } = self.attack;
        pairs
            .iter()
            .map(|pair| {
                let mut tokens = model.tokens(&pair.forget);
                if self.is_official() {
                    // As many tokens as there are words stay, and as many as are free fall away.
                    let words = pair.forget.split_whitespace().count().min(tokens.len());
                    let behind = (words + count).min(tokens.len());
                    tokens.drain(words..behind);
                }
                Ok(Frames::of_tokens(model, &[tokens], placement, count)?)
            })
            .collect()
    }

    fn concept(
        &self,
        model: &dyn Denoiser,
        pairs: &[Pair],
        pools: &Pools<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Concept, Error> {
        let texts =
            |of: &dyn Fn(&Pair) -> &str| model.condition(&pairs.iter().map(of).collect::<Vec<_>>());
        let concept = texts(&|pair| &pair.forget)?;
        let begin = texts(&|pair| self.base.prompt(pair))?;
        let empty = model.condition(&[""])?;
        let empties = empty.repeat(concept.count());
        let plan = PoolPlan {
            name: "sampling the concept",
            sampling: self.sampling(),
            prompts: &concept,
            negative: &empty,
            asked: &[&begin, &concept, &empties],
            each: (self.pool / pairs.len() as i64).max(1),
            batch: POOL_BATCH,
            seed: pools.seed,
        };
        let prompts: Vec<&str> = pairs.iter().map(|pair| pair.forget.as_str()).collect();
        Ok(Concept {
            ids: model.token_ids(&prompts),
            frames: self.frames(model, pairs)?,
            pool: pools.draw(model, "concept", &plan, watch)?,
        })
    }

    fn retain(
        &self,
        model: &dyn Denoiser,
        kept: &[String],
        pools: &Pools<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Option<Retain>, Error> {
        if kept.is_empty() {
            return Ok(None);
        }
        let prompts: Vec<&str> = kept.iter().map(String::as_str).collect();
        let (texts, empty) = (model.condition(&prompts)?, model.condition(&[""])?);
        let plan = PoolPlan {
            name: "sampling what stays",
            sampling: self.sampling(),
            prompts: &texts,
            negative: &empty,
            asked: &[&texts],
            each: (self.retain.pool / prompts.len() as i64).max(1),
            batch: POOL_BATCH,
            seed: pools.seed,
        };
        Ok(Some(Retain {
            ids: model.token_ids(&prompts),
            pool: pools.draw(model, "retain", &plan, watch)?,
            weight: self.retain.weight,
            batch: self.retain.batch,
            own_steps: self.retain.own_steps(),
        }))
    }
}

/// Samples that are drawn together.
const POOL_BATCH: i64 = 4;

/// Where pools lie, and what of.
struct Pools<'a> {
    folder: Option<&'a Path>,
    of: String,
    seed: u64,
}

impl Pools<'_> {
    fn draw(
        &self,
        model: &dyn Denoiser,
        name: &str,
        plan: &PoolPlan<'_>,
        watch: &mut dyn Watch,
    ) -> Result<ReplayPool, Error> {
        let folder = self.folder.map(|folder| folder.join("pool").join(name));
        ReplayPool::draw(model, plan, &self.of, folder.as_deref(), watch)
    }
}

impl Configurable for AdvUnlearn {
    fn name(&self) -> &'static str {
        "adv-unlearn"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let numbers = [self.eta, self.guidance, self.unet_rate, self.retain.weight];
        if numbers.iter().any(|number| !number.is_finite() || *number < 0.0) {
            return Err(format!(
                "AdvUnlearn's eta, guidance, unet_rate and retain.weight are {numbers:?}; none is \
                 negative"
            ));
        }
        if !self.lr.is_finite() || self.lr <= 0.0 {
            return Err(format!("AdvUnlearn's lr is {}; it is above 0", self.lr));
        }
        let counts = [self.batch, self.pool, self.retain.batch, self.retain.pool];
        let retains = self.retain.form != RetainForm::Iter || self.retain.steps > 0;
        if counts.iter().any(|count| *count < 1)
            || self.steps < 1
            || self.sampling_steps < 1
            || !retains
        {
            return Err(
                "AdvUnlearn's steps, batch, pool and sampling_steps, and those of retain, are at \
                 least 1"
                    .to_owned(),
            );
        }
        self.attack.check()
    }
}

impl Method for AdvUnlearn {
    fn needs(&self) -> Needs {
        Needs { keep_prompts: self.retain.form != RetainForm::None, ..Needs::PROMPTS }
    }

    fn cost(&self) -> Cost {
        // A partial sample is taken through half of the steps, with guidance, as a mean.
        let sampling = |pool: i64, asked: u64| pool as u64 * (self.sampling_steps as u64 + asked);
        let retained =
            if self.retain.form == RetainForm::None { 0 } else { sampling(self.retain.pool, 1) };
        Cost {
            steps: self.steps,
            // An attacked iteration takes many times as long as one without an attack.
            cycle: if self.attack.every > 1 { self.attack.every } else { 0 },
            batch: self.batch,
            sampling: sampling(self.pool, 3) + retained,
            ..Cost::default()
        }
    }

    fn suits(&self, model: &Model, pairs: &[Pair]) -> Result<(), String> {
        let Model::Diffusion(model) = model else { return Ok(()) };
        self.trained(&**model).map_err(|error| error.to_string())?;
        self.frames(&**model, &self.pairs(pairs)).map_err(|error| error.to_string())?;
        self.sampling().fits(&**model)
    }

    fn shortened(&self, steps: u64, batch: i64) -> Option<Box<dyn Method>> {
        // The pools are no part of a step.
        let retain = RetainSettings { pool: 1, ..self.retain.clone() };
        let (pool, sampling_steps, warmup) = (1, 1, 0);
        Some(Box::new(Self { steps, warmup, batch, retain, sampling_steps, pool, ..self.clone() }))
    }

    fn erase(&self, model: Model, task: &Task, context: &mut Context) -> Result<Edit, Error> {
        self.check().map_err(Error::Task)?;
        let model = &*denoiser_of(model, self.name())?;
        let trained = self.trained(model)?;
        let (pairs, kept) = (self.pairs(task.pairs), self.kept(task, context.watch));
        if kept.is_empty() && self.needs().keep_prompts {
            return Err(Error::Task(
                "AdvUnlearn has no prompt to keep: all of them name the concept; give others, or \
                 retain.form = \"none\""
                    .to_owned(),
            ));
        }
        let state = context.own_state();
        let of = format!("{} {}", model.card().hash, task.recipe(self));
        let pools = Pools { folder: state.as_deref(), of, seed: task.seed };
        // Both before anything requires gradients: they are the base's.
        let concept = self.concept(model, &pairs, &pools, context.watch)?;
        let retain = self.retain(model, &kept, &pools, context.watch)?;
        let calls = concept.pool.calls + retain.as_ref().map_or(0, |retain| retain.pool.calls);
        let lent = LentWeights::restoring(trained.iter().map(|(_, tensor)| tensor));
        let moves = |name: &str| trained.iter().any(|(trained, _)| trained == name);
        let _gradients = GradientsFor::only(model.all_parameters(), moves);
        let mut objective = AdversarialTraining {
            name: self.name(),
            model,
            trained: &trained,
            originals: lent.originals(),
            unet_rate: self.unet_rate,
            state: AdversarialState::new(&concept.frames, model),
            concept,
            retain,
            attack: &self.attack,
            official: self.is_official(),
            allowed: AllowedTokens::all(model)?,
            eta: self.eta,
            warmup: self.warmup,
            batch: self.batch,
            stop: Stop { attack: self.stop_attack, drift: self.stop_drift },
            recipe: task.recipe(self),
        };
        let config = TrainConfig::constant(self.steps * objective.cycle(), self.lr, task.seed);
        let outcome =
            train(&mut objective, &config, model.compute(), state.as_deref(), context.watch)?;
        let mut found = objective.state.found();
        found["pool_forward"] = calls.into();
        let tensors = changed(&trained, outcome.weights, lent.originals());
        if let Some(pool) = state.map(|state| state.join("pool")).filter(|pool| pool.exists()) {
            fs_err::remove_dir_all(pool)?;
        }
        let (base, recipe) = (model.card().hash.clone(), task.recipe_with(self, found));
        Ok(Edit { base, recipe, tensors, ..Edit::default() })
    }
}
