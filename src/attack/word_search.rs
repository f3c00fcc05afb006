//! Attacks that look for words step by step: a block of steps, then the words are drawn and judged,
//! and so on.

use super::free_tokens::{FreePlaces, rows};
use super::trials::{Proposal, Proposer, TrialLoop};
use super::{AttackCost, AttackTask, Error};
use crate::generator::Model;
use crate::torch::Tensor;
use crate::watch::Watch;

/// How long it is looked.
#[derive(Debug, Clone, Copy)]
pub(super) struct SearchBudget {
    /// Blocks; a picture of each trial is judged after each.
    pub blocks: u64,
    /// Steps in a block.
    pub steps: u64,
    /// Trials whose gradients are found together.
    pub batch: usize,
    /// Whether the same is done for something else.
    pub floor: bool,
    /// New seeds with which what was found is tried again.
    pub new_seeds: u64,
}

impl SearchBudget {
    /// What that costs.
    pub(super) fn cost(self, requests: usize) -> AttackCost {
        let each = requests as u64 * (1 + u64::from(self.floor));
        AttackCost {
            search_steps: each * self.blocks * self.steps,
            batch: self.batch,
            images: each * (1 + self.blocks + self.new_seeds),
            ..AttackCost::default()
        }
    }

    /// The trials of one arm.
    pub(super) fn trials<'a, 'm>(
        self,
        attack: &'a str,
        arm: &'static str,
        model: &'a Model<'m>,
        task: &'a AttackTask<'a>,
    ) -> TrialLoop<'a, 'm> {
        let trials = TrialLoop::new(attack, model, task, self.blocks);
        TrialLoop { arm, steps: self.steps, new_seeds: self.new_seeds, ..trials }
    }
}

/// Looks for words for some trials at a time.
pub(super) trait WordSearch {
    /// Where they stand.
    fn places(&self) -> &FreePlaces<'_>;

    /// One step for some of the trials; blocks begin at 1, steps at 0 and go on from block to
    /// block.
    ///
    /// # Errors
    /// libtorch's.
    fn step(&mut self, block: u64, step: u64, trials: &[usize]) -> Result<(), Error>;

    /// What was found for some of the trials, by their index `[m]`, as ids of tokens `[m, k]`.
    fn words(&self, rows: &Tensor) -> Tensor;

    /// What the next step depends on; the tensors share its memory.
    fn state(&self) -> Vec<(String, Tensor)>;
}

/// A search, block by block.
pub(super) struct BlockSearch<S> {
    /// Steps in a block.
    steps: u64,
    search: S,
    /// Steps that were done in all, where the state can hold them: `[1]`.
    done: Tensor,
}

impl<S> BlockSearch<S> {
    pub(super) fn new(steps: u64, search: S) -> Self {
        Self { steps, search, done: Tensor::from_slice(&[0_i64]) }
    }
}

impl<S: WordSearch> Proposer for BlockSearch<S> {
    fn search(
        &mut self,
        round: u64,
        trials: &[usize],
        watch: &mut dyn Watch,
    ) -> Result<bool, Error> {
        let step = self.done.int64_value(&[0]) as u64;
        self.search.step(round, step, trials)?;
        let _ = self.done.fill_(step as i64 + 1);
        watch.at(step + 1, &format!("{} left", trials.len()));
        Ok(step + 1 == round * self.steps)
    }

    fn propose(
        &mut self,
        _: u64,
        trials: &[usize],
        _: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error> {
        let places = self.search.places();
        let found = self.search.words(&rows(places.model, trials));
        Ok(places.proposals(trials, &found))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.search.state();
        state.push(("done".to_owned(), self.done.shallow_clone()));
        state
    }
}
