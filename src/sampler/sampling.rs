//! The samplers that people use with Stable Diffusion, as diffusers computes them.
//!
//! A sampler is a plan that never changes. A step is a function of the latents, the network's
//! output and, for solvers of a higher order, what [`History`] keeps of the steps before.
//!
//! Two families: DDIM, PNDM and DPM-Solver++ move latents of unit variance, `x = √ᾱ·x₀ + √(1-ᾱ)·ε`;
//! Euler, Heun and LMS move `x = x₀ + σ·ε` and show the network `x / √(σ² + 1)`.

use std::collections::VecDeque;

use super::spacing::{Spacing, interpolate, karras, nearest_timestep};
use super::{Error, LEAST_SIGNAL, Prediction, Schedule, Solver};
use crate::torch::Tensor;

/// A solver with its timesteps.
#[derive(Debug, Clone)]
pub struct Sampler {
    solver: Solver,
    schedule: Schedule,
    steps: usize,
    /// One for each evaluation of the network.
    timesteps: Vec<f64>,
    /// σ = √((1-ᾱ)/ᾱ) at each step and, last, after it.
    sigmas: Vec<f64>,
    spacing: Spacing,
    /// DDIM's η: how much of the noise of a step is drawn anew.
    eta: f64,
}

/// What a solver keeps of the steps before: outputs, derivatives or clean latents, the newest last.
#[derive(Debug, Default)]
pub struct History {
    past: VecDeque<Tensor>,
    start: Option<Tensor>,
}

/// How far latents are through a sampler's steps.
#[derive(Debug)]
pub struct SamplingRun<'a> {
    /// The sampler.
    pub sampler: &'a Sampler,
    /// The step that comes next.
    pub next: usize,
    /// What the steps before left.
    pub history: History,
}

impl<'a> SamplingRun<'a> {
    /// Before the first step.
    pub fn new(sampler: &'a Sampler) -> Self {
        Self { sampler, next: 0, history: History::default() }
    }
}

impl History {
    fn push(&mut self, tensor: Tensor, most: usize) {
        if self.past.len() == most {
            self.past.pop_front();
        }
        self.past.push_back(tensor);
    }

    /// The `k`-th newest, counted from 0.
    fn newest(&self, k: usize) -> &Tensor {
        &self.past[self.past.len() - 1 - k]
    }
}

impl Sampler {
    /// Chooses the timesteps of `steps` steps as the schedule's configuration says.
    ///
    /// # Errors
    /// No steps, or more than there are in training.
    pub fn new(solver: Solver, schedule: &Schedule, steps: usize) -> Result<Self, Error> {
        let (n, total) = (steps as i64, schedule.steps());
        if n < 1 || n >= total {
            return Err(Error(format!("{n} sampling steps; 1 to {} are possible", total - 1)));
        }
        let config = &schedule.config;
        config.check(solver)?;
        let spacing = Spacing::of(config, solver)?;
        let mut timesteps = spacing.timesteps(solver, n, total, config.steps_offset);
        let noise = schedule.noise_levels();
        let mut sigmas: Vec<f64> = timesteps.iter().map(|&t| interpolate(&noise, t)).collect();
        if solver == Solver::DpmPlusPlusKarras
            || config.use_karras_sigmas == Some(true)
                && solver.is_variance_exploding()
                && !solver.is_ancestral()
        {
            let dpm = !solver.is_variance_exploding();
            let (low, high) = if dpm {
                (noise[0], noise[noise.len() - 1])
            } else {
                (sigmas[steps - 1], sigmas[0])
            };
            sigmas = karras(low, high, steps);
            timesteps = sigmas.iter().map(|&sigma| nearest_timestep(&noise, sigma)).collect();
            if dpm && config.beta_schedule != "squaredcos_cap_v2" {
                for t in &mut timesteps {
                    *t = t.round_ties_even();
                }
            }
        }
        sigmas.push(0.0);
        match solver {
            // The second evaluation corrects the first step.
            Solver::Pndm if steps > 1 => timesteps.insert(1, timesteps[1]),
            Solver::Heun => {
                let twice = timesteps[1..].iter().flat_map(|&t| [t, t]);
                timesteps = std::iter::once(timesteps[0]).chain(twice).collect();
            }
            _ => {}
        }
        Ok(Self { solver, schedule: schedule.clone(), steps, timesteps, sigmas, spacing, eta: 0.0 })
    }

    /// DDIM with fresh noise in each step (Song et al. 2021, equation 12): η 1 is DDPM, 0 none.
    ///
    /// # Errors
    /// Steps that the schedule does not have.
    pub fn ddim_with_noise(schedule: &Schedule, steps: usize, eta: f64) -> Result<Self, Error> {
        Ok(Self { eta, ..Self::new(Solver::Ddim, schedule, steps)? })
    }

