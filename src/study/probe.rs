//! What a short piece of work takes on this machine, from which longer ones are predicted.

use std::time::Instant;

use crate::run::Error;
use crate::torch::{Device, Peak};

/// Where one step of one picture takes more seconds than this, a whole batch is not tried.
pub(super) const LONG: f64 = 1.0;

/// A short piece of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub seconds: f64,
    pub peak: Peak,
}

impl Probe {
    /// Does the work.
    ///
    /// # Errors
    /// The work's.
    pub(super) fn of<T>(
        device: Device,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Self, Error> {
        Peak::reset(device);
        let seconds = timed(work)?;
        Ok(Self { seconds, peak: Peak::read(device) })
    }
}

/// The peak with so many pictures more than two, from those with one and with two: memory grows by
/// as much with each.
pub(super) fn grown(one: Peak, two: Peak, more: u64) -> Peak {
    let grown = |one: u64, two: u64| two + more * two.saturating_sub(one);
    Peak { host: grown(one.host, two.host), device: grown(one.device, two.device) }
}

/// Seconds of some work.
///
/// # Errors
/// The work's.
pub(super) fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<f64, Error> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}
