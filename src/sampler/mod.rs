//! Noise schedules and stateless steps. Knows no network and no prompt.

mod schedule;
mod solver;

pub use schedule::{Prediction, Schedule, SchedulerConfig};
pub use solver::{Sampler, Solver};

/// What can be wrong with a scheduler's configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);
