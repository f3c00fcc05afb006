//! Which timesteps a sampler visits.

use super::{Error, SchedulerConfig, Solver};

/// Table 2 of Lin et al. 2024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

impl Spacing {
    /// What the configuration says, or the default of diffusers' class for this solver.
    pub(super) fn of(config: &SchedulerConfig, solver: Solver) -> Result<Self, Error> {
        match config.timestep_spacing.as_deref() {
            Some("leading") => Ok(Self::Leading),
            Some("trailing") => Ok(Self::Trailing),
            Some("linspace") => Ok(Self::Linspace),
            Some(other) => Err(Error(format!(
                "timestep_spacing `{other}` is not known; leading, trailing and linspace are"
            ))),
            None if matches!(solver, Solver::Ddim | Solver::Pndm) => Ok(Self::Leading),
            None => Ok(Self::Linspace),
        }
    }

    /// `n` timesteps out of `total`, falling.
    pub(super) fn timesteps(self, solver: Solver, n: i64, total: i64, offset: i64) -> Vec<f64> {
        let round = f64::round_ties_even;
        let dpm = matches!(solver, Solver::DpmPlusPlus | Solver::DpmPlusPlusKarras);
        match self {
            // DPM-Solver++ counts one interval more and leaves the cleanest out.
            Self::Leading if dpm => {
                (1..=n).rev().map(|i| (i * (total / (n + 1)) + offset) as f64).collect()
            }
            Self::Leading => (0..n).rev().map(|i| (i * (total / n) + offset) as f64).collect(),
            Self::Linspace if dpm => {
                let gap = (total - 1) as f64 / n as f64;
                (1..=n).rev().map(|i| round(i as f64 * gap)).collect()
            }
            Self::Linspace => {
                let gap = (total - 1) as f64 / (n - 1).max(1) as f64;
                let rounds = matches!(solver, Solver::Ddim | Solver::Pndm);
                let position = |i: i64| i as f64 * gap;
                (0..n)
                    .rev()
                    .map(|i| if rounds { round(position(i)) } else { position(i) })
                    .collect()
            }
            Self::Trailing => {
                let gap = total as f64 / n as f64;
                (0..n).map(|i| round(total as f64 - i as f64 * gap) - 1.0).collect()
            }
        }
    }
}

/// A table's value between two of its places.
pub(super) fn interpolate(table: &[f64], position: f64) -> f64 {
    let last = table.len() - 1;
    let low = (position.max(0.0) as usize).min(last);
    let high = (low + 1).min(last);
    let share = (position - low as f64).clamp(0.0, 1.0);
    table[low] + (table[high] - table[low]) * share
}

/// Noise levels of Karras et al. 2022, equation 5 with ρ = 7, falling.
pub(super) fn karras(low: f64, high: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (low, high) = (low.powf(1.0 / RHO), high.powf(1.0 / RHO));
    let gap = 1.0 / (steps.max(2) - 1) as f64;
    (0..steps).map(|i| (high + i as f64 * gap * (low - high)).powf(RHO)).collect()
}

/// The timestep, a whole number or not, whose noise level is `sigma`: linear in log σ.
pub(super) fn nearest_timestep(noise: &[f64], sigma: f64) -> f64 {
    let wanted = sigma.max(1e-10).ln();
    let low = noise.partition_point(|&s| s.ln() <= wanted).saturating_sub(1).min(noise.len() - 2);
    let (a, b) = (noise[low].ln(), noise[low + 1].ln());
    low as f64 + ((a - wanted) / (a - b)).clamp(0.0, 1.0)
}
