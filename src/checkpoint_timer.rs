//! How long work goes on before what was done is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds between two checkpoints, at least: a machine that is taken away every few seconds
/// must get on. The whole program's, like the number of threads.
static LEAST: AtomicU64 = AtomicU64::new(3000);
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
        Self { last: Instant::now(), length: least() }
    }
}

fn least() -> Duration {
    Duration::from_millis(LEAST.load(Ordering::Relaxed))
}

impl CheckpointTimer {
    /// No checkpoint of this program comes sooner after another than `length`; the timers that run
    /// keep theirs.
    pub fn at_least(length: Duration) {
        let milliseconds = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        LEAST.store(milliseconds, Ordering::Relaxed);
    }

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
        self.length = least().max(RATIO * began.elapsed());
        self.last = Instant::now();
        Ok(())
    }
}
