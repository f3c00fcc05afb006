//! What a GAN method is told: which of the generator's own samples show the concept and which do
//! not.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::generator::Synthesizer;
use crate::training::FixedImages;
use crate::watch::Watch;

/// Labelled samples. A sample is a seed: it can be drawn again at any time.
pub struct Feedback<'a> {
    /// The concept's name, for messages and records.
    pub concept: String,
    /// Seeds of samples that show it.
    pub negatives: Vec<u64>,
    /// Seeds of samples that do not.
    pub positives: Vec<u64>,
    /// Seed of every random number.
    pub seed: u64,
    /// Says on the way how far it has come; without one a method does all of its steps.
    pub evaluator: Option<&'a Evaluator<'a>>,
}

/// Looks at what a generator draws.
pub type Evaluator<'a> = dyn Fn(&dyn Synthesizer) -> Result<Progress, Error> + 'a;

/// How far an erasure has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Share of the concept's samples that no longer show it.
    pub unlearned: f64,
    /// How far the pictures are from the original's positives, in distances of those to a second
    /// draw of themselves: 1 is as good as new.
    pub damage: f64,
}

/// When it is enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopSettings {
    /// The share of samples that must no longer show the concept for it to end early; without one
    /// it goes on to the end, and the best is kept.
    pub unlearned: Option<f64>,
    /// The most damage that a state may have to be kept.
    pub damage: f64,
    /// Steps of a training from one look to the next; 0 looks never.
    pub every: u64,
}

impl Default for StopSettings {
    fn default() -> Self {
        Self { unlearned: None, damage: 3.0, every: 100 }
    }
}

impl StopSettings {
    /// Says what is wrong with it.
    pub(super) fn check(&self, method: &str) -> Result<(), Error> {
        if let Some(unlearned) = self.unlearned.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(Error::Task(format!(
                "{method}'s stop.unlearned is {unlearned}; it is a share of what showed the \
                 concept, 0 to 1"
            )));
        }
        if self.damage.is_nan() || self.damage <= 0.0 {
            return Err(Error::Task(format!(
                "{method}'s stop.damage is {}; 1 is as good as new, and no state is better than 0",
                self.damage
            )));
        }
        Ok(())
    }

    /// Looks in so many steps, at most.
    pub(super) fn evaluations(&self, steps: u64) -> u64 {
        if self.every == 0 { 0 } else { steps.div_ceil(self.every) }
    }

    /// With one look at the end of so many steps: it counts for memory.
    pub(super) fn at_the_end(&self, steps: u64) -> Self {
        Self { every: steps, ..*self }
    }

    /// Which of two states is better, the same for every method: whatever the damage allows goes by
    /// how much is unlearned, and comes before everything else, which goes by its damage.
    pub(super) fn rank(&self, progress: Progress) -> f64 {
        if progress.damage <= self.damage { progress.unlearned } else { -progress.damage }
    }

    /// Says what was kept: the one of this rank.
    pub(super) fn report(&self, rank: f64, what: &str, concept: &str, watch: &mut dyn Watch) {
        let allowed = self.damage;
        if rank >= 0.0 {
            let percent = rank * 100.0;
            watch.note(&format!(
                "{what}: {percent:.1} % of {concept} unlearned, damage at most {allowed}"
            ));
        } else {
            watch.warn(&format!(
                "{what}: no look at {concept} found a damage of at most {allowed}; the least \
                 damaged is kept, with {:.2} (stop.damage, or a lower lr)",
                -rank
            ));
        }
    }
}

impl Feedback<'_> {
    /// Says what is missing.
    ///
    /// # Errors
    /// Too few samples of one kind.
    pub fn check(&self) -> Result<(), Error> {
        for (what, seeds) in [("show", &self.negatives), ("do not show", &self.positives)] {
            if seeds.len() < 2 {
                return Err(Error::Task(format!(
                    "{} of the labelled samples {what} {}; at least 2 are needed: label more \
                     samples, or change the threshold",
                    seeds.len(),
                    self.concept
                )));
            }
        }
        Ok(())
    }
}

/// Draws samples with the model as it is, to pass for real pictures.
pub(super) fn fixed_images(model: &dyn Synthesizer, seeds: &[u64]) -> Result<FixedImages, Error> {
    Ok(FixedImages::new(&model.sample(seeds)?, model.compute().device))
}
