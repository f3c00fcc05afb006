//! One open file, in whichever format it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::Error;
use super::map::MappedFile;
use super::pickle::PickleFile;
use super::safetensors_file::SafetensorsFile;
use crate::torch::{Kind, Tensor};

/// Number type and shape of a tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The type's name in safetensors, `F16`.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<i64>,
}

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

/// safetensors' name of libtorch's type.
pub(super) fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Double => "F64",
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        Kind::Int64 => "I64",
        Kind::Int => "I32",
        Kind::Int16 => "I16",
        Kind::Int8 => "I8",
        Kind::Uint8 => "U8",
        Kind::Bool => "BOOL",
        _ => "F32",
    }
}
