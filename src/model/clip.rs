//! CLIP (Radford et al. 2021): the text encoder of Stable Diffusion 1.x and 2.x, and the whole
//! model with its vision tower, which judges pictures.
//!
//! Names follow `transformers`: `text_model.…`, `vision_model.…`, `text_projection`,
//! `visual_projection`, `logit_scale`. A text encoder that transformers 5 saved has no
//! `text_model.` before its names; both are read.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use super::layers::{Conv2d, LayerNorm, Linear, attend, join_heads, split_heads};
use super::parameters::{Builder, Init, Parameters};
use crate::fields::{self, Class, Configuration, Field, OF_TRANSFORMERS, Rule};
use crate::torch::{IndexOp, Kind, Tensor};

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

/// `config.json` of a whole CLIP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
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

impl Configuration for Config {
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

impl Config {
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

impl Activation {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Gelu => x.gelu("none"),
        }
    }
}

/// The sizes that one layer needs; both towers have them.
#[derive(Clone, Copy)]
struct TransformerSizes {
    width: i64,
    inner: i64,
    heads: i64,
    eps: f64,
    activation: Activation,
}

#[derive(Debug)]
struct ClipLayer {
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
    fn new(b: &Builder, s: TransformerSizes) -> Result<Self, Error> {
        split(s.width, s.heads)?;
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

    fn forward(&self, x: &Tensor, causal: bool) -> Tensor {
        let h = self.norm1.forward(x);
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|l| split_heads(&l.forward(&h), self.heads));
        let x = x + self.out.forward(&join_heads(&attend(&q, &k, &v, causal)));
        let h = self.fc1.forward(&self.norm2.forward(&x));
        &x + self.fc2.forward(&self.activation.apply(&h))
    }
}

/// The text encoder.
#[derive(Debug)]
pub struct TextModel {
    tokens: Tensor,
    /// Vectors of words that were learned later, `[n, hidden_size]`; their ids go on where the
    /// table ends.
    learned: Option<Tensor>,
    positions: Tensor,
    layers: Vec<ClipLayer>,
    norm: LayerNorm,
    parameters: Parameters,
}

impl TextModel {
    /// A text encoder on its own, as `text_encoder/` of a diffusers folder holds it.
    ///
    /// # Errors
    /// Weights that are missing or of another shape.
    pub fn new(config: &TextConfig, b: Builder) -> Result<Self, Error> {
        let prefixed = b.at("text_model");
        let root = if prefixed.has("embeddings.token_embedding.weight") { &prefixed } else { &b };
        let mut model = Self::build(config, root)?;
        model.parameters = b.finish();
        Ok(model)
    }

    fn build(config: &TextConfig, b: &Builder) -> Result<Self, Error> {
        let c = config;
        let sizes = TransformerSizes {
            width: c.hidden_size,
            inner: c.intermediate_size,
            heads: c.num_attention_heads,
            eps: c.layer_norm_eps,
            activation: c.hidden_act,
        };
        let e = b.at("embeddings");
        let tokens =
            e.get("token_embedding.weight", &[c.vocab_size, c.hidden_size], Init::Normal(0.02))?;
        let positions = e.get(
            "position_embedding.weight",
            &[c.max_position_embeddings, c.hidden_size],
            Init::Normal(0.01),
        )?;
        let layers = (0..c.num_hidden_layers)
            .map(|i| ClipLayer::new(&b.at("encoder.layers").at(i), sizes))
            .collect::<Result<_, _>>()?;
        let norm = LayerNorm::new(&b.at("final_layer_norm"), c.hidden_size, c.layer_norm_eps)?;
        Ok(Self {
            tokens,
            learned: None,
            positions,
            layers,
            norm,
            parameters: Parameters::default(),
        })
    }

    /// Token ids `[n, tokens]` (i64) to hidden states `[n, tokens, hidden_size]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        let length = ids.size()[1];
        let table = match &self.learned {
            Some(learned) => &Tensor::cat(&[&self.tokens, learned], 0),
            None => &self.tokens,
        };
        let mut x = Tensor::embedding(table, ids, -1, false, false) + self.positions.i(..length);
        for layer in &self.layers {
            x = layer.forward(&x, true);
        }
        self.norm.forward(&x)
    }

    /// Adds the vectors `[n, hidden_size]` of a word; returns the id of the first.
    ///
    /// # Errors
    /// Vectors of another width.
    pub fn learn(&mut self, vectors: &Tensor) -> Result<i64, Error> {
        let [words, width] = self.tokens.size()[..] else {
            return Err(Error::Config("no table of words".to_owned()));
        };
        if vectors.dim() != 2 || vectors.size()[1] != width {
            return Err(Error::Config(format!(
                "the embedding's vectors are {:?}, this text encoder's are [n, {width}]; was it \
                 learned on another Stable Diffusion?",
                vectors.size()
            )));
        }
        let vectors = vectors.to_device(self.tokens.device()).to_kind(self.tokens.kind());
        let before = self.learned.as_ref().map_or(0, |learned| learned.size()[0]);
        self.learned = Some(match self.learned.take() {
            Some(learned) => Tensor::cat(&[learned, vectors], 0),
            None => vectors,
        });
        Ok(words + before)
    }

    /// The hidden states at each text's end token, `[n, hidden_size]`: the end token has the
    /// highest id.
    pub fn pooled(&self, ids: &Tensor) -> Tensor {
        let hidden = self.forward(ids);
        let end = ids.argmax(1, true).unsqueeze(-1).expand([-1, -1, hidden.size()[2]], false);
        hidden.gather(1, &end, false).squeeze_dim(1)
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

#[derive(Debug)]
pub(super) struct VisionModel {
    class: Tensor,
    patches: Conv2d,
    positions: Tensor,
    pre: LayerNorm,
    layers: Vec<ClipLayer>,
    post: LayerNorm,
}

impl VisionModel {
    pub(super) fn new(config: &VisionConfig, b: &Builder) -> Result<Self, Error> {
        let c = config;
        let sizes = TransformerSizes {
            width: c.hidden_size,
            inner: c.intermediate_size,
            heads: c.num_attention_heads,
            eps: c.layer_norm_eps,
            activation: c.hidden_act,
        };
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
    pub(super) fn pooled(&self, pictures: &Tensor) -> Tensor {
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
    pub fn new(config: &Config, b: Builder) -> Result<Self, Error> {
        let (t, v) = (&config.text_config, &config.vision_config);
        let mut clip = Self {
            text: TextModel::build(t, &b.at("text_model"))?,
            vision: VisionModel::new(v, &b.at("vision_model"))?,
            text_projection: Linear::bare(
                &b.at("text_projection"),
                t.hidden_size,
                config.projection_dim,
            )?,
            visual_projection: Linear::bare(
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

/// Whether the heads of both towers divide their widths.
///
/// # Errors
/// They do not.
pub fn divides(config: &Config) -> Result<(), Error> {
    let (t, v) = (&config.text_config, &config.vision_config);
    split(t.hidden_size, t.num_attention_heads)?;
    split(v.hidden_size, v.num_attention_heads)
}

fn split(width: i64, heads: i64) -> Result<(), Error> {
    if heads < 1 || width % heads != 0 {
        return Err(Error::Config(format!(
            "num_attention_heads is {heads}, which does not divide hidden_size {width}"
        )));
    }
    Ok(())
}

/// Rows of length 1, in f32.
pub(super) fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let length = x.square().sum_dim_intlist([-1_i64].as_slice(), true, Kind::Float).sqrt();
    x / length
}
