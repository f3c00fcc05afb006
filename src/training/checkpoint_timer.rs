//! How long work goes on before what was done is kept.

use std::time::{Duration, Instant};

/// Time between two checkpoints, at least: a machine that is taken away every few seconds must get
/// on.
const LEAST: Duration = Duration::from_secs(3);
/// How many times as long as a checkpoint takes there is none: a large model's state is gigabytes.
const RATIO: u32 = 15;

/// When the next checkpoint is due.
#[derive(Debug)]
pub struct CheckpointTimer {
    last: Instant,
    length: Duration,
}

impl Default for CheckpointTimer {
    fn default() -> Self {
        Self { last: Instant::now(), length: LEAST }
    }
}

impl CheckpointTimer {
    /// Whether it is time.
    pub fn is_over(&self) -> bool {
        self.last.elapsed() > self.length
    }

    /// Writes a checkpoint, and begins anew.
    ///
    /// # Errors
    /// The writer's.
    pub fn after<E>(&mut self, write: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let began = Instant::now();
        write()?;
        self.length = LEAST.max(RATIO * began.elapsed());
        self.last = Instant::now();
        Ok(())
    }
}
