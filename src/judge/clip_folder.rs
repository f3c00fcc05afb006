//! What both eyes read of a CLIP's folder.

use std::path::{Path, PathBuf};

use super::Error;
use super::preprocess::Preprocess;
use crate::model::clip::Config;
use crate::text::Tokenizer;
use crate::weights::Weights;

/// The file of its weights.
const WEIGHTS: &str = "model.safetensors";

pub(super) struct ClipFolder {
    pub(super) config: Config,
    pub(super) tokenizer: Tokenizer,
    pub(super) preprocess: Preprocess,
    pub(super) weights: PathBuf,
}

impl ClipFolder {
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Folder { path: folder.to_path_buf(), why };
        let text = fs_err::read_to_string(folder.join("config.json"))
            .map_err(|error| wrong(format!("config.json cannot be read ({})", error.kind())))?;
        let config: Config =
            serde_json::from_str(&text).map_err(|error| wrong(format!("config.json: {error}")))?;
        let preprocess = Preprocess::open(folder, config.vision_config.image_size)?;
        let tokenizer = Tokenizer::open(folder)?;
        Ok(Self { config, tokenizer, preprocess, weights: folder.join(WEIGHTS) })
    }

    pub(super) fn ids(&self, texts: &[String]) -> Vec<Vec<i64>> {
        let longest = self.config.text_config.max_position_embeddings as usize;
        texts
            .iter()
            .map(|text| {
                let mut ids = self.tokenizer.encode(text).ids;
                ids.truncate(longest);
                ids
            })
            .collect()
    }
}

pub(super) fn hash(folder: &Path) -> Result<String, Error> {
    Ok(Weights::open(&folder.join(WEIGHTS))?.hash()?.to_hex().to_string())
}

/// The files of a CLIP among all of a repository, where configuration, tokenizer and weights lie side by side. None
/// where there is no CLIP.
pub fn needed(files: &[String]) -> Vec<String> {
    let names: Vec<&str> = files.iter().map(String::as_str).filter(|file| !file.contains('/')).collect();
    if !names.contains(&WEIGHTS) || !names.contains(&"config.json") {
        return Vec::new();
    }
    let wanted = [
        WEIGHTS,
        "config.json",
        "preprocessor_config.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ];
    names.into_iter().filter(|name| wanted.contains(name)).map(str::to_owned).collect()
}
