//! A component's folder as diffusers and transformers write it: which of its files hold the
//! weights, in one piece or in shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::file::WeightFile;
use super::{Error, TensorEntry, View, Weights};

/// What files of weights are called, by their format.
const STEMS: [(&str, [&str; 2]); 2] = [
    ("safetensors", ["diffusion_pytorch_model", "model"]),
    ("bin", ["diffusion_pytorch_model", "pytorch_model"]),
];

/// The file that holds a folder's weights, or the index of those that do, among the names of its
/// files: in full precision before `fp16`, safetensors before pickles.
fn chosen<'a>(files: &[&'a str]) -> Option<(&'a str, FileSet)> {
    let find = |name: String| files.iter().find(|file| **file == name).copied();
    for variant in ["", ".fp16"] {
        for (format, stems) in STEMS {
            for stem in stems {
                if let Some(file) = find(format!("{stem}{variant}.{format}")) {
                    return Some((file, FileSet::Whole));
                }
                // diffusers puts the variant before `.json` or before the format, by its version.
                let index = find(format!("{stem}.{format}.index{variant}.json"))
                    .or_else(|| find(format!("{stem}{variant}.{format}.index.json")));
                if let Some(index) = index {
                    return Some((index, FileSet::Index { stem, variant, format }));
                }
            }
        }
    }
    None
}

/// How a folder's weights are kept.
enum FileSet {
    Whole,
    Index { stem: &'static str, variant: &'static str, format: &'static str },
}

/// The files that are needed to read a folder's weights, among the names of its files.
pub fn weight_files<'a>(files: &[&'a str]) -> Vec<&'a str> {
    match chosen(files) {
        None => Vec::new(),
        Some((file, FileSet::Whole)) => vec![file],
        Some((index, FileSet::Index { stem, variant, format })) => {
            let shard = |file: &&&str| {
                file.starts_with(stem)
                    && file.contains("-of-")
                    && file.ends_with(format)
                    && file.contains(".fp16") != variant.is_empty()
            };
            files.iter().filter(shard).chain([&index]).copied().collect()
        }
    }
}

/// The shards that are not among the files of a folder's weights, by the numbers in their names:
/// `-00001-of-00002`.
pub fn missing_shards(files: &[&str]) -> Vec<String> {
    let split = |name: &str| -> Option<(String, usize, String)> {
        let (front, rest) = name.split_once("-of-")?;
        let (stem, _) = front.rsplit_once('-')?;
        let (all, format) = rest.split_once('.')?;
        Some((stem.to_owned(), all.parse().ok()?, format.to_owned()))
    };
    if !files.iter().any(|name| Path::new(name).extension().is_some_and(|kind| kind == "json")) {
        return Vec::new();
    }
    let Some((stem, all, format)) = files.iter().find_map(|name| split(name)) else {
        return vec!["every shard of its weights".to_owned()];
    };
    (1..=all)
        .map(|n| format!("{stem}-{n:05}-of-{all:05}.{format}"))
        .filter(|name| !files.contains(&name.as_str()))
        .collect()
}

impl Weights {
    /// Opens the weights in a component's folder; `None` where it has none. Other weights that lie
    /// there are named in `notes`.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or would have to be executed.
    pub fn open_folder(folder: &Path, notes: &mut Vec<String>) -> Result<Option<Self>, Error> {
        let mut files = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            files.push(entry?.file_name().to_string_lossy().into_owned());
        }
        files.sort_unstable();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let taken = weight_files(&files);
        let left: Vec<&str> = (files.iter().copied())
            .filter(|name| !taken.contains(name) && !name.starts_with('.'))
            .filter(|name| {
                [".safetensors", ".bin", ".safetensors.index.json"]
                    .iter()
                    .any(|end| name.ends_with(end))
            })
            .collect();
        if let (Some(first), false) = (taken.first(), left.is_empty()) {
            notes.push(format!("{}: {first} is read; {} left", folder.display(), were(&left)));
        }
        chosen(&files)
            .map(|(file, kind)| match kind {
                FileSet::Whole => Self::open(&folder.join(file)),
                FileSet::Index { .. } => Self::open_sharded(&folder.join(file)),
            })
            .transpose()
    }

    /// Opens the shards that an index (`….safetensors.index.json`, `….bin.index.json`) names.
    ///
    /// # Errors
    /// An index that is none, that leaves its folder, or names a tensor that its shard lacks; a
    /// shard that is missing or damaged.
    pub fn open_sharded(index: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Index { path: index.to_path_buf(), why };
        let text = fs_err::read_to_string(index)?;
        let parsed: ShardIndex =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
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
            files.push(WeightFile::open(&folder.join(shard))?.into());
        }
        let mut whole = Self { files, entries: BTreeMap::new(), beside: Vec::new() };
        for (name, shard) in &parsed.weight_map {
            let file = shards.iter().position(|listed| *listed == shard).unwrap_or(0);
            if whole.files[file].info(name).is_none() {
                return Err(wrong(format!("`{name}` is not in {shard}")));
            }
            whole
                .entries
                .insert(name.clone(), TensorEntry { file, name: name.clone(), view: View::Whole });
        }
        Ok(whole)
    }
}

fn were(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

/// What Hugging Face writes beside shards.
#[derive(serde::Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::torch::Tensor;
    use crate::weights::save;

    #[test]
    fn a_folder_has_one_set_of_weights_that_is_taken() {
        let chosen = |files: &[&str]| weight_files(files).join(" ");
        assert_eq!(
            chosen(&["model.fp16.safetensors", "pytorch_model.bin", "config.json"]),
            "pytorch_model.bin"
        );
        assert_eq!(chosen(&["model.fp16.safetensors", "model.safetensors"]), "model.safetensors");
        let shards = [
            "model-1-of-2.safetensors",
            "model-2-of-2.safetensors",
            "model.fp16-1-of-1.safetensors",
            "model.safetensors.index.fp16.json",
        ];
        assert_eq!(
            chosen(&shards),
            "model.fp16-1-of-1.safetensors model.safetensors.index.fp16.json"
        );
        let full = [&shards[..], &["model.safetensors.index.json"]].concat();
        assert!(
            chosen(&full).starts_with("model-1-of-2.safetensors model-2-of-2.safetensors model.")
        );
        assert_eq!(chosen(&["other.safetensors", "model.onnx"]), "");
    }

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
        let sharded =
            index(r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#).unwrap();
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
