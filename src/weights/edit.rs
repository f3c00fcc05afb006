//! An erasure as a value: the tensors that changed, by full name, and the base that they belong to.

use std::path::Path;

use super::{Error, Weights, save};
use crate::torch::Tensor;

/// Tensors that replace a model's own; `Edit::default()` replaces nothing.
#[derive(Debug, Default)]
pub struct Edit {
    /// Hash of the base model.
    pub base: String,
    /// What made it: method and settings as JSON.
    pub recipe: String,
    /// New values by full name, `unet.…` or `text_encoder.…`.
    pub tensors: Vec<(String, Tensor)>,
}

impl Edit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Writes the edit, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let about = [
            ("unsee.base", self.base.clone()),
            ("unsee.recipe", self.recipe.clone()),
            ("unsee.edit", "1".to_owned()),
        ];
        save(path, &self.tensors, &about)
    }

    /// Reads an edit.
    ///
    /// # Errors
    /// A file that cannot be read, or is no edit.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let weights = Weights::open(path)?;
        let about = weights.metadata();
        let Some(base) = about.get("unsee.base") else {
            return Err(Error::Damaged {
                path: path.to_path_buf(),
                why: "it has no `unsee.base` in its metadata, so it is no edit that unsee wrote".to_owned(),
            });
        };
        let tensors = weights
            .names()
            .map(|name| Ok((name.to_owned(), weights.tensor(name)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            base: base.clone(),
            recipe: about.get("unsee.recipe").cloned().unwrap_or_default(),
            tensors,
        })
    }
}
