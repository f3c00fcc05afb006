//! What `torch.save` wrote: a zip archive, or the older stream of pickles. Nothing in it is executed.
//!
//! Nested dictionaries become dotted names; what is no tensor is left out. Formats: `torch/serialization.py`
//! of PyTorch 2.11 (`_save`, `_legacy_save`) and the functions of `torch/_utils.py` that its pickles name.

mod archive;
mod heap;
mod machine;
mod tensors;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use self::machine::{Fault, read};
use self::tensors::{Leaf, leaves};
use super::file::dtype_name;
use super::map::{Layout, Map};
use super::{Error, Info};
use crate::torch::{Kind, Tensor};

/// A file of `torch.save` that stays open.
#[derive(Debug)]
pub(super) struct File {
    map: Map,
    tensors: BTreeMap<String, (Range<usize>, Layout)>,
}

/// Where a storage lies in the file.
type Storages = BTreeMap<String, Range<usize>>;

impl File {
    /// Reads the pickle and checks each tensor against the storage that it looks into.
    ///
    /// # Errors
    /// A file that `torch.save` did not write or that is damaged, a class or function in it that is not
    /// tensors' own, a file without any tensor.
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        let (leaves, storages) =
            if map.bytes().starts_with(b"PK\x03\x04") { zipped(&map)? } else { streamed(&map)? };
        if leaves.is_empty() {
            return Err(Error::damaged(map.path(), "its pickle holds no tensor"));
        }
        let mut tensors = BTreeMap::new();
        for (name, leaf) in leaves {
            let range = placed(&leaf, &storages)
                .map_err(|why| Error::damaged(map.path(), format!("`{name}`: {why}")))?;
            tensors.insert(name, (range, leaf.layout));
        }
        Ok(Self { map, tensors })
    }

    pub(super) fn path(&self) -> &Path {
        self.map.path()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    pub(super) fn info(&self, name: &str) -> Option<Info> {
        let (_, layout) = self.tensors.get(name)?;
        Some(Info { dtype: dtype_name(layout.kind).to_owned(), shape: layout.shape.clone() })
    }

    /// # Errors
    /// A name that is not there.
    pub(super) fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, Error> {
        let (range, layout) = self.tensors.get(name).ok_or_else(|| Error::missing(name, self.path()))?;
        if layout.is_contiguous() {
            // Seen to fit when the file was opened.
            return Ok(Cow::Borrowed(
                &self.map.bytes()[range.start..range.start + layout.span().unwrap_or(0)],
            ));
        }
        let tensor = self.map.tensor(range.clone(), layout)?;
        let mut bytes = vec![0; tensor.numel() * layout.kind.elt_size_in_bytes()];
        let numbers = tensor.view_dtype(Kind::Uint8).flatten(0, -1);
        let length = bytes.len();
        numbers.f_copy_data_u8(&mut bytes, length).map_err(crate::torch::Error::from)?;
        Ok(Cow::Owned(bytes))
    }

    /// # Errors
    /// A name that is not there.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let (range, layout) = self.tensors.get(name).ok_or_else(|| Error::missing(name, self.path()))?;
        self.map.tensor(range.clone(), layout)
    }
}

/// The bytes that a tensor may look at.
fn placed(leaf: &Leaf, storages: &Storages) -> Result<Range<usize>, String> {
    let storage = storages
        .get(&leaf.storage)
        .ok_or_else(|| format!("its storage {} is not in the file", leaf.storage))?;
    let start = usize::try_from(leaf.offset)
        .ok()
        .and_then(|offset| offset.checked_mul(leaf.layout.kind.elt_size_in_bytes()))
        .and_then(|offset| offset.checked_add(storage.start));
    let left = start.and_then(|start| storage.end.checked_sub(start));
    match (start, left) {
        (Some(start), Some(left)) if leaf.layout.fits(left) => Ok(start..storage.end),
        _ => Err(format!(
            "its shape {:?}, steps {:?} and offset {} leave its storage of {} bytes",
            leaf.layout.shape,
            leaf.layout.strides,
            leaf.offset,
            storage.len()
        )),
    }
}

fn fault(path: &Path) -> impl Fn(Fault) -> Error {
    let path = path.to_path_buf();
    move |fault| match fault {
        Fault::Refused(name) => Error::Refused { name, path: path.clone() },
        Fault::Broken(why) => Error::Damaged { path: path.clone(), why },
    }
}

/// `data.pkl` and the storages beside it in a zip archive.
fn zipped(map: &Map) -> Result<(BTreeMap<String, Leaf>, Storages), Error> {
    let records = archive::records(map.bytes()).map_err(|why| Error::damaged(map.path(), why))?;
    let Some(pickle) = records.get("data.pkl") else {
        return Err(Error::damaged(
            map.path(),
            "it is a zip archive without data.pkl, so torch.save did not write it",
        ));
    };
    if records.get("byteorder").is_some_and(|range| &map.bytes()[range.clone()] != b"little") {
        return Err(Error::damaged(map.path(), "it was written on a big-endian machine"));
    }
    let bytes = &map.bytes()[pickle.clone()];
    let (heap, root, _) = read(bytes, &tensors::known).map_err(fault(map.path()))?;
    let leaves = leaves(&heap, root).map_err(|why| Error::damaged(map.path(), why))?;
    let storages = records
        .into_iter()
        .filter_map(|(name, range)| Some((name.strip_prefix("data/")?.to_owned(), range)))
        .collect();
    Ok((leaves, storages))
}

/// PyTorch's format before 1.6: a magic number, a protocol, the machine, the value, the storages' keys,
/// each a pickle; then each storage, its length before it.
fn streamed(map: &Map) -> Result<(BTreeMap<String, Leaf>, Storages), Error> {
    const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let bytes = map.bytes();
    let start = if bytes.first() == Some(&0x80) { 2 } else { 0 };
    if !bytes.get(start..).is_some_and(|rest| rest.starts_with(MAGIC)) {
        return Err(Error::damaged(map.path(), "it is neither safetensors nor what torch.save writes"));
    }
    let broken = |why: &str| Error::damaged(map.path(), why);
    let mut at = start + MAGIC.len();
    for _ in ["protocol", "machine"] {
        let (_, _, length) = read(&bytes[at..], &|_| false).map_err(fault(map.path()))?;
        at += length;
    }
    let (heap, root, length) = read(&bytes[at..], &tensors::known).map_err(fault(map.path()))?;
    at += length;
    let leaves = leaves(&heap, root).map_err(|why| Error::damaged(map.path(), why))?;
    let sizes = tensors::element_sizes(&heap);
    let (heap, keys, length) = read(&bytes[at..], &|_| false).map_err(fault(map.path()))?;
    at += length;
    let keys = heap.list(keys).ok_or_else(|| broken("its storages' keys are no list"))?;
    let mut storages = Storages::new();
    for &key in keys {
        let key = heap.text(key).ok_or_else(|| broken("a storage's key is no text"))?;
        let count = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map(u64::from_le_bytes);
        // Its length is said in elements, and their type where it is spoken of.
        let size = sizes.get(key).ok_or_else(|| broken("a storage is never spoken of"))?;
        let end = count
            .and_then(|count| usize::try_from(count).ok()?.checked_mul(*size)?.checked_add(at + 8))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(|| broken("it ends before its storages do"))?;
        storages.insert(key.to_owned(), at + 8..end);
        at = end;
    }
    Ok((leaves, storages))
}
