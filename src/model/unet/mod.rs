//! The conditional UNet of Stable Diffusion 1.x and 2.x (`UNet2DConditionModel` in diffusers).
//!
//! Rombach et al. 2022, section 3.3. Sizes and block types come from `unet/config.json`; names and
//! shapes of parameters are diffusers'.

mod blocks;

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use self::blocks::{Stage, UnetResnet};
use super::Error;
use super::layers::{Conv2d, GroupNorm, Linear};
use super::parameters::{Builder, Parameters};
use crate::fields::{Class, Configuration, OF_DIFFUSERS, Rule};
use crate::torch::{Kind, Tensor, channels_last};

/// `unet/config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Latent size on a side that the model was trained at.
    #[serde(default)]
    pub sample_size: Option<i64>,
    /// Channels of the latent.
    #[serde(default = "four")]
    pub in_channels: i64,
    /// Channels of the prediction.
    #[serde(default = "four")]
    pub out_channels: i64,
    /// Channels on each level, from the finest down.
    #[serde(default = "channels")]
    pub block_out_channels: Vec<i64>,
    /// `DownBlock2D` or `CrossAttnDownBlock2D` on each level.
    #[serde(default = "down_blocks")]
    pub down_block_types: Vec<String>,
    /// `UpBlock2D` or `CrossAttnUpBlock2D`, from the coarsest up.
    #[serde(default = "up_blocks")]
    pub up_block_types: Vec<String>,
    /// Residual blocks on each level on the way down; one more on the way up.
    #[serde(default = "two")]
    pub layers_per_block: i64,
    /// Width of the text encoder's hidden states.
    #[serde(default = "text_width")]
    pub cross_attention_dim: i64,
    /// diffusers' misnomer: the number of heads, one for all levels or one each.
    #[serde(default = "eight")]
    pub attention_head_dim: OneOrMany,
    /// Groups of each group norm.
    #[serde(default = "thirty_two")]
    pub norm_num_groups: i64,
    /// Added to the variance in the residual blocks' norms.
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    /// Linear layers around the transformer (SD 2.x) instead of 1×1 convolutions.
    #[serde(default)]
    pub use_linear_projection: bool,
    /// Cosines before sines in the timestep embedding.
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    /// Shift of the timestep embedding's frequencies.
    #[serde(default)]
    pub freq_shift: f64,
}

const PLAIN_DOWN: &str = "DownBlock2D";
const CROSSED_DOWN: &str = "CrossAttnDownBlock2D";
const PLAIN_UP: &str = "UpBlock2D";
const CROSSED_UP: &str = "CrossAttnUpBlock2D";

const KIND: &str = "it is another kind of network than Stable Diffusion 1.x's and 2.x's";
const XL: &str = "it is a Stable Diffusion XL or another network that reads more than a text";
const CLASSES: &str = "it reads a class beside the text, as upscalers do";
const ALONE: Rule = Rule::Harmless("of inputs beside the text, which are refused");

