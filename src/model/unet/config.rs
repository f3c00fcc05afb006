//! The UNet's configuration, as diffusers writes it.

use serde::{Deserialize, Serialize};

use crate::fields::{Class, Configuration, OF_DIFFUSERS, Rule};

/// `unet/config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnetConfig {
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

pub(super) const DOWN: &str = "DownBlock2D";
pub(super) const CROSS_ATTN_DOWN: &str = "CrossAttnDownBlock2D";
pub(super) const UP: &str = "UpBlock2D";
pub(super) const CROSS_ATTN_UP: &str = "CrossAttnUpBlock2D";

const KIND: &str = "it is another kind of network than Stable Diffusion 1.x's and 2.x's";
const XL: &str = "it is a Stable Diffusion XL or another network that reads more than a text";
const CLASSES: &str = "it reads a class beside the text, as upscalers do";
const OTHER_INPUT: Rule = Rule::Harmless("of inputs beside the text, which are refused");

impl Configuration for UnetConfig {
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
                ("addition_time_embed_dim", OTHER_INPUT),
                ("addition_embed_type_num_heads", OTHER_INPUT),
                ("projection_class_embeddings_input_dim", OTHER_INPUT),
                ("class_embeddings_concat", OTHER_INPUT),
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
    pub(super) fn at(&self, level: usize) -> Option<i64> {
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
    [CROSS_ATTN_DOWN, CROSS_ATTN_DOWN, CROSS_ATTN_DOWN, DOWN].map(str::to_owned).to_vec()
}
fn up_blocks() -> Vec<String> {
    [UP, CROSS_ATTN_UP, CROSS_ATTN_UP, CROSS_ATTN_UP].map(str::to_owned).to_vec()
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
