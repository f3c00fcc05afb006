//! Why a generator cannot be loaded, edited or drawn with.

use std::path::PathBuf;

/// Why a generator cannot be loaded, edited or drawn with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder that is no model.
    #[error("{path} is no model folder: {why}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A configuration file.
    #[error("{path}: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A configuration's field.
    #[error(transparent)]
    Fields(#[from] crate::fields::Error),
    /// An edit that names a tensor which the model lacks, or in another shape.
    #[error("the edit's `{name}` is {found:?}, the model's is {wanted:?}")]
    EditShape {
        /// The tensor.
        name: String,
        /// The edit's.
        found: Vec<i64>,
        /// The model's; empty where it has none.
        wanted: Vec<i64>,
    },
    /// A file of which nothing belongs to the base.
    #[error("nothing in {path} fits the base: it has {theirs}, …; the base has {ours}, …")]
    NothingFits {
        /// The file.
        path: PathBuf,
        /// Some of its names.
        theirs: String,
        /// Some of the base's.
        ours: String,
    },
    /// A place where something is already.
    #[error("{} is there already, and nothing is overwritten; name another one or remove \
        it", .0.display())]
    Occupied(PathBuf),
    /// What cannot be drawn.
    #[error("{0}")]
    Request(String),
    /// A picture that is none.
    #[error(
        "the picture of «{prompt}» with seed {seed} is none: {what} are NaN or infinite; {advice}"
    )]
    NotFinite {
        /// What of it.
        what: String,
        /// The prompt.
        prompt: String,
        /// The seed.
        seed: u64,
        /// What to try.
        advice: &'static str,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A network, with the file it was built from.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] crate::text::Error),
    /// The scheduler.
    #[error(transparent)]
    Sampler(#[from] crate::sampler::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

impl Error {
    /// A tensor that the model lacks.
    pub(super) fn unknown_tensor(name: &str) -> Self {
        Self::EditShape { name: name.to_owned(), found: Vec::new(), wanted: Vec::new() }
    }

    /// Whether there was too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Torch(error) if error.is_out_of_memory())
    }
}
