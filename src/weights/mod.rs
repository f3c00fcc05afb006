//! Files to named tensors and back. Knows formats and names, not networks.

mod dense;
mod edit;
mod map;
mod names;
mod pickle;
mod save;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use edit::Edit;
pub use names::compvis::{Ema, SingleFile, from_compvis, is_compvis, to_compvis, unet_names_of_compvis};
pub use names::kinds::describe;
pub use names::lora::{Dialect, Factors, is_lora, named_lora, read_lora};
pub use save::{save, save_as};

use self::map::Map;
use crate::torch::{Kind, Tensor};

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of no known format, or a damaged one.
    #[error("{path} is no sound file of weights: {why}; was it cut off while it was copied?")]
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
    /// A pickle that wants to use a class or function which is not tensors' own.
    #[error(
        "{path} wants to use `{name}`, which is not tensors' own; nothing in a file of weights is ever executed, so it is refused: look for the same weights as safetensors"
    )]
    Refused {
        /// The class or function.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A number type that no network here uses.
    #[error("`{name}` in {path} is {dtype}, which cannot be read")]
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
    /// A tensor that another program has no name for.
    #[error("`{name}` has no name in {dialect}'s files")]
    Unnamed {
        /// The tensor.
        name: String,
        /// The other program.
        dialect: &'static str,
    },
    /// An edit that belongs to another model.
    #[error(
        "the edit was made for the base model {wanted}, this is {found}; erase again on this model, or load the other one"
    )]
    OtherBase {
        /// The edit's.
        wanted: String,
        /// This model's.
        found: String,
    },
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

impl Error {
    fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), why: why.into() }
    }

    fn missing(name: &str, path: &Path) -> Self {
        Self::Missing { name: name.to_owned(), path: path.to_path_buf(), hint: String::new() }
    }
}

/// Number type and shape of a tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The type in safetensors' words, `F16`.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<i64>,
}

/// One open file.
#[derive(Debug)]
enum File {
    Dense(dense::File),
    Pickle(pickle::File),
}

impl File {
    /// Opens a file; its first bytes tell its format.
    fn open(path: &Path) -> Result<Self, Error> {
        let map = Map::open(path)?;
        let start = map.bytes();
        // A safetensors header is JSON behind eight bytes of length.
        if start.get(8) == Some(&b'{') || !(start.starts_with(b"PK") || start.first() == Some(&0x80)) {
            return Ok(Self::Dense(dense::File::new(map)?));
        }
        Ok(Self::Pickle(pickle::File::new(map)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Dense(file) => file.path(),
            Self::Pickle(file) => file.path(),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Dense(file) => file.names(),
            Self::Pickle(file) => file.names(),
        }
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::Dense(file) => file.metadata(),
            Self::Pickle(_) => BTreeMap::new(),
        }
    }

    fn info(&self, name: &str) -> Option<Info> {
        match self {
            Self::Dense(file) => file.info(name),
            Self::Pickle(file) => file.info(name),
        }
    }

    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, Error> {
        match self {
            Self::Dense(file) => file.bytes(name),
            Self::Pickle(file) => file.bytes(name),
        }
    }

    fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        match self {
            Self::Dense(file) => file.tensor(name),
            Self::Pickle(file) => file.tensor(name),
        }
    }
}

/// How a tensor is made of one in a file that names or shapes it otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// As it is.
    Whole,
    /// The `n`-th of so many equal parts along the first dimension.
    Part(i64, i64),
    /// A 1×1 convolution as a linear layer: `[o, i, 1, 1]` is `[o, i]`.
    Flat,
}

impl View {
    /// The shape that is seen; `None` where the view does not fit.
    fn shape(self, shape: &[i64]) -> Option<Vec<i64>> {
        match (self, shape) {
            (Self::Whole, _) => Some(shape.to_vec()),
            (Self::Part(_, of), [first, rest @ ..]) if first % of == 0 => {
                Some([&[first / of], rest].concat())
            }
            (Self::Flat, &[outputs, inputs, 1, 1] | &[outputs, inputs]) => Some(vec![outputs, inputs]),
            _ => None,
        }
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone)]
struct Place {
    file: usize,
    name: String,
    view: View,
}

/// Named tensors from one or more files, read when asked for.
#[derive(Debug)]
pub struct Weights {
    files: Vec<std::rc::Rc<File>>,
    places: BTreeMap<String, Place>,
}

