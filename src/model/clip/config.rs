//! The configurations of CLIP and of each of its towers, as transformers writes them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{self, Class, Configuration, Field, OF_TRANSFORMERS, Rule};
use crate::model::Error;

/// `text_encoder/config.json`, or `text_config` of a whole CLIP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TextConfig {
    /// Words in the vocabulary.
    #[serde(default = "words")]
    pub vocab_size: i64,
    /// Width of the hidden states.
    #[serde(default = "text_width")]
    pub hidden_size: i64,
    /// Width inside the feed-forward layers.
    #[serde(default = "text_inner")]
    pub intermediate_size: i64,
    /// Depth.
    #[serde(default = "twelve")]
    pub num_hidden_layers: i64,
    /// Heads of the attention.
    #[serde(default = "eight")]
    pub num_attention_heads: i64,
    /// Longest prompt, in tokens, both end tokens counted.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: i64,
    /// `quick_gelu` (`OpenAI`) or `gelu` (`OpenCLIP`, SD 2.x).
    #[serde(default)]
    pub hidden_act: Activation,
    /// Added to the variance in layer norms.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// The token at which a text's features are taken, where the file says it. 2 stands for the
    /// highest id, as files from before transformers 4.31 have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<i64>,
}

/// `vision_config` of a whole CLIP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Width of the hidden states.
    #[serde(default = "vision_width")]
    pub hidden_size: i64,
    /// Width inside the feed-forward layers.
    #[serde(default = "vision_inner")]
    pub intermediate_size: i64,
    /// Depth.
    #[serde(default = "twelve")]
    pub num_hidden_layers: i64,
    /// Heads of the attention.
    #[serde(default = "twelve")]
    pub num_attention_heads: i64,
    /// Pixels on a side.
    #[serde(default = "default_image_size")]
    pub image_size: i64,
    /// Pixels on a patch's side.
    #[serde(default = "default_patch_size")]
    pub patch_size: i64,
    /// `quick_gelu` or `gelu`.
    #[serde(default)]
    pub hidden_act: Activation,
    /// Added to the variance in layer norms.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
}

/// The sizes that one layer needs; both towers have them.
#[derive(Debug, Clone, Copy)]
pub struct TransformerSizes {
    /// Of the hidden states.
    pub width: i64,
    /// Width inside the feed-forward layers.
    pub inner: i64,
    /// Heads of the attention.
    pub heads: i64,
    /// Added to the variance in layer norms.
    pub eps: f64,
    /// Inside the feed-forward layers.
    pub activation: Activation,
}

impl TextConfig {
    /// Those of its layers.
    pub fn sizes(&self) -> TransformerSizes {
        TransformerSizes {
            width: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            eps: self.layer_norm_eps,
            activation: self.hidden_act,
        }
    }
}

impl VisionConfig {
    // duplicate: transformers has two configurations whose fields have the same names
    /// Those of its layers.
    pub fn sizes(&self) -> TransformerSizes {
        TransformerSizes {
            width: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            eps: self.layer_norm_eps,
            activation: self.hidden_act,
        }
    }
}

/// `config.json` of a whole CLIP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClipConfig {
    /// The text tower.
    pub text_config: TextConfig,
    /// The vision tower.
    pub vision_config: VisionConfig,
    /// Width of the space in which pictures and texts are compared.
    #[serde(default = "text_width")]
    pub projection_dim: i64,
}

const KIND: &str = "it is another kind of network than CLIP";
const ACTIVATION: Field =
    ("hidden_act", Rule::Only(&["\"quick_gelu\"", "\"gelu\""], "other functions are not built"));
const SPECIAL: Rule = Rule::Harmless("the tokenizer says it");

impl Configuration for TextConfig {
    const CLASS: Class = Class {
        name: "CLIPTextConfig",
        fields: &[
            OF_TRANSFORMERS,
            &[
                (
                    "architectures",
                    Rule::Only(
                        &[
                            "null",
                            "\"CLIPTextModel\"",
                            "\"CLIPTextModelWithProjection\"",
                            "\"CLIPModel\"",
                        ],
                        KIND,
                    ),
                ),
                ("model_type", Rule::Only(&["\"clip_text_model\"", "\"clip\""], KIND)),
                ("vocab_size", Rule::Honoured),
                ("hidden_size", Rule::Honoured),
                ("intermediate_size", Rule::Honoured),
                ("num_hidden_layers", Rule::Honoured),
                ("num_attention_heads", Rule::Honoured),
                ("max_position_embeddings", Rule::Honoured),
                ("layer_norm_eps", Rule::Honoured),
                ACTIVATION,
                (
                    "projection_dim",
                    Rule::Harmless("of a projection that a text encoder alone does not have"),
                ),
                ("eos_token_id", Rule::Honoured),
                ("bos_token_id", SPECIAL),
                ("pad_token_id", SPECIAL),
            ],
        ],
    };
}

