//! How much noise there is at each of the training timesteps, as `scheduler/scheduler_config.json`
//! says.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::classes::{BUILT, REPLACEABLE, SCHEDULE, of_solver};
use super::{Error, LEAST_SIGNAL, Solver};
use crate::fields;
use crate::torch::{Kind, Tensor};

/// `scheduler_config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SchedulerConfig {
    /// diffusers' class name: `DDIMScheduler`, `PNDMScheduler`, …
    #[serde(rename = "_class_name", default)]
    pub class_name: Option<String>,
    /// Timesteps in training.
    #[serde(default = "thousand")]
    pub num_train_timesteps: i64,
    /// Variance of the first step; each class has a default of its own.
    #[serde(default)]
    pub beta_start: Option<f64>,
    /// Variance of the last step; each class has a default of its own.
    #[serde(default)]
    pub beta_end: Option<f64>,
    /// `linear`, `scaled_linear` (Stable Diffusion) or `squaredcos_cap_v2`.
    #[serde(default = "linear")]
    pub beta_schedule: String,
    /// The variance of every step, in place of the three above.
    #[serde(default)]
    pub trained_betas: Option<Vec<f64>>,
    /// What the network predicts.
    #[serde(default)]
    pub prediction_type: Prediction,
    /// Whether the step after the last has no noise at all (DDIM, where it does unless told
    /// otherwise, and PNDM, where it does not).
    #[serde(default)]
    pub set_alpha_to_one: Option<bool>,
    /// Added to every timestep.
    #[serde(default)]
    pub steps_offset: i64,
    /// `leading`, `trailing` or `linspace`; each solver has a default of its own.
    #[serde(default)]
    pub timestep_spacing: Option<String>,
    /// Whether the predicted picture is clamped to ± `clip_sample_range` (DDIM, where it is unless
    /// told otherwise).
    #[serde(default)]
    pub clip_sample: Option<bool>,
    /// See `clip_sample`.
    #[serde(default = "one")]
    pub clip_sample_range: f64,
    /// Whether the last step's signal is removed wholly (Lin et al. 2024).
    #[serde(default)]
    pub rescale_betas_zero_snr: bool,
    /// Whether Euler, Heun, LMS and DPM-Solver++ go through the noise levels of Karras et al. 2022.
    #[serde(default)]
    pub use_karras_sigmas: Option<bool>,
    /// Whether PNDM begins without Runge-Kutta steps, as Stable Diffusion does.
    #[serde(default)]
    pub skip_prk_steps: Option<bool>,
    /// All others, which each solver's class looks through.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

fn thousand() -> i64 {
    1000
}
fn linear() -> String {
    "linear".to_owned()
}
fn one() -> f64 {
    1.0
}

/// First and last variance where a file gives none; `HeunDiscreteScheduler` has Stable Diffusion's.
const BETAS: [f64; 2] = [0.0001, 0.02];
const BETAS_OF_HEUN: [f64; 2] = [0.00085, 0.012];

impl SchedulerConfig {
    /// Reads what `path` holds, every field by the rules of its class.
    ///
    /// # Errors
    /// A class whose noise is of another kind, a field that is refused, a value of the wrong type.
    pub fn read(json: &Value, path: &Path, notes: &mut Vec<String>) -> Result<Self, Error> {
        let class = json["_class_name"].as_str();
        let built = BUILT.iter().find(|built| Some(built.class.name) == class);
        if let (None, Some(class)) = (built, class)
            && !REPLACEABLE.contains(&class)
        {
            return Err(Error(format!(
                "{} is of a {class}, whose noise is of another kind than Stable Diffusion's; {} \
                 are built here",
                path.display(),
                names()
            )));
        }
        fields::check(built.map_or(&SCHEDULE, |built| &built.class), json, path, notes)?;
        Ok(fields::parsed(json, path)?)
    }

