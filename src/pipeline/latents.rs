//! Which pictures are judged: a GAN's, of latents that seeds stand for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AnswerSettings, Error};
use crate::measure::AnswerSet;

/// First seed of samples that are labelled.
pub(crate) const LABELLED: u64 = 0x4000_0000;
/// First seed of those that are measured. libtorch's generator reads 32 bits of a seed, so all of
/// these differ in those.
pub(crate) const MEASURED: u64 = 0x8000_0000;
/// First seed of a second draw of these.
pub(crate) const SECOND_DRAW: u64 = 0xA000_0000;
/// First seed of samples that are looked at on the way.
pub(crate) const EVALUATED: u64 = 0xC000_0000;

/// A GAN's latents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatentSettings {
    /// Latents that are drawn before and after each erasure.
    pub n: usize,
    /// The styles that labeller and judge tell apart; empty means the canvas'.
    pub styles: Vec<String>,
    /// The objects; empty means the canvas'.
    pub objects: Vec<String>,
    /// Generators that never saw a concept, by concept: `"object:Cat" = "retrained.safetensors"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub retrained: BTreeMap<String, String>,
}

impl Default for LatentSettings {
    fn default() -> Self {
        Self { n: 2000, styles: Vec::new(), objects: Vec::new(), retrained: BTreeMap::new() }
    }
}

impl LatentSettings {
    pub(super) fn check(&self, targets: &[String]) -> Result<(), String> {
        let most = (SECOND_DRAW - MEASURED) as usize;
        if self.n < 10 || self.n > most {
            return Err(format!(
                "latents.n is {}; at least 10 are needed, and there are seeds for {most}",
                self.n
            ));
        }
        if let Some(key) = self.retrained.keys().find(|key| !targets.contains(key)) {
            return Err(format!(
                "latents.retrained names `{key}`, which is not to be forgotten; concept.forget \
                 names {}",
                targets.join(", ")
            ));
        }
        Ok(())
    }

    /// The classes that labeller and judge tell apart.
    ///
    /// # Errors
    /// A name that is there twice.
    pub fn classes(&self) -> Result<AnswerSet, Error> {
        let (styles, objects) = (self.styles.clone(), self.objects.clone());
        AnswerSettings { styles, objects, ..AnswerSettings::default() }.set()
    }

    /// Whether they are the canvas' own.
    pub(super) fn are_canvas(&self) -> bool {
        self.styles.is_empty() && self.objects.is_empty()
    }
}
