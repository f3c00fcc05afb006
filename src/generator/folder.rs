//! A diffusers folder: which components there are and which files hold their weights.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::Error;
use crate::weights::Weights;

/// A component of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Its sub-folder.
    pub folder: &'static str,
    /// Its weights' file, without the extension.
    pub stem: &'static str,
}

/// The components of a Stable Diffusion that have weights.
pub fn components() -> [Component; 3] {
    [
        Component { folder: "text_encoder", stem: "model" },
        Component { folder: "unet", stem: "diffusion_pytorch_model" },
        Component { folder: "vae", stem: "diffusion_pytorch_model" },
    ]
}

/// Reads a JSON file of the folder.
pub(super) fn read_json<T: DeserializeOwned>(root: &Path, file: &str) -> Result<T, Error> {
    let path = root.join(file);
    let text = fs_err::read_to_string(&path).map_err(|error| missing(root, file, &error))?;
    serde_json::from_str(&text).map_err(|error| Error::Config { path, why: error.to_string() })
}

/// Opens a component's weights: one file or shards with an index, in full precision where both kinds are
/// there, else as `fp16`.
///
/// # Errors
/// A file that is missing or damaged.
pub fn open_weights(root: &Path, component: Component) -> Result<Weights, Error> {
    let folder = root.join(component.folder);
    let stem = component.stem;
    for (name, sharded) in [
        (format!("{stem}.safetensors"), false),
        (format!("{stem}.safetensors.index.json"), true),
        (format!("{stem}.fp16.safetensors"), false),
        (format!("{stem}.safetensors.index.fp16.json"), true),
        (format!("{stem}.fp16.safetensors.index.json"), true),
    ] {
        let path = folder.join(name);
        if path.exists() {
            return Ok(if sharded { Weights::open_sharded(&path)? } else { Weights::open(&path)? });
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
        why: format!("`{}/{stem}.safetensors` is missing ({there} there)", component.folder),
    })
}

/// The hash that names a base model: over the weights of its components, in their order.
pub fn base_hash<'a>(components: impl IntoIterator<Item = &'a Weights>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for weights in components {
        hasher.update(weights.hash().as_bytes());
    }
    hasher.finalize()
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
