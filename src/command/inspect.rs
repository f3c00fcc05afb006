//! Tells what a file or folder is, without loading it.

use std::path::Path;

use serde::Serialize;

use crate::generator::{Adapter, Checkpoint, is_gan};
use crate::pipeline::{ModelSettings, file_of, located, shipped_or_path};
use crate::run::Error;
use crate::run::opening::opened_gan;
use crate::run::record::Record;
use crate::weights::{Weights, describe};

/// What something is.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// In one phrase.
    pub what: String,
    /// What there is to know.
    pub facts: Vec<(String, String)>,
    /// Its tensors, for a file of weights.
    pub tensors: Vec<TensorFact>,
}

/// A tensor in a file.
#[derive(Debug, Clone, Serialize)]
pub struct TensorFact {
    /// Its name.
    pub name: String,
    /// Its number type.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<i64>,
}

impl TensorFact {
    fn bytes(&self) -> u64 {
        let width = match self.dtype.as_str() {
            "F64" | "I64" => 8,
            "F32" | "I32" => 4,
            "F16" | "BF16" | "I16" => 2,
            _ => 1,
        };
        self.shape.iter().map(|&n| n as u64).product::<u64>() * width
    }
}

/// What of a file would go onto a base, one line.
///
/// # Errors
/// Nothing that fits, or a file that cannot be read.
pub fn fits(path: &Path, base: &ModelSettings) -> Result<String, Error> {
    let location = located(base)?;
    let adapters = [Adapter { path: path.to_path_buf(), strength: 1.0 }];
    if is_gan(&location.path) {
        let merged = opened_gan(&location.path)?.merge(&adapters)?;
        return Ok(format!("{} tensors would change", merged.edit.tensors.len()));
    }
    let merged = Checkpoint::open(&location)?.merge(&adapters, base.ema)?;
    let said: Vec<String> = merged.notes.into_iter().chain(merged.warnings).collect();
    Ok(format!("{}; {} tensors would change", said.join("; "), merged.edit.tensors.len()))
}

/// Looks at a path, or at a model by its name.
///
/// # Errors
/// Nothing that unsee knows, or something damaged.
pub fn inspect(name: &Path) -> Result<Finding, Error> {
    let path = shipped_or_path(&name.to_string_lossy())?;
    let path = &file_of(path);
    if !path.is_dir() {
        return file(path);
    }
    if path.join("run.json").exists() {
        return run_folder(path);
    }
    if path.join("model_index.json").exists() {
        return model_folder(path);
    }
    for file_name in ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"] {
        if path.join("config.json").exists() && path.join(file_name).exists() {
            return file(&path.join(file_name));
        }
    }
    let weights = ["model.safetensors", "pytorch_model.bin"]
        .into_iter()
        .find(|file| path.join(file).exists());
    if let Some(weights) = weights.filter(|_| path.join("config.json").exists()) {
        let mut finding = file(&path.join(weights))?;
        let config = crate::fields::open(&path.join("config.json"))
            .map_err(|error| Error::Unknown(error.to_string()))?;
        finding.what = format!(
            "a transformers folder ({})",
            config["model_type"].as_str().unwrap_or("unknown")
        );
        return Ok(finding);
    }
    Err(Error::Unknown(format!(
        "{} is no run (run.json), diffusers folder (model_index.json), transformers folder \
         (config.json) or StyleGAN2's folder (stylegan2.safetensors)",
        path.display()
    )))
}

fn file(path: &Path) -> Result<Finding, Error> {
    let weights = Weights::open(path)?;
    let tensors: Vec<TensorFact> = weights
        .names()
        .filter_map(|name| {
            let info = weights.info(name)?;
            Some(TensorFact { name: name.to_owned(), dtype: info.dtype, shape: info.shape })
        })
        .collect();
    let about = weights.metadata();
    let mut facts = summary(&weights, &tensors)?;
    facts.extend(about.into_iter().filter(|(key, _)| key != "format"));
    Ok(Finding { what: describe(&weights), facts, tensors })
}

fn summary(weights: &Weights, tensors: &[TensorFact]) -> Result<Vec<(String, String)>, Error> {
    let numbers: i64 = tensors.iter().map(|t| t.shape.iter().product::<i64>()).sum();
    let mut types: Vec<&str> = tensors.iter().map(|t| t.dtype.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    let bytes: u64 = tensors.iter().map(TensorFact::bytes).sum();
    Ok(vec![
        ("tensors".to_owned(), tensors.len().to_string()),
        ("size".to_owned(), format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))),
        ("numbers".to_owned(), numbers.to_string()),
        ("types".to_owned(), types.join(", ")),
        ("hash".to_owned(), weights.hash()?.to_hex().to_string()),
    ])
}

fn model_folder(path: &Path) -> Result<Finding, Error> {
    let mut facts = Vec::new();
    for (component, weights) in Checkpoint::open(&path.into())?.components() {
        let (mut count, mut numbers) = (0, 0);
        let mut types: Vec<String> = Vec::new();
        for info in weights.names().filter_map(|name| weights.info(name)) {
            count += 1;
            numbers += info.shape.iter().product::<i64>();
            if !types.contains(&info.dtype) {
                types.push(info.dtype);
            }
        }
        let text = format!("{numbers} numbers in {count} tensors, {}", types.join(", "));
        facts.push((component.to_owned(), text));
    }
    Ok(Finding { what: "a diffusers folder".to_owned(), facts, tensors: Vec::new() })
}

fn run_folder(path: &Path) -> Result<Finding, Error> {
    let text = fs_err::read_to_string(path.join("run.json"))?;
    let record: Record = serde_json::from_str(&text)
        .map_err(|error| Error::Unknown(format!("{}/run.json: {error}", path.display())))?;
    let mut facts = vec![
        ("status".to_owned(), format!("{:?}", record.status).to_lowercase()),
        ("began".to_owned(), record.began),
        ("build".to_owned(), record.build),
        ("device".to_owned(), format!("{} in {}", record.machine.device, record.machine.precision)),
    ];
    facts.extend(record.hashes);
    for phase in record.phases {
        facts.push((phase.name, format!("{:.1} s, {} MiB", phase.seconds, phase.peak.host >> 20)));
    }
    Ok(Finding { what: "a run".to_owned(), facts, tensors: Vec::new() })
}
