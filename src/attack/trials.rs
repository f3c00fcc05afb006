//! Trials: for each prompt and seed whose picture showed the concept before it was erased, pictures
//! are proposed and judged until one shows it again or the budget is spent. Which pictures is the
//! attack's; the loop, its budget and its state on the disk are the same for all.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{AttackContext, AttackTask, Error, Found, Trial, TrialArm};
use crate::generator::{self, ImageRequest, Model};
use crate::torch::{Tensor, no_grad, seed_from};
use crate::training::CheckpointTimer;
use crate::watch::Watch;
use crate::weights::{self, Weights};

/// A picture that may show the concept.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub request: ImageRequest,
    /// What the attack put into the prompt.
    pub added: Option<String>,
    /// Whether that may count: what was found must not name the concept.
    pub counts: bool,
}

/// Proposes pictures for trials.
pub(super) trait Proposer {
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

    /// What the next round depends on; the tensors share its memory.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// How trials are run.
pub(super) struct TrialLoop<'a, 'm> {
    pub model: &'a Model<'m>,
    pub task: &'a AttackTask<'a>,
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
        Self { model, task, attack, arm: TrialArm::ATTACK, rounds, steps: 0, new_seeds: 0 }
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
        let requests = &self.task.exposure.requests;
        let file = context.state.map(|folder| folder.join(format!("{}.safetensors", self.arm)));
        let known = file.as_deref().and_then(|file| load(file, context.of, proposer));
        let mut now = known.unwrap_or_else(|| InterruptedTrials {
            of: context.of.to_owned(),
            rounds: 0,
            trials: requests.iter().map(untried).collect(),
        });
        if now.rounds == 0 {
            let all: Vec<usize> = (0..requests.len()).collect();
            let proposals = requests.iter().map(|request| Proposal {
                request: request.clone(),
                added: None,
                counts: true,
            });
            self.judge(&mut now.trials, 0, &all, proposals.collect())?;
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
            if context.watch.interrupted() {
                save(file.as_deref(), &now, proposer)?;
                return Err(generator::Error::Interrupted.into());
            }
            let proposals = proposer.propose(now.rounds + 1, &left, context.watch)?;
            now.rounds += 1;
            self.judge(&mut now.trials, now.rounds, &left, proposals)?;
            // The first round of a session is kept whatever it took: whoever is cut off again and
            // again gets on.
            if now.rounds == begun + 1 || timer.is_over() {
                timer.after(|| save(file.as_deref(), &now, proposer))?;
            }
        }
        context.watch.end();
        self.try_new_seeds(&mut now.trials)?;
        Ok(TrialArm {
            name: self.arm.to_owned(),
            images: self.rounds,
            steps: self.steps,
            trials: now.trials,
        })
    }

    /// Judges what a round proposes for some of the trials.
    fn judge(
        &self,
        trials: &mut [Trial],
        round: u64,
        left: &[usize],
        proposals: Vec<Proposal>,
    ) -> Result<(), Error> {
        let requests: Vec<ImageRequest> =
            proposals.iter().map(|proposal| proposal.request.clone()).collect();
        let verdicts = (self.task.judge)(self.model, &requests).map_err(Error::Task)?;
        for ((&trial, proposal), verdict) in left.iter().zip(proposals).zip(verdicts) {
            if verdict.shows && proposal.counts {
                trials[trial].after = Some(round);
                trials[trial].found = Some(Found {
                    prompt: proposal.request.prompt,
                    seed: proposal.request.seed,
                    added: proposal.added,
                    confirmed: verdict.confirmed,
                    new_seeds: None,
                });
            }
        }
        Ok(())
    }

    /// Tries each prompt that was found with seeds that were never tried.
    fn try_new_seeds(&self, trials: &mut [Trial]) -> Result<(), Error> {
        if self.new_seeds == 0 {
            return Ok(());
        }
        for (trial, request) in trials.iter_mut().zip(&self.task.exposure.requests) {
            let Some(found) = trial.found.as_mut().filter(|found| found.added.is_some()) else {
                continue;
            };
            let again: Vec<ImageRequest> = (0..self.new_seeds)
                .map(|i| ImageRequest {
                    prompt: found.prompt.clone(),
                    seed: new_seed(found.seed, i),
                    ..request.clone()
                })
                .collect();
            let verdicts = (self.task.judge)(self.model, &again).map_err(Error::Task)?;
            let shown = verdicts.iter().filter(|verdict| verdict.shows).count() as u64;
            found.new_seeds = Some([shown, self.new_seeds]);
        }
        Ok(())
    }
}

/// The `i`-th seed that is tried in the place of another.
pub(super) fn new_seed(seed: u64, i: u64) -> u64 {
    seed_from(&[b"new seed", &seed.to_le_bytes(), &i.to_le_bytes()]) >> 32
}

fn untried(request: &ImageRequest) -> Trial {
    Trial { prompt: request.prompt.clone(), seed: request.seed, after: None, found: None }
}

fn untaken(trials: &[Trial]) -> Vec<usize> {
    (0..trials.len()).filter(|trial| trials[*trial].after.is_none()).collect()
}

/// The key of [`InterruptedTrials`] in a state's metadata.
const TRIALS: &str = "trials";

fn save(
    file: Option<&Path>,
    now: &InterruptedTrials,
    proposer: &dyn Proposer,
) -> Result<(), Error> {
    let Some(file) = file else { return Ok(()) };
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder)?;
    }
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
