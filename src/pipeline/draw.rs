//! How pictures are drawn.

use serde::{Deserialize, Serialize};

use super::Batch;
use crate::generator::ModelKind;
use crate::sampler::Solver;

/// How pictures are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrawSettings {
    /// `ddim`, `pndm`, `dpm++`, `dpm++karras`, `euler`, `euler_a`, `heun` or `lms`.
    pub sampler: Solver,
    /// Sampling steps.
    pub steps: usize,
    /// Scale of classifier-free guidance.
    pub guidance: f64,
    /// Pictures in a batch, or `auto`: as many as fit into free memory.
    pub batch: Batch,
    /// Pixels on a side; the model's own when it is missing.
    pub side: Option<i64>,
}

impl Default for DrawSettings {
    fn default() -> Self {
        Self { sampler: Solver::Ddim, steps: 20, guidance: 2.0, batch: Batch::Of(26), side: None }
    }
}

impl DrawSettings {
    /// Says what cannot be drawn, and what is without effect.
    pub(super) fn check(&self, kind: ModelKind) -> Result<(), String> {
        if !self.guidance.is_finite() || self.guidance < 0.0 {
            return Err(format!(
                "draw.guidance is {}; it is a number and not negative",
                self.guidance
            ));
        }
        if self.steps == 0 {
            return Err("draw.steps is 0; at least 1 is needed".to_owned());
        }
        if kind == ModelKind::Gan {
            let usual = Self { batch: self.batch, ..Self::default() };
            if *self != usual {
                return Err("a GAN draws in one pass, in its own size: draw.sampler, draw.steps, \
                            draw.guidance and draw.side are for a diffusion model; leave them out"
                    .to_owned());
            }
            if self.batch == Batch::Auto {
                return Err("draw.batch is a number for a GAN".to_owned());
            }
        }
        Ok(())
    }
}
