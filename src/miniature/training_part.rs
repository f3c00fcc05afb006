//! How long and how fast a part of a recipe learns.

use serde::{Deserialize, Serialize};

use crate::training::TrainConfig;

/// How long and how fast a part learns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingPart {
    /// Steps.
    pub steps: u64,
    /// Pictures a step.
    pub batch: i64,
    /// Peak learning rate.
    pub lr: f64,
    /// Pictures of each style × object to learn from.
    pub per_cell: u32,
}

impl TrainingPart {
    pub(super) fn plan(&self, seed: u64) -> TrainConfig {
        TrainConfig {
            extends: true,
            warmup: 200.min(self.steps / 10),
            cooldown: 0.25,
            decoupled: true,
            clip: Some(1.0),
            ..TrainConfig::constant(self.steps, self.lr, seed)
        }
    }
}
