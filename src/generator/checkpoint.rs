//! A Stable Diffusion as it lies on the disk: weights under diffusers' names, configurations,
//! tokenizer. It comes from a diffusers folder or from a single file in `CompVis`' names.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::checkpoint_hints::CheckpointHints;
use super::folder::{COMPONENTS, canonical, open_weights, read_json};
use super::networks::{Networks, with_more_inputs};
use super::pipeline_class::ModelIndex;
use super::presets::{Configs, presets};
use crate::fields;
use crate::sampler::Prediction;
use crate::text::Tokenizer;
use crate::weights::{
    EmaChoice, SingleFile, View, Weights, current_vae_names, foreign_single_file, from_compvis,
    is_compvis, without_position_ids,
};

/// Where a model lies, and what a single file does not say by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// A diffusers folder, or a single file (`.safetensors`, `.ckpt`).
    pub path: PathBuf,
    /// Which of a single file's two sets of weights for the denoiser.
    #[serde(default)]
    pub ema: EmaChoice,
    /// A diffusers folder whose configuration and tokenizer belong to a single file, and the
    /// components that it lacks.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// What the UNet predicts, where the files do not say it or say it wrongly.
    #[serde(default)]
    pub prediction: Option<Prediction>,
}

/// By whom a setting comes that was given by the user.
const ASKED: &str = "was asked for";

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self { path: path.to_path_buf(), ..Self::default() }
    }
}

/// A model on the disk; its tensors are read when asked for.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) path: PathBuf,
    /// What it was opened with.
    pub(super) location: Location,
    pub(super) text_encoder: Weights,
    pub(super) unet: Weights,
    pub(super) vae: Weights,
    pub(super) configs: Configs,
    pub(super) networks: Networks,
    pub(super) tokenizer: Tokenizer,
    notes: Vec<String>,
    warnings: Vec<String>,
    hash: OnceCell<blake3::Hash>,
}

impl Checkpoint {
    /// Opens a folder or a single file.
    ///
    /// # Errors
    /// A folder, file or tensor that is missing or damaged; an architecture or a field of a
    /// configuration that is not built; settings that this kind of model does not have.
    pub fn open(location: &Location) -> Result<Self, Error> {
        let file = location.path.is_file();
        let opened = if file { Self::single_file(location) } else { Self::folder(location) }?;
        Ok(Self { location: location.clone(), ..opened })
    }

    fn folder(location: &Location) -> Result<Self, Error> {
        let root = &location.path;
        if location.ema != EmaChoice::Auto || location.config.is_some() {
            return Err(Error::Folder {
                path: root.clone(),
                why:
                    "it is a folder: it has one set of weights and its own configuration, so that \
                    ema and config do not fit; leave them out"
                        .to_owned(),
            });
        }
        let mut notes = Vec::new();
        let mut configs = configs(root, &mut notes)?;
        notes.extend(location.prediction.and_then(|wanted| configs.set_prediction(wanted, ASKED)));
        let networks = Networks::of(&configs, root, &mut notes)?;
        let longest = networks.text.max_position_embeddings as usize;
        let tokenizer = Tokenizer::open(&root.join("tokenizer"), longest, &mut notes)?;
        let [text_encoder, unet, vae] = COMPONENTS;
        let mut open = |component| open_weights(root, component, &mut notes);
        let (text_encoder, unet, vae) = (prefixed(open(text_encoder)?)?, open(unet)?, open(vae)?);
        let parts = SingleFile { text_encoder, unet, vae, averages: None, left: Vec::new() };
        let opened = Self::of(parts, configs, networks, tokenizer, notes)?;
        Ok(Self { path: canonical(root), ..opened })
    }

