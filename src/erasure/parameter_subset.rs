//! Which of the denoiser's parameters may move.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::generator::{Component, Denoiser};
use crate::torch::Tensor;

/// A part of the UNet, in ESD's and SalUn's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterSubset {
    /// Everything.
    Full,
    /// The attention on the text (`attn2`).
    Xattn,
    /// The attention of pixels on pixels (`attn1`).
    Selfattn,
    /// Everything but the attention on the text and the timestep's embedding.
    Noxattn,
    /// ESD-x: the attention on the text.
    X,
    /// ESD-x-strict: its keys and values.
    XStrict,
    /// ESD-u: everything but the attention on the text, the timestep's embedding and the output.
    U,
}

impl ParameterSubset {
    /// Whether a parameter of this full name may move.
    pub fn takes(self, name: &str) -> bool {
        let (on_text, of_time) = (name.contains("attn2"), name.contains("time_emb"));
        let of_output = name.contains("conv_norm_out.") || name.contains("conv_out.");
        match self {
            Self::Full => true,
            Self::Xattn | Self::X => on_text,
            Self::XStrict => name.contains("attn2.to_k.") || name.contains("attn2.to_v."),
            Self::Selfattn => name.contains("attn1"),
            Self::Noxattn => !on_text && !of_time,
            Self::U => !on_text && !name.contains("time_embedding.") && !of_output,
        }
    }

    /// The parameters of a model that may move, by full name; they share its memory.
    ///
    /// # Errors
    /// There is none.
    pub fn of(self, model: &dyn Denoiser) -> Result<Vec<(String, Tensor)>, Error> {
        let all = model.parameters(Component::Unet);
        let chosen: Vec<(String, Tensor)> =
            all.into_iter().filter(|(name, _)| self.takes(name)).collect();
        if chosen.is_empty() {
            return Err(Error::Task(format!("the model has no parameter that {self:?} means")));
        }
        Ok(chosen)
    }
}

/// Those of the trained parameters that moved, with their new values.
pub(super) fn changed(
    trained: &[(String, Tensor)],
    new: Vec<Tensor>,
    old: &[Tensor],
) -> Vec<(String, Tensor)> {
    let all = trained.iter().zip(new).zip(old);
    all.filter(|((_, new), old)| !new.equal(old))
        .map(|(((name, _), new), _)| (name.clone(), new))
        .collect()
}
