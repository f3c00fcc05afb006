//! How long and how fast to train.

/// How to train.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainConfig {
    /// Steps in all.
    pub steps: u64,
    /// Seed of every random number.
    pub seed: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Share of the steps, at the end, over which the rate falls to zero (Hägele et al. 2024).
    /// While the rate is still constant, a training may be made longer and goes on from its state.
    pub cooldown: f64,
    /// Weight decay.
    pub decay: f64,
    /// AdamW (true) or Adam.
    pub decoupled: bool,
    /// Adam's second decay rate.
    pub beta2: f64,
    /// Largest norm of the whole gradient.
    pub clip: Option<f64>,
    /// Decay of the average of the weights.
    pub ema: Option<f64>,
    /// Whether it may be made longer some day: its last state is kept then. A large model's is
    /// gigabytes.
    pub extends: bool,
}

impl TrainConfig {
    /// A constant rate without warm-up, decay, clipping or average; Adam as fine-tuning methods use
    /// it.
    pub fn constant(steps: u64, lr: f64, seed: u64) -> Self {
        Self {
            steps,
            seed,
            lr,
            warmup: 0,
            cooldown: 0.0,
            decay: 0.0,
            decoupled: false,
            beta2: 0.999,
            clip: None,
            ema: None,
            extends: false,
        }
    }

    /// The learning rate of a step.
    pub(super) fn rate(&self, step: u64) -> f64 {
        let warm = if step < self.warmup { (step + 1) as f64 / self.warmup as f64 } else { 1.0 };
        let left = (self.steps - step) as f64 / (self.steps - self.constant_until()).max(1) as f64;
        self.lr * warm * left.min(1.0)
    }

    /// The step from which on the rate falls.
    pub(super) fn constant_until(&self) -> u64 {
        (self.steps as f64 * (1.0 - self.cooldown)) as u64
    }
}
