//! Models by name from the Hugging Face hub, in the cache that Python's `huggingface_hub` keeps
//! too.
//!
//! [`pull`] alone touches the network; everything else looks into the cache. Layout and variables
//! are those of `huggingface_hub` 1.x:
//! `$HF_HUB_CACHE/models--org--name/{blobs,refs,snapshots/<commit>}`.
//!
//! The crate `hf-hub` was looked at and not taken: 1.x is asynchronous, reads no variable and
//! doubles the dependencies; 0.5 sends the token along to the storage that a download is redirected
//! to, and checks neither a file's length nor its hash.

mod cache;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod request;
mod snapshot;

use std::path::PathBuf;

pub use cache::{HubSettings, Name};
#[cfg(feature = "hub")]
pub use download::{Pulled, pull};
pub use snapshot::{cached, commit_of, remark, snapshot};

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is none.
    #[error("`{0}` is no model's name; write ORGANISATION/NAME or ORGANISATION/NAME@REVISION")]
    Name(String),
    /// A token is needed, or another one.
    #[error(
        "the hub does not let this account read {name} ({status}): accept its licence at {page}, \
         and set HF_TOKEN or run `hf auth login`"
    )]
    Forbidden {
        /// The model.
        name: String,
        /// The hub's answer.
        status: u16,
        /// The model's page.
        page: String,
    },
    /// No such model, or a token is needed.
    #[error(
        "the hub has no {name} that can be read without a token (401): is the name right? If it is \
         private or gated, accept its licence at {page}, and set HF_TOKEN or run `hf auth login`"
    )]
    Unauthorized {
        /// The model.
        name: String,
        /// The model's page.
        page: String,
    },
    /// No such model, revision or file.
    #[error("the hub has no {what} ({url} gives 404); if it is private, set HF_TOKEN")]
    Absent {
        /// What was asked for.
        what: String,
        /// Where.
        url: String,
    },
    /// The network is not to be touched.
    #[error("{0} is not in the cache at {1}, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")]
    Offline(String, PathBuf),
    /// A model of which files are missing in the cache.
    #[error(
        "{name} is incomplete in the cache: {folder} lacks {lacking}; `unsee pull {name}` brings it"
    )]
    Incomplete {
        /// The model.
        name: String,
        /// Where it lies.
        folder: PathBuf,
        /// What is missing.
        lacking: String,
    },
    /// Several commits, and nothing that says which.
    #[error(
        "{folder} has several whole snapshots and says of none that it is {revision}; name one: \
         {choices}"
    )]
    Several {
        /// The model's folder in the cache.
        folder: PathBuf,
        /// What was asked for.
        revision: String,
        /// The names that can be given.
        choices: String,
    },
    /// It went wrong several times.
    #[error("{url}: {why}; what was loaded is kept, the same command goes on")]
    Failed {
        /// What was asked for.
        url: String,
        /// The last error.
        why: String,
    },
    /// An answer that makes no sense.
    #[error("{url}: {why}; is HF_ENDPOINT a mirror of the hub?")]
    HttpResponse {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// The cache.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
