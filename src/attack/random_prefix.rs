//! Tokens of chance in the prompt: what an attack that looks for tokens is to be compared with, at
//! equal numbers of judged pictures.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract::denoiser_of;
use super::free_tokens::{FreePlaces, FreeTokens};
use super::trials::{Proposal, Proposer, TrialLoop};
use super::{Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings};
use crate::generator::{ImageRequest, Model};
use crate::settings::Configurable;
use crate::torch::{Rng, Tensor};
use crate::watch::Watch;

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomPrefix {
    /// Which tokens.
    pub tokens: FreeTokens,
    /// Pictures of each trial that are judged, at most.
    pub images: u64,
    /// New seeds with which what was found is tried again.
    pub new_seeds: u64,
}

impl Default for RandomPrefix {
    fn default() -> Self {
        Self { tokens: FreeTokens::default(), images: 50, new_seeds: 10 }
    }
}

impl Configurable for RandomPrefix {
    fn name(&self) -> &'static str {
        "random-prefix"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        if self.images == 0 {
            return Err("random-prefix's images are 0; at least 1 is judged".to_owned());
        }
        self.tokens.check(self.name())
    }
}

impl Attack for RandomPrefix {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds::PROMPTS
    }

    fn suits(&self, model: &Model<'_>, words: &[String]) -> Result<(), String> {
        self.tokens.suits(model, words)
    }

    fn fits(&self, model: &Model<'_>, request: &ImageRequest, _: &[String]) -> Result<(), String> {
        self.tokens.fits(model, &request.prompt)
    }

    fn is_control(&self) -> bool {
        true
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let images = requests as u64 * (1 + self.images + self.new_seeds);
        AttackCost { images, ..AttackCost::default() }
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let allowed = self.tokens.allowed(denoiser, task.exposure)?;
        let places = self.tokens.places(denoiser, task.exposure, &allowed)?;
        let mut proposer = RandomTokens { places, seed: task.seed };
        let trials = TrialLoop::new(self.name(), &model, task, self.images);
        let trials = TrialLoop { new_seeds: self.new_seeds, ..trials };
        Ok(Findings::Trials(vec![trials.run(&mut proposer, context)?]))
    }
}

struct RandomTokens<'a> {
    places: FreePlaces<'a>,
    seed: u64,
}

impl Proposer for RandomTokens<'_> {
    fn propose(
        &mut self,
        round: u64,
        trials: &[usize],
        _: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error> {
        let chosen: Vec<Tensor> = trials
            .iter()
            .map(|trial| {
                let mut rng = Rng::for_step(self.seed, &format!("random-prefix {trial}"), round);
                rng.below(self.places.allowed.count(), &[self.places.frames.free()])
            })
            .collect();
        let FreePlaces { model, allowed, .. } = &self.places;
        let device = model.compute().device.tch();
        let found = allowed.tokens(&Tensor::stack(&chosen, 0).to_device(device));
        Ok(self.places.proposals(trials, &found))
    }
}