    /// Whether each step wants fresh noise.
    pub fn is_ancestral(&self) -> bool {
        self.solver.is_ancestral() || self.eta > 0.0
    }

    /// The timestep of each evaluation of the network, from the noisiest to the cleanest.
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// What latents of unit variance are multiplied with before the first step.
    pub fn begin(&self) -> f64 {
        match (self.solver.is_variance_exploding(), self.spacing) {
            (false, _) => 1.0,
            (true, Spacing::Leading) => (self.sigmas[0].powi(2) + 1.0).sqrt(),
            (true, _) => self.sigmas[0],
        }
    }

    /// σ at evaluation `i`.
    fn sigma(&self, i: usize) -> f64 {
        self.sigmas[if self.solver == Solver::Heun { i.div_ceil(2) } else { i }]
    }

    /// What the network is shown of the latents `x` at evaluation `i`.
    pub fn input(&self, i: usize, x: &Tensor) -> Tensor {
        if self.solver.is_variance_exploding() {
            x / (self.sigma(i).powi(2) + 1.0).sqrt()
        } else {
            x.shallow_clone()
        }
    }

    /// The latents after evaluation `i`, from those before and the network's `output` for
    /// [`Self::input`] at `timesteps()[i]`. `noise` is fresh and of unit variance; only an
    /// ancestral solver looks at it.
    pub fn step(
        &self,
        i: usize,
        x: &Tensor,
        output: &Tensor,
        noise: Option<&Tensor>,
        history: &mut History,
    ) -> Tensor {
        match self.solver {
            Solver::Ddim => self.ddim(i, x, output, noise),
            Solver::Pndm => self.pndm(i, x, output, history),
            Solver::DpmPlusPlus | Solver::DpmPlusPlusKarras => self.dpm(i, x, output, history),
            Solver::Euler => {
                x + self.slope(self.sigmas[i], x, output) * (self.sigmas[i + 1] - self.sigmas[i])
            }
            Solver::EulerAncestral => self.euler_ancestral(i, x, output, noise),
            Solver::Heun => self.heun(i, x, output, history),
            Solver::Lms => self.lms(i, x, output, history),
        }
    }

    fn ddim(&self, i: usize, x: &Tensor, output: &Tensor, fresh: Option<&Tensor>) -> Tensor {
        let config = &self.schedule.config;
        let t = self.timesteps[i] as i64;
        let next = t - self.schedule.steps() / self.steps as i64;
        let to_one = config.set_alpha_to_one.unwrap_or(true);
        let (bar, bar_next) =
            (self.schedule.alpha_bar(t, to_one), self.schedule.alpha_bar(next, to_one));
        let (alpha, sigma) = (bar.sqrt(), (1.0 - bar).sqrt());
        let (mut clean, noise) = match config.prediction_type {
            Prediction::Epsilon => ((x - output * sigma) / alpha, output.shallow_clone()),
            Prediction::VPrediction => (x * alpha - output * sigma, output * alpha + x * sigma),
        };
        if config.clip_sample.unwrap_or(true) {
            // As diffusers does by default, the noise stays what the network said.
            clean = clean.clamp(-config.clip_sample_range, config.clip_sample_range);
        }
        let Some(fresh) = fresh.filter(|_| self.eta > 0.0) else {
            return clean * bar_next.sqrt() + noise * (1.0 - bar_next).sqrt();
        };
        let variance = (1.0 - bar_next) / (1.0 - bar) * (1.0 - bar / bar_next);
        let deviation = self.eta * variance.max(0.0).sqrt();
        // Above η 1 there may be more fresh noise than there is to be noise in all.
        let kept = (1.0 - bar_next - deviation.powi(2)).max(0.0).sqrt();
        clean * bar_next.sqrt() + noise * kept + fresh * deviation
    }

    /// Formula (9) of the paper with the slope of (12): Adams-Bashforth, which begins with a half
    /// step.
    fn pndm(&self, i: usize, x: &Tensor, output: &Tensor, history: &mut History) -> Tensor {
        let stride = self.schedule.steps() / self.steps as i64;
        let here = self.timesteps[i] as i64;
        let (mut t, mut next) = (here, here - stride);
        if i == 1 {
            // The same step again, with the mean of the slopes at its ends.
            (t, next) = (here + stride, here);
        } else {
            history.push(output.shallow_clone(), 4);
        }
        let e = |k: usize| history.newest(k);
        let slope = match (i, history.past.len()) {
            (0, _) => output.shallow_clone(),
            (1, _) => (output + e(0)) / 2.0,
            (_, 2) => (e(0) * 3.0 - e(1)) / 2.0,
            (_, 3) => (e(0) * 23.0 - e(1) * 16.0 + e(2) * 5.0) / 12.0,
            _ => (e(0) * 55.0 - e(1) * 59.0 + e(2) * 37.0 - e(3) * 9.0) / 24.0,
        };
        let x = match i {
            0 => {
                history.start = Some(x.shallow_clone());
                x.shallow_clone()
            }
            1 => history.start.take().unwrap_or_else(|| x.shallow_clone()),
            _ => x.shallow_clone(),
        };
        let to_one = self.schedule.config.set_alpha_to_one.unwrap_or(false);
        // The formula divides by ᾱ, which is 0 at the end of a schedule without a last signal.
        let bar = |t: i64| self.schedule.alpha_bar(t, to_one).max(LEAST_SIGNAL);
        let (bar, bar_next) = (bar(t), bar(next));
        let slope = match self.schedule.config.prediction_type {
            Prediction::Epsilon => slope,
            Prediction::VPrediction => slope * bar.sqrt() + &x * (1.0 - bar).sqrt(),
        };
        let divisor = bar * (1.0 - bar_next).sqrt() + (bar * (1.0 - bar) * bar_next).sqrt();
        x * (bar_next / bar).sqrt() - slope * ((bar_next - bar) / divisor)
    }

