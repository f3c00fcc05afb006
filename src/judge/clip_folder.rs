//! What both encoders read of a CLIP's folder.

use std::path::{Path, PathBuf};

use super::Error;
use super::preprocess::Preprocess;
use crate::fields;
use crate::model::clip::ClipConfig;
use crate::text::Tokenizer;
use crate::weights::{Weights, missing_shards, weight_files, without_position_ids};

/// Which CLIP it is, and what was assumed or ignored while it was read.
#[derive(Debug, Clone)]
pub struct ClipSource {
    /// Its folder.
    pub path: PathBuf,
    /// Hash of its weights.
    pub hash: String,
    /// Hash of all that decides what it says: weights, configuration, preprocessing, tokenizer.
    pub fingerprint: String,
    /// What the user should know.
    pub notes: Vec<String>,
}

pub(super) struct ClipFolder {
    pub(super) config: ClipConfig,
    pub(super) tokenizer: Tokenizer,
    pub(super) preprocess: Preprocess,
    pub(super) source: ClipSource,
}

impl ClipFolder {
    /// Opens the folder and its weights.
    pub(super) fn open(folder: &Path) -> Result<(Self, Weights), Error> {
        let wrong = |why: String| Error::Folder { path: folder.to_path_buf(), why };
        let file = folder.join("config.json");
        if !file.is_file() {
            return Err(wrong("config.json is missing".to_owned()));
        }
        let mut notes = Vec::new();
        let config = ClipConfig::read(&fields::open(&file)?, &file, &mut notes)?;
        let preprocess = Preprocess::open(folder, config.vision_config.image_size, &mut notes)?;
        let longest = config.text_config.max_position_embeddings as usize;
        let tokenizer = Tokenizer::open(folder, longest, &mut notes)?;
        let end = config.text_config.eos_token_id;
        if let Some(end) = end.filter(|&end| end != 2 && end != tokenizer.end()) {
            return Err(wrong(format!(
                "eos_token_id in config.json is {end}, the tokenizer's end token is {}; do both \
                 files belong together?",
                tokenizer.end()
            )));
        }
        if tokenizer.highest() > tokenizer.end() {
            return Err(wrong(
                "its tokenizer has words of higher ids than the end token, by which a text's \
                 features are found here; take the folder without added tokens"
                    .to_owned(),
            ));
        }
        let weights = Weights::open_folder(folder, &mut notes)?.ok_or_else(|| {
            wrong("its weights are missing (model.safetensors or pytorch_model.bin)".to_owned())
        })?;
        let weights = without_position_ids(&weights, &mut notes)?;
        let hash = weights.hash()?.to_hex().to_string();
        let all = serde_json::json!({
            "weights": hash,
            "config": config,
            "preprocess": preprocess,
            "tokenizer": tokenizer.fingerprint(),
        });
        let fingerprint = blake3::hash(all.to_string().as_bytes()).to_hex().to_string();
        let source = ClipSource { path: fs_err::canonicalize(folder)?, hash, fingerprint, notes };
        Ok((Self { config, tokenizer, preprocess, source }, weights))
    }

    pub(super) fn ids(&self, texts: &[String]) -> Vec<Vec<i64>> {
        texts.iter().map(|text| self.tokenizer.encode(text).ids).collect()
    }
}

/// What a whole CLIP would have beside the files that are there.
pub fn lacking(files: &[String]) -> Vec<String> {
    let names: Vec<&str> =
        files.iter().map(String::as_str).filter(|file| !file.contains('/')).collect();
    let weights = weight_files(&names);
    let mut lacking = missing_shards(&weights);
    if weights.is_empty() {
        lacking.push("model.safetensors".to_owned());
    }
    if !names.contains(&"tokenizer.json") {
        let wanted = ["vocab.json", "merges.txt"].into_iter().filter(|file| !names.contains(file));
        lacking.extend(wanted.map(str::to_owned));
    }
    lacking
}

/// The files of a CLIP among all of a repository, where configuration, tokenizer and weights lie
/// side by side. None where there is no CLIP.
pub fn needed(files: &[String]) -> Vec<String> {
    let names: Vec<&str> =
        files.iter().map(String::as_str).filter(|file| !file.contains('/')).collect();
    let weights = weight_files(&names);
    if weights.is_empty() || !names.contains(&"config.json") {
        return Vec::new();
    }
    let wanted = [
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "added_tokens.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ];
    names
        .iter()
        .filter(|name| wanted.contains(name) || weights.contains(name))
        .map(|&name| name.to_owned())
        .collect()
}
