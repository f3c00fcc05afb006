//! What can be wrong with weights.

use std::path::{Path, PathBuf};

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file without a `StyleGAN2` that could be read.
    #[error("{path} holds no StyleGAN2 that can be used: {why}")]
    NoStyleGan {
        /// The file.
        path: PathBuf,
        /// What it is or lacks.
        why: String,
    },
    /// A file of no known format, or a damaged one.
    #[error("{path} is no sound file of weights: {why}; was it cut off while it was copied?")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        why: String,
    },
    /// An index of shards that cannot be followed.
    #[error("{path} cannot be followed: {why}")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A pickle that wants to use a class or function which is not tensors' own.
    #[error(
        "{path} wants to use `{name}`, which is not tensors' own; nothing in a file of weights is ever executed, so it is refused: look for the same weights as safetensors"
    )]
    Refused {
        /// The class or function.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A number type that no network here uses.
    #[error("`{name}` in {path} is {dtype}, which cannot be read")]
    Dtype {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its type in the file.
        dtype: String,
    },
    /// A tensor that should be there.
    #[error("`{name}` is missing in {path}{hint}")]
    Missing {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is there instead.
        hint: String,
    },
    /// A tensor that another program has no name for.
    #[error("`{name}` has no name in {dialect}'s files")]
    Unnamed {
        /// The tensor.
        name: String,
        /// The other program.
        dialect: &'static str,
    },
    /// An edit that belongs to another model.
    #[error(
        "the edit was made for the base model {wanted}, this is {found}; erase again on this model, or load the other one"
    )]
    OtherBase {
        /// The edit's.
        wanted: String,
        /// This model's.
        found: String,
    },
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

impl Error {
    pub(super) fn no_stylegan(path: &Path, why: impl Into<String>) -> Self {
        Self::NoStyleGan { path: path.to_path_buf(), why: why.into() }
    }

    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), why: why.into() }
    }

    /// An edit of the base `wanted` on the base `found`, both hashes.
    pub fn other_base(wanted: &str, found: &str) -> Self {
        let short = |hash: &str| hash.chars().take(12).collect();
        Self::OtherBase { wanted: short(wanted), found: short(found) }
    }

    pub(super) fn missing(name: &str, path: &Path) -> Self {
        Self::Missing { name: name.to_owned(), path: path.to_path_buf(), hint: String::new() }
    }
}