impl Configuration for VisionConfig {
    const CLASS: Class = Class {
        name: "CLIPVisionConfig",
        fields: &[
            OF_TRANSFORMERS,
            &[
                (
                    "architectures",
                    Rule::Only(
                        &[
                            "null",
                            "\"CLIPVisionModel\"",
                            "\"CLIPVisionModelWithProjection\"",
                            "\"CLIPModel\"",
                        ],
                        KIND,
                    ),
                ),
                ("model_type", Rule::Only(&["\"clip_vision_model\"", "\"clip\""], KIND)),
                ("hidden_size", Rule::Honoured),
                ("intermediate_size", Rule::Honoured),
                ("num_hidden_layers", Rule::Honoured),
                ("num_attention_heads", Rule::Honoured),
                ("num_channels", Rule::Only(&["3"], "pictures have three channels here")),
                ("image_size", Rule::Honoured),
                ("patch_size", Rule::Honoured),
                ("layer_norm_eps", Rule::Honoured),
                ACTIVATION,
                ("projection_dim", Rule::Harmless("the whole CLIP's is taken")),
                ("bos_token_id", SPECIAL),
                ("eos_token_id", SPECIAL),
                ("pad_token_id", SPECIAL),
            ],
        ],
    };
}

impl Configuration for ClipConfig {
    const CLASS: Class = Class {
        name: "CLIPConfig",
        fields: &[
            OF_TRANSFORMERS,
            &[
                ("architectures", Rule::Only(&["null", "\"CLIPModel\""], KIND)),
                ("model_type", Rule::Only(&["\"clip\""], KIND)),
                ("text_config", Rule::Honoured),
                ("text_config_dict", Rule::Honoured),
                ("vision_config", Rule::Honoured),
                ("vision_config_dict", Rule::Honoured),
                ("projection_dim", Rule::Honoured),
                (
                    "logit_scale_init_value",
                    Rule::Harmless("of training alone: the weights say the scale"),
                ),
                ("bos_token_id", SPECIAL),
                ("eos_token_id", SPECIAL),
                ("pad_token_id", SPECIAL),
            ],
        ],
    };
}

/// A CLIP's towers, or one of them, in the file that describes both: `text_config_dict` stands in
/// place of `text_config` where it is given, as transformers has it, and what is null or missing
/// has the class' defaults.
///
/// # Errors
/// A field that is refused, a value of the wrong type.
pub fn tower<T: Configuration>(
    whole: &Value,
    name: &str,
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<T, fields::Error> {
    let given = [format!("{name}_dict"), name.to_owned()];
    let given = given.iter().map(|key| &whole[key]).find(|value| !value.is_null());
    let none = Value::Object(serde_json::Map::new());
    fields::read(given.unwrap_or(&none), &path.join(name), notes)
}

impl ClipConfig {
    /// Reads a whole CLIP's `config.json`.
    ///
    /// # Errors
    /// A field that is refused, a value of the wrong type.
    pub fn read(json: &Value, path: &Path, notes: &mut Vec<String>) -> Result<Self, fields::Error> {
        fields::check(&Self::CLASS, json, path, notes)?;
        let width = &json["projection_dim"];
        Ok(Self {
            text_config: tower(json, "text_config", path, notes)?,
            vision_config: tower(json, "vision_config", path, notes)?,
            projection_dim: if width.is_null() {
                text_width()
            } else {
                fields::parsed(width, path)?
            },
        })
    }
}

/// The function in the feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(1.702 x).
    #[default]
    QuickGelu,
    /// x · Φ(x), exactly.
    Gelu,
}

fn words() -> i64 {
    49408
}

fn text_width() -> i64 {
    512
}

fn text_inner() -> i64 {
    2048
}

fn vision_width() -> i64 {
    768
}

fn vision_inner() -> i64 {
    3072
}

fn eight() -> i64 {
    8
}

fn twelve() -> i64 {
    12
}

fn default_positions() -> i64 {
    77
}

fn default_eps() -> f64 {
    1e-5
}

fn default_image_size() -> i64 {
    224
}

fn default_patch_size() -> i64 {
    32
}

/// Whether the heads of both towers divide their widths.
///
/// # Errors
/// They do not.
pub fn divides(config: &ClipConfig) -> Result<(), Error> {
    let (t, v) = (&config.text_config, &config.vision_config);
    check_heads(t.hidden_size, t.num_attention_heads)?;
    check_heads(v.hidden_size, v.num_attention_heads)
}

/// Says where the heads do not divide the width.
pub(super) fn check_heads(width: i64, heads: i64) -> Result<(), Error> {
    if heads < 1 || width % heads != 0 {
        return Err(Error::Config(format!(
            "num_attention_heads is {heads}, which does not divide hidden_size {width}"
        )));
    }
    Ok(())
}
