//! By what a `LoRA`'s product is scaled: alpha / rank, or alpha / √rank (rank-stabilised). It is
//! said in a tensor beside the factors (kohya), in a file beside the weights (`PEFT`), or in the
//! file's metadata (diffusers).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::fields::{self, Class, Configuration, Rule};
use crate::torch::Kind;
use crate::weights::{Error, Weights};

/// How one module's product is scaled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scaling {
    /// The rank where there is none.
    alpha: Option<f64>,
    /// Whether it is divided by the root of the rank (Kalajdzievski 2023).
    stabilised: bool,
}

impl Scaling {
    pub(super) fn factor(self, rank: f64) -> f64 {
        self.alpha.unwrap_or(rank) / if self.stabilised { rank.sqrt() } else { rank }
    }
}

/// `adapter_config.json`, and what diffusers writes of it into metadata.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct LoraConfigFile {
    #[serde(default)]
    lora_alpha: Option<f64>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    alpha_pattern: Map<String, Value>,
}

const OTHER: &str = "it is no plain LoRA";
const OFF: Rule = Rule::Only(&["null", "false"], OTHER);
const NONE: Rule = Rule::Only(&["null", "[]", "{}"], OTHER);
const FOUND: Rule = Rule::Harmless("the tensors say it themselves");
const TRAINING: Rule = Rule::Harmless("of training alone");

impl Configuration for LoraConfigFile {
    const CLASS: Class = Class {
        name: "LoraConfig",
        fields: &[&[
            ("peft_type", Rule::Only(&["\"LORA\"", "null"], OTHER)),
            ("lora_alpha", Rule::Honoured),
            ("use_rslora", Rule::Honoured),
            ("alpha_pattern", Rule::Honoured),
            ("r", FOUND),
            ("rank_pattern", FOUND),
            ("target_modules", FOUND),
            ("exclude_modules", FOUND),
            ("layers_to_transform", FOUND),
            ("layers_pattern", FOUND),
            ("bias", Rule::Only(&["\"none\"", "null"], "adapters with biases are not read")),
            ("lora_bias", OFF),
            ("use_dora", Rule::Only(&["null", "false"], "it is DoRA")),
            ("use_qalora", OFF),
            ("qalora_group_size", Rule::Harmless("of QA-LoRA, which is refused")),
            ("use_bdlora", OFF),
            ("fan_in_fan_out", Rule::Only(&["null", "false"], "its matrices are turned")),
            (
                "modules_to_save",
                Rule::Only(&["null", "[]"], "it holds whole modules beside the adapter"),
            ),
            (
                "init_lora_weights",
                Rule::Only(
                    &["true", "false", "null", "\"gaussian\"", "\"orthogonal\"", "\"eva\""],
                    "it was made against base weights that its initialisation changed",
                ),
            ),
            ("layer_replication", NONE),
            ("trainable_token_indices", NONE),
            ("target_parameters", NONE),
            ("loftq_config", NONE),
            ("eva_config", TRAINING),
            ("corda_config", NONE),
            ("lora_ga_config", NONE),
            ("arrow_config", NONE),
            ("kasa_config", NONE),
            ("monteclora_config", NONE),
            ("velora_config", NONE),
            ("alora_invocation_tokens", NONE),
            ("megatron_config", NONE),
            ("megatron_core", TRAINING),
            ("ensure_weight_tying", TRAINING),
            ("lora_dropout", TRAINING),
            ("inference_mode", TRAINING),
            ("runtime_config", TRAINING),
            ("auto_mapping", Rule::Harmless("which class it was trained on")),
            ("task_type", Rule::Harmless("which task it was trained for")),
            ("base_model_name_or_path", Rule::Harmless("what it was trained on")),
            ("revision", Rule::Harmless("what it was trained on")),
            ("peft_version", Rule::Harmless("which version wrote the file")),
        ]],
    };
}

/// The fields, for those who list them.
pub const CLASS: Class = LoraConfigFile::CLASS;

/// PEFT's `lora_alpha` where a configuration does not say it.
const ALPHA: f64 = 8.0;

impl LoraConfigFile {
    /// The scaling of a module by its name inside its component.
    fn of(&self, module: &str, path: &Path) -> Result<Scaling, Error> {
        let mut alpha = Some(self.lora_alpha.unwrap_or(ALPHA));
        for (pattern, value) in &self.alpha_pattern {
            if fits(pattern, module).map_err(|why| Error::unfit(path, why))? {
                alpha = value.as_f64();
                break;
            }
        }
        Ok(Scaling { alpha, stabilised: self.use_rslora })
    }
}

