//! Writes what `torch.load(weights_only=True)` reads: dictionaries of tensors in a zip archive.
//!
//! The pickle is protocol 2, as `torch.save` of PyTorch 2.11 writes it; it names nothing but an
//! ordered dictionary, the storages' classes and `torch._utils._rebuild_tensor_v2`.

use std::io::{Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Error;
use super::save::TensorBytes;
use crate::torch::{Kind, Tensor};

/// Writes a dictionary: `loose` tensors, and dictionaries of tensors beside them. Whole or not at
/// all.
///
/// # Errors
/// The file cannot be written; what was there before is still there then.
pub fn save_torch(
    path: &Path,
    groups: &[(&str, Vec<(String, Tensor)>)],
    loose: &[(String, Tensor)],
) -> Result<(), Error> {
    crate::files::whole(path, |half| {
        let failed = |error: zip::result::ZipError| match error {
            zip::result::ZipError::Io(error) => Error::from(crate::files::at(path, &error)),
            other => Error::damaged(path, format!("it cannot be written: {other}")),
        };
        archive(half.as_file(), groups, loose).map_err(failed)
    })
}

fn archive(
    file: impl Write + Seek,
    groups: &[(&str, Vec<(String, Tensor)>)],
    loose: &[(String, Tensor)],
) -> zip::result::ZipResult<()> {
    let mut pickle = PickleWriter::new();
    pickle.bytes(b"}(");
    for (name, tensors) in groups {
        pickle.text(name);
        pickle.bytes(b"ccollections\nOrderedDict\n)R(");
        for (name, tensor) in tensors {
            pickle.text(name);
            pickle.tensor(tensor);
        }
        pickle.bytes(b"u");
    }
    for (name, tensor) in loose {
        pickle.text(name);
        pickle.tensor(tensor);
    }
    pickle.bytes(b"u.");

    let stored =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    let mut zip = ZipWriter::new(file);
    zip.start_file("archive/data.pkl", stored)?;
    zip.write_all(&pickle.code)?;
    zip.start_file("archive/byteorder", stored)?;
    zip.write_all(b"little")?;
    for (key, storage) in pickle.storages.iter().enumerate() {
        zip.start_file(format!("archive/data/{key}"), stored)?;
        zip.write_all(storage.bytes())?;
    }
    zip.start_file("archive/version", stored)?;
    zip.write_all(b"3\n")?;
    zip.finish()?;
    Ok(())
}

/// Instructions, and the storages that they refer to.
struct PickleWriter {
    code: Vec<u8>,
    storages: Vec<TensorBytes>,
}

impl PickleWriter {
    fn new() -> Self {
        Self { code: b"\x80\x02".to_vec(), storages: Vec::new() }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(b"X");
        self.bytes(&(text.len() as u32).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    /// A number that is not below 0.
    fn int(&mut self, int: i64) {
        if let Ok(int) = i32::try_from(int) {
            self.bytes(b"J");
            self.bytes(&int.to_le_bytes());
        } else {
            self.bytes(b"\x8a\x08");
            self.bytes(&int.to_le_bytes());
        }
    }

    fn ints(&mut self, ints: &[i64]) {
        self.bytes(b"(");
        for &int in ints {
            self.int(int);
        }
        self.bytes(b"t");
    }

    fn tensor(&mut self, tensor: &Tensor) {
        let storage = TensorBytes::new(tensor, None);
        let shape = tensor.size();
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i].max(1);
        }
        self.bytes(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.bytes(format!("ctorch\n{}\n", storage_class(storage.kind())).as_bytes());
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(tensor.numel() as i64);
        self.bytes(b"tQ");
        self.int(0);
        self.ints(&shape);
        self.ints(&strides);
        // No gradient wanted, no hooks.
        self.bytes(b"\x89ccollections\nOrderedDict\n)RtR");
        self.storages.push(storage);
    }
}

fn storage_class(kind: Kind) -> &'static str {
    match kind {
        Kind::Double => "DoubleStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        Kind::Int => "IntStorage",
        Kind::Int16 => "ShortStorage",
        Kind::Int8 => "CharStorage",
        Kind::Uint8 => "ByteStorage",
        Kind::Bool => "BoolStorage",
        _ => "FloatStorage",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.pt");
        let across = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]).tr();
        let half = Tensor::from_slice(&[0.5_f32, -1.5]).to_kind(Kind::Half);
        let group = vec![
            ("a.b".to_owned(), across.shallow_clone()),
            ("empty".to_owned(), half.narrow(0, 0, 0)),
        ];
        save_torch(&path, &[("g", group)], &[("x".to_owned(), half.shallow_clone())]).unwrap();
        let read = Weights::open(&path).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), ["g.a.b", "g.empty", "x"]);
        assert!(read.tensor("g.a.b").unwrap().equal(&across));
        assert!(read.tensor("x").unwrap().equal(&half));
    }
}
