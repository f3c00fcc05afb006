//! The solvers by name: diffusers' and A1111's.

use std::str::FromStr;

/// How to go from noise to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Solver {
    /// Song et al. 2021 with eta 0.
    #[serde(rename = "ddim")]
    Ddim,
    /// Liu et al. 2022 without Runge-Kutta steps (PLMS): one evaluation more than there are steps.
    #[serde(rename = "pndm")]
    Pndm,
    /// Lu et al. 2022, second order, multistep; good from 15 steps on.
    #[serde(rename = "dpm++")]
    DpmPlusPlus,
    /// The same at the noise levels of Karras et al. 2022.
    #[serde(rename = "dpm++karras")]
    DpmPlusPlusKarras,
    /// Karras et al. 2022, algorithm 2, first order.
    #[serde(rename = "euler")]
    Euler,
    /// Euler with fresh noise at each step.
    #[serde(rename = "euler_a")]
    EulerAncestral,
    /// Karras et al. 2022, second order: two evaluations a step.
    #[serde(rename = "heun")]
    Heun,
    /// Linear multistep of order four.
    #[serde(rename = "lms")]
    Lms,
}

impl Solver {
    /// All of them, with their names and A1111's.
    pub const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::Ddim, "ddim", "DDIM"),
        (Self::Pndm, "pndm", "PLMS"),
        (Self::DpmPlusPlus, "dpm++", "DPM++ 2M"),
        (Self::DpmPlusPlusKarras, "dpm++karras", "DPM++ 2M Karras"),
        (Self::Euler, "euler", "Euler"),
        (Self::EulerAncestral, "euler_a", "Euler a"),
        (Self::Heun, "heun", "Heun"),
        (Self::Lms, "lms", "LMS"),
    ];

    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        Self::ALL.iter().find(|entry| entry.0 == self).unwrap_or(&Self::ALL[0])
    }

    /// What A1111 calls it.
    pub fn title(self) -> &'static str {
        self.entry().2
    }

    /// Whether latents are `x₀ + σ·ε`, whose variance grows with σ.
    pub(super) fn is_variance_exploding(self) -> bool {
        matches!(self, Self::Euler | Self::EulerAncestral | Self::Heun | Self::Lms)
    }

    pub(super) fn is_ancestral(self) -> bool {
        self == Self::EulerAncestral
    }
}

impl FromStr for Solver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .find(|(_, name, _)| *name == text)
            .map(|(solver, _, _)| *solver)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|(_, name, _)| *name).collect();
                format!("`{text}` is no sampler; there are {}", names.join(", "))
            })
    }
}

impl std::fmt::Display for Solver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.entry().1)
    }
}
