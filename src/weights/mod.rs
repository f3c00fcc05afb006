//! Files to named tensors and back. Knows formats and names, not networks.

mod edit;
mod map;
mod save;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use edit::Edit;
pub use map::File;
pub use save::{save, save_as};

use crate::torch::{Kind, Tensor};

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not a safetensors file, or a damaged one.
    #[error("{path} is not a sound safetensors file: {why}; was it cut off while it was copied?")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        why: String,
    },
    /// An index of shards that cannot be followed.
    #[error("{path} cannot be followed: {why}")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A number type that no network here uses.
    #[error("`{name}` in {path} is {dtype}; f32, f16, bf16, u8 and i64 can be read")]
    Dtype {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its type in the file.
        dtype: String,
    },
    /// A tensor that should be there.
    #[error("`{name}` is missing in {path}{hint}")]
    Missing {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is there instead.
        hint: String,
    },
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

/// Number type and shape of a tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The type in the file's own words, `F16`.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<i64>,
    /// Bytes of data.
    pub bytes: usize,
}

/// Named tensors from one or more files, read when asked for.
#[derive(Debug)]
pub struct Weights {
    files: Vec<File>,
    place: BTreeMap<String, usize>,
}

impl Weights {
    /// Opens one safetensors file.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)?;
        let place = file.names().into_iter().map(|name| (name, 0)).collect();
        Ok(Self { files: vec![file], place })
    }

    /// Opens the shards that an index (`….safetensors.index.json`) names.
    ///
    /// # Errors
    /// An index that is none, that leaves its folder, or names a tensor that its shard lacks; a shard that
    /// is missing or damaged.
    pub fn open_sharded(index: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Index { path: index.to_path_buf(), why };
        let text = fs_err::read_to_string(index)?;
        let parsed: Index = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if parsed.weight_map.is_empty() {
            return Err(wrong("its weight_map is empty".to_owned()));
        }
        let shards: BTreeSet<&String> = parsed.weight_map.values().collect();
        let folder = index.parent().unwrap_or(Path::new("."));
        let mut files = Vec::new();
        for &shard in &shards {
            let plain = Path::new(shard).file_name().is_some_and(|name| name == shard.as_str());
            if !plain || !shard.ends_with(".safetensors") {
                return Err(wrong(format!("`{shard}` is no safetensors file beside it")));
            }
            files.push(File::open(&folder.join(shard))?);
        }
        let mut place = BTreeMap::new();
        for (name, shard) in &parsed.weight_map {
            let file = shards.iter().position(|own| *own == shard).unwrap_or(0);
            if files[file].info(name).is_none() {
                return Err(wrong(format!("`{name}` is not in {shard}")));
            }
            place.insert(name.clone(), file);
        }
        Ok(Self { files, place })
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.place.contains_key(name)
    }

    /// The file that would be named in an error about `name`.
    pub fn path(&self, name: &str) -> &Path {
        self.files[self.place.get(name).copied().unwrap_or(0)].path()
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<Info> {
        self.files[*self.place.get(name)?].info(name)
    }

    /// Text that the file carries about itself.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.files.iter().flat_map(File::metadata).collect()
    }

    /// A tensor of its own memory, in the file's number type.
    ///
    /// # Errors
    /// A name that is not there, a type that cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        match self.place.get(name) {
            Some(&file) => self.files[file].tensor(name),
            None => Err(Error::Missing {
                name: name.to_owned(),
                path: self.path(name).to_path_buf(),
                hint: self.hint(name),
            }),
        }
    }

    /// What a reader of an error about a missing name would like to know.
    pub fn hint(&self, name: &str) -> String {
        let nearest =
            self.names().map(|own| (strsim::jaro_winkler(own, name), own)).max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((likeness, own)) if likeness > 0.9 => {
                format!(" ({} tensors are there; the nearest name is `{own}`)", self.place.len())
            }
            Some((_, own)) => format!(" ({} tensors are there, `{own}` among them)", self.place.len()),
            None => " (the file is empty)".to_owned(),
        }
    }

    /// A hash over names, types, shapes and contents; the layout of the files does not matter.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (name, &file) in &self.place {
            self.files[file].hash_into(name, &mut hasher);
        }
        hasher.finalize()
    }
}

/// What Hugging Face writes beside shards.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// libtorch's type for a safetensors type.
fn kind(dtype: safetensors::Dtype) -> Option<Kind> {
    Some(match dtype {
        safetensors::Dtype::F32 => Kind::Float,
        safetensors::Dtype::F16 => Kind::Half,
        safetensors::Dtype::BF16 => Kind::BFloat16,
        safetensors::Dtype::U8 => Kind::Uint8,
        safetensors::Dtype::I64 => Kind::Int64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn shards_are_one_and_hash_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (a, b) = (Tensor::from_slice(&[1.0_f32, 2.0]), Tensor::from_slice(&[3_i64]));
        let named = |name: &str, tensor: &Tensor| (name.to_owned(), tensor.shallow_clone());
        save(&path("whole.safetensors"), &[named("a", &a), named("b", &b)], &[]).unwrap();
        save(&path("1.safetensors"), &[named("a", &a)], &[]).unwrap();
        save(&path("2.safetensors"), &[named("b", &b)], &[]).unwrap();
        let index = |text: &str| {
            fs_err::File::create(path("i.json")).unwrap().write_all(text.as_bytes()).unwrap();
            Weights::open_sharded(&path("i.json"))
        };
        let whole = Weights::open(&path("whole.safetensors")).unwrap();
        let sharded = index(r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#).unwrap();
        assert_eq!(whole.hash(), sharded.hash());
        assert!(sharded.tensor("b").unwrap().equal(&b));
        for (text, why) in [
            ("{}", "weight_map"),
            (r#"{"weight_map": {}}"#, "empty"),
            (r#"{"weight_map": {"a": "../1.safetensors"}}"#, "beside"),
            (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "beside"),
            (r#"{"weight_map": {"a": "i.json"}}"#, "beside"),
            (r#"{"weight_map": {"a": "2.safetensors"}}"#, "`a` is not in 2.safetensors"),
            (r#"{"weight_map": {"a": "3.safetensors"}}"#, "3.safetensors"),
        ] {
            let error = index(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
