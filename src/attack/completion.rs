//! The base draws the first steps and the erased model the rest: an erasure that only keeps the
//! sampling from beginning with the concept leaves what finishes it (2505.17013, its completion
//! probe).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::BaseModel;
use super::contract::{denoiser_of, rising};
use super::custom_sampling::CustomSampling;
use super::sampling_probe::SamplingProbe;
use super::{Access, Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings};
use crate::generator::{ImageRequest, Model};
use crate::settings::Configurable;

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Completion {
    /// After how many steps the base hands over, a picture each.
    pub steps: Vec<usize>,
    /// Whether prompts of something else are drawn so too: those the base does not begin with the
    /// concept.
    pub floor: bool,
}

impl Default for Completion {
    fn default() -> Self {
        Self { steps: vec![1, 3, 5], floor: true }
    }
}

impl Configurable for Completion {
    fn name(&self) -> &'static str {
        "completion"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        rising("completion's steps", &self.steps)
    }
}

impl Completion {
    fn probe(&self) -> SamplingProbe<'_> {
        SamplingProbe { attack: self.name(), ways: self.steps.len() as u64, floor: self.floor }
    }
}

impl Attack for Completion {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { access: Access::SamplerAndBase, ..self.probe().needs() }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        self.probe().cost(requests)
    }

    fn fits(&self, _: &Model<'_>, request: &ImageRequest, _: &[String]) -> Result<(), String> {
        match self.steps.iter().find(|steps| **steps >= request.steps) {
            Some(steps) => Err(format!(
                "completion's base draws {steps} of a picture's {} steps; it leaves some",
                request.steps
            )),
            None => Ok(()),
        }
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let base = BaseModel::of(denoiser_of(&model, self.name())?)?;
        // An edit may say how to sample with it, in fewer steps than else.
        let drawn = task.exposure.requests.iter().chain(&task.exposure.other_requests);
        let least = drawn.map(|request| request.clone().sampled(task.sampling).steps).min();
        let able = |steps: &&usize| least.is_none_or(|least| **steps < least);
        let steps: Vec<usize> = self.steps.iter().filter(able).copied().collect();
        if steps.len() < self.steps.len() {
            context.watch.warn(&format!(
                "completion: the edit is sampled in {} steps, so that the base draws {steps:?} of \
                 {:?}",
                least.unwrap_or_default(),
                self.steps
            ));
        }
        let probe = SamplingProbe { ways: steps.len() as u64, ..self.probe() };
        probe.run(&model, task, context, |way| {
            let steps = steps[way as usize - 1];
            CustomSampling { begun_by: Some((&base, steps)), noise: None }
        })
    }
}
