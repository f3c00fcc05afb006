//! Which of the text encoder's parameters may move.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::generator::{Component, Denoiser};
use crate::torch::Tensor;

/// A part of the text encoder. Its tables of tokens and positions never move.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextEncoderSubset {
    /// Which layers, 0 being the first; all of them and the last norm where none is named.
    pub layers: Vec<usize>,
    /// What of each layer.
    pub part: LayerPart,
}

/// A part of each layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerPart {
    /// Everything.
    #[default]
    All,
    /// The attention.
    Attn,
    /// The feed-forward network.
    Ffn,
}

impl TextEncoderSubset {
    /// Whether a parameter of this full name may move. Layers are told apart by their whole number:
    /// 1 is neither 10 nor 11.
    fn takes(&self, name: &str) -> bool {
        let whole = self.layers.is_empty() && self.part == LayerPart::All;
        let Some((_, rest)) = name.split_once("encoder.layers.") else {
            return whole && name.contains("final_layer_norm.");
        };
        let Some((layer, of_layer)) = rest.split_once('.') else { return false };
        let chosen = self.layers.is_empty()
            || layer.parse().is_ok_and(|layer: usize| self.layers.contains(&layer));
        let part = match self.part {
            LayerPart::All => true,
            LayerPart::Attn => of_layer.starts_with("self_attn."),
            LayerPart::Ffn => of_layer.starts_with("mlp."),
        };
        chosen && part
    }

    /// The parameters of a model that may move, by full name; they share its memory.
    ///
    /// # Errors
    /// A layer that it does not have.
    pub fn of(&self, model: &dyn Denoiser) -> Result<Vec<(String, Tensor)>, Error> {
        let all = model.parameters(Component::TextEncoder);
        let layer = |layer: &usize| format!("encoder.layers.{layer}.");
        let there = |wanted: &usize| all.iter().any(|(name, _)| name.contains(&layer(wanted)));
        if let Some(missing) = self.layers.iter().find(|wanted| !there(wanted)) {
            let count = (0..all.len()).take_while(|i| there(i)).count();
            return Err(Error::Task(format!(
                "the text encoder has no layer {missing}; its {count} layers are 0 to {}",
                count.saturating_sub(1)
            )));
        }
        Ok(all.into_iter().filter(|(name, _)| self.takes(name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_apart_by_their_whole_number() {
        let name = |rest: &str| format!("text_encoder.text_model.{rest}");
        let of = |layers: &[usize], part| TextEncoderSubset { layers: layers.to_vec(), part };
        let one = of(&[1], LayerPart::All);
        assert!(one.takes(&name("encoder.layers.1.mlp.fc1.weight")));
        assert!(!one.takes(&name("encoder.layers.11.mlp.fc1.weight")));
        assert!(!one.takes(&name("final_layer_norm.weight")));
        let all = TextEncoderSubset::default();
        assert!(all.takes(&name("final_layer_norm.weight")));
        assert!(all.takes(&name("encoder.layers.10.layer_norm1.bias")));
        assert!(!all.takes(&name("embeddings.token_embedding.weight")));
        let attention = of(&[], LayerPart::Attn);
        assert!(attention.takes(&name("encoder.layers.0.self_attn.q_proj.weight")));
        assert!(!attention.takes(&name("encoder.layers.0.mlp.fc1.weight")));
        assert!(!attention.takes(&name("encoder.layers.0.layer_norm1.weight")));
        assert!(of(&[], LayerPart::Ffn).takes(&name("encoder.layers.0.mlp.fc2.bias")));
    }
}
