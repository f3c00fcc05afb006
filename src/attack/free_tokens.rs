//! What attacks that look for tokens have in common: where these stand, how many there are, which
//! may not be chosen, and how many trials there are.

use serde::{Deserialize, Serialize};

use super::trials::Proposal;
use super::{Error, Exposure};
use crate::generator::{Denoiser, ImageRequest, Model};
use crate::prompt_search::{AllowedTokens, Frames, Placement};
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

    /// Whether they fit into such prompts, and something may be chosen for them.
    ///
    /// # Errors
    /// The first complaint.
    pub(super) fn suits(
        &self,
        model: &Model<'_>,
        prompts: &[&str],
        words: Option<&str>,
    ) -> Result<(), String> {
        let Model::Diffusion(model) = model else { return Ok(()) };
        let model = &**model;
        let frames = Frames::new(model, prompts, self.placement, self.count);
        frames.map_err(|error| error.to_string())?;
        let allowed = AllowedTokens::without(model, &self.banned(words));
        allowed.map(drop).map_err(|error| error.to_string())
    }

    /// The words that may not be found.
    fn banned(&self, words: Option<&str>) -> Vec<String> {
        let concept = words.filter(|_| self.ban_concept).map(str::to_owned);
        self.ban.iter().cloned().chain(concept).collect()
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
        Ok(AllowedTokens::without(model, &self.banned(exposure.words.as_deref()))?)
    }

    /// The requests' prompts with free tokens in them.
    ///
    /// # Errors
    /// A prompt that is too long together with them.
    pub(super) fn frames(
        &self,
        model: &dyn Denoiser,
        requests: &[ImageRequest],
    ) -> Result<Frames, Error> {
        let prompts: Vec<&str> = requests.iter().map(|request| request.prompt.as_str()).collect();
        Ok(Frames::new(model, &prompts, self.placement, self.count)?)
    }
}

/// The numbers of trials as an index `[m]`.
pub(super) fn rows(model: &dyn Denoiser, trials: &[usize]) -> Tensor {
    let rows: Vec<i64> = trials.iter().map(|trial| *trial as i64).collect();
    Tensor::from_slice(&rows).to_device(model.compute().device.tch())
}

/// Pictures of some of the trials with these tokens at their free places, `[m, k]`. What spells a
/// banned word after all does not count. Requests and frames are those of all trials.
pub(super) fn proposals(
    model: &dyn Denoiser,
    allowed: &AllowedTokens,
    frames: &Frames,
    requests: &[ImageRequest],
    trials: &[usize],
    found: &Tensor,
) -> Vec<Proposal> {
    let prompts = frames.select(&rows(model, trials)).texts(model, found).into_iter();
    let each = prompts.zip(trials.iter().map(|trial| &requests[*trial])).enumerate();
    each.map(|(row, (prompt, request))| {
        let ids = Vec::<i64>::try_from(found.get(row as i64)).unwrap_or_default();
        let added = model.text_of(&ids);
        Proposal {
            counts: !allowed.spells_banned(&added),
            added: Some(added),
            request: ImageRequest { prompt, ..request.clone() },
        }
    })
    .collect()
}