    fn dpm(&self, i: usize, x: &Tensor, output: &Tensor, history: &mut History) -> Tensor {
        // (α, σ, λ) at a noise level.
        let at = |j: usize| {
            let s = self.sigmas[j];
            let alpha = 1.0 / (s * s + 1.0).sqrt();
            (alpha, s * alpha, -s.ln())
        };
        let (alpha, sigma, lambda) = at(i);
        let (alpha_next, sigma_next, lambda_next) = at(i + 1);
        let clean = match self.schedule.config.prediction_type {
            Prediction::Epsilon => (x - output * sigma) / alpha,
            Prediction::VPrediction => x * alpha - output * sigma,
        };
        let h = lambda_next - lambda;
        let gain = -alpha_next * (-h).exp_m1();
        let mut next = x * (sigma_next / sigma) + &clean * gain;
        // The last step goes to no noise at all, where the second order has no meaning.
        if let (Some(before), true) = (history.past.back(), i + 1 < self.steps) {
            let ratio = (lambda - at(i - 1).2) / h;
            next += (&clean - before) * (0.5 * gain / ratio);
        }
        history.push(clean, 1);
        next
    }

    /// The clean latents that the output implies at noise level `sigma`.
    fn clean(&self, sigma: f64, x: &Tensor, output: &Tensor) -> Tensor {
        let variance = sigma * sigma + 1.0;
        match self.schedule.config.prediction_type {
            Prediction::Epsilon => x - output * sigma,
            Prediction::VPrediction => x / variance - output * (sigma / variance.sqrt()),
        }
    }

    /// dx/dσ.
    fn slope(&self, sigma: f64, x: &Tensor, output: &Tensor) -> Tensor {
        (x - self.clean(sigma, x, output)) / sigma
    }

    fn euler_ancestral(
        &self,
        i: usize,
        x: &Tensor,
        output: &Tensor,
        noise: Option<&Tensor>,
    ) -> Tensor {
        let (from, to) = (self.sigmas[i], self.sigmas[i + 1]);
        let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
        let down = (to * to - up * up).max(0.0).sqrt();
        let next = x + self.slope(from, x, output) * (down - from);
        match noise {
            Some(noise) => next + noise * up,
            None => next,
        }
    }

    fn heun(&self, i: usize, x: &Tensor, output: &Tensor, history: &mut History) -> Tensor {
        let step = i / 2;
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        if i.is_multiple_of(2) {
            let slope = self.slope(from, x, output);
            let next = x + &slope * (to - from);
            history.start = Some(x.shallow_clone());
            history.push(slope, 1);
            return next;
        }
        let slope = (history.newest(0) + self.slope(to, x, output)) / 2.0;
        let start = history.start.take().unwrap_or_else(|| x.shallow_clone());
        start + slope * (to - from)
    }

    fn lms(&self, i: usize, x: &Tensor, output: &Tensor, history: &mut History) -> Tensor {
        history.push(self.slope(self.sigmas[i], x, output), 4);
        let order = history.past.len();
        let known = |k: usize| self.sigmas[i - k];
        // Lagrange's polynomial through the known slopes; Gauss' two points integrate a cubic
        // exactly.
        let weight = |k: usize| {
            let polynomial = |s: f64| {
                (0..order)
                    .filter(|&j| j != k)
                    .map(|j| (s - known(j)) / (known(k) - known(j)))
                    .product::<f64>()
            };
            let (middle, half) = (
                f64::midpoint(self.sigmas[i], self.sigmas[i + 1]),
                (self.sigmas[i + 1] - self.sigmas[i]) / 2.0,
            );
            let off = half / 3.0_f64.sqrt();
            half * (polynomial(middle - off) + polynomial(middle + off))
        };
        (0..order).fold(x.shallow_clone(), |sum, k| sum + history.newest(k) * weight(k))
    }
}
