//! The same prompts with other seeds: what every attack is to be compared with, at equal numbers of
//! judged pictures.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::trials::{Proposal, Proposer, TrialLoop, new_seed};
use super::{Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings};
use crate::generator::{ImageRequest, Model};
use crate::settings::Configurable;
use crate::watch::Watch;

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seeds {
    /// Pictures of each trial that are judged, at most.
    pub images: u64,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { images: 50 }
    }
}

impl Configurable for Seeds {
    fn name(&self) -> &'static str {
        "seeds"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        if self.images == 0 {
            return Err("seeds' images are 0; at least 1 is judged".to_owned());
        }
        Ok(())
    }
}

impl Attack for Seeds {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds::PROMPTS
    }

    fn is_control(&self) -> bool {
        true
    }

    fn cost(&self, requests: usize) -> AttackCost {
        AttackCost { images: requests as u64 * (1 + self.images), ..AttackCost::default() }
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let mut proposer = OtherSeeds(&task.exposure.requests);
        let trials = TrialLoop::new(self.name(), &model, task, self.images);
        Ok(Findings::Trials(vec![trials.run(&mut proposer, context)?]))
    }
}

struct OtherSeeds<'a>(&'a [ImageRequest]);

impl Proposer for OtherSeeds<'_> {
    fn propose(
        &mut self,
        round: u64,
        trials: &[usize],
        _: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error> {
        let other = |trial: &usize| {
            let request = &self.0[*trial];
            let request = ImageRequest { seed: new_seed(request.seed, round), ..request.clone() };
            Proposal::of(&request)
        };
        Ok(trials.iter().map(other).collect())
    }
}
