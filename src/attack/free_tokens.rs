//! What attacks that look for tokens have in common: where these stand, how many there are, which
//! may not be chosen, and how many trials there are.

use serde::{Deserialize, Serialize};

use super::trials::Proposal;
use super::{Error, Exposure};
use crate::generator::{Denoiser, ImageRequest, Model};
use crate::prompt_search::{AllowedTokens, Frames, Placement, names_in_part};
use crate::torch::Tensor;

/// Which tokens of a prompt are looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreeTokens {
    /// How many.
    pub count: usize,
    /// Where they stand.
    pub placement: Placement,
    /// Whether the words that name the concept may not be found.
    pub ban_concept: bool,
    /// Further words that may not be found.
    pub ban: Vec<String>,
}

impl Default for FreeTokens {
    fn default() -> Self {
        Self { count: 3, placement: Placement::Prefix, ban_concept: true, ban: Vec::new() }
    }
}

impl FreeTokens {
    /// Says what is wrong with them.
    ///
    /// # Errors
    /// The first complaint.
    pub(super) fn check(&self, attack: &str) -> Result<(), String> {
        if self.count == 0 {
            return Err(format!("{attack}'s tokens.count is 0; at least 1 is looked for"));
        }
        Ok(())
    }

    /// Whether something may be chosen for them.
    ///
    /// # Errors
    /// Everything is banned.
    pub(super) fn suits(&self, model: &Model<'_>, words: &[String]) -> Result<(), String> {
        let Model::Diffusion(model) = model else { return Ok(()) };
        AllowedTokens::leaves_some(&**model, &self.banned(words)).map_err(|error| error.to_string())
    }

    /// Whether there is room for them in a prompt.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn fits(&self, model: &Model<'_>, prompt: &str) -> Result<(), String> {
        let Model::Diffusion(model) = model else { return Ok(()) };
        let frames = Frames::new(&**model, &[prompt], self.placement, self.count);
        frames.map(drop).map_err(|error| error.to_string())
    }

    /// The words that may not be found.
    fn banned(&self, words: &[String]) -> Vec<String> {
        let concept = words.iter().filter(|_| self.ban_concept);
        self.ban.iter().chain(concept).cloned().collect()
    }

    /// The tokens that may be chosen.
    ///
    /// # Errors
    /// Nothing is left.
    pub(super) fn allowed(
        &self,
        model: &dyn Denoiser,
        exposure: &Exposure,
    ) -> Result<AllowedTokens, Error> {
        Ok(AllowedTokens::without(model, &self.banned(&exposure.words))?)
    }

    /// The requests' prompts with free tokens in them.
    ///
    /// # Errors
    /// A prompt that is too long together with them.
    pub(super) fn places<'a>(
        &self,
        model: &'a dyn Denoiser,
        exposure: &'a Exposure,
        allowed: &'a AllowedTokens,
    ) -> Result<FreePlaces<'a>, Error> {
        let requests = &exposure.requests;
        let prompts: Vec<&str> = requests.iter().map(|request| request.prompt.as_str()).collect();
        let frames = Frames::new(model, &prompts, self.placement, self.count)?;
        Ok(FreePlaces { model, frames, allowed, requests, words: &exposure.words })
    }
}

/// Prompts with free tokens in them, and what may be chosen for these.
pub(super) struct FreePlaces<'a> {
    pub model: &'a dyn Denoiser,
    pub frames: Frames,
    pub allowed: &'a AllowedTokens,
    pub requests: &'a [ImageRequest],
    /// Words that name the concept.
    words: &'a [String],
}

impl FreePlaces<'_> {
    /// Pictures of some of the trials with these tokens at their free places, `[m, k]`. What spells
    /// a banned word after all does not count.
    pub(super) fn proposals(&self, trials: &[usize], found: &Tensor) -> Vec<Proposal> {
        let frames = self.frames.select(&rows(self.model, trials));
        let prompts = frames.texts(self.model, found).into_iter();
        let texts = prompts.zip(frames.found_texts(self.model, found));
        let each = texts.zip(trials.iter().map(|trial| &self.requests[*trial]));
        each.map(|((prompt, added), request)| Proposal {
            counts: !self.allowed.spells_banned(&added),
            names_concept: self.words.iter().any(|words| names_in_part(&added, words)),
            added: Some(added),
            request: ImageRequest { prompt, ..request.clone() },
        })
        .collect()
    }
}

/// The numbers of trials as an index `[m]`.
pub(super) fn rows(model: &dyn Denoiser, trials: &[usize]) -> Tensor {
    let rows: Vec<i64> = trials.iter().map(|trial| *trial as i64).collect();
    Tensor::from_slice(&rows).to_device(model.compute().device.tch())
}
