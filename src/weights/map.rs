//! One memory-mapped safetensors file. Every length is checked before it is used.
#![expect(unsafe_code, reason = "maps a file and copies out of the map")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{Error, Info, kind};
use crate::torch::Tensor;

/// A safetensors file that stays open.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    map: Mmap,
    start: usize,
    metadata: Metadata,
}

impl File {
    /// Maps the file and checks its header against its length.
    ///
    /// # Errors
    /// A file that cannot be read, whose header is no header, or whose offsets do not fit.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = fs_err::File::open(path)?;
        let damaged = |why: String| Error::Damaged { path: path.to_path_buf(), why };
        let length = file.metadata()?.len();
        if length < 8 {
            return Err(damaged(format!("it is {length} bytes long, too short for a header")));
        }
        // SAFETY: the usual condition of a map: nobody truncates the file while it is open. Model
        // files are replaced by renaming, never written in place (see `save`).
        let map = unsafe { Mmap::map(file.file()) }?;
        // The crate checks the header's length, that offsets neither overlap nor leave gaps, and that
        // every shape fits its bytes; it was seen to refuse each of these.
        let (header, metadata) =
            safetensors::SafeTensors::read_metadata(&map).map_err(|error| damaged(error.to_string()))?;
        let start = 8 + header;
        let wanted = start + metadata.data_len();
        if map.len() != wanted {
            return Err(damaged(format!("it is {} bytes long, its header speaks of {wanted}", map.len())));
        }
        Ok(Self { path: path.to_path_buf(), map, start, metadata })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
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
            bytes: info.data_offsets.1 - info.data_offsets.0,
        })
    }

    fn bytes(&self, info: &TensorInfo) -> &[u8] {
        &self.map[self.start + info.data_offsets.0..self.start + info.data_offsets.1]
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let info = self.metadata.info(name).ok_or_else(|| Error::Missing {
            name: name.to_owned(),
            path: self.path.clone(),
            hint: String::new(),
        })?;
        let kind = kind(info.dtype).ok_or_else(|| Error::Dtype {
            name: name.to_owned(),
            path: self.path.clone(),
            dtype: format!("{:?}", info.dtype),
        })?;
        let shape: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i].max(1);
        }
        let bytes = self.bytes(info);
        // SAFETY: the crate has checked that `bytes` is exactly shape × type; the view does not
        // outlive this function, `copy` takes memory of its own.
        let view = unsafe { Tensor::f_from_blob(bytes.as_ptr(), &shape, &strides, kind, tch::Device::Cpu) }
            .map_err(crate::torch::Error::from)?;
        Ok(view.copy())
    }

    pub(super) fn hash_into(&self, name: &str, hasher: &mut blake3::Hasher) {
        if let Some(info) = self.metadata.info(name) {
            hasher.update(format!("{name}\0{:?}\0{:?}\0", info.dtype, info.shape).as_bytes());
            hasher.update(self.bytes(info));
        }
    }
}
