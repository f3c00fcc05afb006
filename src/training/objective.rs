//! What is to be learned, where one network learns by one loss.

use std::ops::Range;

use super::Error;
use crate::torch::{Rng, Tensor};

/// Something to learn.
pub trait Objective {
    /// A short name; part of the seed of every step.
    fn name(&self) -> &'static str;

    /// The tensors that move, named.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// How many times as fast as the plan says a parameter moves.
    fn lr_scale(&self, _name: &str) -> f64 {
        1.0
    }

    /// The loss of a step, a scalar. All chance comes from `rng`. An objective that divides gives
    /// for each half its part of the same loss: both add up to the whole's, and both are given the
    /// same chances.
    ///
    /// # Errors
    /// Whatever goes wrong in the objective.
    fn loss(&mut self, step: u64, rng: &mut Rng, micro_batch: MicroBatch) -> Result<Tensor, Error>;

    /// What its steps depend on beside the plan and the parameters; a state of other facts is
    /// another training's.
    fn fingerprint(&self) -> String {
        String::new()
    }

    /// Whether a step can be done in two halves where memory is short.
    fn splits(&self) -> bool {
        false
    }

    /// What a step changes beside the parameters; the tensors themselves, a saved state is copied
    /// into them.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Whether its loss falls while all goes well; if so, one that rises ends the training.
    fn loss_falls(&self) -> bool {
        true
    }

    /// Whether it has learned enough before the plan's end.
    fn done(&self) -> bool {
        false
    }

    /// A last change of the `i`-th parameter's gradient, after clipping: a mask, for example.
    fn mask_gradient(&self, _i: usize, _gradient: &mut Tensor) {}
}

/// Which pictures of a step's batch a loss is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatch {
    /// All of them.
    Whole,
    /// The first half; the larger one where they are odd.
    First,
    /// The second half.
    Second,
}

impl MicroBatch {
    /// The rows of a batch of `n`.
    pub fn rows(self, n: i64) -> Range<i64> {
        let middle = (n + 1) / 2;
        match self {
            Self::Whole => 0..n,
            Self::First => 0..middle,
            Self::Second => middle..n,
        }
    }
}
