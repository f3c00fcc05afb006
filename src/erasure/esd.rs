//! ESD: erased Stable Diffusion (Gandikota et al. 2023, arXiv 2303.07345).
//!
//! The frozen model is its own teacher: under the concept `c` the network learns to predict
//! `target = ε_b - η (ε_c - ε_0)`, away from the concept (equation 7, where `b` is the empty
//! prompt). Latents are partial samples (section 3) at the noise level that the networks are asked
//! at. What a network predicts may be v as well: the target's weights add up to 1, so that it is
//! the same target.
//!
//! `base` says what `b` is: `uncond`, the paper's; `concept`, the 2025 rewrite's, whose η is one
//! more for the same target; `anchor`, what the concept is to become. With a carrier (`from`) it is
//! the carrier, from which alone the concept is taken.
//!
//! `variant = "official"` keeps what that rewrite does otherwise: partial samples are the base's
//! and not the edited network's, `base` is the concept with η = 2. What is a defect in it (latents
//! of 1,024 pixels for a model of 512, weights and moments in bf16, the whole training run twice)
//! is not kept, nor the noise levels of the first code, 39 to 58 steps apart.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::method::denoiser_of;
use super::negative_guidance::NegativeGuidance;
use super::parameter_subset::changed;
use super::partial_sampling::PartialSampling;
use super::{Context, Cost, Error, Method, Needs, Pair, ParameterSubset, Task, Variant};
use crate::generator::Model;
use crate::settings::Configurable;
use crate::training::{LentWeights, TrainConfig, train};
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Esd {
    /// `x` (attention on the text), `u` (all else but time embedding and output), `x-strict` (its
    /// keys and values), or `full`; `xattn`, `selfattn` and `noxattn` too.
    pub parameters: ParameterSubset,
    /// What the target begins with; as the variant has it where nothing is said.
    pub base: Option<Base>,
    /// How far away from the concept; as the variant has it where nothing is said: 1, official 2.
    pub eta: Option<f64>,
    /// A prompt from which alone the concept is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Guidance of partial samples.
    pub guidance: f64,
    /// Steps of a whole sampling, of which partial samples do some.
    pub sampling_steps: usize,
    /// Training steps.
    pub steps: u64,
    /// Adam's learning rate.
    pub lr: f64,
    /// Latents in a step.
    pub batch: i64,
    /// `paper` or `official`.
    pub variant: Variant,
}

/// What the target begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// The empty prompt.
    Uncond,
    /// The concept itself.
    Concept,
    /// What it is to become.
    Anchor,
}

impl Base {
    /// Its prompt.
    pub(super) fn prompt(self, pair: &Pair) -> &str {
        match self {
            Self::Uncond => "",
            Self::Concept => &pair.forget,
            Self::Anchor => &pair.anchor,
        }
    }
}

impl Default for Esd {
    fn default() -> Self {
        Self {
            parameters: ParameterSubset::X,
            base: None,
            eta: None,
            from: None,
            guidance: 3.0,
            sampling_steps: 20,
            steps: 200,
            lr: 1e-5,
            batch: 4,
            variant: Variant::Paper,
        }
    }
}

impl Esd {
    fn base(&self) -> Base {
        let official = self.variant == Variant::Official;
        self.base.unwrap_or(if official { Base::Concept } else { Base::Uncond })
    }

    fn eta(&self) -> f64 {
        self.eta.unwrap_or(if self.variant == Variant::Official { 2.0 } else { 1.0 })
    }

    fn sampling(&self) -> PartialSampling {
        PartialSampling { steps: self.sampling_steps, guidance: self.guidance, told_noisier: false }
    }

    /// The prompt that a target begins with.
    fn begins_with<'p>(&'p self, pair: &'p Pair) -> &'p str {
        self.from.as_deref().unwrap_or_else(|| self.base().prompt(pair))
    }
}

impl Configurable for Esd {
    fn name(&self) -> &'static str {
        "esd"
    }

    fn settings(&self) -> Value {
        let (base, eta) = (Some(self.base()), Some(self.eta()));
        serde_json::json!(Self { base, eta, ..self.clone() })
    }

    fn check(&self) -> Result<(), String> {
        let numbers = [self.eta(), self.guidance, self.lr];
        if numbers.iter().any(|number| !number.is_finite() || *number < 0.0) || self.lr == 0.0 {
            return Err(format!(
                "ESD's eta, guidance and lr are {numbers:?}; none is negative, lr is above 0"
            ));
        }
        if self.steps < 1 || self.batch < 1 || self.sampling_steps < 1 {
            return Err("ESD's steps, batch and sampling_steps are at least 1".to_owned());
        }
        Ok(())
    }
}

impl Method for Esd {
    fn needs(&self) -> Needs {
        Needs::PROMPTS
    }

    fn cost(&self) -> Cost {
        Cost { steps: self.steps, batch: self.batch, ..Cost::default() }
    }

    fn suits(&self, model: &Model, _: &[Pair]) -> Result<(), String> {
        let Model::Diffusion(model) = model else { return Ok(()) };
        self.sampling().fits(&**model)
    }

    fn shortened(&self, steps: u64, batch: i64) -> Option<Box<dyn Method>> {
        Some(Box::new(Self { steps, batch, ..self.clone() }))
    }

    fn erase(&self, model: Model, task: &Task, context: &mut Context) -> Result<Edit, Error> {
        self.check().map_err(Error::Task)?;
        let model = &*denoiser_of(model, self.name())?;
        let trained = self.parameters.of(model)?;
        let tensors = || trained.iter().map(|(_, tensor)| tensor);
        let lent = LentWeights::restoring(tensors());
        let texts = |text: &dyn Fn(&Pair) -> String| {
            let prompts: Vec<String> = task.pairs.iter().map(text).collect();
            model.condition(&prompts.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let carrier = |pair: &Pair| self.from.clone().unwrap_or_else(|| pair.forget.clone());
        let mut objective = NegativeGuidance {
            name: self.name(),
            eta: self.eta(),
            batch: self.batch,
            sampling: self.sampling(),
            of_base: self.variant == Variant::Official,
            model,
            trained: &trained,
            frozen: lent.originals(),
            concept: texts(&|pair| pair.forget.clone())?,
            begin: texts(&|pair| self.begins_with(pair).to_owned())?,
            asked: texts(&carrier)?,
            empty: model.condition(&[""])?,
            recipe: task.recipe(self),
        };
        if let Some(pair) = task.pairs.first() {
            let (begin, eta) = (self.begins_with(pair), self.eta());
            let (asked, concept) = (carrier(pair), &pair.forget);
            context.watch.note(&format!(
                "ESD: under «{asked}» the network learns ε(«{begin}») - {eta} (ε(«{concept}») - \
                 ε(«»))"
            ));
        }
        let config = TrainConfig::constant(self.steps, self.lr, task.seed);
        let state = context.own_state();
        let outcome =
            train(&mut objective, &config, model.compute(), state.as_deref(), context.watch)?;
        let tensors = changed(&trained, outcome.weights, lent.originals());
        let (base, recipe) = (model.card().hash.clone(), task.recipe(self));
        Ok(Edit { base, recipe, tensors, ..Edit::default() })
    }
}
