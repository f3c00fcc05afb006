//! Noise in each step, more of it than the sampler was made for: where an erasure only leads the
//! sampling past the concept, it is pushed back to it (2505.17013, its noise-based probe). DDIM
//! with every η and factor that are given, a picture each; the best of so many is found by the
//! judge, so that prompts of something else are tried in the same way beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::custom_sampling::{CustomSampling, StepNoise};
use super::sampling_probe::SamplingProbe;
use super::{Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings};
use crate::generator::Model;
use crate::settings::Configurable;

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoiseProbe {
    /// Shares of each step's noise that are drawn anew.
    pub etas: Vec<f64>,
    /// What that noise is multiplied with.
    pub factors: Vec<f64>,
    /// Whether prompts of something else are tried too.
    pub floor: bool,
}

impl Default for NoiseProbe {
    fn default() -> Self {
        Self {
            etas: vec![1.0, 1.17, 1.34, 1.51, 1.68, 1.85],
            factors: vec![1.0, 1.02, 1.03, 1.04],
            floor: true,
        }
    }
}

impl Configurable for NoiseProbe {
    fn name(&self) -> &'static str {
        "noise"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |numbers: &[f64]| {
            numbers.is_empty() || numbers.iter().any(|number| !number.is_finite() || *number <= 0.0)
        };
        if wrong(&self.etas) || wrong(&self.factors) {
            return Err(format!(
                "noise has etas {:?} and factors {:?}; each has numbers above 0",
                self.etas, self.factors
            ));
        }
        Ok(())
    }
}

impl NoiseProbe {
    fn probe(&self) -> SamplingProbe<'_> {
        let ways = (self.etas.len() * self.factors.len()) as u64;
        SamplingProbe { attack: self.name(), ways, floor: self.floor }
    }

    /// The noise of one way: all factors of the first η, then of the next.
    fn noise(&self, way: u64) -> StepNoise {
        let i = way as usize - 1;
        let factors = self.factors.len();
        StepNoise { eta: self.etas[i / factors], factor: self.factors[i % factors] }
    }
}

impl Attack for NoiseProbe {
    fn needs(&self) -> AttackNeeds {
        self.probe().needs()
    }

    fn cost(&self, requests: usize) -> AttackCost {
        self.probe().cost(requests)
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        self.probe().run(&model, task, context, |way| CustomSampling {
            noise: Some(self.noise(way)),
            begun_by: None,
        })
    }
}
