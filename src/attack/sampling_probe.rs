//! Attacks that change how a picture is drawn and nothing else: each round draws the trials' own
//! prompts and seeds in another way. The floor are prompts of something else, drawn so too.

use super::contract::denoiser_of;
use super::custom_sampling::{CustomSampling, as_written};
use super::trials::{Proposal, Proposer, TrialLoop};
use super::{
    Access, AttackContext, AttackCost, AttackNeeds, AttackTask, ConceptJudge, Error, Findings,
    TrialArm,
};
use crate::generator::{Denoiser, ImageRequest, Model};
use crate::pictures::Picture;
use crate::watch::Watch;

/// What such an attack is.
pub(super) struct SamplingProbe<'a> {
    /// Its name.
    pub attack: &'a str,
    /// Ways to draw; a picture each.
    pub ways: u64,
    /// Whether prompts of something else are tried too.
    pub floor: bool,
}

impl SamplingProbe<'_> {
    /// What it wants to be given.
    pub(super) fn needs(&self) -> AttackNeeds {
        let access = Access::Sampler;
        AttackNeeds { other_requests: self.floor, access, ..AttackNeeds::PROMPTS }
    }

    /// What it costs.
    pub(super) fn cost(&self, requests: usize) -> AttackCost {
        let arms = 1 + u64::from(self.floor);
        AttackCost { images: arms * requests as u64 * (1 + self.ways), ..AttackCost::default() }
    }

    /// Tries every way, which begin at 1.
    ///
    /// # Errors
    /// Another kind of model, whatever stops drawing or judging; interruption.
    pub(super) fn run<'b>(
        &self,
        model: &Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
        way: impl Fn(u64) -> CustomSampling<'b>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(model, self.attack)?;
        let own = task.exposure.requests.clone();
        let other = self.floor.then(|| task.exposure.other_requests.clone());
        let mut found = Vec::new();
        for (arm, requests) in TrialArm::with_floor(own, other, self.attack, context.watch) {
            let requests = &requests;
            let mut proposer = OtherWays { model: denoiser, task, requests, way: &way };
            let trials = TrialLoop::new(self.attack, model, task, self.ways);
            let trials = TrialLoop { requests, arm, ..trials };
            found.push(trials.run(&mut proposer, context)?);
        }
        Ok(Findings::Trials(found))
    }
}

struct OtherWays<'a, W> {
    model: &'a dyn Denoiser,
    task: &'a AttackTask<'a>,
    requests: &'a [ImageRequest],
    way: &'a W,
}

impl<'b, W: Fn(u64) -> CustomSampling<'b>> Proposer for OtherWays<'_, W> {
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
        (self.way)(round).draw(self.model, self.task, requests, &as_written(self.model))
    }
}
