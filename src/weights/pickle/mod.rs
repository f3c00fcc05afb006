//! What `torch.save` wrote: a zip archive, or the older stream of pickles; and NVIDIA's networks, a
//! pickle with such a stream for each tensor. Nothing in it is executed: the source code that
//! NVIDIA's files and `TorchScript` carry is text like any other.
//!
//! Nested dictionaries become dotted names; what is no tensor is left out. Formats:
//! `torch/serialization.py` of PyTorch 2.11 (`_save`, `_legacy_save`), the functions of
//! `torch/_utils.py` that its pickles name, and `torch_utils/persistence.py` of
//! `NVlabs/stylegan2-ada-pytorch`.

mod archive;
mod heap;
mod machine;
mod tensors;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use self::heap::{Heap, Id};
use self::machine::Fault;
use self::tensors::{InnerStorages, PickleContents, StoredTensor, contents};
use super::map::{Layout, MappedFile};
use super::tensor_info::dtype_name;
use super::{Error, Info};
use crate::torch::{Kind, Tensor};

/// A file of `torch.save` that stays open.
#[derive(Debug)]
pub(super) struct PickleFile {
    map: MappedFile,
    tensors: BTreeMap<String, (Range<usize>, Layout)>,
    /// What modules say of themselves beside their tensors.
    settings: BTreeMap<String, String>,
}

/// Where a storage lies in the file.
type Storages = BTreeMap<String, Range<usize>>;

impl PickleFile {
    /// Reads the pickle and checks each tensor against the storage that it is in.
    ///
    /// # Errors
    /// A file that `torch.save` did not write or that is damaged, a class or function in it that is
    /// not tensors' own, a file without any tensor.
    pub(super) fn new(map: MappedFile) -> Result<Self, Error> {
        let bytes = map.bytes();
        let (contents, storages) = if bytes.starts_with(b"PK\x03\x04") {
            zipped(&map)?
        } else if after_magic(bytes).is_some() {
            streamed(&map)?
        } else {
            bare(&map)?
        };
        if contents.tensors.is_empty() {
            return Err(Error::damaged(map.path(), "its pickle holds no tensor"));
        }
        let mut tensors = BTreeMap::new();
        for (name, tensor) in contents.tensors {
            let range = placed(&tensor, &storages)
                .map_err(|why| Error::damaged(map.path(), format!("`{name}`: {why}")))?;
            tensors.insert(name, (range, tensor.layout));
        }
        Ok(Self { map, tensors, settings: contents.settings })
    }

    pub(super) fn path(&self) -> &Path {
        self.map.path()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// What modules say of themselves beside their tensors.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        self.settings.clone()
    }

    pub(super) fn info(&self, name: &str) -> Option<Info> {
        let (_, layout) = self.tensors.get(name)?;
        Some(Info { dtype: dtype_name(layout.kind).to_owned(), shape: layout.shape.clone() })
    }

    /// # Errors
    /// A name that is not there.
    pub(super) fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, Error> {
        let (range, layout) =
            self.tensors.get(name).ok_or_else(|| Error::missing(name, self.path()))?;
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
        let (range, layout) =
            self.tensors.get(name).ok_or_else(|| Error::missing(name, self.path()))?;
        self.map.tensor(range.clone(), layout)
    }
}

