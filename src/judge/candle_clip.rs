//! CLIP (Radford et al. 2021) in candle, with no code in common with the networks that are judged.
//!
//! Names and arithmetic: `modeling_clip.py` of transformers. `candle-transformers` has a CLIP too;
//! it was left because it reads neither the activation nor the epsilon of a configuration, and
//! because its other models are two minutes of compiling.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Module as _, Result, Tensor};
use candle_nn::{LayerNorm, Linear, VarBuilder};

use crate::model::clip::{Activation, ClipConfig, TextConfig, TransformerSizes, VisionConfig};

// duplicate: it shares no code with the networks that it judges
struct EncoderLayer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
}

impl EncoderLayer {
    fn new(vb: VarBuilder, s: &TransformerSizes) -> Result<Self> {
        let (width, inner) = (s.width as usize, s.inner as usize);
        let (attention, mlp) = (vb.pp("self_attn"), vb.pp("mlp"));
        let square = |name: &str| candle_nn::linear(width, width, attention.pp(name));
        Ok(Self {
            norm1: candle_nn::layer_norm(width, s.eps, vb.pp("layer_norm1"))?,
            q: square("q_proj")?,
            k: square("k_proj")?,
            v: square("v_proj")?,
            out: square("out_proj")?,
            norm2: candle_nn::layer_norm(width, s.eps, vb.pp("layer_norm2"))?,
            fc1: candle_nn::linear(width, inner, mlp.pp("fc1"))?,
            fc2: candle_nn::linear(inner, width, mlp.pp("fc2"))?,
            heads: s.heads as usize,
            activation: s.activation,
        })
    }

    /// `x` `[n, tokens, width]`; `mask` `[tokens, tokens]` is added to the scores.
    fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let x = (x + self.attend(&self.norm1.forward(x)?, mask)?)?;
        let h = self.fc1.forward(&self.norm2.forward(&x)?)?;
        let h = match self.activation {
            Activation::QuickGelu => (&h * candle_nn::ops::sigmoid(&(&h * 1.702)?)?)?,
            Activation::Gelu => h.gelu_erf()?,
        };
        x + self.fc2.forward(&h)?
    }

    fn attend(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (n, tokens, width) = x.dims3()?;
        let head = width / self.heads;
        let split =
            |x: Tensor| x.reshape((n, tokens, self.heads, head))?.transpose(1, 2)?.contiguous();
        let (q, k, v) =
            (split(self.q.forward(x)?)?, split(self.k.forward(x)?)?, split(self.v.forward(x)?)?);
        let scores = ((q * (head as f64).powf(-0.5))?.matmul(&k.transpose(2, 3)?.contiguous()?))?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let attended = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
        self.out.forward(&attended.transpose(1, 2)?.reshape((n, tokens, width))?)
    }
}

fn layers(vb: &VarBuilder, depth: i64, sizes: &TransformerSizes) -> Result<Vec<EncoderLayer>> {
    (0..depth).map(|i| EncoderLayer::new(vb.pp("encoder.layers").pp(i), sizes)).collect()
}

struct TextTower {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
}

impl TextTower {
    fn new(c: &TextConfig, vb: VarBuilder) -> Result<Self> {
        let width = c.hidden_size as usize;
        let sizes = c.sizes();
        let embeddings = vb.pp("embeddings");
        Ok(Self {
            tokens: embeddings.get((c.vocab_size as usize, width), "token_embedding.weight")?,
            positions: embeddings
                .get((c.max_position_embeddings as usize, width), "position_embedding.weight")?,
            layers: layers(&vb, c.num_hidden_layers, &sizes)?,
            norm: candle_nn::layer_norm(width, c.layer_norm_eps, vb.pp("final_layer_norm"))?,
        })
    }

