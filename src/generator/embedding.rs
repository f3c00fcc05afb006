//! Words that were learned from pictures (textual inversion, Gal et al. 2022): a few vectors in the
//! text encoder's table. Files: diffusers' and A1111's, `.safetensors`, `.pt` and `.bin`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, StableDiffusion};
use crate::torch::Tensor;
use crate::weights::Weights;

/// A file with a word's vectors, and the word that stands for them in prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embedding {
    /// The file.
    pub path: PathBuf,
    /// The word; the file's own, or its name without the extension, where it is missing.
    pub word: Option<String>,
}

impl std::str::FromStr for Embedding {
    type Err = String;

    /// `FILE`, or `WORD=FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('=') {
            Some((word, path)) => Self { path: path.into(), word: Some(word.to_owned()) },
            None => Self { path: text.into(), word: None },
        })
    }
}

impl StableDiffusion {
    /// Learns a word; returns it.
    ///
    /// # Errors
    /// A file without vectors of this model's width, a word that is known.
    pub fn learn(&mut self, embedding: &Embedding) -> Result<String, Error> {
        let (named, vectors, left) = read(&embedding.path, embedding.word.as_deref())?;
        if !left.is_empty() {
            self.notes.push(format!(
                "{}: {} {} left; one word is learned from a file",
                embedding.path.display(),
                left.join(", "),
                if left.len() == 1 { "is" } else { "are" }
            ));
        }
        let stem = || embedding.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let word = embedding.word.clone().or(named).unwrap_or_else(stem);
        let first = self.text.learn(&vectors)?;
        self.tokenizer.learn(&word, first, vectors.size()[0])?;
        Ok(word)
    }
}

/// The word that a file names, its vectors `[n, width]`, and what else is in it. A file of several
/// words has them under their names.
fn read(path: &Path, wanted: Option<&str>) -> Result<(Option<String>, Tensor, Vec<String>), Error> {
    let file = Weights::open(path)?;
    let names: Vec<&str> = file.names().collect();
    // A1111: safetensors have `emb_params`, pickles a dictionary under `string_to_param`.
    // diffusers: the word itself.
    let found = ["emb_params", "string_to_param.*"].into_iter().find(|name| file.contains(name));
    let of_many = wanted.filter(|word| names.len() > 1 && file.contains(word));
    let (name, word) = match (found.or(of_many), names.as_slice()) {
        (Some(name), _) => (name, None),
        (None, [only]) => {
            (*only, only.strip_prefix("string_to_param.").or(Some(*only)).map(str::to_owned))
        }
        (None, many) => {
            return Err(Error::Request(format!(
                "{} is no embedding: it has {} tensors, {} among them; an embedding has one, or \
                 `emb_params`; of a file of several words one is chosen by its name (WORD=FILE)",
                path.display(),
                many.len(),
                many.first().copied().unwrap_or("none")
            )));
        }
    };
    let vectors = file.floats(name)?;
    let vectors = if vectors.dim() == 1 { vectors.unsqueeze(0) } else { vectors };
    let left =
        names.iter().filter(|other| **other != name).map(|other| (*other).to_owned()).collect();
    Ok((word, vectors, left))
}
