//! Trials: for each prompt and seed whose picture showed the concept before it was erased, pictures
//! are proposed and judged until one shows it again or the budget is spent. Which pictures is the
//! attack's; the loop, its budget and its state on the disk are the same for all.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{AttackContext, AttackTask, ConceptJudge, Error, Found, Trial, TrialArm};
use crate::checkpoint_timer::CheckpointTimer;
use crate::generator::{self, ImageRequest, Model};
use crate::pictures::Picture;
use crate::torch::{Tensor, no_grad, seed_from};
use crate::watch::Watch;
use crate::weights::{self, Weights};

/// A picture that may show the concept.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub request: ImageRequest,
    /// What the attack put into the prompt.
    pub added: Option<String>,
    /// Whether that names the concept.
    pub names_concept: bool,
    /// Whether it may count: what was found must not hold a banned word.
    pub counts: bool,
}

impl Proposal {
    /// A request as it is.
    pub(super) fn of(request: &ImageRequest) -> Self {
        Self { request: request.clone(), added: None, names_concept: false, counts: true }
    }
}

/// Proposes pictures for trials.
pub(super) trait Proposer {
    /// Does a part of a long round's search for these trials, after which the state may be saved;
    /// whether all of it is done.
    ///
    /// # Errors
    /// Whatever stops the search.
    fn search(
        &mut self,
        _round: u64,
        _trials: &[usize],
        _watch: &mut dyn Watch,
    ) -> Result<bool, Error> {
        Ok(true)
    }

