//! DDIM (Song et al. 2021, eta 0) and DPM-Solver++ 2M (Lu et al. 2022), as diffusers computes them.
//!
//! A sampler is a plan that never changes; a step is a function of the latents, the network's output
//! and, for the second-order solver, what the step before it thought the picture was.

use std::str::FromStr;

use super::{Error, Prediction, Schedule};
use crate::torch::Tensor;

/// How to go from noise to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Solver {
    /// First order, deterministic.
    #[serde(rename = "ddim")]
    Ddim,
    /// Second order, deterministic; good from 15 steps on.
    #[serde(rename = "dpm++")]
    DpmPlusPlus,
}

impl FromStr for Solver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ddim" => Ok(Self::Ddim),
            "dpm++" => Ok(Self::DpmPlusPlus),
            _ => Err(format!("`{text}` is no sampler; use ddim or dpm++")),
        }
    }
}

impl std::fmt::Display for Solver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ddim => "ddim",
            Self::DpmPlusPlus => "dpm++",
        })
    }
}

/// A solver with its timesteps.
#[derive(Debug, Clone)]
pub struct Sampler {
    solver: Solver,
    schedule: Schedule,
    timesteps: Vec<i64>,
}

/// What a step gives.
#[derive(Debug)]
pub struct Step {
    /// The latents at the next timestep.
    pub latents: Tensor,
    /// The clean latents that the network's output implies; the next step wants them.
    pub clean: Tensor,
}

impl Sampler {
    /// Chooses `steps` timesteps as `timestep_spacing` and `steps_offset` say.
    ///
    /// # Errors
    /// No steps, or more than there are in training.
    pub fn new(solver: Solver, schedule: &Schedule, steps: usize) -> Result<Self, Error> {
        let (n, total) = (steps as i64, schedule.steps());
        if n < 1 || n >= total {
            return Err(Error(format!("{n} sampling steps; 1 to {} are possible", total - 1)));
        }
        let round = f64::round_ties_even;
        let config = &schedule.config;
        let timesteps: Vec<i64> = match (config.timestep_spacing.as_str(), solver) {
            ("leading", Solver::Ddim) => {
                (0..n).rev().map(|i| i * (total / n) + config.steps_offset).collect()
            }
            ("leading", Solver::DpmPlusPlus) => {
                (1..=n).rev().map(|i| i * (total / (n + 1)) + config.steps_offset).collect()
            }
            ("linspace", Solver::Ddim) => {
                let gap = (total - 1) as f64 / (n - 1).max(1) as f64;
                (0..n).rev().map(|i| round(i as f64 * gap) as i64).collect()
            }
            ("linspace", Solver::DpmPlusPlus) => {
                let gap = (total - 1) as f64 / n as f64;
                (1..=n).rev().map(|i| round(i as f64 * gap) as i64).collect()
            }
            _ => {
                let gap = total as f64 / n as f64;
                (0..n).map(|i| round(total as f64 - i as f64 * gap) as i64 - 1).collect()
            }
        };
        Ok(Self { solver, schedule: schedule.clone(), timesteps })
    }

    /// From the noisiest to the cleanest.
    pub fn timesteps(&self) -> &[i64] {
        &self.timesteps
    }

    /// Step `i`: `latents` and the network's `output` for them at `timesteps()[i]`; `before` is
    /// [`Step::clean`] of step `i - 1`.
    pub fn step(&self, i: usize, latents: &Tensor, output: &Tensor, before: Option<&Tensor>) -> Step {
        match self.solver {
            Solver::Ddim => self.ddim(i, latents, output),
            Solver::DpmPlusPlus => self.dpm(i, latents, output, before),
        }
    }

    fn ddim(&self, i: usize, x: &Tensor, output: &Tensor) -> Step {
        let config = &self.schedule.config;
        let t = self.timesteps[i];
        let next = t - self.schedule.steps() / self.timesteps.len() as i64;
        let (bar, bar_next) = (self.schedule.alpha_bar(t), self.schedule.alpha_bar(next));
        let (alpha, sigma) = (bar.sqrt(), (1.0 - bar).sqrt());
        let (mut clean, noise) = match config.prediction_type {
            Prediction::Epsilon => ((x - output * sigma) / alpha, output.shallow_clone()),
            Prediction::VPrediction => (x * alpha - output * sigma, output * alpha + x * sigma),
        };
        if config.clip_sample {
            // As diffusers does by default, the noise stays what the network said.
            clean = clean.clamp(-config.clip_sample_range, config.clip_sample_range);
        }
        let latents = &clean * bar_next.sqrt() + noise * (1.0 - bar_next).sqrt();
        Step { latents, clean }
    }

    fn dpm(&self, i: usize, x: &Tensor, output: &Tensor, before: Option<&Tensor>) -> Step {
        // (α, σ, λ) at step j; past the last there is no noise.
        let at = |j: usize| match self.timesteps.get(j) {
            Some(&t) => {
                // Where no signal is left λ would be -∞; diffusers keeps 2⁻²⁴ of it.
                let bar = self.schedule.alpha_bar(t).max(2.0_f64.powi(-24));
                (bar.sqrt(), (1.0 - bar).sqrt(), 0.5 * (bar / (1.0 - bar)).ln())
            }
            None => (1.0, 0.0, f64::INFINITY),
        };
        let (alpha, sigma, lambda) = at(i);
        let (alpha_next, sigma_next, lambda_next) = at(i + 1);
        let clean = match self.schedule.config.prediction_type {
            Prediction::Epsilon => (x - output * sigma) / alpha,
            Prediction::VPrediction => x * alpha - output * sigma,
        };
        let h = lambda_next - lambda;
        let gain = -alpha_next * (-h).exp_m1();
        let mut latents = x * (sigma_next / sigma) + &clean * gain;
        let last = i + 1 == self.timesteps.len();
        if let (Some(before), false) = (before, last) {
            let ratio = (lambda - at(i - 1).2) / h;
            latents += (&clean - before) * (0.5 * gain / ratio);
        }
        Step { latents, clean }
    }
}
