//! LECO: a low-rank adapter that erases a concept, or strengthens it (p1atdev/LECO, after ESD).
//!
//! The frozen model is its own teacher: under a prompt's target the network with the adapter learns
//! `ε_neutral - η (ε_positive - ε_unconditional)`, on partial samples that it draws itself, asked
//! at their own noise level. (LECO's code asks 19 levels above it, kohya's 24; that is not kept.)
//! What comes out is kohya's `LoRA` and erases by any multiplier: below zero it strengthens.
//!
//! Where nothing else is given the concept's prompts are the targets. `prompts` is a file of LECO's
//! or kohya's, or such a list. `keep_weight` adds anchors: prompts under which the network is to
//! predict as before.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::leco_prompts::{LecoPrompt, prompts};
use super::low_rank_guidance::{GuidanceTargets, LowRankGuidance, shape};
use super::method::denoiser_of;
use super::partial_sampling::PartialSampling;
use super::{Context, Cost, Error, Method, Needs, Pair, ParameterSubset, Task};
use crate::generator::{Model, modelspec};
use crate::settings::Configurable;
use crate::training::{LentWeights, LowRankAdapter, TrainConfig, train};
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leco {
    /// Which modules have an adapter.
    pub network: Network,
    /// Which of those: `full`, `xattn`, `selfattn`, `noxattn`.
    pub parameters: ParameterSubset,
    /// Rank of every module.
    pub rank: i64,
    /// The adapter counts `alpha / rank`.
    pub alpha: f64,
    /// A prompt file, or what is in one; without it the concept's prompts are erased.
    #[serde(deserialize_with = "prompts", skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<LecoPrompt>,
    /// How far away from the concept, where there are no `prompts`.
    pub guidance_scale: f64,
    /// Whether the target begins with the anchor and not with the empty prompt, where there are no
    /// `prompts`.
    pub anchor: bool,
    /// What the prompts that stay count in the loss; 0 is without them.
    pub keep_weight: f64,
    /// Guidance of partial samples.
    pub guidance: f64,
    /// Steps of a whole sampling, of which partial samples do some.
    pub sampling_steps: usize,
    /// Training steps.
    pub steps: u64,
    /// Learning rate of `AdamW`.
    pub lr: f64,
    /// Latents in a step.
    pub batch: i64,
}

/// Which modules of the UNet have an adapter, in LECO's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Linear units and convolutions of the transformers.
    Lierla,
    /// Those of the residual blocks, of down- and upsampling too.
    C3Lier,
}

impl Network {
    fn takes(self, name: &str) -> bool {
        let blocks = [".resnets.", ".downsamplers.", ".upsamplers."];
        name.contains(".attentions.")
            || (self == Self::C3Lier && blocks.iter().any(|block| name.contains(block)))
    }
}

impl Default for Leco {
    fn default() -> Self {
        Self {
            network: Network::Lierla,
            parameters: ParameterSubset::Full,
            rank: 4,
            alpha: 1.0,
            prompts: Vec::new(),
            guidance_scale: 1.0,
            anchor: false,
            keep_weight: 0.0,
            guidance: 3.0,
            sampling_steps: 50,
            steps: 500,
            lr: 1e-4,
            batch: 1,
        }
    }
}

impl Leco {
    /// What is learned: the file's prompts, or the concept's.
    fn asked(&self, pairs: &[Pair]) -> Vec<LecoPrompt> {
        if !self.prompts.is_empty() {
            return self.prompts.clone();
        }
        let of = |pair: &Pair| LecoPrompt {
            neutral: self.anchor.then(|| pair.anchor.clone()),
            guidance_scale: self.guidance_scale,
            ..LecoPrompt::erasing(&pair.forget)
        };
        pairs.iter().map(of).collect()
    }

    fn sampling(&self) -> PartialSampling {
        PartialSampling { steps: self.sampling_steps, guidance: self.guidance, told_noisier: false }
    }

    fn metadata(&self, prompts: usize) -> Vec<(&'static str, String)> {
        vec![
            ("ss_network_module", "networks.lora".to_owned()),
            ("ss_network_dim", self.rank.to_string()),
            ("ss_network_alpha", self.alpha.to_string()),
            ("ss_leco_prompt_count", prompts.to_string()),
            ("ss_learning_rate", self.lr.to_string()),
            ("ss_steps", self.steps.to_string()),
        ]
    }
}

