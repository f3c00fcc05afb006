//! A CLIP of the canvas: the generator's, whose text tower becomes its text encoder, the judge's,
//! and the labeller's.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::TrainingPart;
use super::canvas_images::CanvasImages;
use super::contrastive::{CaptionIds, ContrastiveObjective};
use super::folders::{clip_json, preprocessor};
use super::reading::WordReading;
use super::shipping::{invalid, ship};
use crate::canvas::{Language, Object, Pose, SIDE, Style, captions};
use crate::files::write_json;
use crate::model::Builder;
use crate::model::clip::{Activation, Clip, ClipConfig, TextConfig, VisionConfig};
use crate::text::{END, Tokenizer, Vocabulary};
use crate::torch::Compute;
use crate::training::{Error, TrainConfig, train};
use crate::watch::Watch;

/// A CLIP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipPart {
    /// How it learns.
    pub training: TrainingPart,
    /// Width and depth of the text tower.
    pub text: [i64; 2],
    /// Width and depth of the vision tower.
    pub vision: [i64; 2],
    /// Pixels on a patch's side.
    pub patch: i64,
}

/// Width of a head in the CLIPs.
const HEAD: i64 = 32;

impl ClipPart {
    pub(super) fn config(&self, vocab_size: i64, tokens: i64) -> ClipConfig {
        let ([text, text_depth], [vision, vision_depth]) = (self.text, self.vision);
        ClipConfig {
            text_config: TextConfig {
                vocab_size,
                hidden_size: text,
                intermediate_size: text * 4,
                num_hidden_layers: text_depth,
                num_attention_heads: text / HEAD,
                max_position_embeddings: tokens,
                hidden_act: Activation::QuickGelu,
                layer_norm_eps: 1e-5,
                eos_token_id: None,
            },
            vision_config: VisionConfig {
                hidden_size: vision,
                intermediate_size: vision * 4,
                num_hidden_layers: vision_depth,
                num_attention_heads: vision / HEAD,
                image_size: SIDE as i64,
                patch_size: self.patch,
                hidden_act: Activation::QuickGelu,
                layer_norm_eps: 1e-5,
            },
            projection_dim: text,
        }
    }
}

/// A CLIP's training on canvas pictures.
pub(super) struct ClipTraining<'a> {
    /// The name of its folder, and of the training.
    pub(super) name: &'static str,
    pub(super) part: &'a ClipPart,
    /// Seed of the canvas pictures that it learns from.
    pub(super) canvas_seed: u64,
    /// Whose words its vocabulary has. Pictures have their names alone; other words are read.
    pub(super) words: Language,
    /// Tokens of a prompt.
    pub(super) tokens: usize,
    pub(super) seed: u64,
}

impl ClipTraining<'_> {
    /// Trains it into a folder in `out`, where it is not there yet.
    ///
    /// # Errors
    /// Whatever stops the training.
    pub(super) fn run(
        &self,
        out: &Path,
        here: Compute,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let &Self { name, part, words, tokens, seed, .. } = self;
        let folder = out.join(name);
        let file = folder.join("model.safetensors");
        if file.exists() {
            return Ok(());
        }
        let vocabulary = vocabulary(words);
        vocabulary.save(&folder, tokens, END)?;
        let tokenizer = open_tokenizer(&folder, tokens)?;
        let config = part.config(vocabulary.size() as i64, tokens as i64);
        let model = Clip::new(&config, Builder::fresh(seed, here.device))?;
        model.parameters().train(true);
        let per_cell = part.training.per_cell;
        let images = CanvasImages::draw(self.canvas_seed, per_cell, Pose::Free, watch);
        let tokenize = |text: &str| tokenizer.encode(text).ids;
        let mut objective = ContrastiveObjective {
            name,
            clip: &model,
            images: &images,
            captions: CaptionIds::new(Language::Names, &tokenize, here.device),
            reading: (words != Language::Names)
                .then(|| WordReading::new(words, &tokenizer, here.device)),
            batch: part.training.batch,
            device: here.device,
        };
        let plan =
            TrainConfig { decay: 0.05, beta2: 0.98, ema: Some(0.999), ..part.training.plan(seed) };
        let state = out.join("training").join(name);
        let outcome = train(&mut objective, &plan, here, Some(&state), watch)?;
        let about = json!({"architectures": ["CLIPModel"], "model_type": "clip"});
        write_json(&folder.join("config.json"), &clip_json(&config, &about))?;
        write_json(&folder.join("preprocessor_config.json"), &preprocessor())?;
        ship(&file, model.parameters(), &outcome)
    }
}

/// Every word of every caption.
pub(super) fn vocabulary(language: Language) -> Vocabulary {
    let of = |style| Object::ALL.iter().flat_map(move |&object| captions(language, style, object));
    let all: Vec<String> =
        Style::ALL.iter().flat_map(|&style| of(style)).map(|caption| caption.text).collect();
    Vocabulary::of(all.iter().map(String::as_str), language.longest_token())
}

/// The tokenizer that was just written: there is nothing to be said about it.
pub(super) fn open_tokenizer(folder: &Path, tokens: usize) -> Result<Tokenizer, Error> {
    Tokenizer::open(folder, tokens, &mut Vec::new()).map_err(invalid)
}
