//! The autoencoder of Stable Diffusion (`AutoencoderKL` in diffusers).
//!
//! Rombach et al. 2022, section 3.1. Pictures are `[n, 3, h, w]` in [-1, 1]; a latent is a factor
//! of 2^(levels - 1) smaller on each side.

use serde::{Deserialize, Serialize};

use super::Error;
use super::layers::{Conv2d, GroupNorm, Linear, attend};
use super::parameters::{Builder, Parameters};
use crate::fields::{Class, Configuration, OF_DIFFUSERS, Rule};
use crate::torch::{Tensor, channels_last, upsample_twice};

/// `vae/config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VaeConfig {
    /// Channels of pictures.
    #[serde(default = "three")]
    pub in_channels: i64,
    /// Channels of pictures.
    #[serde(default = "three")]
    pub out_channels: i64,
    /// Channels of latents.
    #[serde(default = "four")]
    pub latent_channels: i64,
    // duplicate: diffusers' own names of what a UNet has too
    /// Channels on each level, from the finest down.
    #[serde(default = "channels")]
    pub block_out_channels: Vec<i64>,
    /// `DownEncoderBlock2D` on each level.
    #[serde(default = "down_blocks")]
    pub down_block_types: Vec<String>,
    /// `UpDecoderBlock2D` on each level.
    #[serde(default = "up_blocks")]
    pub up_block_types: Vec<String>,
    /// Residual blocks on each level of the encoder; one more in the decoder.
    #[serde(default = "one")]
    pub layers_per_block: i64,
    /// Groups of each group norm.
    #[serde(default = "thirty_two")]
    pub norm_num_groups: i64,
    /// Latents are multiplied by this before the UNet sees them.
    #[serde(default = "sd_scaling")]
    pub scaling_factor: f64,
}

const KIND: &str = "it is another kind of autoencoder than Stable Diffusion 1.x's and 2.x's";

impl Configuration for VaeConfig {
    const CLASS: Class = Class {
        name: "AutoencoderKL",
        fields: &[
            OF_DIFFUSERS,
            &[
                ("_class_name", Rule::Only(&["\"AutoencoderKL\""], KIND)),
                ("in_channels", Rule::Honoured),
                ("out_channels", Rule::Honoured),
                ("latent_channels", Rule::Honoured),
                ("block_out_channels", Rule::Honoured),
                ("down_block_types", Rule::Only(&["\"DownEncoderBlock2D\""], KIND)),
                ("up_block_types", Rule::Only(&["\"UpDecoderBlock2D\""], KIND)),
                ("layers_per_block", Rule::Honoured),
                ("norm_num_groups", Rule::Honoured),
                ("scaling_factor", Rule::Honoured),
                ("act_fn", Rule::Only(&["\"silu\"", "\"swish\""], KIND)),
                (
                    "sample_size",
                    Rule::Harmless("the size of tiles, into which no picture is cut here"),
                ),
                ("force_upcast", Rule::Harmless("of Stable Diffusion XL's pipelines")),
                ("shift_factor", Rule::Only(&["null", "0"], KIND)),
                ("latents_mean", Rule::Only(&["null"], KIND)),
                ("latents_std", Rule::Only(&["null"], KIND)),
                ("use_quant_conv", Rule::Only(&["true"], KIND)),
                ("use_post_quant_conv", Rule::Only(&["true"], KIND)),
                ("mid_block_add_attention", Rule::Only(&["true"], KIND)),
            ],
        ],
    };
}

fn channels() -> Vec<i64> {
    vec![64]
}
fn down_blocks() -> Vec<String> {
    vec!["DownEncoderBlock2D".to_owned()]
}
fn up_blocks() -> Vec<String> {
    vec!["UpDecoderBlock2D".to_owned()]
}

fn one() -> i64 {
    1
}
fn three() -> i64 {
    3
}
fn four() -> i64 {
    4
}
fn thirty_two() -> i64 {
    32
}
fn sd_scaling() -> f64 {
    0.18215
}

const EPS: f64 = 1e-6;

