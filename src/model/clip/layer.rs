//! One transformer layer, of which both towers are made.

use super::config::{Activation, TransformerSizes, check_heads};
use crate::model::Error;
use crate::model::layers::{LayerNorm, Linear, attend, join_heads, split_heads};
use crate::model::parameters::Builder;
use crate::torch::Tensor;

impl Activation {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Gelu => x.gelu("none"),
        }
    }
}

/// Attention and a feed-forward network, each behind a layer norm and around a skip.
#[derive(Debug)]
pub(super) struct ClipLayer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
    activation: Activation,
}

impl ClipLayer {
    pub(super) fn new(b: &Builder, s: TransformerSizes) -> Result<Self, Error> {
        check_heads(s.width, s.heads)?;
        let attention = b.at("self_attn");
        Ok(Self {
            norm1: LayerNorm::new(&b.at("layer_norm1"), s.width, s.eps)?,
            q: Linear::new(&attention.at("q_proj"), s.width, s.width)?,
            k: Linear::new(&attention.at("k_proj"), s.width, s.width)?,
            v: Linear::new(&attention.at("v_proj"), s.width, s.width)?,
            out: Linear::new(&attention.at("out_proj"), s.width, s.width)?,
            norm2: LayerNorm::new(&b.at("layer_norm2"), s.width, s.eps)?,
            fc1: Linear::new(&b.at("mlp.fc1"), s.width, s.inner)?,
            fc2: Linear::new(&b.at("mlp.fc2"), s.inner, s.width)?,
            heads: s.heads,
            activation: s.activation,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, causal: bool) -> Tensor {
        let h = self.norm1.forward(x);
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|l| split_heads(&l.forward(&h), self.heads));
        let x = x + self.out.forward(&join_heads(&attend(&q, &k, &v, causal)));
        let h = self.fc1.forward(&self.norm2.forward(&x));
        &x + self.fc2.forward(&self.activation.apply(&h))
    }
}