    fn single_file(location: &Location) -> Result<Self, Error> {
        let path = &location.path;
        let file = Weights::open(path)?;
        let wrong = |why: String| Error::Folder { path: path.clone(), why };
        if let Some(kind) = foreign_single_file(&file) {
            return Err(wrong(format!("it is {kind}; Stable Diffusion 1.x and 2.x can be loaded")));
        }
        if !is_compvis(&file) {
            let some: Vec<&str> = file.names().take(3).collect();
            return Err(wrong(format!(
                "it is a single file without a UNet under CompVis' names \
                 (model.diffusion_model.…); it has {}, …; a file with a part of a model goes on a \
                 base, with --edit",
                some.join(", ")
            )));
        }
        let (mut notes, mut warnings) = (Vec::new(), Vec::new());
        let mut parts = from_compvis(&file, location.ema)?;
        warnings.extend(parts.averages.as_ref().and_then(|averages| averages.warning(path)));
        if let Some(info) = parts.unet.info("conv_in.weight")
            && let [_, channels @ (5 | 7 | 8 | 9), ..] = info.shape[..]
        {
            return Err(wrong(format!(
                "its UNet sees {channels} channels: {}",
                with_more_inputs(channels)
            )));
        }
        take_missing(&mut parts, location, &mut notes)?;
        let hints = CheckpointHints::of(&file, path)?;
        let (configs, root) = if let Some(folder) = &location.config {
            let mut configs = configs(folder, &mut notes)?;
            notes.extend(
                location.prediction.and_then(|wanted| configs.set_prediction(wanted, ASKED)),
            );
            warnings.extend(hints.apply_to(&mut configs, location.prediction));
            (configs, folder.clone())
        } else {
            hints.check_schedule()?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let configs =
                presets(&parts, &name, location.prediction.or(hints.prediction), hints.zero_snr)?;
            notes.extend(hints.notes(path, &configs, location.prediction));
            (configs, path.clone())
        };
        let networks = Networks::of(&configs, &root, &mut notes)?;
        let tokenizer = match &location.config {
            Some(folder) => {
                let longest = networks.text.max_position_embeddings as usize;
                Tokenizer::open(&folder.join("tokenizer"), longest, &mut notes)?
            }
            None => Tokenizer::clip(configs.pad())?,
        };
        if !parts.left.is_empty() {
            notes.push(unused(path, "the file", &parts.left));
        }
        let opened = Self::of(parts, configs, networks, tokenizer, notes)?;
        Ok(Self { path: canonical(path), warnings, ..opened })
    }

    /// One name and one form for each tensor, wherever they came from, so that the same weights
    /// have one hash, and an edit of one fits the other.
    fn of(
        parts: SingleFile,
        configs: Configs,
        networks: Networks,
        tokenizer: Tokenizer,
        mut notes: Vec<String>,
    ) -> Result<Self, Error> {
        let text_encoder = without_position_ids(&parts.text_encoder, &mut notes)?;
        Ok(Self {
            path: PathBuf::new(),
            location: Location::default(),
            text_encoder,
            unet: parts.unet,
            vae: current_vae_names(&parts.vae)?,
            configs,
            networks,
            tokenizer,
            notes,
            warnings: Vec::new(),
            hash: OnceCell::new(),
        })
    }