impl Configuration for Config {
    const CLASS: Class = Class {
        name: "UNet2DConditionModel",
        fields: &[
            OF_DIFFUSERS,
            &[
                ("_class_name", Rule::Only(&["\"UNet2DConditionModel\""], KIND)),
                ("sample_size", Rule::Honoured),
                ("in_channels", Rule::Honoured),
                ("out_channels", Rule::Honoured),
                ("center_input_sample", Rule::Only(&["null", "false"], KIND)),
                ("flip_sin_to_cos", Rule::Honoured),
                ("freq_shift", Rule::Honoured),
                ("down_block_types", Rule::Honoured),
                ("mid_block_type", Rule::Only(&["\"UNetMidBlock2DCrossAttn\""], KIND)),
                ("up_block_types", Rule::Honoured),
                (
                    "only_cross_attention",
                    Rule::Only(&["null", "false"], "it is an upscaler's network"),
                ),
                ("block_out_channels", Rule::Honoured),
                ("layers_per_block", Rule::Honoured),
                ("downsample_padding", Rule::Only(&["1"], KIND)),
                ("mid_block_scale_factor", Rule::Only(&["1"], KIND)),
                ("dropout", Rule::Harmless("of training alone, and methods train without it")),
                ("act_fn", Rule::Only(&["\"silu\"", "\"swish\""], KIND)),
                ("norm_num_groups", Rule::Honoured),
                ("norm_eps", Rule::Honoured),
                ("cross_attention_dim", Rule::Honoured),
                ("transformer_layers_per_block", Rule::Only(&["1"], XL)),
                ("reverse_transformer_layers_per_block", Rule::Only(&["null"], XL)),
                ("encoder_hid_dim", Rule::Only(&["null"], XL)),
                ("encoder_hid_dim_type", Rule::Only(&["null"], XL)),
                ("attention_head_dim", Rule::Honoured),
                (
                    "num_attention_heads",
                    Rule::Only(&["null"], "diffusers refuses it too; use attention_head_dim"),
                ),
                ("dual_cross_attention", Rule::Only(&["null", "false"], KIND)),
                ("use_linear_projection", Rule::Honoured),
                ("class_embed_type", Rule::Only(&["null"], CLASSES)),
                ("num_class_embeds", Rule::Only(&["null"], CLASSES)),
                ("addition_embed_type", Rule::Only(&["null"], XL)),
                ("addition_time_embed_dim", ALONE),
                ("addition_embed_type_num_heads", ALONE),
                ("projection_class_embeddings_input_dim", ALONE),
                ("class_embeddings_concat", ALONE),
                (
                    "upcast_attention",
                    Rule::Harmless(
                        "scores are summed in f32 anyway, as in diffusers' default attention",
                    ),
                ),
                ("resnet_time_scale_shift", Rule::Only(&["\"default\""], KIND)),
                ("resnet_skip_time_act", Rule::Only(&["null", "false"], KIND)),
                ("resnet_out_scale_factor", Rule::Only(&["1"], KIND)),
                ("time_embedding_type", Rule::Only(&["\"positional\""], KIND)),
                ("time_embedding_dim", Rule::Only(&["null"], KIND)),
                ("time_embedding_act_fn", Rule::Only(&["null"], KIND)),
                ("timestep_post_act", Rule::Only(&["null"], KIND)),
                (
                    "time_cond_proj_dim",
                    Rule::Only(
                        &["null"],
                        "it is distilled (LCM) and reads the guidance as an input, which is not \
                         built",
                    ),
                ),
                ("conv_in_kernel", Rule::Only(&["3"], KIND)),
                ("conv_out_kernel", Rule::Only(&["3"], KIND)),
                (
                    "attention_type",
                    Rule::Only(&["\"default\""], "it reads places beside the text (GLIGEN)"),
                ),
                ("mid_block_only_cross_attention", Rule::Only(&["null", "false"], KIND)),
                ("cross_attention_norm", Rule::Only(&["null"], KIND)),
            ],
        ],
    };
}

/// One number for all levels, or one for each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// For all levels.
    One(i64),
    /// For each.
    Many(Vec<i64>),
}

impl OneOrMany {
    fn at(&self, level: usize) -> Option<i64> {
        match self {
            Self::One(n) => Some(*n),
            Self::Many(all) => all.get(level).copied(),
        }
    }
}

fn channels() -> Vec<i64> {
    vec![320, 640, 1280, 1280]
}
fn down_blocks() -> Vec<String> {
    [CROSSED_DOWN, CROSSED_DOWN, CROSSED_DOWN, PLAIN_DOWN].map(str::to_owned).to_vec()
}
fn up_blocks() -> Vec<String> {
    [PLAIN_UP, CROSSED_UP, CROSSED_UP, CROSSED_UP].map(str::to_owned).to_vec()
}
fn text_width() -> i64 {
    1280
}
fn eight() -> OneOrMany {
    OneOrMany::One(8)
}
fn two() -> i64 {
    2
}
fn four() -> i64 {
    4
}
fn thirty_two() -> i64 {
    32
}
fn norm_eps() -> f64 {
    1e-5
}
fn yes() -> bool {
    true
}

