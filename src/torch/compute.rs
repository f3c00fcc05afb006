//! Where, in which precision and with how much memory something is computed.

use serde::{Deserialize, Serialize};

use super::{Device, Precision};

/// Where and how to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// The number type of the heavy operations.
    pub precision: Precision,
    /// What is given up for memory.
    pub memory: MemoryMode,
}

/// What is given up for memory in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryMode {
    /// Nothing.
    #[default]
    Fast,
    /// Time: what lies inside a block of the network is computed again for its gradient. Results
    /// differ in their last bits, because sums are in another order.
    Balanced,
    /// Also: each parameter moves as soon as its gradient is known, so that gradients never lie
    /// beside each other, and the optimizer's moments are kept in bf16, rounded at random (Zamirai
    /// et al. 2020). Results differ slightly.
    Low,
}

impl std::str::FromStr for MemoryMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fast" => Ok(Self::Fast),
            "balanced" => Ok(Self::Balanced),
            "low" => Ok(Self::Low),
            other => Err(format!("memory is fast, balanced or low; found `{other}`")),
        }
    }
}

impl Compute {
    /// A device and a precision, with nothing given up.
    pub fn new(device: Device, precision: Precision) -> Self {
        Self { device, precision, memory: MemoryMode::Fast }
    }

    /// While the result lives, the heavy operations run in the place's precision.
    pub fn scope(self) -> super::precision::Scope {
        self.precision.scope(self.device)
    }
}
