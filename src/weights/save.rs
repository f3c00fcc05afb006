//! Writes safetensors files: whole or not at all.
#![expect(unsafe_code, reason = "reads a tensor's bytes in place")]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::Error;
use super::content::{CONTENT, Content};
use crate::torch::{Kind, Tensor, no_grad};

/// A contiguous CPU tensor whose memory the writer borrows without a copy.
pub(super) struct TensorBytes {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl TensorBytes {
    /// In this number type, or its own.
    pub(super) fn new(tensor: &Tensor, kind: Option<Kind>) -> Self {
        let tensor = no_grad(|| {
            let kind = kind.unwrap_or(tensor.kind());
            tensor.detach().to_device(tch::Device::Cpu).to_kind(kind).contiguous()
        });
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        Self { tensor, shape }
    }

    pub(super) fn kind(&self) -> Kind {
        self.tensor.kind()
    }

    /// Its numbers in memory.
    pub(super) fn bytes(&self) -> &[u8] {
        let length = self.tensor.numel() * self.tensor.kind().elt_size_in_bytes();
        if length == 0 {
            return &[];
        }
        // SAFETY: contiguous CPU memory of exactly this many bytes, borrowed with the tensor.
        unsafe { std::slice::from_raw_parts(self.tensor.data_ptr().cast::<u8>(), length) }
    }
}

impl safetensors::View for &TensorBytes {
    fn dtype(&self) -> safetensors::Dtype {
        match self.tensor.kind() {
            Kind::Double => safetensors::Dtype::F64,
            Kind::Half => safetensors::Dtype::F16,
            Kind::BFloat16 => safetensors::Dtype::BF16,
            Kind::Int64 => safetensors::Dtype::I64,
            Kind::Int => safetensors::Dtype::I32,
            Kind::Int16 => safetensors::Dtype::I16,
            Kind::Int8 => safetensors::Dtype::I8,
            Kind::Uint8 => safetensors::Dtype::U8,
            Kind::Bool => safetensors::Dtype::BOOL,
            _ => safetensors::Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.bytes())
    }

    fn data_len(&self) -> usize {
        self.bytes().len()
    }
}

/// Writes the tensors as they are.
///
/// # Errors
/// The file cannot be written; what was there before is still there then.
pub fn save(
    path: &Path,
    tensors: &[(String, Tensor)],
    about: &[(&str, String)],
) -> Result<(), Error> {
    write(path, tensors, None, about)
}

/// Writes the tensors in this number type.
///
/// # Errors
/// As [`save`].
pub fn save_as(
    path: &Path,
    tensors: &[(String, Tensor)],
    kind: Kind,
    about: &[(&str, String)],
) -> Result<(), Error> {
    write(path, tensors, Some(kind), about)
}

fn write(
    path: &Path,
    tensors: &[(String, Tensor)],
    kind: Option<Kind>,
    about: &[(&str, String)],
) -> Result<(), Error> {
    let views: Vec<(&str, TensorBytes)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), TensorBytes::new(tensor, kind)))
        .collect();
    let mut about: BTreeMap<String, String> =
        about.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let mut content = Content::new(&about);
    let mut sorted: Vec<&(&str, TensorBytes)> = views.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, view) in sorted {
        content.add(
            name,
            &format!("{:?}", safetensors::View::dtype(&view)),
            &view.shape,
            view.bytes(),
        );
    }
    about.insert(CONTENT.to_owned(), content.hash());
    about.insert("format".to_owned(), "pt".to_owned());
    let about: HashMap<String, String> = about.into_iter().collect();
    crate::files::whole_by_path(path, |half| {
        let views = views.iter().map(|(name, view)| (*name, view));
        safetensors::serialize_to_file(views, Some(about), half).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(error) => {
                Error::Io(crate::files::at(path, &error))
            }
            other => Error::Damaged { path: path.to_path_buf(), why: other.to_string() },
        })?;
        Ok(sort_metadata(half)?)
    })
}

/// Puts the metadata's keys in order, in place: the crate writes them as they come out of a hash
/// table, and the same content is to be the same file.
fn sort_metadata(path: &Path) -> std::io::Result<()> {
    const KEY: &[u8] = b"\"__metadata__\":";
    let mut file = fs_err::OpenOptions::new().read(true).write(true).open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact(&mut header)?;
    let Some(start) =
        header.windows(KEY.len()).position(|window| window == KEY).map(|at| at + KEY.len())
    else {
        return Ok(());
    };
    let mut values = serde_json::Deserializer::from_slice(&header[start..]).into_iter();
    let Some(Ok::<BTreeMap<String, String>, _>(sorted)) = values.next() else { return Ok(()) };
    let text = serde_json::to_vec(&sorted)?;
    // The same keys and values are as many bytes.
    if text.len() == values.byte_offset() {
        file.seek(SeekFrom::Start(8 + start as u64))?;
        file.write_all(&text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;

    #[test]
    fn what_is_written_is_read_and_python_s_order_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensors = vec![
            ("b".to_owned(), Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([2, 2]).tr()),
            ("a".to_owned(), Tensor::from_slice(&[1_u8, 2])),
        ];
        save(&path, &tensors, &[("base", "x".to_owned())]).unwrap();
        let weights = Weights::open(&path).unwrap();
        assert!(weights.tensor("b").unwrap().equal(&tensors[0].1));
        assert_eq!(weights.info("a").unwrap().dtype, "U8");
        assert_eq!(weights.metadata()["base"], "x");
        let about: Vec<(String, String)> =
            (0..12).map(|i| (format!("key {i}"), format!("\"ä\\{i}\n"))).collect();
        let about: Vec<(&str, String)> =
            about.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let bytes = || {
            save(&path, &tensors, &about).unwrap();
            fs_err::read(&path).unwrap()
        };
        let first = bytes();
        assert!((0..8).all(|_| bytes() == first), "the same content, other bytes");
        assert_eq!(Weights::open(&path).unwrap().metadata()["key 7"], "\"ä\\7\n");
        save_as(&path, &tensors[..1], Kind::Half, &[]).unwrap();
        assert_eq!(Weights::open(&path).unwrap().tensor("b").unwrap().kind(), Kind::Half);
    }
}
