//! Which of the denoiser's parameters may move.

use serde::{Deserialize, Serialize};

/// A part of the UNet, in ESD's and SalUn's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterSubset {
    /// Everything.
    Full,
    /// The attention on the text (`attn2`).
    Xattn,
    /// The attention of pixels on pixels (`attn1`).
    Selfattn,
    /// Everything but the attention on the text and the timestep's embedding.
    Noxattn,
}

impl ParameterSubset {
    /// Whether a parameter of this full name may move.
    pub fn takes(self, name: &str) -> bool {
        match self {
            Self::Full => true,
            Self::Xattn => name.contains("attn2"),
            Self::Selfattn => name.contains("attn1"),
            Self::Noxattn => !name.contains("attn2") && !name.contains("time_emb"),
        }
    }
}
