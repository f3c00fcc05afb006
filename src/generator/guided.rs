//! Classifier-free guidance (Ho & Salimans 2022), as a part of a sampling is told of it.

use super::Conditioning;

/// What latents are drawn under, by classifier-free guidance.
#[derive(Debug)]
pub struct Guided<'a> {
    /// What to draw, `n` rows.
    pub prompt: &'a Conditioning,
    /// What to stay away from, `n` rows.
    pub negative: &'a Conditioning,
    /// `ε_- + guidance (ε_+ - ε_-)`.
    pub guidance: f64,
}
