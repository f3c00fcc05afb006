//! Files to named tensors and back. Knows formats and names, not networks.

mod content;
mod edit;
mod error;
mod file;
mod finite;
mod folder;
mod low_rank;
mod map;
mod names;
mod pickle;
mod safetensors_file;
mod save;
mod tensor_info;
mod torch_save;

use std::collections::BTreeMap;
use std::path::Path;

pub use edit::{Edit, Sampling};
pub use error::Error;
pub use folder::{missing_shards, weight_files};
pub use low_rank::LowRank;
pub use names::compvis::{
    Averages, EmaChoice, SingleFile, current_vae_names, foreign_single_file, from_compvis,
    is_compvis, to_compvis, unet_names_of_compvis, vae_of_compvis,
};
pub use names::inception::read_inception;
pub use names::kinds::describe;
pub use names::lora::{Dialect, is_lora, named_lora, read_lora};
pub use names::lora_factors::Factors;
pub use names::lora_scaling::{CLASS as LORA_CONFIG, adapter_file, adapter_files};
pub use names::positions::without_position_ids;
pub use names::stylegan::{Gan, MEAN_STYLE, STYLEGAN2, foreign_gan, is_stylegan, read_stylegan};
pub use save::{save, save_as};
pub use tensor_info::Info;
pub use torch_save::save_torch;

use self::file::WeightFile;
use self::tensor_info::dtype_name;
use crate::torch::Tensor;

/// How a tensor is made of one in a file that names or shapes it otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// As it is.
    Whole,
    /// The `n`-th of so many equal parts along the first dimension.
    Part(i64, i64),
    /// A 1×1 convolution as a linear layer: `[o, i, 1, 1]` is `[o, i]`.
    Flat,
    /// With so many dimensions of one before its own.
    Ahead(usize),
    /// A vector as what is added to a picture's channels: `[c]` is `[1, c, 1, 1]`.
    Channels,
}

impl View {
    /// The shape that is seen; `None` where the view does not fit.
    fn shape(self, shape: &[i64]) -> Option<Vec<i64>> {
        match (self, shape) {
            (Self::Whole, _) => Some(shape.to_vec()),
            (Self::Part(_, of), [first, rest @ ..]) if first % of == 0 => {
                Some([&[first / of], rest].concat())
            }
            (Self::Flat, &[outputs, inputs, 1, 1] | &[outputs, inputs]) => {
                Some(vec![outputs, inputs])
            }
            (Self::Ahead(n), _) => Some([&vec![1; n], shape].concat()),
            (Self::Channels, &[channels]) => Some(vec![1, channels, 1, 1]),
            _ => None,
        }
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone)]
struct TensorEntry {
    file: usize,
    name: String,
    view: View,
}

/// Named tensors from one or more files, read when asked for.
#[derive(Debug)]
pub struct Weights {
    files: Vec<std::rc::Rc<WeightFile>>,
    entries: BTreeMap<String, TensorEntry>,
    /// Tensors beside a dictionary `state_dict`.
    beside: Vec<String>,
}