/// One level, down or up: its stages, then a change of size.
#[derive(Debug)]
struct UnetLevel {
    stages: Vec<Rc<Stage>>,
    resize: Option<Conv2d>,
}

/// The network.
#[derive(Debug)]
pub struct UNet {
    config: Config,
    conv_in: Conv2d,
    time1: Linear,
    time2: Linear,
    down: Vec<UnetLevel>,
    middle: (Rc<Stage>, UnetResnet),
    up: Vec<UnetLevel>,
    norm: GroupNorm,
    conv_out: Conv2d,
    parameters: Parameters,
    again: bool,
}

impl UNet {
    /// Builds the network that `config` describes.
    ///
    /// # Errors
    /// A block type or activation that is not built here, sizes that do not fit each other, weights
    /// that are missing or of another shape.
    pub fn new(config: &Config, b: Builder) -> Result<Self, Error> {
        let c = config;
        let channels = &c.block_out_channels;
        let levels = channels.len();
        if levels == 0 || c.down_block_types.len() != levels || c.up_block_types.len() != levels {
            return Err(Error::Config(format!(
                "the UNet's config has {levels} block_out_channels, {} down_block_types and {} \
                 up_block_types; they must be as many",
                c.down_block_types.len(),
                c.up_block_types.len()
            )));
        }
        let attends = |kind: &str, plain: &str, crossed: &str| match kind {
            kind if kind == plain => Ok(false),
            kind if kind == crossed => Ok(true),
            other => Err(Error::Config(format!(
                "block type `{other}` in the UNet's config is not known; `{plain}` and `{crossed}` \
                 are (Stable Diffusion 1.x and 2.x)"
            ))),
        };
        let heads = |level: usize, wanted: bool| -> Result<Option<i64>, Error> {
            if !wanted {
                return Ok(None);
            }
            let heads = c.attention_head_dim.at(level).ok_or_else(|| {
                Error::Config(format!("attention_head_dim has no entry for level {level}"))
            })?;
            Ok(Some(heads))
        };

        let embedding = channels[0] * 4;
        let conv_in = Conv2d::new(&b.at("conv_in"), c.in_channels, channels[0], 3)?;
        let time1 = Linear::new(&b.at("time_embedding.linear_1"), channels[0], embedding)?;
        let time2 = Linear::new(&b.at("time_embedding.linear_2"), embedding, embedding)?;

        let mut skips = vec![channels[0]];
        let mut down = Vec::new();
        for (level, kind) in c.down_block_types.iter().enumerate() {
            let b = b.at("down_blocks").at(level);
            let heads = heads(level, attends(kind, PLAIN_DOWN, CROSSED_DOWN)?)?;
            let outputs = channels[level];
            let mut stages = Vec::new();
            for j in 0..c.layers_per_block {
                let inputs = if j == 0 { channels[level.saturating_sub(1)] } else { outputs };
                stages.push(Stage::new(&b, c, j, (inputs, outputs), heads)?);
                skips.push(outputs);
            }
            let resize = (level + 1 < levels)
                .then(|| Conv2d::halving(&b.at("downsamplers.0.conv"), outputs, 1))
                .transpose()?;
            if resize.is_some() {
                skips.push(outputs);
            }
            down.push(UnetLevel { stages, resize });
        }

        let deepest = channels[levels - 1];
        let b_mid = b.at("mid_block");
        let middle = (
            Stage::new(&b_mid, c, 0, (deepest, deepest), heads(levels - 1, true)?)?,
            UnetResnet::new(&b_mid.at("resnets.1"), c, deepest, deepest)?,
        );

        let mut up = Vec::new();
        let mut inputs = deepest;
        for (i, kind) in c.up_block_types.iter().enumerate() {
            let b = b.at("up_blocks").at(i);
            let level = levels - 1 - i;
            let heads = heads(level, attends(kind, PLAIN_UP, CROSSED_UP)?)?;
            let mut stages = Vec::new();
            for j in 0..=c.layers_per_block {
                let skip = skips.pop().unwrap_or(channels[0]);
                stages.push(Stage::new(&b, c, j, (inputs + skip, channels[level]), heads)?);
                inputs = channels[level];
            }
            let resize = (level > 0)
                .then(|| {
                    Conv2d::new(&b.at("upsamplers.0.conv"), channels[level], channels[level], 3)
                })
                .transpose()?;
            up.push(UnetLevel { stages, resize });
        }

        Ok(Self {
            conv_in,
            time1,
            time2,
            down,
            middle,
            up,
            norm: GroupNorm::new(
                &b.at("conv_norm_out"),
                c.norm_num_groups,
                channels[0],
                c.norm_eps,
            )?,
            conv_out: Conv2d::silent(&b.at("conv_out"), channels[0], c.out_channels, 3)?,
            config: config.clone(),
            parameters: b.finish(),
            again: false,
        })
    }

