//! A Stable Diffusion as it lies on the disk: weights under diffusers' names, configurations, tokenizer. It comes
//! from a diffusers folder or from a single file in `CompVis`' names.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use super::folder::{COMPONENTS, canonical, open_weights, read_json};
use super::presets::{Configs, presets};
use crate::sampler::Prediction;
use crate::text::Tokenizer;
use crate::weights::{Ema, View, Weights, from_compvis, is_compvis};

/// Where a model lies, and what a single file does not say by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// A diffusers folder, or a single file (`.safetensors`, `.ckpt`).
    pub path: PathBuf,
    /// Which of a single file's two sets of weights for the denoiser.
    #[serde(default)]
    pub ema: Ema,
    /// A diffusers folder whose configuration and tokenizer belong to a single file.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// What a single file's UNet predicts.
    #[serde(default)]
    pub prediction: Option<Prediction>,
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self { path: path.to_path_buf(), ..Self::default() }
    }
}

/// A model on the disk; its tensors are read when asked for.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) path: PathBuf,
    pub(super) text_encoder: Weights,
    pub(super) unet: Weights,
    pub(super) vae: Weights,
    pub(super) configs: Configs,
    pub(super) tokenizer: Tokenizer,
    /// Where a single file's configuration came from.
    pub(super) config_folder: Option<PathBuf>,
    note: Option<String>,
    hash: OnceCell<blake3::Hash>,
}

impl Checkpoint {
    /// Opens a folder or a single file.
    ///
    /// # Errors
    /// A folder, file or tensor that is missing or damaged; a single file of an architecture that is not known.
    pub fn open(location: &Location) -> Result<Self, Error> {
        if location.path.is_file() { Self::single_file(location) } else { Self::folder(&location.path) }
    }

    fn folder(root: &Path) -> Result<Self, Error> {
        let index: Value = read_json(root, "model_index.json")?;
        if let Some(class) = index["_class_name"].as_str()
            && !class.starts_with("StableDiffusion")
        {
            return Err(Error::Folder {
                path: root.to_path_buf(),
                why: format!("model_index.json speaks of a {class}; StableDiffusionPipeline can be loaded"),
            });
        }
        let [text_encoder, unet, vae] = COMPONENTS;
        let open = |component| open_weights(root, component);
        Ok(Self {
            path: canonical(root),
            text_encoder: prefixed(open(text_encoder)?)?,
            unet: open(unet)?,
            vae: open(vae)?,
            configs: configs(root)?,
            tokenizer: Tokenizer::open(&root.join("tokenizer"))?,
            config_folder: None,
            note: None,
            hash: OnceCell::new(),
        })
    }

    fn single_file(location: &Location) -> Result<Self, Error> {
        let path = &location.path;
        let file = Weights::open(path)?;
        if !is_compvis(&file) {
            let some: Vec<&str> = file.names().take(3).collect();
            return Err(Error::Folder {
                path: path.clone(),
                why: format!(
                    "it is a single file without a UNet under CompVis' names (model.diffusion_model.…); it has {}, …; a file with a part of a model goes on a base, with --edit",
                    some.join(", ")
                ),
            });
        }
        let parts = from_compvis(&file, location.ema)?;
        let mut note = parts.averaged.then(|| "the UNet's averaged (EMA) weights were taken".to_owned());
        let (mut configs, tokenizer) = if let Some(folder) = &location.config {
            (configs(folder)?, Tokenizer::open(&folder.join("tokenizer"))?)
        } else {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let velocity = location.prediction.map(|prediction| prediction == Prediction::VPrediction);
            let (configs, tokenizer) = presets(&parts, &name, velocity)?;
            if velocity.is_none() && configs.is_second() {
                let what = if configs.predicts_velocity() { "velocities" } else { "noise" };
                let guess = format!(
                    "{name} is taken for a Stable Diffusion 2.x that predicts {what}, by its name; if pictures are garbage, say --prediction"
                );
                note = Some(note.map_or(guess.clone(), |note| format!("{note}; {guess}")));
            }
            (configs, tokenizer)
        };
        if let Some(prediction) = location.prediction {
            configs.scheduler["prediction_type"] = serde_json::to_value(prediction).unwrap_or_default();
        }
        Ok(Self {
            path: canonical(path),
            text_encoder: parts.text_encoder,
            unet: parts.unet,
            vae: parts.vae,
            configs,
            tokenizer,
            config_folder: location.config.clone(),
            note,
            hash: OnceCell::new(),
        })
    }

    /// The hash that names a base model: over the weights of its components. It does not depend on how they are
    /// divided among files, or on the files' formats.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn hash(&self) -> Result<blake3::Hash, Error> {
        // Over gigabytes, and asked for more than once.
        if let Some(hash) = self.hash.get() {
            return Ok(*hash);
        }
        let mut hasher = blake3::Hasher::new();
        for (_, weights) in self.components() {
            hasher.update(weights.hash()?.as_bytes());
        }
        Ok(*self.hash.get_or_init(|| hasher.finalize()))
    }

    /// Its components' folders and weights.
    pub fn components(&self) -> [(&'static str, &Weights); 3] {
        [("text_encoder", &self.text_encoder), ("unet", &self.unet), ("vae", &self.vae)]
    }

    /// Pixels to one latent, on a side.
    pub(super) fn factor(&self) -> i64 {
        let levels = self.configs.vae["block_out_channels"].as_array().map_or(4, Vec::len);
        1 << (levels.clamp(1, 8) - 1)
    }

    /// What was chosen while it was opened and the user should know.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

/// A text encoder under the names that all versions but transformers 5 write, so that the same weights have one
/// hash, and an edit of one folder fits the other.
fn prefixed(weights: Weights) -> Result<Weights, Error> {
    if !weights.contains("embeddings.token_embedding.weight") {
        return Ok(weights);
    }
    Ok(weights.renamed(|name| vec![(format!("text_model.{name}"), View::Whole)])?)
}

fn configs(root: &Path) -> Result<Configs, Error> {
    Ok(Configs {
        text_encoder: read_json(root, "text_encoder/config.json")?,
        unet: read_json(root, "unet/config.json")?,
        vae: read_json(root, "vae/config.json")?,
        scheduler: read_json(root, "scheduler/scheduler_config.json")?,
    })
}