impl Weights {
    /// Opens one file: safetensors, or what `torch.save` wrote. Tensors in a dictionary
    /// `state_dict` are taken out of it, and what lies beside it is left.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or would have to be executed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = WeightFile::open(path)?;
        let names = file.names();
        let wrapped = names.iter().any(|name| name.starts_with(WRAPPER));
        let beside: Vec<String> = if wrapped {
            names.iter().filter(|name| !name.starts_with(WRAPPER)).cloned().collect()
        } else {
            Vec::new()
        };
        let entries = names
            .into_iter()
            .filter(|name| !wrapped || name.starts_with(WRAPPER))
            .map(|name| {
                let short = name.strip_prefix(WRAPPER).unwrap_or(&name).to_owned();
                (short, TensorEntry { file: 0, name, view: View::Whole })
            })
            .collect();
        Ok(Self { files: vec![file.into()], entries, beside })
    }

    /// Names of tensors that lie beside a dictionary `state_dict`, and are no part of these.
    pub fn beside(&self) -> &[String] {
        &self.beside
    }

    /// The same files under other names: `rename` gives what each tensor becomes, several where it
    /// is divided, none where it is left out.
    ///
    /// # Errors
    /// A tensor that cannot be seen as `rename` says; two that become one and differ.
    pub fn renamed(&self, rename: impl Fn(&str) -> Vec<(String, View)>) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        let mut sources: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, position) in &self.entries {
            for (new, view) in rename(name) {
                let view = if view == View::Whole { position.view } else { view };
                let position = TensorEntry { view, ..position.clone() };
                let info = self.files[position.file].info(&position.name);
                if info.as_ref().and_then(|info| view.shape(&info.shape)).is_none() {
                    let shape = info.map(|info| info.shape).unwrap_or_default();
                    let why = format!("`{name}` is {shape:?}, which cannot be `{new}`");
                    return Err(Error::damaged(self.files[position.file].path(), why));
                }
                sources.entry(new.clone()).or_default().push(name);
                entries.insert(new, position);
            }
        }
        for several in sources.values() {
            for pair in several.windows(2) {
                let [one, other] = [self.floats(pair[0])?, self.floats(pair[1])?];
                if !one.flatten(0, -1).equal(&other.flatten(0, -1)) {
                    let why = format!(
                        "`{}` and `{}` are one tensor under two names, and differ; remove one of \
                         them",
                        pair[0], pair[1]
                    );
                    return Err(Error::unfit(self.path(pair[1]), why));
                }
            }
        }
        Ok(Self { files: self.files.clone(), entries, beside: self.beside.clone() })
    }

    /// Several as one, each one's names behind its prefix and a dot.
    pub fn joined<'a>(parts: impl Iterator<Item = (&'a str, &'a Self)>) -> Self {
        let mut whole = Self { files: Vec::new(), entries: BTreeMap::new(), beside: Vec::new() };
        for (prefix, part) in parts {
            for (name, position) in &part.entries {
                let position =
                    TensorEntry { file: position.file + whole.files.len(), ..position.clone() };
                whole.entries.insert(format!("{prefix}.{name}"), position);
            }
            whole.files.extend(part.files.iter().cloned());
        }
        whole
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The file that would be named in an error about `name`.
    pub fn path(&self, name: &str) -> &Path {
        self.files[self.entries.get(name).map_or(0, |position| position.file)].path()
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<Info> {
        let position = self.entries.get(name)?;
        let info = self.files[position.file].info(&position.name)?;
        Some(Info { shape: position.view.shape(&info.shape)?, ..info })
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
        let Some(position) = self.entries.get(name) else {
            return Err(Error::Missing {
                name: name.to_owned(),
                path: self.path(name).to_path_buf(),
                hint: self.hint(name),
            });
        };
        let whole = self.files[position.file].tensor(&position.name)?;
        Ok(match position.view {
            View::Whole => whole,
            View::Part(n, of) => {
                let rows = whole.size()[0] / of;
                whole.narrow(0, n * rows, rows).copy()
            }
            View::Flat => whole.flatten(1, -1),
            View::Ahead(_) | View::Channels => {
                let shape = position.view.shape(&whole.size()).unwrap_or_default();
                whole.view(shape.as_slice())
            }
        })
    }

    /// A tensor of a network, in its file's number type: numbers with fractions, all of them
    /// finite.
    ///
    /// # Errors
    /// A name that is not there, whole numbers, numbers that are NaN or infinite.
    pub fn floats(&self, name: &str) -> Result<Tensor, Error> {
        let tensor = self.tensor(name)?;
        let path = self.path(name).to_path_buf();
        if !tensor.is_floating_point() {
            let dtype = dtype_name(tensor.kind()).to_owned();
            return Err(Error::Dtype { name: name.to_owned(), path, dtype });
        }
        let bytes = self.bytes(name)?;
        match finite::not_finite(&bytes, dtype_name(tensor.kind())) {
            0 => Ok(tensor),
            count => Err(Error::NotFinite { name: name.to_owned(), path, count }),
        }
    }

    /// The bytes of a tensor's numbers, in the file's number type.
    fn bytes(&self, name: &str) -> Result<std::borrow::Cow<'_, [u8]>, Error> {
        let Some(position) = self.entries.get(name) else {
            return Err(Error::missing(name, self.path(name)));
        };
        let bytes = self.files[position.file].bytes(&position.name)?;
        let View::Part(n, of) = position.view else { return Ok(bytes) };
        let part = bytes.len() / of as usize;
        let part = n as usize * part..(n as usize + 1) * part;
        Ok(match bytes {
            std::borrow::Cow::Borrowed(bytes) => std::borrow::Cow::Borrowed(&bytes[part]),
            std::borrow::Cow::Owned(bytes) => std::borrow::Cow::Owned(bytes[part].to_vec()),
        })
    }

    /// What a reader of an error about a missing name would like to know.
    pub fn hint(&self, name: &str) -> String {
        let nearest = self
            .names()
            .map(|known| (strsim::jaro_winkler(known, name), known))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((likeness, known)) if likeness > 0.9 => {
                let count = self.entries.len();
                format!(" ({count} tensors are there; the nearest name is `{known}`)")
            }
            Some((_, known)) => {
                format!(" ({} tensors are there, `{known}` among them)", self.entries.len())
            }
            None => " (the file is empty)".to_owned(),
        }
    }

    /// A hash over names, types, shapes and contents; the format and the layout of the files do not
    /// matter.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn hash(&self) -> Result<blake3::Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        for name in self.names() {
            let info = self.info(name).ok_or_else(|| Error::missing(name, self.path(name)))?;
            let shape: Vec<usize> = info.shape.iter().map(|&n| n as usize).collect();
            hasher.update(format!("{name}\0{}\0{shape:?}\0", info.dtype).as_bytes());
            hasher.update(&self.bytes(name)?);
        }
        Ok(hasher.finalize())
    }
}

/// The key under which Lightning, and those who follow it, keep the weights.
const WRAPPER: &str = "state_dict.";
