//! What a picture depends on beside the weights.

use serde::{Deserialize, Serialize};

use super::Seeding;
use crate::sampler::Solver;
use crate::weights::Sampling;

/// One picture to draw: everything that it depends on beside the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// The prompt.
    pub prompt: String,
    /// What to stay away from; empty in most cases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub negative: String,
    /// Seed of the first latent.
    pub seed: u64,
    /// Scale of classifier-free guidance; up to 1 there is none.
    pub guidance: f64,
    /// Sampling steps.
    pub steps: usize,
    /// The solver.
    pub sampler: Solver,
    /// Pixels across and down.
    pub size: (i64, i64),
    /// How far a GAN's style may lie from the mean of all: 1 is as it comes, 0 the mean itself.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub truncation: f64,
    /// Another seed whose style a GAN's picture has a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blend: Option<Blend>,
    /// What a GAN's seeds mean.
    #[serde(default, skip_serializing_if = "Seeding::is_usual")]
    pub seeding: Seeding,
}

/// How much of another seed's style a GAN's picture has. The noise stays the first seed's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blend {
    /// A point on the line between both styles, 0 to 1.
    Between {
        /// The other seed.
        seed: u64,
        /// Its share.
        share: f64,
    },
    /// The other style from a layer on: coarse things from the first seed, fine things from the
    /// other.
    From {
        /// The other seed.
        seed: u64,
        /// The first row of `w+` that is the other's.
        layer: i64,
    },
}

impl Blend {
    /// The other seed.
    pub(super) fn seed(self) -> u64 {
        match self {
            Self::Between { seed, .. } | Self::From { seed, .. } => seed,
        }
    }

    /// The other style's share of each of `layers` rows of `w+`.
    pub(super) fn shares(self, layers: i64) -> Vec<f32> {
        (0..layers)
            .map(|row| match self {
                Self::Between { share, .. } => share as f32,
                Self::From { layer, .. } => f32::from(u8::from(row >= layer)),
            })
            .collect()
    }
}

fn one() -> f64 {
    1.0
}

/// Whether a truncation, or the strength of an edit, is 1.
pub fn is_one(share: &f64) -> bool {
    (share - 1.0).abs() < 1e-12
}

impl ImageRequest {
    /// A picture of a GAN: no prompt, no steps.
    pub fn of_seed(seed: u64, truncation: f64, side: i64) -> Self {
        Self {
            prompt: String::new(),
            negative: String::new(),
            seed,
            guidance: 1.0,
            steps: 0,
            sampler: Solver::Ddim,
            size: (side, side),
            truncation,
            blend: None,
            seeding: Seeding::default(),
        }
    }

    /// As an edit wants it to be sampled.
    #[must_use]
    pub fn sampled(self, sampling: Option<Sampling>) -> Self {
        match sampling {
            Some(Sampling { steps, guidance }) => Self { guidance, steps, ..self },
            None => self,
        }
    }

    /// What must be equal for two requests to be drawn in one batch.
    pub(super) fn batch_key(&self) -> (usize, Solver, (i64, i64), bool) {
        (self.steps, self.sampler, self.size, self.guides())
    }

    /// As in diffusers: up to 1 the prompt draws alone.
    pub(super) fn guides(&self) -> bool {
        self.guidance > 1.0
    }

    /// The parameters as A1111 writes them.
    pub fn parameters(&self, model: &str) -> String {
        if self.steps == 0 {
            let blend = match self.blend {
                None => String::new(),
                Some(Blend::Between { seed, share }) => {
                    format!(", Style: {share} of the way to seed {seed}")
                }
                Some(Blend::From { seed, layer }) => {
                    format!(", Style: seed {seed}'s from layer {layer}")
                }
            };
            let seeding = if self.seeding.is_usual() { "" } else { " (as NVIDIA's scripts)" };
            return format!(
                "Seed: {}{seeding}, Truncation: {}{blend}, Size: {}x{}, Model hash: {}",
                self.seed,
                self.truncation,
                self.size.0,
                self.size.1,
                &model[..model.len().min(10)],
            );
        }
        let negative = if self.negative.is_empty() {
            String::new()
        } else {
            format!("Negative prompt: {}\n", self.negative)
        };
        format!(
            "{}\n{negative}Steps: {}, Sampler: {}, CFG scale: {}, Seed: {}, Size: {}x{}, Model \
             hash: {}",
            self.prompt,
            self.steps,
            self.sampler.title(),
            self.guidance,
            self.seed,
            self.size.0,
            self.size.1,
            &model[..model.len().min(10)],
        )
    }
}
