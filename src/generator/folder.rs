//! A diffusers folder: which components there are and which files hold their weights.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::Error;
use crate::weights::Weights;

/// A component of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Component {
    /// Its sub-folder.
    pub(super) folder: &'static str,
    /// Its safetensors file, without the extension.
    pub(super) stem: &'static str,
    /// Its pickle, without `.bin`.
    pub(super) pickle: &'static str,
}

/// The components of a Stable Diffusion that have weights.
pub(super) fn components() -> [Component; 3] {
    let diffusers = "diffusion_pytorch_model";
    [
        Component { folder: "text_encoder", stem: "model", pickle: "pytorch_model" },
        Component { folder: "unet", stem: diffusers, pickle: diffusers },
        Component { folder: "vae", stem: diffusers, pickle: diffusers },
    ]
}

/// Reads a JSON file of the folder.
pub(super) fn read_json<T: DeserializeOwned>(root: &Path, file: &str) -> Result<T, Error> {
    let path = root.join(file);
    let text = fs_err::read_to_string(&path).map_err(|error| missing(root, file, &error))?;
    serde_json::from_str(&text).map_err(|error| Error::Config { path, why: error.to_string() })
}

/// Opens a component's weights: one file or shards with an index, in full precision before `fp16`, safetensors
/// before pickles.
///
/// # Errors
/// A file that is missing or damaged.
pub(super) fn open_weights(root: &Path, component: Component) -> Result<Weights, Error> {
    let folder = root.join(component.folder);
    for variant in ["", ".fp16"] {
        for (stem, kind) in [(component.stem, "safetensors"), (component.pickle, "bin")] {
            let whole = folder.join(format!("{stem}{variant}.{kind}"));
            if whole.exists() {
                return Ok(Weights::open(&whole)?);
            }
            // diffusers puts the variant before `.json` or before the kind, by its version.
            for index in [format!("{kind}.index{variant}.json"), format!("{variant}.{kind}.index.json")] {
                let index = folder.join(format!("{stem}.{}", index.trim_start_matches('.')));
                if index.exists() {
                    return Ok(Weights::open_sharded(&index)?);
                }
            }
        }
    }
    let mut there: Vec<String> = fs_err::read_dir(&folder)
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    there.sort();
    let there = if there.is_empty() { "nothing is".to_owned() } else { format!("{} is", there.join(", ")) };
    Err(Error::Folder {
        path: root.to_path_buf(),
        why: format!("`{}/{}.safetensors` is missing ({there} there)", component.folder, component.stem),
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
            None => "there is no such folder; give a diffusers folder with model_index.json".to_owned(),
        },
    }
}

/// Canonical, so that cards do not depend on how a path was typed.
pub(super) fn canonical(root: &Path) -> PathBuf {
    fs_err::canonicalize(root).unwrap_or_else(|_| root.to_path_buf())
}