    /// Opens a model that was hashed before: to read gigabytes once more would tell nothing new.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_hashed(location: &Location, hash: blake3::Hash) -> Result<Self, Error> {
        Ok(Self { hash: hash.into(), ..Self::open(location)? })
    }

    /// The hash that names a base model: over the weights of its components. It does not depend on
    /// how they are divided among files, or on the files' formats.
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

    /// A hash of all beside the weights that decides what the model draws.
    pub fn settings(&self) -> String {
        blake3::hash(self.all_settings().to_string().as_bytes()).to_hex().to_string()
    }

    /// Configurations, schedule, tokenizer.
    fn all_settings(&self) -> Value {
        let Networks { text, unet, vae, scheduler } = &self.networks;
        json!({
            "text_encoder": text, "unet": unet, "vae": vae, "scheduler": scheduler,
            "tokenizer": { "vocabulary": self.tokenizer.fingerprint() },
        })
    }

    /// Fields in which another model's settings are other than these, as
    /// `scheduler.prediction_type`.
    pub(super) fn other_settings(&self, other: &Self) -> Vec<String> {
        let (these, others) = (self.all_settings(), other.all_settings());
        let of_component = |(component, fields): (&String, &Value)| {
            let names = fields.as_object().into_iter().flat_map(serde_json::Map::keys);
            names
                .filter(|name| these[component][name.as_str()] != fields[name.as_str()])
                .map(|name| format!("{component}.{name}"))
                .collect::<Vec<_>>()
        };
        others.as_object().into_iter().flatten().flat_map(of_component).collect()
    }

    /// Its components' folders and weights.
    pub fn components(&self) -> [(&'static str, &Weights); 3] {
        [("text_encoder", &self.text_encoder), ("unet", &self.unet), ("vae", &self.vae)]
    }

    /// Pixels to one latent, on a side.
    pub(super) fn factor(&self) -> i64 {
        1 << (self.networks.vae.block_out_channels.len().clamp(1, 8) - 1)
    }

    /// What was chosen, assumed or ignored while it was opened.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What was chosen and may well be the wrong choice.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Takes the components that a single file lacks from the folder that is named for it.
fn take_missing(
    parts: &mut SingleFile,
    location: &Location,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let path = &location.path;
    for (component, weights) in [("text_encoder", &mut parts.text_encoder), ("vae", &mut parts.vae)]
    {
        if !weights.is_empty() {
            continue;
        }
        let what = if component == "vae" { "autoencoder" } else { "text encoder" };
        let Some(folder) = &location.config else {
            return Err(Error::Folder {
                path: path.clone(),
                why: format!(
                    "it has no {what}; name a diffusers folder whose {what} is taken, with \
                     --config (config in a pipeline)"
                ),
            });
        };
        *weights = open_weights(folder, component, notes)?;
        notes.push(format!(
            "{} has no {what}; the one in {} is taken",
            path.display(),
            folder.join(component).display()
        ));
    }
    Ok(())
}

/// What is said of tensors that nothing uses.
pub(super) fn unused(path: &Path, what: &str, names: &[String]) -> String {
    let some: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    let more = if names.len() > some.len() { ", …" } else { "" };
    format!(
        "{}: {} tensor{} of {what} {} used by nothing: {}{more}",
        path.display(),
        names.len(),
        if names.len() == 1 { "" } else { "s" },
        if names.len() == 1 { "is" } else { "are" },
        some.join(", ")
    )
}

/// A text encoder under the names that all versions but transformers 5 write, and without what no
/// text encoder has.
fn prefixed(weights: Weights) -> Result<Weights, Error> {
    if !weights.contains("embeddings.token_embedding.weight") {
        return Ok(weights);
    }
    Ok(weights.renamed(|name| vec![(format!("text_model.{name}"), View::Whole)])?)
}

/// Reads a folder's configurations. What `model_index.json` says of the scheduler's class counts,
/// as in diffusers.
fn configs(root: &Path, notes: &mut Vec<String>) -> Result<Configs, Error> {
    let index: ModelIndex =
        fields::read(&read_json(root, "model_index.json")?, &root.join("model_index.json"), notes)?;
    let mut scheduler: Value = read_json(root, "scheduler/scheduler_config.json")?;
    if let Some(class) = index.scheduler()
        && scheduler["_class_name"] != class
        && scheduler.is_object()
    {
        if let Some(said) = scheduler["_class_name"].as_str() {
            notes.push(format!(
                "{}: model_index.json makes it a {class}, as diffusers does; scheduler_config.json \
                 says {said}",
                root.display()
            ));
        }
        scheduler["_class_name"] = class.into();
    }
    Ok(Configs {
        text_encoder: read_json(root, "text_encoder/config.json")?,
        unet: read_json(root, "unet/config.json")?,
        vae: read_json(root, "vae/config.json")?,
        scheduler,
    })
}