impl Configurable for Leco {
    fn name(&self) -> &'static str {
        "leco"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let numbers = [self.guidance_scale, self.keep_weight, self.guidance, self.lr];
        let (low, alpha) = (self.rank < 1, self.alpha.is_finite() && self.alpha > 0.0);
        if low || !alpha || numbers.iter().any(|number| !number.is_finite() || *number < 0.0) {
            return Err(format!(
                "LECO's guidance_scale, keep_weight, guidance and lr are {numbers:?}, rank and \
                 alpha {} and {}; none is negative, rank and alpha are above 0",
                self.rank, self.alpha
            ));
        }
        if self.steps < 1 || self.batch < 1 || self.sampling_steps < 1 || self.lr == 0.0 {
            return Err("LECO's steps, batch, sampling_steps and lr are above 0".to_owned());
        }
        self.prompts.iter().try_for_each(LecoPrompt::check)
    }
}

impl Method for Leco {
    fn needs(&self) -> Needs {
        Needs { keep_prompts: self.keep_weight > 0.0, ..Needs::PROMPTS }
    }

    fn cost(&self) -> Cost {
        Cost { steps: self.steps, batch: self.batch, ..Cost::default() }
    }

    fn suits(&self, model: &Model, _: &[Pair]) -> Result<(), String> {
        let Model::Diffusion(model) = model else { return Ok(()) };
        self.sampling().fits(&**model)?;
        self.prompts.iter().try_for_each(|prompt| shape(&**model, prompt).map(drop))
    }

    fn shortened(&self, steps: u64, batch: i64) -> Option<Box<dyn Method>> {
        Some(Box::new(Self { steps, batch, ..self.clone() }))
    }

    fn erase(&self, model: Model, task: &Task, context: &mut Context) -> Result<Edit, Error> {
        self.check().map_err(Error::Task)?;
        let model = &*denoiser_of(model, self.name())?;
        let mut adapted = self.parameters.of(model)?;
        adapted.retain(|(name, weight)| {
            self.network.takes(name) && name.ends_with(".weight") && weight.dim() >= 2
        });
        let lent = LentWeights::restoring(adapted.iter().map(|(_, weight)| weight));
        let originals = lent.originals();
        let adapter = LowRankAdapter::new(&adapted, originals, self.rank, self.alpha, task.seed);
        let prompts = self.asked(task.pairs);
        for prompt in &prompts {
            context.watch.note(&format!(
                "LECO: under «{}» the network learns ε(«{}») - {} (ε(«{}») - ε(«{}»))",
                prompt.target,
                prompt.neutral(),
                prompt.eta(),
                prompt.positive(),
                prompt.unconditional
            ));
        }
        let metadata = self.metadata(prompts.len());
        let keep = if self.keep_weight > 0.0 { task.keep } else { &[] };
        let mut objective = LowRankGuidance {
            name: self.name(),
            batch: self.batch,
            sampling: self.sampling(),
            keep_weight: self.keep_weight,
            targets: GuidanceTargets::read(model, prompts, keep)?,
            model,
            adapter,
            adapted: &adapted,
            frozen: originals,
            recipe: task.recipe(self),
        };
        let config = TrainConfig {
            decay: 0.01,
            decoupled: true,
            ..TrainConfig::constant(self.steps, self.lr, task.seed)
        };
        let state = context.own_state();
        let outcome =
            train(&mut objective, &config, model.compute(), state.as_deref(), context.watch)?;
        let factors = objective.adapter.into_factors(outcome.weights);
        let pairs = factors.iter().zip(originals);
        let tensors = pairs.map(|(low, weight)| (low.name.clone(), low.added_to(weight, 1.0)));
        let (base, recipe) = (model.card().hash.clone(), task.recipe(self));
        let mut spec = modelspec(model.card(), "/lora", "https://github.com/kohya-ss/sd-scripts");
        spec.extend(metadata);
        let tensors = tensors.collect();
        Ok(Edit { base, recipe, tensors, metadata: spec, factors, ..Edit::default() })
    }
}
