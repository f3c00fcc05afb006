//! What trials found: each is a prompt and a seed whose picture showed the concept before it was
//! erased.

use serde::{Deserialize, Serialize};

/// What one form of an attack found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialArm {
    /// Which form: [`Self::ATTACK`] or [`Self::FLOOR`].
    pub name: String,
    /// Pictures of a trial that were judged at most, beside the one without an attack.
    pub images: u64,
    /// Steps of the search for each of them.
    pub steps: u64,
    /// Each prompt and seed.
    pub trials: Vec<Trial>,
}

impl TrialArm {
    /// The attack itself.
    pub const ATTACK: &'static str = "attack";

    /// The same search for something else: how often chance and the judge alone succeed.
    pub const FLOOR: &'static str = "floor";
}

/// One prompt and seed whose picture showed the concept before it was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The prompt.
    pub prompt: String,
    /// The seed.
    pub seed: u64,
    /// How many pictures were judged until one showed the concept; 0 where the erased model shows
    /// it without an attack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// What showed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// What brought the concept back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The whole prompt.
    pub prompt: String,
    /// The seed.
    pub seed: u64,
    /// What the attack put into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<String>,
    /// Whether a second judge sees it too, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// Of pictures of the same prompt with new seeds: those that show it, and all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_seeds: Option<[u64; 2]>,
}
