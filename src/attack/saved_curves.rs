//! What a training that brings a concept back has shown so far, kept while it goes on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Arm, AttackContext, Error, Evaluation};
use crate::files::{read_json, write_json};

/// The curves of an attack's arms, in a file where there is a folder for it.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedCurves {
    /// The model that is attacked.
    of: String,
    arms: Vec<Arm>,
    #[serde(skip)]
    folder: Option<PathBuf>,
}

impl SavedCurves {
    /// Goes on from what an earlier session kept of the same model; else what is there is removed.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(super) fn open(context: &AttackContext<'_>) -> Result<Self, Error> {
        let (of, folder) = (context.of.to_owned(), context.state.map(Path::to_owned));
        let new = Self { of, arms: Vec::new(), folder: None };
        let Some(folder) = folder else { return Ok(new) };
        let known: Option<Self> = read_json(&file(&folder));
        let known = known.filter(|known| known.of == new.of);
        if known.is_none() && folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        crate::files::create_folder(&folder)?;
        Ok(Self { folder: Some(folder), ..known.unwrap_or(new) })
    }

    /// Where the training of an arm keeps its state.
    pub(super) fn training(&self, arm: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(arm))
    }

    /// What an arm has shown.
    pub(super) fn of(&self, arm: &str) -> &[Evaluation] {
        let found = self.arms.iter().find(|known| known.name == arm);
        found.map_or(&[], |arm| &arm.curve)
    }

    /// Adds what an arm shows now; what was seen later is seen again, as a training may go on from
    /// before it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn add(&mut self, arm: &str, evaluation: Evaluation) -> Result<(), std::io::Error> {
        let arms = &mut self.arms;
        let at = arms.iter().position(|known| known.name == arm).unwrap_or_else(|| {
            arms.push(Arm { name: arm.to_owned(), curve: Vec::new() });
            arms.len() - 1
        });
        let curve = &mut arms[at].curve;
        curve.retain(|known| known.step < evaluation.step);
        curve.push(evaluation);
        match &self.folder {
            Some(folder) => write_json(&file(folder), self),
            None => Ok(()),
        }
    }

    /// The whole of an arm; what its training kept is not needed any more.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub(super) fn finished(&self, arm: &str) -> Result<Arm, Error> {
        if let Some(folder) = self.training(arm).filter(|folder| folder.exists()) {
            fs_err::remove_dir_all(folder)?;
        }
        Ok(Arm { name: arm.to_owned(), curve: self.of(arm).to_vec() })
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("curves.json")
}
