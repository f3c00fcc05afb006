//! The vision tower.

use super::config::VisionConfig;
use super::layer::ClipLayer;
use crate::model::Error;
use crate::model::layers::{Conv2d, LayerNorm};
use crate::model::parameters::{Builder, Init};
use crate::torch::{IndexOp, Tensor};

/// Patches of a picture to its hidden states, without text.
#[derive(Debug)]
pub(in crate::model) struct VisionModel {
    class: Tensor,
    patches: Conv2d,
    positions: Tensor,
    pre: LayerNorm,
    layers: Vec<ClipLayer>,
    post: LayerNorm,
}

impl VisionModel {
    pub(in crate::model) fn new(config: &VisionConfig, b: &Builder) -> Result<Self, Error> {
        let c = config;
        let sizes = c.sizes();
        let e = b.at("embeddings");
        let tokens = (c.image_size / c.patch_size).pow(2) + 1;
        Ok(Self {
            class: e.get("class_embedding", &[c.hidden_size], Init::Normal(0.02))?,
            patches: Conv2d::patches(&e.at("patch_embedding"), 3, c.hidden_size, c.patch_size)?,
            positions: e.get(
                "position_embedding.weight",
                &[tokens, c.hidden_size],
                Init::Normal(0.02),
            )?,
            pre: LayerNorm::new(&b.at("pre_layrnorm"), c.hidden_size, c.layer_norm_eps)?,
            layers: (0..c.num_hidden_layers)
                .map(|i| ClipLayer::new(&b.at("encoder.layers").at(i), sizes))
                .collect::<Result<_, _>>()?,
            post: LayerNorm::new(&b.at("post_layernorm"), c.hidden_size, c.layer_norm_eps)?,
        })
    }

    /// Normalised pictures `[n, 3, side, side]` to `[n, hidden_size]`.
    pub(in crate::model) fn pooled(&self, pictures: &Tensor) -> Tensor {
        let patches = self.patches.forward(pictures).flatten(2, 3).transpose(1, 2);
        let n = patches.size()[0];
        let class = self.class.to_kind(patches.kind()).expand([n, 1, -1], false);
        let mut x = self.pre.forward(&(Tensor::cat(&[&class, &patches], 1) + &self.positions));
        for layer in &self.layers {
            x = layer.forward(&x, false);
        }
        self.post.forward(&x.i((.., 0)))
    }
}
