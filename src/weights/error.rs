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
    /// A sound file that cannot be used for what was asked.
    #[error("{path}: {why}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file of the program's own that is not what was written.
    #[error("{path}: {why}; {advice}")]
    Spoilt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What may be done.
        advice: String,
    },
    /// What stands in a repository in place of a large file.
    #[error(
        "{0} is a git-lfs pointer and not the file itself: run `git lfs pull` where it was cloned, \
         or `unsee pull ORGANISATION/NAME`"
    )]
    Pointer(PathBuf),
    /// Weights that are no numbers.
    #[error(
        "`{name}` in {path} has {count} numbers that are NaN or infinite: it is damaged, or was \
         spoilt in training; take another copy"
    )]
    NotFinite {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// How many of its numbers.
        count: i64,
    },
    /// An edit that is no set of numbers.
    #[error(
        "the edit's `{name}` has {count} numbers that are NaN or infinite, so it is not taken; \
         where it was just learned, lower the learning rate or use --precision f32"
    )]
    Spoiled {
        /// The tensor.
        name: String,
        /// How many of its numbers.
        count: i64,
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
        "{path} wants to use `{name}`, which is not tensors' own; nothing in a file of weights is \
         ever executed, so it is refused: look for the same weights as safetensors"
    )]
    Refused {
        /// The class or function.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A number type that no network here uses.
    #[error(
        "`{name}` in {path} is {dtype}, which is no number type of weights here (quantised?); take \
         the model in f16, bf16 or f32"
    )]
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
        "the edit was made for the base model {wanted}, this is {found}; erase again on this \
         model, or load the other one"
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

    pub(super) fn unfit(path: &Path, why: impl Into<String>) -> Self {
        Self::Unfit { path: path.to_path_buf(), why: why.into() }
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
