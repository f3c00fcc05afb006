//! Noise schedules and stateless steps. Knows no network and no prompt.

mod classes;
mod sampling;
mod schedule;
mod solver;
mod spacing;

pub use sampling::{History, Sampler, SamplingRun};
pub use schedule::{Prediction, Schedule, SchedulerConfig};
pub use solver::Solver;

/// What diffusers keeps of ᾱ where a schedule leaves nothing, so that no noise level is infinite:
/// 2⁻²⁴.
const LEAST_SIGNAL: f64 = 1.0 / 16_777_216.0;

/// What can be wrong with a scheduler's configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl From<crate::fields::Error> for Error {
    fn from(error: crate::fields::Error) -> Self {
        Self(error.to_string())
    }
}

/// The classes of diffusers' schedulers that are built here.
pub fn scheduler_classes() -> impl Iterator<Item = &'static crate::fields::Class> {
    classes::BUILT.iter().map(|built| &built.class)
}
