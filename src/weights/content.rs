//! A hash of a file's content in the file itself, so that a bit that flipped on the disk is noticed
//! where it matters.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Error, Weights};

/// The key of the hash in a file's metadata.
pub(super) const CONTENT: &str = "unsee.content";

/// Takes in a file's metadata and its tensors, in the order of their names.
pub(super) struct Content(blake3::Hasher);

impl Content {
    pub(super) fn new(about: &BTreeMap<String, String>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (key, value) in about.iter().filter(|(key, _)| *key != CONTENT && *key != "format") {
            hasher.update(format!("{key}\0{value}\0").as_bytes());
        }
        Self(hasher)
    }

    pub(super) fn add(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        self.0.update(format!("{name}\0{dtype}\0{shape:?}\0").as_bytes());
        self.0.update(bytes);
    }

    pub(super) fn hash(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

impl Weights {
    /// Opens a file that this program wrote, and looks whether it is still what was written.
    /// `advice` says what the user may do if it is not.
    ///
    /// # Errors
    /// A file that was cut off, or whose content has changed.
    pub fn open_own(path: &Path, advice: &str) -> Result<Self, Error> {
        let spoilt = |why: String| Error::Spoilt {
            path: path.to_path_buf(),
            why,
            advice: advice.to_owned(),
        };
        let file = Self::open(path).map_err(|error| match error {
            Error::Damaged { why, .. } | Error::Unfit { why, .. } => spoilt(why),
            other => other,
        })?;
        file.unchanged().map_err(|error| spoilt(error.to_string()))?;
        Ok(file)
    }

    /// Whether a file is what this program wrote; true of files that say nothing of it.
    ///
    /// # Errors
    /// Its content has changed.
    pub fn unchanged(&self) -> Result<(), Error> {
        let about = self.metadata();
        let Some(written) = about.get(CONTENT) else { return Ok(()) };
        let mut content = Content::new(&about);
        for name in self.names() {
            let info = self.info(name).ok_or_else(|| Error::missing(name, self.path(name)))?;
            let shape: Vec<usize> = info.shape.iter().map(|&n| n as usize).collect();
            content.add(name, &info.dtype, &shape, &self.bytes(name)?);
        }
        if content.hash() == *written {
            return Ok(());
        }
        Err(Error::unfit(
            self.path(""),
            "its content is not what unsee wrote: it was damaged on the disk, or changed by \
             another program",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Tensor;
    use crate::weights::save;

    #[test]
    fn a_bit_that_flipped_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensors = [
            ("b".to_owned(), Tensor::from_slice(&[1_i64, 2])),
            ("a".to_owned(), Tensor::from(0.5_f32)),
        ];
        save(&path, &tensors, &[("step", "17".to_owned())]).unwrap();
        assert!(Weights::open_own(&path, "").is_ok());
        let whole = fs_err::read(&path).unwrap();
        let step = whole.windows(2).position(|two| two == b"17").unwrap();
        for (at, bit) in [(whole.len() - 1, 1_u8), (whole.len() - 20, 64), (step, 1)] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            crate::files::write(&path, &bytes).unwrap();
            let error = Weights::open_own(&path, "remove it").unwrap_err().to_string();
            assert!(
                error.contains("not what unsee wrote") && error.contains("remove it"),
                "{error}"
            );
        }
        crate::files::write(&path, &whole[..whole.len() - 1]).unwrap();
        let error = Weights::open_own(&path, "remove it").unwrap_err().to_string();
        assert!(error.contains("not fully covered") && error.contains("remove it"), "{error}");
    }
}
