//! What a GAN method is told: which of the generator's own samples show the concept and which do not.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::generator::Synthesizer;
use crate::model::stylegan2::Noise;
use crate::torch::{Kind, Rng, Tensor, no_grad, stage};
use crate::training::Reals;

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
    pub examiner: Option<&'a Examiner<'a>>,
}

/// Looks at what a generator draws.
pub type Examiner<'a> = dyn Fn(&dyn Synthesizer) -> Result<Grade, Error> + 'a;

/// How far an erasure has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// Share of the concept's samples that no longer show it.
    pub unlearned: f64,
    /// How far the pictures are from the original's positives, in distances of those to a second draw of themselves: 1 is
    /// as good as new.
    pub damage: f64,
}

/// When it is enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The share of samples that must no longer show the concept.
    pub unlearned: f64,
    /// The most damage that a state may have to be kept.
    pub damage: f64,
    /// Steps from one look to the next; 0 looks never.
    pub every: u64,
}

impl Default for Stop {
    fn default() -> Self {
        Self { unlearned: 0.98, damage: 1.5, every: 25 }
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
                    "{} of the labelled samples {what} {}; at least 2 are needed: label more samples, or change the threshold",
                    seeds.len(),
                    self.concept
                )));
            }
        }
        Ok(())
    }
}

/// Samples of a generator that are kept, to pass for real pictures.
pub(super) struct Samples {
    /// `[n, 3, size, size]` as the network drew them, on the host.
    pictures: Tensor,
    device: tch::Device,
}

/// Samples that are drawn at once.
const BATCH: usize = 64;

impl Samples {
    /// Draws them with the model as it is.
    pub(super) fn draw(model: &dyn Synthesizer, seeds: &[u64]) -> Result<Self, Error> {
        let device = model.place().device.tch();
        let pictures = stage("drawing labelled samples", || {
            let draw = |seeds: &[u64]| {
                let (z, noises) = model.chance(seeds);
                let network = model.network();
                let styles = network.broadcast(&network.map(&z));
                network.synthesize(&styles, Noise::Given(&noises)).to_device(tch::Device::Cpu)
            };
            let drawn: Vec<Tensor> = no_grad(|| seeds.chunks(BATCH).map(draw).collect());
            Ok::<_, Error>(Tensor::cat(&drawn, 0))
        })?;
        Ok(Self { pictures, device })
    }

    /// `n` of them without repetition.
    pub(super) fn some_of(&self, n: i64, rng: &mut Rng) -> Self {
        let all = self.pictures.size()[0];
        let rows = rng.permutation(all).narrow(0, 0, n.min(all));
        Self { pictures: self.pictures.index_select(0, &rows), device: self.device }
    }
}

impl Reals for Samples {
    fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
        let rows = rng.below(self.pictures.size()[0], &[n]);
        (self.pictures.index_select(0, &rows).to_device(self.device).to_kind(Kind::Float), None)
    }
}
