//! Writes files as strangers might.

use std::io::Write as _;
use std::path::PathBuf;

use unsee::torch::{Kind, Tensor};
use unsee::weights::save;

/// How a pickle begins that makes a tensor, as far as its storage's class.
const REBUILD: &[u8] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n";

/// Writes the cases' files into a folder.
pub(crate) struct Maker(pub(crate) PathBuf);

impl Maker {
    pub(crate) fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    /// A zip archive of these records, stored as they are.
    pub(crate) fn zip(&self, name: &str, records: &[(&str, &[u8])]) -> PathBuf {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for (record, bytes) in records {
            zip.start_file(*record, stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        self.bytes(name, &bytes)
    }

    /// Dictionaries of one tensor, each in the next one under a hundred long names.
    pub(crate) fn names(&self, name: &str) -> PathBuf {
        let named = |memo: u8| {
            (0..100).flat_map(move |n: u8| {
                [
                    &b"X\x4a\x01\0\0"[..],
                    &[b'a' + n % 26, b'a' + n / 26],
                    &[b'x'; 328],
                    b"h",
                    &[memo],
                ]
                .concat()
            })
        };
        let mut pickle = [
            REBUILD,
            b"FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\0K\x01\x85K\x01\x85\x89NtRq\x000",
        ]
        .concat();
        for memo in 0..3 {
            pickle.extend(b"}(");
            pickle.extend(named(memo));
            pickle.extend([&b"uq"[..], &[memo + 1], b"0"].concat());
        }
        pickle.extend(b"h\x03.");
        self.pickle(name, &pickle)
    }

    pub(crate) fn pickle(&self, name: &str, pickle: &[u8]) -> PathBuf {
        self.zip(name, &[("a/data.pkl", pickle), ("a/data/0", &[0; 16])])
    }

    /// A dictionary with one tensor, as a pickle would describe it.
    pub(crate) fn tensor(
        &self,
        name: &str,
        class: &str,
        offset: i32,
        shape: &[i32],
        strides: &[i32],
    ) -> PathBuf {
        let int = |n: i32| [&b"J"[..], &n.to_le_bytes()].concat();
        let ints = |all: &[i32]| {
            [&b"("[..], &all.iter().flat_map(|&n| int(n)).collect::<Vec<u8>>(), b"t"].concat()
        };
        let pickle = [
            &b"\x80\x02}X\x01\0\0\0w"[..],
            &REBUILD[2..],
            class.as_bytes(),
            b"\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ",
            &int(offset),
            &ints(shape),
            &ints(strides),
            b"\x89NtRs.",
        ]
        .concat();
        self.pickle(name, &pickle)
    }

    pub(crate) fn dense(&self, name: &str, header: &str, data: usize) -> PathBuf {
        let bytes =
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat();
        self.bytes(name, &bytes)
    }

    pub(crate) fn edit(&self, name: &str, base: &str) -> PathBuf {
        let path = self.0.join(name);
        let tensor = Tensor::zeros([1], (Kind::Float, tch::Device::Cpu));
        let about = [("unsee.base", base.to_owned()), ("unsee.edit", "1".to_owned())];
        save(&path, &[("unet.x".to_owned(), tensor)], &about).unwrap();
        path
    }

    pub(crate) fn tensors(&self, name: &str, tensors: &[(&str, &[i64])]) -> PathBuf {
        let path = self.0.join(name);
        let tensors: Vec<(String, Tensor)> = tensors
            .iter()
            .map(|(name, shape)| {
                ((*name).to_owned(), Tensor::zeros(*shape, (Kind::Float, tch::Device::Cpu)))
            })
            .collect();
        save(&path, &tensors, &[]).unwrap();
        path
    }
}
