//! The UNet's blocks: residual convolutions that know the timestep, transformers that know the
//! text.

use std::rc::Rc;

use super::super::Error;
use super::super::layers::{Conv2d, GroupNorm, LayerNorm, Linear, attend, join_heads, split_heads};
use super::super::parameters::Builder;
use super::UnetConfig;
use crate::torch::{Tensor, checkpoint, gated_gelu};

/// Two convolutions with the timestep between them, around a skip.
#[derive(Debug)]
pub(super) struct UnetResnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl UnetResnet {
    pub(super) fn new(
        b: &Builder,
        c: &UnetConfig,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self, Error> {
        let embedding = c.block_out_channels[0] * 4;
        Ok(Self {
            norm1: GroupNorm::new(&b.at("norm1"), c.norm_num_groups, inputs, c.norm_eps)?,
            conv1: Conv2d::new(&b.at("conv1"), inputs, outputs, 3)?,
            time: Linear::new(&b.at("time_emb_proj"), embedding, outputs)?,
            norm2: GroupNorm::new(&b.at("norm2"), c.norm_num_groups, outputs, c.norm_eps)?,
            conv2: Conv2d::zero_init(&b.at("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs)
                .then(|| Conv2d::new(&b.at("conv_shortcut"), inputs, outputs, 1))
                .transpose()?,
        })
    }

    /// `time` is the embedding after its `silu`, `[n, 4·channels₀]`.
    pub(super) fn forward(&self, x: &Tensor, time: &Tensor) -> Tensor {
        let h = self.conv1.forward(&self.norm1.forward_silu(x));
        let h = h + self.time.forward(time).unsqueeze(-1).unsqueeze(-1);
        let h = self.conv2.forward(&self.norm2.forward_silu(&h));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + h,
            None => x + h,
        }
    }
}

/// Attention of tokens on themselves, or on the text.
#[derive(Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    fn new(b: &Builder, width: i64, context: i64, heads: i64) -> Result<Self, Error> {
        Ok(Self {
            q: Linear::without_bias(&b.at("to_q"), width, width)?,
            k: Linear::without_bias(&b.at("to_k"), context, width)?,
            v: Linear::without_bias(&b.at("to_v"), context, width)?,
            out: Linear::new(&b.at("to_out.0"), width, width)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Tensor {
        let q = split_heads(&self.q.forward(x), self.heads);
        let k = split_heads(&self.k.forward(context), self.heads);
        let v = split_heads(&self.v.forward(context), self.heads);
        self.out.forward(&join_heads(&attend(&q, &k, &v, false)))
    }
}

/// One transformer block between two projections, around a skip.
#[derive(Debug)]
struct Transformer {
    norm: GroupNorm,
    proj_in: Projection,
    norm1: LayerNorm,
    self_attention: Attention,
    norm2: LayerNorm,
    cross_attention: Attention,
    norm3: LayerNorm,
    gate: Linear,
    down: Linear,
    proj_out: Projection,
}

#[derive(Debug)]
enum Projection {
    Linear(Linear),
    Conv(Conv2d),
}

impl Transformer {
    fn new(b: &Builder, c: &UnetConfig, width: i64, heads: i64) -> Result<Self, Error> {
        if heads == 0 || width % heads != 0 {
            return Err(Error::Config(format!(
                "attention_head_dim gives {heads} heads, which do not divide {width} channels"
            )));
        }
        let block = b.at("transformer_blocks.0");
        let (proj_in, proj_out) = if c.use_linear_projection {
            (
                Projection::Linear(Linear::new(&b.at("proj_in"), width, width)?),
                Projection::Linear(Linear::zero_init(&b.at("proj_out"), width, width)?),
            )
        } else {
            (
                Projection::Conv(Conv2d::new(&b.at("proj_in"), width, width, 1)?),
                Projection::Conv(Conv2d::zero_init(&b.at("proj_out"), width, width, 1)?),
            )
        };
        Ok(Self {
            norm: GroupNorm::new(&b.at("norm"), c.norm_num_groups, width, 1e-6)?,
            proj_in,
            norm1: LayerNorm::new(&block.at("norm1"), width, 1e-5)?,
            self_attention: Attention::new(&block.at("attn1"), width, width, heads)?,
            norm2: LayerNorm::new(&block.at("norm2"), width, 1e-5)?,
            cross_attention: Attention::new(
                &block.at("attn2"),
                width,
                c.cross_attention_dim,
                heads,
            )?,
            norm3: LayerNorm::new(&block.at("norm3"), width, 1e-5)?,
            gate: Linear::new(&block.at("ff.net.0.proj"), width, width * 8)?,
            down: Linear::new(&block.at("ff.net.2"), width * 4, width)?,
            proj_out,
        })
    }

    fn forward(&self, x: &Tensor, text: &Tensor) -> Tensor {
        let (n, c, height, width) = x.size4().expect("[n, c, h, w]");
        let tokens = |x: &Tensor| x.flatten(2, 3).transpose(1, 2);
        let h = self.norm.forward(x);
        let mut h = match &self.proj_in {
            Projection::Conv(conv) => tokens(&conv.forward(&h)),
            Projection::Linear(linear) => linear.forward(&tokens(&h)),
        };
        let y = self.norm1.forward(&h);
        h = &h + self.self_attention.forward(&y, &y);
        h = &h + self.cross_attention.forward(&self.norm2.forward(&h), text);
        let gated = gated_gelu(&self.gate.forward(&self.norm3.forward(&h))).expect("two halves");
        h = &h + self.down.forward(&gated);
        let picture = |x: &Tensor| x.transpose(1, 2).reshape([n, c, height, width]);
        let h = match &self.proj_out {
            Projection::Conv(conv) => conv.forward(&picture(&h)),
            Projection::Linear(linear) => picture(&linear.forward(&h)),
        };
        h + x
    }
}

/// A residual block and, on levels that look at the text, a transformer.
#[derive(Debug)]
pub(super) struct Stage {
    resnet: UnetResnet,
    transformer: Option<Transformer>,
    parameters: Vec<Tensor>,
}

impl Stage {
    pub(super) fn new(
        b: &Builder,
        c: &UnetConfig,
        index: i64,
        inputs: i64,
        outputs: i64,
        heads: Option<i64>,
    ) -> Result<Rc<Self>, Error> {
        let before = b.count();
        let resnet = UnetResnet::new(&b.at("resnets").at(index), c, inputs, outputs)?;
        let transformer = heads
            .map(|heads| Transformer::new(&b.at("attentions").at(index), c, outputs, heads))
            .transpose()?;
        Ok(Rc::new(Self { resnet, transformer, parameters: b.since(before) }))
    }

    pub(super) fn forward(&self, x: &Tensor, time: &Tensor, text: &Tensor) -> Tensor {
        let x = self.resnet.forward(x, time);
        match &self.transformer {
            Some(transformer) => transformer.forward(&x, text),
            None => x,
        }
    }

    /// As [`Self::forward`] with gradient checkpointing: what lies between is computed again for
    /// the gradient.
    ///
    /// # Panics
    /// Where libtorch fails.
    pub(super) fn forward_checkpointed(
        self: &Rc<Self>,
        x: &Tensor,
        time: &Tensor,
        text: &Tensor,
    ) -> Tensor {
        let stage = self.clone();
        let parameters: Vec<&Tensor> = self.parameters.iter().collect();
        checkpoint(&[x, time, text], &parameters, move |inputs| {
            stage.forward(&inputs[0], &inputs[1], &inputs[2])
        })
        .unwrap_or_else(|error| panic!("{error}"))
    }
}
