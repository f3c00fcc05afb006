//! `tokenizer.json`: words, merges and added tokens in one file.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};

use super::engine;
use super::tokenizer_config::{CALL, DescribedToken, KIND};
use crate::fields::{self, Class, Configuration, Field, Rule};

/// `tokenizer.json`, as far as it is read: how CLIP splits text is known here. The engine's own
/// reader would panic on some damaged files (tokenizers 0.23, `decoders/mod.rs`; found by fuzzing).
#[derive(Deserialize)]
pub(super) struct TokenizerJson {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedEntry>,
    pub(super) model: BytePairs,
}

/// A token that was added to the words, and its id.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AddedEntry {
    pub(super) id: i64,
    #[serde(flatten)]
    pub(super) token: DescribedToken,
}

/// The words and the merges of a byte-pair encoding.
#[derive(Deserialize)]
pub(super) struct BytePairs {
    #[serde(default)]
    vocab: std::collections::HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Two tokens: as a pair, or before tokenizers 0.20 as one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Configuration for TokenizerJson {
    const CLASS: Class = Class {
        name: "tokenizer.json",
        fields: &[&[
            ("version", Rule::Harmless("of the layout")),
            ("truncation", CALL),
            ("padding", CALL),
            ("added_tokens", Rule::Honoured),
            // What these are is looked at in `is_clip`.
            ("normalizer", Rule::Honoured),
            ("pre_tokenizer", Rule::Honoured),
            ("post_processor", Rule::Honoured),
            ("decoder", Rule::Harmless("of the way back to text")),
            ("model", Rule::Honoured),
        ]],
    };
}

const MODEL: &[Field] = &[
    ("type", Rule::Only(&["\"BPE\"", "null"], "CLIP's is a byte-pair encoding")),
    ("dropout", Rule::Only(&["null", "0"], KIND)),
    ("unk_token", Rule::Harmless("every byte has a token")),
    ("continuing_subword_prefix", Rule::Only(&["\"\"", "null"], KIND)),
    ("end_of_word_suffix", Rule::Only(&["\"</w>\""], KIND)),
    ("fuse_unk", Rule::Harmless("every byte has a token")),
    ("byte_fallback", Rule::Only(&["false", "null"], KIND)),
    ("ignore_merges", Rule::Only(&["false", "null"], KIND)),
    ("vocab", Rule::Honoured),
    ("merges", Rule::Honoured),
];

/// Goes through the fields of a `tokenizer.json`'s model. Those that are not known are added to
/// `notes`.
///
/// # Errors
/// What is no object, a field that is refused.
pub(super) fn check_model(
    json: &Value,
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<(), fields::Error> {
    fields::check(&Class { name: "BPE", fields: &[MODEL] }, &json["model"], path, notes)
}

/// Whether a `tokenizer.json` splits texts as CLIP does.
pub(super) fn is_clip(json: &Value) -> Result<(), String> {
    let known = [
        "Sequence",
        "NFC",
        "Replace",
        "Lowercase",
        "Split",
        "ByteLevel",
        "RobertaProcessing",
        "TemplateProcessing",
    ];
    for (part, wanted) in [
        ("normalizer", &["Lowercase"][..]),
        ("pre_tokenizer", &["Split", "ByteLevel"]),
        ("post_processor", &[]),
    ] {
        let mut types = Vec::new();
        types_in(&json[part], &mut types);
        // Damaged and old files without it have no other way to split than the known one.
        if json[part].is_null() {
            continue;
        }
        if let Some(strange) = types.iter().find(|kind| !known.contains(&kind.as_str())) {
            return Err(format!("its {part} is a {strange}, which CLIP's tokenizer does not have"));
        }
        let is_missing = |kind: &&&str| !types.iter().any(|found| found == **kind);
        if let Some(missing) = wanted.iter().find(is_missing) {
            return Err(format!("its {part} has no {missing}, which CLIP's tokenizer has"));
        }
    }
    Ok(())
}

/// Every `type` in a part of a `tokenizer.json`.
fn types_in(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            found.extend(fields.get("type").and_then(Value::as_str).map(str::to_owned));
            for key in ["normalizers", "pretokenizers", "processors"] {
                fields.get(key).into_iter().for_each(|inner| types_in(inner, found));
            }
        }
        Value::Array(all) => all.iter().for_each(|inner| types_in(inner, found)),
        _ => {}
    }
}

impl BytePairs {
    /// The byte-pair encoding for the engine.
    ///
    /// # Errors
    /// A merge of other than two tokens, merges of tokens that are not in the vocabulary.
    pub(super) fn build(self) -> Result<BPE, String> {
        let pair = |merge: Merge| match merge {
            Merge::Pair(a, b) => Ok((a, b)),
            Merge::Text(text) => text
                .split_once(' ')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .ok_or_else(|| format!("the merge `{text}` is no pair")),
        };
        let merges = self.merges.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        engine(self.vocab.into_iter().collect::<Vocab>(), merges).map_err(|error| error.to_string())
    }
}