#[derive(Debug)]
struct VaeResnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl VaeResnet {
    fn new(b: &Builder, groups: i64, inputs: i64, outputs: i64) -> Result<Self, Error> {
        Ok(Self {
            norm1: GroupNorm::new(&b.at("norm1"), groups, inputs, EPS)?,
            conv1: Conv2d::new(&b.at("conv1"), inputs, outputs, 3)?,
            norm2: GroupNorm::new(&b.at("norm2"), groups, outputs, EPS)?,
            conv2: Conv2d::zero_init(&b.at("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs)
                .then(|| Conv2d::new(&b.at("conv_shortcut"), inputs, outputs, 1))
                .transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.forward(&self.norm1.forward_silu(x));
        let h = self.conv2.forward(&self.norm2.forward_silu(&h));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + h,
            None => x + h,
        }
    }
}

/// Two residual blocks around attention of one head over all pixels.
#[derive(Debug)]
struct Middle {
    first: VaeResnet,
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    last: VaeResnet,
}

impl Middle {
    fn new(b: &Builder, groups: i64, channels: i64) -> Result<Self, Error> {
        let a = b.at("attentions.0");
        // Files from before diffusers 0.12, SD 1.x' own among them, use the older names.
        let old = !a.has("to_q.weight") && a.has("query.weight");
        let names = if old {
            ["query", "key", "value", "proj_attn"]
        } else {
            ["to_q", "to_k", "to_v", "to_out.0"]
        };
        let linear = |name: &str| Linear::new(&a.at(name), channels, channels);
        Ok(Self {
            first: VaeResnet::new(&b.at("resnets.0"), groups, channels, channels)?,
            norm: GroupNorm::new(&a.at("group_norm"), groups, channels, EPS)?,
            q: linear(names[0])?,
            k: linear(names[1])?,
            v: linear(names[2])?,
            out: linear(names[3])?,
            last: VaeResnet::new(&b.at("resnets.1"), groups, channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.first.forward(x);
        let (n, c, height, width) = x.size4().expect("[n, c, h, w]");
        let h = self.norm.forward(&x).flatten(2, 3).transpose(1, 2);
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|l| l.forward(&h).unsqueeze(1));
        let h = self.out.forward(&attend(&q, &k, &v, false).squeeze_dim(1));
        let h = h.transpose(1, 2).reshape([n, c, height, width]);
        self.last.forward(&(x + h))
    }
}

#[derive(Debug)]
struct VaeLevel {
    resnets: Vec<VaeResnet>,
    resize: Option<Conv2d>,
}

/// Pictures to both moments of their latents, before `quant_conv`.
#[derive(Debug)]
struct VaeEncoder {
    conv_in: Conv2d,
    levels: Vec<VaeLevel>,
    middle: Middle,
    norm: GroupNorm,
    conv_out: Conv2d,
}

impl VaeEncoder {
    fn new(b: &Builder, c: &VaeConfig) -> Result<Self, Error> {
        let (groups, channels) = (c.norm_num_groups, &c.block_out_channels);
        let count = channels.len();
        let deepest = channels[count - 1];
        let conv_in = Conv2d::new(&b.at("conv_in"), c.in_channels, channels[0], 3)?;
        let mut levels = Vec::new();
        for level in 0..count {
            let b = b.at("down_blocks").at(level);
            let outputs = channels[level];
            let resnets = (0..c.layers_per_block)
                .map(|j| {
                    let inputs = if j == 0 { channels[level.saturating_sub(1)] } else { outputs };
                    VaeResnet::new(&b.at("resnets").at(j), groups, inputs, outputs)
                })
                .collect::<Result<_, _>>()?;
            let resize = (level + 1 < count)
                .then(|| Conv2d::halving(&b.at("downsamplers.0.conv"), outputs, 0))
                .transpose()?;
            levels.push(VaeLevel { resnets, resize });
        }
        Ok(Self {
            conv_in,
            levels,
            middle: Middle::new(&b.at("mid_block"), groups, deepest)?,
            norm: GroupNorm::new(&b.at("conv_norm_out"), groups, deepest, EPS)?,
            conv_out: Conv2d::new(&b.at("conv_out"), deepest, 2 * c.latent_channels, 3)?,
        })
    }

    fn forward(&self, pictures: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(&channels_last(pictures));
        for level in &self.levels {
            for resnet in &level.resnets {
                x = resnet.forward(&x);
            }
            if let Some(halve) = &level.resize {
                // Stable Diffusion pads on the right and below only.
                x = halve.forward(&x.constant_pad_nd([0, 1, 0, 1]));
            }
        }
        x = self.norm.forward_silu(&self.middle.forward(&x));
        self.conv_out.forward(&x)
    }
}

/// Latents, after `post_quant_conv`, to pictures.
#[derive(Debug)]
struct VaeDecoder {
    conv_in: Conv2d,
    middle: Middle,
    levels: Vec<VaeLevel>,
    norm: GroupNorm,
    conv_out: Conv2d,
}

impl VaeDecoder {
    fn new(b: &Builder, c: &VaeConfig) -> Result<Self, Error> {
        let (groups, channels) = (c.norm_num_groups, &c.block_out_channels);
        let count = channels.len();
        let deepest = channels[count - 1];
        let conv_in = Conv2d::new(&b.at("conv_in"), c.latent_channels, deepest, 3)?;
        let middle = Middle::new(&b.at("mid_block"), groups, deepest)?;
        let mut levels = Vec::new();
        let mut inputs = deepest;
        for i in 0..count {
            let b = b.at("up_blocks").at(i);
            let outputs = channels[count - 1 - i];
            let mut resnets = Vec::new();
            for j in 0..=c.layers_per_block {
                resnets.push(VaeResnet::new(&b.at("resnets").at(j), groups, inputs, outputs)?);
                inputs = outputs;
            }
            let resize = (i + 1 < count)
                .then(|| Conv2d::new(&b.at("upsamplers.0.conv"), outputs, outputs, 3))
                .transpose()?;
            levels.push(VaeLevel { resnets, resize });
        }
        Ok(Self {
            conv_in,
            middle,
            levels,
            norm: GroupNorm::new(&b.at("conv_norm_out"), groups, channels[0], EPS)?,
            conv_out: Conv2d::new(&b.at("conv_out"), channels[0], c.out_channels, 3)?,
        })
    }

    fn forward(&self, latents: &Tensor) -> Tensor {
        let mut x = self.middle.forward(&self.conv_in.forward(latents));
        for level in &self.levels {
            for resnet in &level.resnets {
                x = resnet.forward(&x);
            }
            if let Some(conv) = &level.resize {
                x = conv.forward(&upsample_twice(&x).expect("[n, c, h, w]"));
            }
        }
        self.conv_out.forward(&self.norm.forward_silu(&x))
    }
}

/// Encoder and decoder.
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    encoder: VaeEncoder,
    decoder: VaeDecoder,
    quant: Conv2d,
    post_quant: Conv2d,
    parameters: Parameters,
}

/// A normal distribution over latents: what the encoder says of a picture.
#[derive(Debug)]
pub struct DiagonalGaussian {
    /// `[n, latent_channels, h, w]`.
    pub mean: Tensor,
    /// Logarithm of the variance, clamped to [-30, 20].
    pub log_variance: Tensor,
}

impl DiagonalGaussian {
    /// A sample, from standard normal `noise` of the same shape.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        &self.mean + (&self.log_variance * 0.5).exp() * noise
    }
}

impl Vae {
    /// Builds the network that `config` describes.
    ///
    /// # Errors
    /// A block type or activation that is not built here, weights that are missing or of another
    /// shape.
    pub fn new(config: &VaeConfig, b: Builder) -> Result<Self, Error> {
        check_blocks(config)?;
        let encoder = VaeEncoder::new(&b.at("encoder"), config)?;
        let decoder = VaeDecoder::new(&b.at("decoder"), config)?;
        let channels = config.latent_channels;
        let quant = Conv2d::new(&b.at("quant_conv"), 2 * channels, 2 * channels, 1)?;
        let post_quant = Conv2d::new(&b.at("post_quant_conv"), channels, channels, 1)?;
        Ok(Self {
            config: config.clone(),
            encoder,
            decoder,
            quant,
            post_quant,
            parameters: b.finish(),
        })
    }

    /// Pictures `[n, 3, h, w]` in [-1, 1] to the moments of their latents.
    pub fn encode(&self, pictures: &Tensor) -> DiagonalGaussian {
        let both = self.quant.forward(&self.encoder.forward(pictures)).chunk(2, 1);
        DiagonalGaussian { mean: both[0].shallow_clone(), log_variance: both[1].clamp(-30.0, 20.0) }
    }

    /// Latents `[n, latent_channels, h, w]`, not scaled, to pictures around [-1, 1].
    ///
    /// # Panics
    /// Where the shapes are others.
    pub fn decode(&self, latents: &Tensor) -> Tensor {
        self.decoder.forward(&self.post_quant.forward(&channels_last(latents)))
    }

    /// Pixels on a latent pixel's side.
    pub fn factor(&self) -> i64 {
        1 << (self.config.block_out_channels.len() - 1)
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// Says which block types are not built here, or are not as many as there are levels.
fn check_blocks(c: &VaeConfig) -> Result<(), Error> {
    let levels = c.block_out_channels.len();
    for (kind, known) in c
        .down_block_types
        .iter()
        .map(|kind| (kind, "DownEncoderBlock2D"))
        .chain(c.up_block_types.iter().map(|kind| (kind, "UpDecoderBlock2D")))
    {
        if kind != known {
            return Err(Error::Config(format!(
                "block type `{kind}` in the VAE's config is not known; `{known}` is"
            )));
        }
    }
    if levels == 0 || c.down_block_types.len() != levels || c.up_block_types.len() != levels {
        return Err(Error::Config(
            "the VAE's config must have as many block types as block_out_channels".to_owned(),
        ));
    }
    Ok(())
}