    /// Predicts noise (or velocity, as the scheduler says).
    ///
    /// `latents` `[n, in_channels, h, w]`, `timesteps` `[n]`, `text` `[n, tokens,
    /// cross_attention_dim]` → `[n, out_channels, h, w]`.
    ///
    /// # Panics
    /// Where the shapes are others; see the room's head.
    pub fn forward(&self, latents: &Tensor, timesteps: &Tensor, text: &Tensor) -> Tensor {
        let time = self.embed(timesteps);
        let time = self.time2.forward(&self.time1.forward(&time).silu()).silu();

        let mut x = self.conv_in.forward(&channels_last(latents));
        // Without a graph there is nothing to save.
        let again = self.again && x.requires_grad();
        let run = |stage: &Rc<Stage>, x: &Tensor| {
            if again { stage.forward_again(x, &time, text) } else { stage.forward(x, &time, text) }
        };
        let mut skips = vec![x.shallow_clone()];
        for level in &self.down {
            for stage in &level.stages {
                x = run(stage, &x);
                skips.push(x.shallow_clone());
            }
            if let Some(halve) = &level.resize {
                x = halve.forward(&x);
                skips.push(x.shallow_clone());
            }
        }
        x = run(&self.middle.0, &x);
        x = self.middle.1.forward(&x, &time);
        for level in &self.up {
            for stage in &level.stages {
                let skip = skips.pop().expect("as many skips as stages");
                x = run(stage, &Tensor::cat(&[x, skip], 1));
            }
            if let Some(conv) = &level.resize {
                let (_, _, h, w) = x.size4().expect("[n, c, h, w]");
                let twice = x.upsample_nearest2d([h * 2, w * 2], None, None);
                // Sides that are no multiple of the coarsest level would come back a pixel too
                // large; what is cut off must not be seen by the convolution either.
                let finer = skips.last().expect("as many skips as stages").size();
                x = conv.forward(&twice.narrow(2, 0, finer[2]).narrow(3, 0, finer[3]));
            }
        }
        self.conv_out.forward(&self.norm.forward_silu(&x))
    }

    /// Sines and cosines of the timesteps (Vaswani et al. 2017), `[n, channels₀]`.
    fn embed(&self, timesteps: &Tensor) -> Tensor {
        let half = self.config.block_out_channels[0] / 2;
        let position = Tensor::arange(half, (Kind::Float, timesteps.device()));
        let exponent = position * (-(10_000_f64.ln()) / (half as f64 - self.config.freq_shift));
        let angles = timesteps.to_kind(Kind::Float).unsqueeze(-1) * exponent.exp().unsqueeze(0);
        if self.config.flip_sin_to_cos {
            Tensor::cat(&[angles.cos(), angles.sin()], -1)
        } else {
            Tensor::cat(&[angles.sin(), angles.cos()], -1)
        }
    }

    /// Whether a training step computes what lies inside a stage again for its gradient, rather
    /// than keep it.
    pub fn compute_again(&mut self, again: bool) {
        self.again = again;
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}
