//! How a search for words by gradients moves.

use serde::{Deserialize, Serialize};

/// Adam's settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchSettings {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub decay: f64,
}

impl SearchSettings {
    /// `UnlearnDiffAtk`'s, of distributions over the vocabulary (decay through the gradient).
    pub const SIMPLEX: Self = Self { lr: 0.01, decay: 0.1 };

    /// PEZ' and P4D's, of vectors (decay beside the gradient).
    pub const NEAREST: Self = Self { lr: 0.1, decay: 0.1 };

    /// Says what is wrong with them, and `whose` they are.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(self, whose: &str) -> Result<(), String> {
        let Self { lr, decay } = self;
        if !lr.is_finite() || lr <= 0.0 || !decay.is_finite() || decay < 0.0 {
            return Err(format!(
                "{whose} has lr {lr} and decay {decay}; lr is above 0, decay not negative"
            ));
        }
        Ok(())
    }
}
