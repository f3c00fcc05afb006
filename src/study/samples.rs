//! A GAN's pictures by seed.

use serde::{Deserialize, Serialize};

use crate::pipeline::EVALUATED;
use crate::run::judging::PictureKey;

/// A picture of a GAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Its seed.
    pub seed: u64,
}

impl PictureKey for Sample {
    fn prompt(&self) -> String {
        String::new()
    }
}

/// `n` seeds from `first` on.
pub(super) fn samples(first: u64, n: usize) -> Vec<Sample> {
    (first..first + n as u64).map(|seed| Sample { seed }).collect()
}

/// First seeds of what is looked at on the way.
pub(super) fn evaluated(n: usize) -> Vec<u64> {
    (EVALUATED..).take(n).collect()
}
