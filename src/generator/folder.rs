//! A diffusers folder: which components there are, and which of a repository's files belong to it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Error;
use crate::fields;
use crate::weights::{Weights, missing_shards, weight_files};

/// The folders of a Stable Diffusion's components that have weights and are needed.
pub(super) const COMPONENTS: [&str; 3] = ["text_encoder", "unet", "vae"];
/// A component that some have, beside those.
const CHECKER: &str = "safety_checker";
/// Folders of text.
const TEXTS: [&str; 3] = ["tokenizer", "scheduler", "feature_extractor"];

/// The files of a Stable Diffusion among all of a repository: configurations, tokenizer, and of
/// each component's weights one kind. None where there is no UNet.
pub fn needed(files: &[String]) -> Vec<String> {
    if weight_files(&inside(files, "unet")).is_empty() {
        return Vec::new();
    }
    let mut found: Vec<String> =
        files.iter().filter(|file| *file == "model_index.json").cloned().collect();
    for folder in COMPONENTS.into_iter().chain([CHECKER]).chain(TEXTS) {
        let files = inside(files, folder);
        let text = |name: &&&str| {
            [".json", ".txt"].iter().any(|end| name.ends_with(end)) && !name.contains(".index.")
        };
        let weights = if TEXTS.contains(&folder) { Vec::new() } else { weight_files(&files) };
        let names = files.iter().filter(text).copied().chain(weights);
        found.extend(names.map(|name| format!("{folder}/{name}")));
    }
    found
}

/// What a whole Stable Diffusion would have beside the files that are there.
pub fn lacking(files: &[String]) -> Vec<String> {
    let mut lacking = Vec::new();
    for component in COMPONENTS {
        let there = inside(files, component);
        if !there.contains(&"config.json") {
            lacking.push(format!("{component}/config.json"));
        }
        match weight_files(&there).as_slice() {
            [] => lacking.push(format!("{component}/{}", weights_file(component))),
            some => {
                lacking.extend(
                    missing_shards(some).into_iter().map(|shard| format!("{component}/{shard}")),
                );
            }
        }
    }
    let tokenizer = inside(files, "tokenizer");
    if !tokenizer.contains(&"tokenizer.json") {
        let wanted =
            ["vocab.json", "merges.txt"].into_iter().filter(|file| !tokenizer.contains(file));
        lacking.extend(wanted.map(|file| format!("tokenizer/{file}")));
    }
    if !inside(files, "scheduler").contains(&"scheduler_config.json") {
        lacking.push("scheduler/scheduler_config.json".to_owned());
    }
    lacking
}

/// The file that holds a component's weights where it is written here: transformers' word, or
/// diffusers'.
pub(super) fn weights_file(component: &str) -> &'static str {
    if component == "text_encoder" {
        "model.safetensors"
    } else {
        "diffusion_pytorch_model.safetensors"
    }
}

/// The names of the files that lie right in a folder.
fn inside<'a>(files: &'a [String], folder: &str) -> Vec<&'a str> {
    let name = |file: &'a String| file.strip_prefix(folder)?.strip_prefix('/');
    files.iter().filter_map(name).filter(|name| !name.contains('/')).collect()
}

/// Reads a JSON file of the folder.
pub(super) fn read_json(root: &Path, file: &str) -> Result<Value, Error> {
    let path = root.join(file);
    fs_err::metadata(&path).map_err(|error| missing(root, file, &error))?;
    Ok(fields::open(&path)?)
}

/// Opens a component's weights.
///
/// # Errors
/// A file that is missing or damaged.
pub(super) fn open_weights(
    root: &Path,
    component: &str,
    notes: &mut Vec<String>,
) -> Result<Weights, Error> {
    let folder = root.join(component);
    if folder.is_dir()
        && let Some(weights) = Weights::open_folder(&folder, notes)?
    {
        return Ok(weights);
    }
    let mut there: Vec<String> = fs_err::read_dir(&folder)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    there.sort();
    let there =
        if there.is_empty() { "nothing is".to_owned() } else { format!("{} is", there.join(", ")) };
    Err(Error::Folder {
        path: root.to_path_buf(),
        why: format!("`{component}/{}` is missing ({there} there)", weights_file(component)),
    })
}

/// Says what a folder lacks, and which folder was perhaps meant.
fn missing(root: &Path, file: &str, error: &std::io::Error) -> Error {
    if root.is_dir() {
        return Error::Folder {
            path: root.to_path_buf(),
            why: format!("`{file}` cannot be read ({})", error.kind()),
        };
    }
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nearest = fs_err::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("model_index.json").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .max_by(|a, b| strsim::jaro_winkler(a, &name).total_cmp(&strsim::jaro_winkler(b, &name)));
    Error::Folder {
        path: root.to_path_buf(),
        why: match nearest {
            Some(nearest) => {
                format!("there is no such folder; did you mean {}?", parent.join(nearest).display())
            }
            None => {
                "there is no such folder; give a diffusers folder with model_index.json".to_owned()
            }
        },
    }
}

/// Canonical, so that cards do not depend on how a path was typed.
pub(super) fn canonical(root: &Path) -> PathBuf {
    fs_err::canonicalize(root).unwrap_or_else(|_| root.to_path_buf())
}