    /// The solver that its class is.
    ///
    /// # Errors
    /// A class that is not built here, or none.
    pub fn solver(&self) -> Result<Solver, Error> {
        let class = self.class_name.as_deref().unwrap_or("scheduler of no class");
        match BUILT.iter().find(|built| built.class.name == class).map(|built| built.solver) {
            Some(Solver::DpmPlusPlus) if self.use_karras_sigmas == Some(true) => {
                Ok(Solver::DpmPlusPlusKarras)
            }
            // diffusers' default, where the file does not say it.
            Some(Solver::Pndm) if self.skip_prk_steps != Some(true) => Err(Error(
                "the model's PNDMScheduler draws with Runge-Kutta steps, as it does where \
                 skip_prk_steps is not true; those are not built: set it to true, as Stable \
                 Diffusion's schedulers do, or choose another one with --sampler"
                    .to_owned(),
            )),
            Some(solver) => Ok(solver),
            None => Err(Error(format!(
                "the model's scheduler_config.json is of a {class}, which is not built here; {} \
                 are: choose one with --sampler ({})",
                names(),
                Solver::ALL.map(|(_, name, _)| name).join(", ")
            ))),
        }
    }

    /// Goes through the fields that this solver's class has.
    ///
    /// # Errors
    /// A field that is refused.
    pub(super) fn check(&self, solver: Solver) -> Result<(), Error> {
        let json = serde_json::to_value(self).map_err(|error| Error(error.to_string()))?;
        let Value::Object(mut json) = json else { return Ok(()) };
        // What the file does not say has the class' default.
        json.retain(|_, value| !value.is_null());
        let path = Path::new("scheduler_config.json");
        Ok(fields::check(of_solver(solver), &Value::Object(json), path, &mut Vec::new())?)
    }

    /// Whether its own solver counts timesteps from `steps_offset`.
    pub fn counts_from_offset(&self) -> bool {
        match self.timestep_spacing.as_deref() {
            Some(spacing) => spacing == "leading",
            None => matches!(self.solver(), Ok(Solver::Ddim | Solver::Pndm)),
        }
    }

    fn betas(&self) -> [f64; 2] {
        let [first, last] = match self.class_name.as_deref() {
            Some("HeunDiscreteScheduler") => BETAS_OF_HEUN,
            _ => BETAS,
        };
        [self.beta_start.unwrap_or(first), self.beta_end.unwrap_or(last)]
    }
}

fn names() -> String {
    BUILT.each_ref().map(|built| built.class.name).join(", ")
}

/// What a network was trained to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    #[default]
    Epsilon,
    /// The velocity of Salimans & Ho 2022, √ᾱ·ε - √(1-ᾱ)·x₀.
    VPrediction,
}

impl std::str::FromStr for Prediction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "epsilon" => Ok(Self::Epsilon),
            "v_prediction" => Ok(Self::VPrediction),
            other => Err(format!("a UNet predicts epsilon or v_prediction; found `{other}`")),
        }
    }
}

/// ᾱ of every training timestep: the share of the signal's variance that is left.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The file's content.
    pub config: SchedulerConfig,
    alpha_bars: Vec<f64>,
    tensor: std::sync::Arc<Vec<f32>>,
}

