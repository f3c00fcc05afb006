//! One open file, in whichever format it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::map::MappedFile;
use super::pickle::PickleFile;
use super::safetensors_file::SafetensorsFile;
use super::{Error, Info};
use crate::torch::Tensor;

/// One open file.
#[derive(Debug)]
pub(super) enum WeightFile {
    Safetensors(SafetensorsFile),
    Pickle(PickleFile),
}

impl WeightFile {
    /// Opens a file; its first bytes tell its format.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let map = MappedFile::open(path)?;
        let start = map.bytes();
        if start.starts_with(b"version https://git-lfs") {
            return Err(Error::Pointer(path.to_path_buf()));
        }
        if start.trim_ascii_start().first() == Some(&b'<') {
            return Err(Error::unfit(
                path,
                "it is a web page and no file of weights; was the link to a page saved?",
            ));
        }
        // A safetensors header is JSON behind eight bytes of length.
        if start.get(8) == Some(&b'{')
            || !(start.starts_with(b"PK") || start.first() == Some(&0x80))
        {
            return Ok(Self::Safetensors(SafetensorsFile::new(map)?));
        }
        Ok(Self::Pickle(PickleFile::new(map)?))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Pickle(file) => file.path(),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Safetensors(file) => file.names(),
            Self::Pickle(file) => file.names(),
        }
    }

    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::Safetensors(file) => file.metadata(),
            Self::Pickle(file) => file.metadata(),
        }
    }

    pub(super) fn info(&self, name: &str) -> Option<Info> {
        match self {
            Self::Safetensors(file) => file.info(name),
            Self::Pickle(file) => file.info(name),
        }
    }

    pub(super) fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, Error> {
        match self {
            Self::Safetensors(file) => file.bytes(name),
            Self::Pickle(file) => file.bytes(name),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        match self {
            Self::Safetensors(file) => file.tensor(name),
            Self::Pickle(file) => file.tensor(name),
        }
    }
}
