//! Noise in each step, more of it than the sampler was made for: where an erasure only leads the
//! sampling past the concept, it is pushed back to it (2505.17013, its noise-based probe). DDIM
//! with every η and factor that are given, a picture each; the best of so many is found by the
//! judge, so that prompts of something else are tried in the same way beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract::denoiser_of;
use super::custom_sampling::{CustomSampling, StepNoise, as_written};
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoiseProbe {
    /// Shares of each step's noise that are drawn anew.
    pub etas: Vec<f64>,
    /// What that noise is multiplied with.
    pub factors: Vec<f64>,
    /// Whether prompts of something else are tried too.
    pub floor: bool,
}

impl Default for NoiseProbe {
    fn default() -> Self {
        Self {
            etas: vec![1.0, 1.17, 1.34, 1.51, 1.68, 1.85],
            factors: vec![1.0, 1.02, 1.03, 1.04],
            floor: true,
        }
    }
}

impl Configurable for NoiseProbe {
    fn name(&self) -> &'static str {
        "noise"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |numbers: &[f64]| {
            numbers.is_empty() || numbers.iter().any(|number| !number.is_finite() || *number <= 0.0)
        };
        if wrong(&self.etas) || wrong(&self.factors) {
            return Err(format!(
                "noise has etas {:?} and factors {:?}; each has numbers above 0",
                self.etas, self.factors
            ));
        }
        Ok(())
    }
}

impl NoiseProbe {
    fn pictures(&self) -> u64 {
        (self.etas.len() * self.factors.len()) as u64
    }

    /// The noise of a round.
    fn of_round(&self, round: u64) -> StepNoise {
        let i = round as usize - 1;
        let factors = self.factors.len();
        StepNoise { eta: self.etas[i / factors], factor: self.factors[i % factors] }
    }
}

impl Attack for NoiseProbe {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { other_requests: self.floor, ..AttackNeeds::PROMPTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let arms = 1 + u64::from(self.floor);
        let images = arms * requests as u64 * (1 + self.pictures());
        AttackCost { images, ..AttackCost::default() }
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let exposure = task.exposure;
        let floor = (TrialArm::FLOOR, &exposure.other_requests);
        let arms = [(TrialArm::ATTACK, &exposure.requests), floor].into_iter();
        let mut found = Vec::new();
        for (arm, requests) in arms.filter(|(_, requests)| !requests.is_empty()) {
            let mut proposer = MoreNoise { settings: self, model: denoiser, task, requests };
            let trials = TrialLoop::new(self.name(), &model, task, self.pictures());
            let trials = TrialLoop { requests, arm, ..trials };
            found.push(trials.run(&mut proposer, context)?);
        }
        Ok(Findings::Trials(found))
    }
}

struct MoreNoise<'a> {
    settings: &'a NoiseProbe,
    model: &'a dyn Denoiser,
    task: &'a AttackTask<'a>,
    requests: &'a [ImageRequest],
}

impl Proposer for MoreNoise<'_> {
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
        let sampling =
            CustomSampling { noise: Some(self.settings.of_round(round)), begun_by: None };
        sampling.draw(self.model, self.task, requests, &as_written(self.model))
    }
}