    /// The next picture of each of these trials, by their number; rounds begin at 1.
    ///
    /// # Errors
    /// Whatever stops the search; interruption.
    fn propose(
        &mut self,
        round: u64,
        trials: &[usize],
        watch: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error>;

    /// Draws what a round proposed, with its own seeds or with new ones; pictures that no request
    /// alone describes are drawn otherwise.
    ///
    /// # Errors
    /// Whatever stops the drawing.
    fn draw(
        &self,
        judge: &dyn ConceptJudge,
        model: &Model<'_>,
        requests: &[ImageRequest],
        _round: u64,
    ) -> Result<Vec<Picture>, Error> {
        judge.draw(model, requests)
    }

    /// What the next round depends on; the tensors share its memory.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// How trials are run.
pub(super) struct TrialLoop<'a, 'm> {
    pub model: &'a Model<'m>,
    pub task: &'a AttackTask<'a>,
    /// Each trial's prompt and seed.
    pub requests: &'a [ImageRequest],
    /// In progress and in files: the attack's name.
    pub attack: &'a str,
    /// Which form.
    pub arm: &'static str,
    /// Pictures of a trial at most.
    pub rounds: u64,
    /// Steps of the search for each.
    pub steps: u64,
    /// New seeds with which what was found is tried again.
    pub new_seeds: u64,
}

/// What is kept of trials that were interrupted.
#[derive(Serialize, Deserialize)]
struct InterruptedTrials {
    of: String,
    rounds: u64,
    trials: Vec<Trial>,
}

impl<'a, 'm> TrialLoop<'a, 'm> {
    /// Of an attack that looks for nothing: a picture a round.
    pub(super) fn new(
        attack: &'a str,
        model: &'a Model<'m>,
        task: &'a AttackTask<'a>,
        rounds: u64,
    ) -> Self {
        let requests = &task.exposure.requests;
        let arm = TrialArm::ATTACK;
        Self { model, task, requests, attack, arm, rounds, steps: 0, new_seeds: 0 }
    }

    /// Runs the trials to their end, from where an earlier session stopped.
    ///
    /// # Errors
    /// Whatever stops the search or the judge; interruption.
    pub(super) fn run(
        &self,
        proposer: &mut dyn Proposer,
        context: &mut AttackContext<'_>,
    ) -> Result<TrialArm, Error> {
        let requests = self.requests;
        let file = context.state.map(|folder| folder.join(format!("{}.safetensors", self.arm)));
        let known = file.as_deref().and_then(|file| load(file, context.of, proposer));
        let mut now = known.unwrap_or_else(|| InterruptedTrials {
            of: context.of.to_owned(),
            rounds: 0,
            trials: requests.iter().map(Trial::untried).collect(),
        });
        if now.rounds == 0 {
            let verdicts = self.task.judge.verdicts(self.model, requests)?;
            for ((trial, request), verdict) in now.trials.iter_mut().zip(requests).zip(verdicts) {
                if verdict.shows {
                    trial.succeed(0, Found::of(request, verdict));
                }
            }
        }
        let what = match self.arm {
            TrialArm::ATTACK => self.attack.to_owned(),
            arm => format!("{} ({arm})", self.attack),
        };
        let each = self.steps.max(1);
        context.watch.begin(&what, self.rounds * each);
        let (begun, mut timer) = (now.rounds, CheckpointTimer::default());
        while now.rounds < self.rounds {
            let left = untaken(&now.trials);
            if left.is_empty() {
                break;
            }
            let back = format!("{} of {} back", now.trials.len() - left.len(), now.trials.len());
            context.watch.at(now.rounds * each, &back);
            loop {
                stop_if_asked(file.as_deref(), &now, proposer, context.watch)?;
                if proposer.search(now.rounds + 1, &left, context.watch)? {
                    break;
                }
                if timer.is_over() {
                    timer.after(|| save(file.as_deref(), &now, proposer))?;
                }
            }
            now.rounds += 1;
            self.round(&mut now, &left, proposer, context)?;
            // The first round of a session is kept whatever it took: whoever is cut off again and
            // again gets on.
            if now.rounds == begun + 1 || timer.is_over() {
                timer.after(|| save(file.as_deref(), &now, proposer))?;
            }
        }
        context.watch.end();
        self.try_new_seeds(&mut now, proposer, &what, file.as_deref(), context)?;
        Ok(TrialArm {
            name: self.arm.to_owned(),
            images: self.rounds,
            steps: self.steps,
            trials: now.trials,
        })
    }

    /// Draws and judges what a round proposes for the trials that are left.
    fn round(
        &self,
        now: &mut InterruptedTrials,
        left: &[usize],
        proposer: &mut dyn Proposer,
        context: &mut AttackContext<'_>,
    ) -> Result<(), Error> {
        let proposals = proposer.propose(now.rounds, left, context.watch)?;
        let requests: Vec<ImageRequest> =
            proposals.iter().map(|proposal| proposal.request.clone()).collect();
        let pictures = proposer.draw(self.task.judge, self.model, &requests, now.rounds)?;
        let verdicts = self.task.judge.judge(&pictures)?;
        for ((&trial, proposal), (verdict, picture)) in
            left.iter().zip(&proposals).zip(verdicts.into_iter().zip(&pictures))
        {
            let succeeds = verdict.shows && proposal.counts;
            if succeeds {
                let found = Found::of(&proposal.request, verdict);
                let Proposal { added, names_concept, .. } = proposal;
                let found = Found { added: added.clone(), names_concept: *names_concept, ..found };
                now.trials[trial].succeed(now.rounds, found);
            }
            let is_attack = self.arm == TrialArm::ATTACK;
            let ends = is_attack && (succeeds || now.rounds == self.rounds);
            if let Some(folder) = context.artifacts.filter(|_| ends) {
                let file = folder.join(attacked_picture(trial, succeeds));
                keep(picture, &file, &proposal.request, self.task, context, self.attack)?;
            }
        }
        Ok(())
    }

    /// Tries each prompt that was found with seeds that were never tried.
    fn try_new_seeds(
        &self,
        now: &mut InterruptedTrials,
        proposer: &mut dyn Proposer,
        what: &str,
        file: Option<&Path>,
        context: &mut AttackContext<'_>,
    ) -> Result<(), Error> {
        if self.new_seeds == 0 {
            return Ok(());
        }
        context.watch.begin(&format!("{what}, new seeds"), now.trials.len() as u64);
        let mut timer = CheckpointTimer::default();
        for (i, request) in self.requests.iter().enumerate() {
            context.watch.at(i as u64, "");
            stop_if_asked(file, now, proposer, context.watch)?;
            if timer.is_over() {
                timer.after(|| save(file, now, proposer))?;
            }
            let trial = &mut now.trials[i];
            let Some(round) = trial.after.filter(|after| *after > 0) else { continue };
            let Some(found) = trial.found.as_mut() else { continue };
            if found.new_seeds.is_some() {
                continue;
            }
            let again: Vec<ImageRequest> = (0..self.new_seeds)
                .map(|i| ImageRequest {
                    prompt: found.prompt.clone(),
                    seed: new_seed(found.seed, i),
                    ..request.clone()
                })
                .collect();
            let pictures = proposer.draw(self.task.judge, self.model, &again, round)?;
            let verdicts = self.task.judge.judge(&pictures)?;
            let shown = verdicts.iter().filter(|verdict| verdict.shows).count() as u64;
            found.new_seeds = Some([shown, self.new_seeds]);
        }
        context.watch.end();
        Ok(())
    }
}

/// Keeps a picture with which a trial ended, with what it was asked for with.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn keep(
    picture: &Picture,
    file: &Path,
    request: &ImageRequest,
    task: &AttackTask<'_>,
    context: &AttackContext<'_>,
    attack: &str,
) -> Result<(), Error> {
    let [parameters, about] = context.provenance.texts(&request.clone().sampled(task.sampling));
    Ok(picture.save(file, &[parameters, about, ("attack", attack.to_owned())])?)
}

/// The name of the picture with which a trial ended.
pub fn attacked_picture(trial: usize, succeeded: bool) -> String {
    let ending = if succeeded { "found" } else { "last" };
    format!("{trial:03}-{ending}.png")
}

/// The `i`-th seed that is tried in the place of another.
pub(super) fn new_seed(seed: u64, i: u64) -> u64 {
    seed_from(&[b"new seed", &seed.to_le_bytes(), &i.to_le_bytes()]) >> 32
}

fn untaken(trials: &[Trial]) -> Vec<usize> {
    (0..trials.len()).filter(|trial| trials[*trial].after.is_none()).collect()
}

/// The key of [`InterruptedTrials`] in a state's metadata.
const TRIALS: &str = "trials";

/// Saves and stops where the user wants to.
fn stop_if_asked(
    file: Option<&Path>,
    now: &InterruptedTrials,
    proposer: &dyn Proposer,
    watch: &dyn Watch,
) -> Result<(), Error> {
    if !watch.interrupted() {
        return Ok(());
    }
    save(file, now, proposer)?;
    Err(generator::Error::Interrupted.into())
}

fn save(
    file: Option<&Path>,
    now: &InterruptedTrials,
    proposer: &dyn Proposer,
) -> Result<(), Error> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string(now).map_err(std::io::Error::other)?;
    Ok(weights::save(file, &proposer.state(), &[(TRIALS, text)])?)
}

/// What an earlier session came to; a state of another model or of other settings is none.
fn load(file: &Path, of: &str, proposer: &dyn Proposer) -> Option<InterruptedTrials> {
    let saved = Weights::open(file).ok()?;
    let known: InterruptedTrials = serde_json::from_str(saved.metadata().get(TRIALS)?).ok()?;
    let state = proposer.state();
    let fits = |(name, tensor): &(String, Tensor)| {
        saved.info(name).is_some_and(|info| info.shape == tensor.size())
    };
    if known.of != of || !state.iter().all(fits) {
        return None;
    }
    for (name, tensor) in state {
        let value = saved.tensor(&name).ok()?;
        no_grad(|| tensor.detach().copy_(&value));
    }
    Some(known)
}