/// Whether a pattern of PEFT's names a module: as a regular expression at the end of its name,
/// behind a dot.
fn fits(pattern: &str, module: &str) -> Result<bool, String> {
    let (start, plain) = match pattern.strip_prefix('^') {
        Some(plain) => (true, plain),
        None => (false, pattern),
    };
    if plain.contains(['\\', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '^', '$']) {
        return Err(format!(
            "alpha_pattern `{pattern}` is a regular expression; names of modules are read"
        ));
    }
    let same = |name: &str| {
        name.chars().count() == plain.chars().count()
            && name.chars().zip(plain.chars()).all(|(c, wanted)| wanted == '.' || c == wanted)
    };
    let ends = module.match_indices('.').map(|(at, _)| &module[at + 1..]);
    Ok(same(module) || (!start && ends.into_iter().any(same)))
}

/// What a file says of its modules' scalings.
pub(super) struct Scalings {
    /// By component, with a dot; an empty one is of all.
    configs: Vec<(String, LoraConfigFile)>,
    path: PathBuf,
}

impl Scalings {
    /// # Errors
    /// Settings that are refused.
    pub(super) fn of(file: &Weights, notes: &mut Vec<String>) -> Result<Self, Error> {
        let path = file.path("").to_path_buf();
        let unfit = |error: fields::Error| Error::unfit(&path, error.to_string());
        let mut configs = Vec::new();
        let beside = path.with_file_name("adapter_config.json");
        let of_peft = file.names().any(|name| name.starts_with("base_model.model."))
            || path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("adapter_model."));
        let metadata = file.metadata().remove("lora_adapter_metadata");
        if of_peft && beside.is_file() {
            let json = fields::open(&beside).map_err(unfit)?;
            configs.push((String::new(), fields::read(&json, &beside, notes).map_err(unfit)?));
        } else if let Some(text) = metadata {
            let json =
                fields::parse(&text).map_err(|error| Error::unfit(&path, error.to_string()))?;
            let mut components: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
            for (key, value) in json.as_object().into_iter().flatten() {
                let (component, field) = key.split_once('.').unwrap_or(("", key));
                components.entry(component).or_default().insert(field.to_owned(), value.clone());
            }
            for (component, json) in components {
                let prefix =
                    if component.is_empty() { String::new() } else { format!("{component}.") };
                let config = fields::read(&Value::Object(json), &path, notes).map_err(unfit)?;
                configs.push((prefix, config));
            }
        } else if of_peft {
            notes.push(format!(
                "{}: there is no adapter_config.json beside it, so that its alpha is assumed to be \
                 its rank",
                path.display()
            ));
        }
        Ok(Self { configs, path })
    }

    pub(super) fn of_module(&self, file: &Weights, module: &str) -> Result<Scaling, Error> {
        let name = format!("{module}.alpha");
        if file.contains(&name) {
            let alpha = file.tensor(&name)?;
            if alpha.numel() != 1 {
                return Err(Error::unfit(
                    file.path(&name),
                    format!("`{name}` is no single number"),
                ));
            }
            let alpha = Some(alpha.to_kind(Kind::Double).double_value(&[]))
                .filter(|alpha| alpha.is_finite());
            if alpha.is_none() {
                return Err(Error::unfit(file.path(&name), format!("`{name}` is NaN or infinite")));
            }
            return Ok(Scaling { alpha, stabilised: false });
        }
        let bare = module.strip_prefix("base_model.model.").unwrap_or(module);
        for (prefix, config) in &self.configs {
            if let Some(inside) = bare.strip_prefix(prefix.as_str()) {
                return config.of(inside, &self.path);
            }
        }
        Ok(Scaling::default())
    }
}

/// The adapter's file in a folder that PEFT or diffusers saved; `None` where it is none.
pub fn adapter_file(folder: &Path) -> Option<PathBuf> {
    adapter_files(folder).into_iter().next()
}

/// All such files, the one that is taken first.
pub fn adapter_files(folder: &Path) -> Vec<PathBuf> {
    [
        "adapter_model.safetensors",
        "adapter_model.bin",
        "pytorch_lora_weights.safetensors",
        "pytorch_lora_weights.bin",
    ]
    .iter()
    .map(|name| folder.join(name))
    .filter(|path| path.is_file())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_modules_by_their_ends() {
        assert_eq!(fits("to_q", "down_blocks.0.attn1.to_q"), Ok(true));
        assert_eq!(fits("attn1.to_q", "down_blocks.0.attn1.to_q"), Ok(true));
        assert_eq!(fits("o_q", "down_blocks.0.attn1.to_q"), Ok(false));
        assert_eq!(fits("^to_q", "attn1.to_q"), Ok(false));
        assert_eq!(fits("^attn1.to_q", "attn1.to_q"), Ok(true));
        assert!(fits("attn[12]", "attn1").is_err());
    }

    #[test]
    fn by_the_rank_or_by_its_root() {
        let of = |alpha, stabilised| Scaling { alpha, stabilised }.factor(16.0);
        assert_eq!((of(None, false), of(Some(8.0), false), of(Some(8.0), true)), (1.0, 0.5, 2.0));
    }
}
