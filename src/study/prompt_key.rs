//! A picture of a prompt list, by what names it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::measure::Subject;
use crate::run::judging::PictureKey;

/// A picture that is drawn and judged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct PromptKey {
    /// What its prompt is there for.
    pub role: Subject,
    /// The prompt's number in its list.
    pub case: String,
    /// The seed's number.
    pub n: usize,
    /// The prompt.
    pub prompt: String,
    /// The seed.
    pub seed: u64,
}

impl PictureKey for PromptKey {
    fn prompt(&self) -> String {
        self.prompt.clone()
    }
}

impl PromptKey {
    /// Its picture under a folder.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(role_name(self.role)).join(format!("{}_{}.png", self.case, self.n))
    }
}

pub(super) fn role_name(role: Subject) -> &'static str {
    if role == Subject::Concept { "concept" } else { "keep" }
}