/// The bytes from a tensor's first number to its storage's end.
fn placed(tensor: &StoredTensor, storages: &Storages) -> Result<Range<usize>, String> {
    let storage = storages
        .get(&tensor.storage)
        .ok_or_else(|| format!("its storage {} is not in the file", tensor.storage))?;
    let start = usize::try_from(tensor.offset)
        .ok()
        .and_then(|offset| offset.checked_mul(tensor.layout.kind.elt_size_in_bytes()))
        .and_then(|offset| offset.checked_add(storage.start));
    let left = start.and_then(|start| storage.end.checked_sub(start));
    match (start, left) {
        (Some(start), Some(left)) if tensor.layout.fits(left) => Ok(start..storage.end),
        _ => Err(format!(
            "its shape {:?}, steps {:?} and offset {} leave its storage of {} bytes",
            tensor.layout.shape,
            tensor.layout.strides,
            tensor.offset,
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
fn zipped(map: &MappedFile) -> Result<(PickleContents, Storages), Error> {
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
    let (heap, root, _) = machine::read(bytes, &tensors::known).map_err(fault(map.path()))?;
    let contents = contents(&heap, root, &InnerStorages::new())
        .map_err(|why| Error::damaged(map.path(), why))?;
    let storages = records
        .into_iter()
        .filter_map(|(name, range)| Some((name.strip_prefix("data/")?.to_owned(), range)))
        .collect();
    Ok((contents, storages))
}

/// PyTorch's format before 1.6: a magic number, a protocol, the machine, the value, the storages'
/// keys, each a pickle; then each storage, its length before it.
struct Stream<'a> {
    heap: Heap<'a>,
    root: Id,
    /// Counted from the stream's first byte.
    storages: Storages,
}

/// The first number of such a stream.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Where the magic number ends; `None` where there is none.
fn after_magic(bytes: &[u8]) -> Option<usize> {
    let start = if bytes.first() == Some(&0x80) { 2 } else { 0 };
    bytes.get(start..)?.starts_with(MAGIC).then_some(start + MAGIC.len())
}

impl<'a> Stream<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let broken = |why: &str| Fault::Broken(why.to_owned());
        let mut at = after_magic(bytes).ok_or_else(|| broken("it is no stream of torch.save"))?;
        for _ in ["protocol", "machine"] {
            let (_, _, length) = machine::read(&bytes[at..], &|_| false)?;
            at += length;
        }
        let (heap, root, length) = machine::read(&bytes[at..], &tensors::known)?;
        at += length;
        let sizes = tensors::element_sizes(&heap);
        let (of_keys, keys, length) = machine::read(&bytes[at..], &|_| false)?;
        at += length;
        let keys = of_keys.list(keys).ok_or_else(|| broken("its storages' keys are no list"))?;
        let mut storages = Storages::new();
        for &key in keys {
            let key = of_keys.text(key).ok_or_else(|| broken("a storage's key is no text"))?;
            let count = bytes
                .get(at..at + 8)
                .and_then(|eight| eight.try_into().ok())
                .map(u64::from_le_bytes);
            // Its length is said in elements, and their type where a tensor refers to it.
            let size = sizes.get(key).ok_or_else(|| broken("a storage is never spoken of"))?;
            let end = count
                .and_then(|count| {
                    usize::try_from(count).ok()?.checked_mul(*size)?.checked_add(at + 8)
                })
                .filter(|&end| end <= bytes.len())
                .ok_or_else(|| broken("it ends before its storages do"))?;
            storages.insert(key.to_owned(), at + 8..end);
            at = end;
        }
        Ok(Self { heap, root, storages })
    }
}

fn streamed(map: &MappedFile) -> Result<(PickleContents, Storages), Error> {
    let Stream { heap, root, storages } = Stream::read(map.bytes()).map_err(fault(map.path()))?;
    let contents = contents(&heap, root, &InnerStorages::new())
        .map_err(|why| Error::damaged(map.path(), why))?;
    Ok((contents, storages))
}

/// A pickle by itself, as NVIDIA's networks are kept: each storage is a whole stream inside it.
fn bare(map: &MappedFile) -> Result<(PickleContents, Storages), Error> {
    let bytes = map.bytes();
    let (heap, root, length) = machine::read(bytes, &tensors::known).map_err(fault(map.path()))?;
    if length != bytes.len() {
        return Err(Error::damaged(map.path(), "something stands behind its pickle"));
    }
    let mut inner = InnerStorages::new();
    let mut storages: BTreeMap<String, (Range<usize>, Kind)> = BTreeMap::new();
    for (id, stream) in tensors::streams(&heap) {
        // The stream's bytes are borrowed from the file.
        let start = stream.as_ptr() as usize - bytes.as_ptr() as usize;
        let key = format!("at byte {start}");
        let kind = if let Some((_, kind)) = storages.get(&key) {
            *kind
        } else {
            let Stream { heap, root, storages: records } =
                Stream::read(stream).map_err(fault(map.path()))?;
            let wrong = || Error::damaged(map.path(), format!("the stream {key} holds no storage"));
            let (name, kind) = tensors::storage(&heap, root).ok_or_else(wrong)?;
            let range = records.get(&name).ok_or_else(wrong)?;
            storages.insert(key.clone(), (start + range.start..start + range.end, kind));
            kind
        };
        inner.insert(id, (key, kind));
    }
    let contents = contents(&heap, root, &inner).map_err(|why| Error::damaged(map.path(), why))?;
    if contents.tensors.is_empty() {
        let why = "it is neither safetensors nor what torch.save writes, nor a network of NVIDIA's";
        return Err(Error::damaged(map.path(), why));
    }
    Ok((contents, storages.into_iter().map(|(key, (range, _))| (key, range)).collect()))
}