impl Weights {
    /// Opens one file: safetensors, or what `torch.save` wrote. Tensors in a dictionary `state_dict` are
    /// taken out of it, and what lies beside it is left.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or would have to be executed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)?;
        let names = file.names();
        let wrapped = names.iter().any(|name| name.starts_with(WRAPPER));
        let places = names
            .into_iter()
            .filter(|name| !wrapped || name.starts_with(WRAPPER))
            .map(|name| {
                let short = name.strip_prefix(WRAPPER).unwrap_or(&name).to_owned();
                (short, Place { file: 0, name, view: View::Whole })
            })
            .collect();
        Ok(Self { files: vec![file.into()], places })
    }

    /// Opens the shards that an index (`….safetensors.index.json`, `….bin.index.json`) names.
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
            let kind = Path::new(shard).extension().and_then(|kind| kind.to_str());
            if !plain || !matches!(kind, Some("safetensors" | "bin")) {
                return Err(wrong(format!("`{shard}` is no safetensors or bin file beside it")));
            }
            files.push(File::open(&folder.join(shard))?.into());
        }
        let mut whole = Self { files, places: BTreeMap::new() };
        for (name, shard) in &parsed.weight_map {
            let file = shards.iter().position(|own| *own == shard).unwrap_or(0);
            if whole.files[file].info(name).is_none() {
                return Err(wrong(format!("`{name}` is not in {shard}")));
            }
            whole.places.insert(name.clone(), Place { file, name: name.clone(), view: View::Whole });
        }
        Ok(whole)
    }

    /// The same files under other names: `rename` gives what each tensor becomes, several where it is
    /// divided, none where it is left out.
    ///
    /// # Errors
    /// A tensor that cannot be seen as `rename` says.
    pub fn renamed(&self, rename: impl Fn(&str) -> Vec<(String, View)>) -> Result<Self, Error> {
        let mut places = BTreeMap::new();
        for (name, place) in &self.places {
            for (new, view) in rename(name) {
                let view = if view == View::Whole { place.view } else { view };
                let place = Place { view, ..place.clone() };
                let info = self.files[place.file].info(&place.name);
                if info.as_ref().and_then(|info| view.shape(&info.shape)).is_none() {
                    let shape = info.map(|info| info.shape).unwrap_or_default();
                    let why = format!("`{name}` is {shape:?}, which cannot be `{new}`");
                    return Err(Error::damaged(self.files[place.file].path(), why));
                }
                places.insert(new, place);
            }
        }
        Ok(Self { files: self.files.clone(), places })
    }

    /// Several as one, each one's names behind its prefix and a dot.
    ///
    /// # Errors
    /// None that was seen: the files are open.
    pub fn joined<'a>(parts: impl Iterator<Item = (&'a str, &'a Self)>) -> Result<Self, Error> {
        let mut whole = Self { files: Vec::new(), places: BTreeMap::new() };
        for (prefix, part) in parts {
            for (name, place) in &part.places {
                let place = Place { file: place.file + whole.files.len(), ..place.clone() };
                whole.places.insert(format!("{prefix}.{name}"), place);
            }
            whole.files.extend(part.files.iter().cloned());
        }
        Ok(whole)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The file that would be named in an error about `name`.
    pub fn path(&self, name: &str) -> &Path {
        self.files[self.places.get(name).map_or(0, |place| place.file)].path()
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<Info> {
        let place = self.places.get(name)?;
        let info = self.files[place.file].info(&place.name)?;
        Some(Info { shape: place.view.shape(&info.shape)?, ..info })
    }

    /// Text that the file carries about itself.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.files.iter().flat_map(|file| file.metadata()).collect()
    }

    /// A tensor of its own memory, in the file's number type.
    ///
    /// # Errors
    /// A name that is not there, a type that cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let Some(place) = self.places.get(name) else {
            return Err(Error::Missing {
                name: name.to_owned(),
                path: self.path(name).to_path_buf(),
                hint: self.hint(name),
            });
        };
        let whole = self.files[place.file].tensor(&place.name)?;
        Ok(match place.view {
            View::Whole => whole,
            View::Part(n, of) => {
                let rows = whole.size()[0] / of;
                whole.narrow(0, n * rows, rows).copy()
            }
            View::Flat => whole.flatten(1, -1),
        })
    }

    /// What a reader of an error about a missing name would like to know.
    pub fn hint(&self, name: &str) -> String {
        let nearest =
            self.names().map(|own| (strsim::jaro_winkler(own, name), own)).max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((likeness, own)) if likeness > 0.9 => {
                format!(" ({} tensors are there; the nearest name is `{own}`)", self.places.len())
            }
            Some((_, own)) => format!(" ({} tensors are there, `{own}` among them)", self.places.len()),
            None => " (the file is empty)".to_owned(),
        }
    }

    /// A hash over names, types, shapes and contents; the format and the layout of the files do not matter.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn hash(&self) -> Result<blake3::Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        for (name, place) in &self.places {
            let info = self.info(name).ok_or_else(|| Error::missing(name, self.path(name)))?;
            let shape: Vec<usize> = info.shape.iter().map(|&n| n as usize).collect();
            hasher.update(format!("{name}\0{}\0{shape:?}\0", info.dtype).as_bytes());
            let bytes = self.files[place.file].bytes(&place.name)?;
            hasher.update(match place.view {
                View::Whole | View::Flat => &bytes,
                View::Part(n, of) => {
                    let part = bytes.len() / of as usize;
                    &bytes[n as usize * part..][..part]
                }
            });
        }
        Ok(hasher.finalize())
    }
}

/// The key under which Lightning, and those who follow it, keep the weights.
const WRAPPER: &str = "state_dict.";

/// What Hugging Face writes beside shards.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// safetensors' word for libtorch's type.
fn dtype_name(kind: Kind) -> &'static str {
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
        assert_eq!(whole.hash().unwrap(), sharded.hash().unwrap());
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