    /// Token ids `[n, tokens]` to the hidden states at each text's end token, which has the highest
    /// id.
    fn pooled(&self, ids: &Tensor) -> Result<Tensor> {
        let (n, tokens) = ids.dims2()?;
        let words = self.tokens.index_select(&ids.flatten_all()?, 0)?.reshape((n, tokens, ()))?;
        let mut x = words.broadcast_add(&self.positions.narrow(0, 0, tokens)?)?;
        let hidden: Vec<f32> = (0..tokens)
            .flat_map(|i| (0..tokens).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        let mask = Tensor::from_vec(hidden, (tokens, tokens), &Device::Cpu)?;
        for layer in &self.layers {
            x = layer.forward(&x, Some(&mask))?;
        }
        let ends = ids.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let ends = ends.iter().enumerate().map(|(i, &end)| x.get(i)?.get(end as usize));
        self.norm.forward(&Tensor::stack(&ends.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

struct VisionTower {
    class: Tensor,
    patches: candle_nn::Conv2d,
    positions: Tensor,
    pre: LayerNorm,
    layers: Vec<EncoderLayer>,
    post: LayerNorm,
}

impl VisionTower {
    fn new(c: &VisionConfig, vb: VarBuilder) -> Result<Self> {
        let (width, patch) = (c.hidden_size as usize, c.patch_size as usize);
        let sizes = c.sizes();
        let embeddings = vb.pp("embeddings");
        let strided = candle_nn::Conv2dConfig { stride: patch, ..Default::default() };
        let tokens = (c.image_size / c.patch_size).pow(2) as usize + 1;
        Ok(Self {
            class: embeddings.get(width, "class_embedding")?,
            patches: candle_nn::conv2d_no_bias(
                3,
                width,
                patch,
                strided,
                embeddings.pp("patch_embedding"),
            )?,
            positions: embeddings.get((tokens, width), "position_embedding.weight")?,
            pre: candle_nn::layer_norm(width, c.layer_norm_eps, vb.pp("pre_layrnorm"))?,
            layers: layers(&vb, c.num_hidden_layers, &sizes)?,
            post: candle_nn::layer_norm(width, c.layer_norm_eps, vb.pp("post_layernorm"))?,
        })
    }

    /// Normalised pictures `[n, 3, side, side]` to `[n, width]`.
    fn pooled(&self, pictures: &Tensor) -> Result<Tensor> {
        let patches = self.patches.forward(pictures)?.flatten_from(2)?.transpose(1, 2)?;
        let (n, _, width) = patches.dims3()?;
        let class = self.class.reshape((1, 1, width))?.expand((n, 1, width))?;
        let x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?;
        let mut x = self.pre.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x, None)?;
        }
        self.post.forward(&x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)
    }
}

/// Both towers and the space in which they meet.
pub(super) struct CandleClip {
    text: TextTower,
    vision: VisionTower,
    text_projection: Linear,
    visual_projection: Linear,
    scale: f32,
}

impl CandleClip {
    /// A whole CLIP from tensors under transformers' names.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub(super) fn new(config: &ClipConfig, tensors: HashMap<String, Tensor>) -> Result<Self> {
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let (t, v) = (&config.text_config, &config.vision_config);
        let project = |width: i64, name: &str| {
            candle_nn::linear_no_bias(width as usize, config.projection_dim as usize, vb.pp(name))
        };
        Ok(Self {
            text: TextTower::new(t, vb.pp("text_model"))?,
            vision: VisionTower::new(v, vb.pp("vision_model"))?,
            text_projection: project(t.hidden_size, "text_projection")?,
            visual_projection: project(v.hidden_size, "visual_projection")?,
            scale: vb.get((), "logit_scale")?.to_scalar::<f32>()?.exp(),
        })
    }

    /// Token ids `[n, tokens]` (u32) to vectors `[n, projection_dim]`.
    pub(super) fn text_features(&self, ids: &Tensor) -> Result<Tensor> {
        self.text_projection.forward(&self.text.pooled(ids)?)
    }

    /// Normalised pictures `[n, 3, side, side]` to vectors `[n, projection_dim]`.
    pub(super) fn image_features(&self, pictures: &Tensor) -> Result<Tensor> {
        self.visual_projection.forward(&self.vision.pooled(pictures)?)
    }

    /// The factor that turns cosines into logits.
    pub(super) fn scale(&self) -> f32 {
        self.scale
    }
}
