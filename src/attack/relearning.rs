//! How soon a generator learns again what was taken out of it: it is trained on a few of the concept's pictures until half
//! of the concept is back. What was only hidden comes back at once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::generator::Synthesizer;
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
    pub rules: Rules,
}

impl Default for Relearning {
    fn default() -> Self {
        Self { pictures: 16, steps: 60, every: 5, lr: 2e-3, rules: Rules::default() }
    }
}

/// How the concept came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Return {
    /// Steps, and how much of the concept is back after them: 1 is as much as the base had.
    pub curve: Vec<(u64, f64)>,
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

    /// Teaches the model, with the edit that is on it, pictures `[n, 3, size, size]` of the concept. `back` says how much
    /// of the concept it draws. The model is left as it was.
    ///
    /// # Errors
    /// A model without a discriminator; whatever stops a training.
    pub fn run(
        &self,
        model: &dyn Synthesizer,
        pictures: &Tensor,
        back: &dyn Fn(&dyn Synthesizer) -> Result<f64, String>,
        (seed, state): (u64, Option<&Path>),
        watch: &mut dyn Watch,
    ) -> Result<Return, Error> {
        let reals = Frozen::new(pictures, model.place().device);
        let first = back(model).map_err(training::Error::Exam)?;
        let mut looks = Looks { model, back, every: self.every, curve: vec![(0, first)] };
        let plan = Plan::constant(self.steps, self.lr, seed);
        let contest = Contest {
            name: "relearning",
            generator: model.network(),
            moves: model.parameters(),
            discriminator: model.discriminator()?,
            reals: &reals,
            rules: &self.rules,
            guide: None,
            oversampled: None,
            kept: None,
            pull: None,
            exam: Some(&mut looks),
        };
        compete_on_loan(contest, &plan, model.place(), state, watch)?;
        let half = looks.curve.iter().find(|(_, back)| *back >= HALF).map(|(step, _)| *step);
        Ok(Return { curve: looks.curve, half })
    }
}

/// What is looked for.
const HALF: f64 = 0.5;

struct Looks<'a> {
    model: &'a dyn Synthesizer,
    back: &'a dyn Fn(&dyn Synthesizer) -> Result<f64, String>,
    every: u64,
    curve: Vec<(u64, f64)>,
}

impl Exam for Looks<'_> {
    fn every(&self) -> u64 {
        self.every
    }

    fn grade(&mut self, step: u64) -> Result<Option<f64>, training::Error> {
        let back = (self.back)(self.model).map_err(training::Error::Exam)?;
        self.curve.push((step, back));
        Ok(Some(back))
    }

    fn pass(&self) -> f64 {
        HALF
    }
}