impl Schedule {
    /// Computes ᾱ. Betas are rounded to `f32`, as diffusers does.
    ///
    /// # Errors
    /// A `beta_schedule` that is not known, or no timesteps.
    pub fn new(config: &SchedulerConfig) -> Result<Self, Error> {
        let n = config.num_train_timesteps;
        if !(2..=1_000_000).contains(&n) {
            return Err(Error(format!("num_train_timesteps is {n}; 2 to 1000000 make sense")));
        }
        if let Some(betas) = &config.trained_betas
            && betas.len() as i64 != n
        {
            return Err(Error(format!(
                "trained_betas has {} numbers, num_train_timesteps is {n}; they must be as many",
                betas.len()
            )));
        }
        let [first, last] = config.betas();
        let line = |from: f64, to: f64, i: i64| from + (to - from) * i as f64 / (n - 1) as f64;
        let beta = |i: i64| match config.beta_schedule.as_str() {
            _ if config.trained_betas.is_some() => {
                Ok(config.trained_betas.as_deref().unwrap_or(&[])[i as usize])
            }
            "linear" => Ok(line(first, last, i)),
            "scaled_linear" => Ok(line(first.sqrt(), last.sqrt(), i).powi(2)),
            "squaredcos_cap_v2" => {
                let bar =
                    |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
                Ok((1.0 - bar((i + 1) as f64 / n as f64) / bar(i as f64 / n as f64)).min(0.999))
            }
            other => Err(Error(format!(
                "beta_schedule `{other}` is not known; linear, scaled_linear and squaredcos_cap_v2 \
                 are"
            ))),
        };
        let mut product = 1.0_f64;
        let mut alpha_bars = Vec::with_capacity(n as usize);
        for i in 0..n {
            product *= 1.0 - f64::from(beta(i)? as f32);
            alpha_bars.push(product);
        }
        if config.rescale_betas_zero_snr {
            // Lin et al. 2024, algorithm 1: shift and scale √ᾱ so that the last is 0 and the first
            // stays.
            let (first, last) = (alpha_bars[0].sqrt(), alpha_bars[n as usize - 1].sqrt());
            for bar in &mut alpha_bars {
                *bar = ((bar.sqrt() - last) * first / (first - last)).powi(2);
            }
        }
        let tensor = std::sync::Arc::new(alpha_bars.iter().map(|&a| a as f32).collect());
        Ok(Self { config: config.clone(), alpha_bars, tensor })
    }

    /// Timesteps in training.
    pub fn steps(&self) -> i64 {
        self.config.num_train_timesteps
    }

    /// ᾱ at a timestep; before the first it is 1 or, without `to_one`, that of the first.
    pub(super) fn alpha_bar(&self, timestep: i64, to_one: bool) -> f64 {
        match usize::try_from(timestep) {
            Ok(t) => self.alpha_bars[t.min(self.alpha_bars.len() - 1)],
            Err(_) if to_one => 1.0,
            Err(_) => self.alpha_bars[0],
        }
    }

    /// σ = √((1-ᾱ)/ᾱ) at every timestep.
    pub(super) fn noise_levels(&self) -> Vec<f64> {
        let level = |bar: &f64| {
            let bar = bar.max(LEAST_SIGNAL);
            ((1.0 - bar) / bar).sqrt()
        };
        self.alpha_bars.iter().map(level).collect()
    }

    /// `√ᾱ·x₀ + √(1-ᾱ)·ε`: what a picture's latent `[n, …]` looks like at `timesteps` `[n]`.
    pub fn add_noise(&self, clean: &Tensor, noise: &Tensor, timesteps: &Tensor) -> Tensor {
        let (signal, sigma) = self.scales(clean, timesteps);
        clean * signal + noise * sigma
    }

    /// What the network should predict for this clean latent and noise.
    pub fn target(&self, clean: &Tensor, noise: &Tensor, timesteps: &Tensor) -> Tensor {
        match self.config.prediction_type {
            Prediction::Epsilon => noise.shallow_clone(),
            Prediction::VPrediction => {
                let (signal, sigma) = self.scales(clean, timesteps);
                noise * signal - clean * sigma
            }
        }
    }

    fn scales(&self, like: &Tensor, timesteps: &Tensor) -> (Tensor, Tensor) {
        let mut shape = vec![1; like.dim()];
        shape[0] = -1;
        let bars = Tensor::from_slice(&self.tensor).to_device(like.device());
        let bars: Tensor =
            bars.index_select(0, timesteps).view(shape.as_slice()).to_kind(Kind::Float);
        let noise: Tensor = 1.0 - &bars;
        (bars.sqrt(), noise.sqrt())
    }
}
