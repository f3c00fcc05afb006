//! How soon a generator learns again what was taken out of it: it is trained on a few of the concept's pictures until half
//! of the concept is back. What was only hidden comes back at once.

use serde::{Deserialize, Deserializer, Serialize};

use super::Error;
use crate::generator::Synthesizer;
use crate::settings::over;
use crate::torch::Tensor;
use crate::training::{self, Contest, Exam, Frozen, Plan, Rules, compete_on_loan};
use crate::watch::Watch;

/// How a concept is taught again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relearning {
    /// Pictures of the concept that it is taught with.
    pub pictures: usize,
    /// Steps at most.
    pub steps: u64,
    /// Steps from one look to the next.
    pub every: u64,
    /// Adam's learning rate, before it is corrected for the lazy penalties.
    pub lr: f64,
    /// The contest's rules.
    #[serde(deserialize_with = "rules")]
    pub rules: Rules,
}

impl Default for Relearning {
    fn default() -> Self {
        Self { pictures: 16, steps: 60, every: 5, lr: 2e-3, rules: Rules::fine_tuning() }
    }
}

fn rules<'de, D: Deserializer<'de>>(from: D) -> Result<Rules, D::Error> {
    over(&Relearning::default().rules, from)
}

/// How much of the concept was there at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Steps of relearning before it.
    pub step: u64,
    /// Pictures that show the concept.
    pub hits: usize,
    /// Pictures that were looked at, all of which showed it before it was taken out.
    pub n: usize,
}

impl Sight {
    /// How much of the concept is back: 1 is all that the base had.
    fn share(self) -> f64 {
        self.hits as f64 / self.n.max(1) as f64
    }
}

/// How the concept came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Return {
    /// Look by look.
    pub curve: Vec<Sight>,
    /// The first step that was looked at after which half was back.
    pub half: Option<u64>,
}

impl Relearning {
    /// Says what is wrong with the settings.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        if self.pictures < 1 || self.steps < 1 || self.every < 1 || self.lr.is_nan() || self.lr <= 0.0 {
            return Err(format!(
                "relearning has {} pictures, {} steps, a look every {} and lr {}; all are above 0",
                self.pictures, self.steps, self.every, self.lr
            ));
        }
        self.rules.check(self.steps).map_err(|why| format!("relearning's rules: {why}"))
    }

    /// Teaches the model, with the edit that is on it, pictures `[n, 3, size, size]` of the concept. `back` looks
    /// at pictures of latents that showed it, and says how many show it and how many there are. The model is left as it was.
    ///
    /// # Errors
    /// A model without a discriminator; whatever stops a training.
    pub fn run(
        &self,
        model: &dyn Synthesizer,
        pictures: &Tensor,
        back: &Back,
        seed: u64,
        watch: &mut dyn Watch,
    ) -> Result<Return, Error> {
        let reals = Frozen::new(pictures, model.place().device);
        let mut looks = Looks { model, back, every: self.every, curve: Vec::new() };
        looks.look(0)?;
        let plan = Plan::constant(self.steps, self.lr, seed);
        let rivals = (model.network(), model.discriminator()?);
        let contest = Contest {
            moves: model.parameters(),
            exam: Some(&mut looks),
            ..Contest::between("relearning", rivals, &reals, &self.rules)
        };
        compete_on_loan(contest, &plan, model.place(), None, watch)?;
        let half = looks.curve.iter().find(|sight| sight.share() >= HALF).map(|sight| sight.step);
        Ok(Return { curve: looks.curve, half })
    }
}

/// What is looked for.
const HALF: f64 = 0.5;

/// Counts the pictures that show the concept, and all that were looked at.
type Back<'a> = dyn Fn(&dyn Synthesizer) -> Result<(usize, usize), String> + 'a;

struct Looks<'a> {
    model: &'a dyn Synthesizer,
    back: &'a Back<'a>,
    every: u64,
    curve: Vec<Sight>,
}

impl Looks<'_> {
    fn look(&mut self, step: u64) -> Result<Sight, training::Error> {
        let (hits, n) = (self.back)(self.model).map_err(training::Error::Exam)?;
        let sight = Sight { step, hits, n };
        self.curve.push(sight);
        Ok(sight)
    }
}

impl Exam for Looks<'_> {
    fn every(&self) -> u64 {
        self.every
    }

    fn grade(&mut self, step: u64) -> Result<Option<f64>, training::Error> {
        Ok(Some(self.look(step)?.share()))
    }

    fn pass(&self) -> f64 {
        HALF
    }
}
