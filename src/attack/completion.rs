//! The base draws the first steps and the erased model the rest: an erasure that only keeps the
//! sampling from beginning with the concept leaves what finishes it (2505.17013, its completion
//! probe).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract::denoiser_of;
use super::custom_sampling::{BaseModel, CustomSampling, as_written};
use super::trials::{Proposal, Proposer, TrialLoop};
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, ConceptJudge, Error, Findings,
    TrialArm,
};
use crate::generator::{Denoiser, ImageRequest, Model};
use crate::pictures::Picture;
use crate::settings::Configurable;
use crate::watch::Watch;

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
        let rising = self.steps.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || self.steps.first().is_none_or(|first| *first == 0) {
            return Err(format!(
                "completion's steps are {:?}; they are numbers above 0 that rise",
                self.steps
            ));
        }
        Ok(())
    }
}

impl Attack for Completion {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { other_requests: self.floor, ..AttackNeeds::PROMPTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let arms = 1 + u64::from(self.floor);
        let images = arms * requests as u64 * (1 + self.steps.len() as u64);
        AttackCost { images, ..AttackCost::default() }
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let base = BaseModel::of(denoiser)?;
        let exposure = task.exposure;
        let floor = (TrialArm::FLOOR, &exposure.other_requests);
        let arms = [(TrialArm::ATTACK, &exposure.requests), floor].into_iter();
        let mut found = Vec::new();
        for (arm, requests) in arms.filter(|(_, requests)| !requests.is_empty()) {
            let mut proposer =
                BegunByBase { settings: self, model: denoiser, task, base: &base, requests };
            let trials = TrialLoop::new(self.name(), &model, task, self.steps.len() as u64);
            let trials = TrialLoop { requests, arm, ..trials };
            found.push(trials.run(&mut proposer, context)?);
        }
        Ok(Findings::Trials(found))
    }
}

struct BegunByBase<'a> {
    settings: &'a Completion,
    model: &'a dyn Denoiser,
    task: &'a AttackTask<'a>,
    base: &'a BaseModel,
    requests: &'a [ImageRequest],
}

impl Proposer for BegunByBase<'_> {
    fn propose(
        &mut self,
        _: u64,
        trials: &[usize],
        _: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error> {
        Ok(trials.iter().map(|trial| Proposal::of(&self.requests[*trial])).collect())
    }

    fn draw(
        &self,
        _: &dyn ConceptJudge,
        _: &Model<'_>,
        requests: &[ImageRequest],
        round: u64,
    ) -> Result<Vec<Picture>, Error> {
        let steps = self.settings.steps[round as usize - 1];
        let sampling = CustomSampling { begun_by: Some((self.base, steps)), noise: None };
        sampling.draw(self.model, self.task, requests, &as_written(self.model))
    }
}
