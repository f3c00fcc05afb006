//! CLIP (Radford et al. 2021): the text encoder of Stable Diffusion 1.x and 2.x, and the whole
//! model with its vision tower, which judges pictures.
//!
//! Names follow `transformers`: `text_model.…`, `vision_model.…`, `text_projection`,
//! `visual_projection`, `logit_scale`. A text encoder that transformers 5 saved has no
//! `text_model.` before its names; both are read.

mod config;
mod layer;
mod text;
mod vision;

pub use config::{
    Activation, ClipConfig, TextConfig, TransformerSizes, VisionConfig, divides, tower,
};
pub use text::TextModel;
pub(super) use vision::VisionModel;

use super::Error;
use super::layers::Linear;
use super::parameters::{Builder, Init, Parameters};
use crate::torch::{Kind, Tensor};

/// Both towers and the space in which they meet.
#[derive(Debug)]
pub struct Clip {
    text: TextModel,
    vision: VisionModel,
    text_projection: Linear,
    visual_projection: Linear,
    logit_scale: Tensor,
    parameters: Parameters,
}

impl Clip {
    /// A whole CLIP, as a transformers folder holds it.
    ///
    /// # Errors
    /// Weights that are missing or of another shape.
    pub fn new(config: &ClipConfig, b: Builder) -> Result<Self, Error> {
        let (t, v) = (&config.text_config, &config.vision_config);
        let mut clip = Self {
            text: TextModel::build(t, &b.at("text_model"))?,
            vision: VisionModel::new(v, &b.at("vision_model"))?,
            text_projection: Linear::without_bias(
                &b.at("text_projection"),
                t.hidden_size,
                config.projection_dim,
            )?,
            visual_projection: Linear::without_bias(
                &b.at("visual_projection"),
                v.hidden_size,
                config.projection_dim,
            )?,
            // 1 / 0.07, the paper's starting temperature
            logit_scale: b.get("logit_scale", &[], Init::Value(2.6592))?,
            parameters: Parameters::default(),
        };
        clip.parameters = b.finish();
        Ok(clip)
    }

    /// Token ids `[n, tokens]` to unit vectors `[n, projection_dim]`.
    pub fn text_features(&self, ids: &Tensor) -> Tensor {
        unit(&self.text_projection.forward(&self.text.pooled(ids)))
    }

    /// Token ids `[n, tokens]` to hidden states `[n, tokens, width]`.
    pub fn text_states(&self, ids: &Tensor) -> Tensor {
        self.text.forward(ids)
    }

    /// Hidden states `[m, width]` to logits of the text tower's words `[m, words]`, by the table
    /// that it reads words with.
    pub fn word_logits(&self, states: &Tensor) -> Tensor {
        self.text.word_logits(states)
    }

    /// Normalised pictures `[n, 3, side, side]` to unit vectors `[n, projection_dim]`.
    pub fn image_features(&self, pictures: &Tensor) -> Tensor {
        unit(&self.image_embeddings(pictures))
    }

    /// The same before they are brought to length 1.
    pub fn image_embeddings(&self, pictures: &Tensor) -> Tensor {
        self.visual_projection.forward(&self.vision.pooled(pictures))
    }

    /// The learned factor of cosines, a scalar.
    pub fn scale(&self) -> Tensor {
        self.logit_scale.exp()
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// Rows of length 1, in f32.
pub(crate) fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let length = x.square().sum_dim_intlist([-1_i64].as_slice(), true, Kind::Float).sqrt();
    x / length
}
