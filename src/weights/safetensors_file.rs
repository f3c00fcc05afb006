//! One safetensors file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::map::{Layout, MappedFile};
use super::{Error, Info};
use crate::torch::{Kind, Tensor};

/// A safetensors file that stays open.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    map: MappedFile,
    /// Where the tensors' bytes begin.
    start: usize,
    metadata: Metadata,
}

impl SafetensorsFile {
    /// Checks the header against the file's length.
    ///
    /// # Errors
    /// A file whose header is no header, or whose offsets do not fit.
    pub(super) fn new(map: MappedFile) -> Result<Self, Error> {
        let length = map.bytes().len();
        if length < 8 {
            return Err(Error::damaged(
                map.path(),
                format!("it is {length} bytes long, too short for a header"),
            ));
        }
        // The crate checks the header's length, that offsets neither overlap nor leave gaps, and
        // that every shape fits its bytes; it was seen to refuse each of these.
        let (header, metadata) = safetensors::SafeTensors::read_metadata(map.bytes())
            .map_err(|error| Error::damaged(map.path(), error.to_string()))?;
        let start = 8 + header;
        let wanted = start + metadata.data_len();
        if length != wanted {
            return Err(Error::damaged(
                map.path(),
                format!("it is {length} bytes long, its header speaks of {wanted}"),
            ));
        }
        Ok(Self { map, start, metadata })
    }

    pub(super) fn path(&self) -> &Path {
        self.map.path()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        self.metadata
            .metadata()
            .as_ref()
            .map(|map| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .unwrap_or_default()
    }

    pub(super) fn info(&self, name: &str) -> Option<Info> {
        let info = self.metadata.info(name)?;
        Some(Info {
            dtype: format!("{:?}", info.dtype),
            shape: info.shape.iter().map(|&n| n as i64).collect(),
        })
    }

    /// # Errors
    /// A name that is not there.
    pub(super) fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, Error> {
        let info = self.metadata.info(name).ok_or_else(|| Error::missing(name, self.path()))?;
        Ok(Cow::Borrowed(&self.map.bytes()[self.start..][info.data_offsets.0..info.data_offsets.1]))
    }

    /// # Errors
    /// A name that is not there, a type that libtorch does not know.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let info = self.metadata.info(name).ok_or_else(|| Error::missing(name, self.path()))?;
        let kind = kind(info.dtype).ok_or_else(|| Error::Dtype {
            name: name.to_owned(),
            path: self.path().to_path_buf(),
            dtype: format!("{:?}", info.dtype),
        })?;
        let shape = info.shape.iter().map(|&n| n as i64).collect();
        let (from, to) = info.data_offsets;
        self.map.tensor(self.start + from..self.start + to, &Layout::contiguous(kind, shape))
    }
}

/// libtorch's type for a safetensors type.
fn kind(dtype: safetensors::Dtype) -> Option<Kind> {
    Some(match dtype {
        safetensors::Dtype::F64 => Kind::Double,
        safetensors::Dtype::F32 => Kind::Float,
        safetensors::Dtype::F16 => Kind::Half,
        safetensors::Dtype::BF16 => Kind::BFloat16,
        safetensors::Dtype::I64 => Kind::Int64,
        safetensors::Dtype::I32 => Kind::Int,
        safetensors::Dtype::I16 => Kind::Int16,
        safetensors::Dtype::I8 => Kind::Int8,
        safetensors::Dtype::U8 => Kind::Uint8,
        safetensors::Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}
