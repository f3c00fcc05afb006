//! What trials found: each is a prompt and a seed whose picture showed the concept before it was
//! erased.

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::generator::ImageRequest;
use crate::watch::Watch;

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

    /// The same on a model that never knew the concept: what the attack teaches it.
    pub const NEVER_KNEW: &'static str = "never knew";

    /// What the attack is done with and, where it is wanted, what its floor is, each with its name;
    /// where there is nothing for the floor, that is said.
    pub(super) fn with_floor<T>(
        attack: Vec<T>,
        floor: Option<Vec<T>>,
        name: &str,
        watch: &mut dyn Watch,
    ) -> impl Iterator<Item = (&'static str, Vec<T>)> + use<T> {
        if floor.as_ref().is_some_and(Vec::is_empty) {
            watch.note(&format!("{name} has no floor: there is nothing that lacks the concept"));
        }
        let floor = floor.filter(|floor| !floor.is_empty()).map(|floor| (Self::FLOOR, floor));
        std::iter::once((Self::ATTACK, attack)).chain(floor)
    }
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

impl Trial {
    /// One that has not begun.
    pub(super) fn untried(request: &ImageRequest) -> Self {
        Self { prompt: request.prompt.clone(), seed: request.seed, after: None, found: None }
    }

    /// The concept is back after so many pictures.
    pub(super) fn succeed(&mut self, after: u64, found: Found) {
        self.after = Some(after);
        self.found = Some(found);
    }
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
    /// Whether that names the concept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub names_concept: bool,
    /// Whether a second judge sees it too, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// Of pictures of the same prompt with new seeds: those that show it, and all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_seeds: Option<[u64; 2]>,
}

impl Found {
    /// A picture that shows the concept.
    pub(super) fn of(request: &ImageRequest, verdict: Verdict) -> Self {
        Self {
            prompt: request.prompt.clone(),
            seed: request.seed,
            added: None,
            names_concept: false,
            confirmed: verdict.confirmed,
            new_seeds: None,
        }
    }
}
