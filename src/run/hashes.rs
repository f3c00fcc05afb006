//! Hashes of what a run depends on.

use std::path::Path;

use super::Error;
use crate::generator::{Adapter, Checkpoint};
use crate::pictures::list_deep;
use crate::weights::adapter_file;

/// The hash of a model with files on it: the base's, and theirs with their strengths.
///
/// # Errors
/// A file that cannot be read.
pub fn hash_with(base: &str, edits: &[Adapter]) -> Result<String, Error> {
    edits.iter().try_fold(base.to_owned(), |hash, adapter| {
        let content = content_hash(&adapter.path)?;
        Ok(hash_with_content(&hash, &content.to_hex(), adapter.strength))
    })
}

/// The same with one file more, whose content has this hash.
pub fn hash_with_content(base: &str, content: &str, strength: f64) -> String {
    format!("{base}+{content}@{strength}")
}

/// A hash over a file's bytes, over a folder's model, or over an adapter's folder.
///
/// # Errors
/// A file that cannot be read.
pub fn content_hash(path: &Path) -> Result<blake3::Hash, Error> {
    let mut content = blake3::Hasher::new();
    let mut add = |path: &Path| -> Result<(), Error> {
        content.update_reader(fs_err::File::open(path)?)?;
        Ok(())
    };
    if !path.is_dir() {
        add(path)?;
    } else if let Some(file) = adapter_file(path) {
        let settings = path.join("adapter_config.json");
        add(&file)?;
        if settings.is_file() {
            add(&settings)?;
        }
    } else {
        return Ok(Checkpoint::open(&path.into())?.hash()?);
    }
    Ok(content.finalize())
}

/// A hash over all pictures in a folder and the folders in it, with their names and captions.
///
/// # Errors
/// A file that cannot be read.
pub fn pictures_hash(folder: &Path) -> Result<String, Error> {
    let mut content = blake3::Hasher::new();
    for file in list_deep(folder)?.files {
        let caption = file.with_extension("txt");
        for file in [Some(file), caption.is_file().then_some(caption)].into_iter().flatten() {
            content.update(file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().as_bytes());
            content.update_reader(fs_err::File::open(file)?)?;
        }
    }
    Ok(content.finalize().to_hex().to_string())
}
