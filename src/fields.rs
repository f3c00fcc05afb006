//! What is done about every field of a configuration that comes from outside: each is honoured,
//! known to be harmless, or refused by name; one that nobody has heard of is said. No configuration
//! is read by another way.
//!
//! A [`Configuration`] is a type that `serde` reads, and the table of all fields that the Python
//! class of the same name writes. `unsee inspect --fields` prints the tables; a test holds them
//! against the classes themselves.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is done about one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It is read, and done as it says.
    Honoured,
    /// Whatever it says changes no picture and no result here; the text says why.
    Harmless(&'static str),
    /// Only these values (in JSON) are built here; any other is refused, with this advice. Of a
    /// list each element is looked at.
    Only(&'static [&'static str], &'static str),
}

impl Rule {
    /// Whether a value is not refused.
    pub fn allows(self, value: &Value) -> bool {
        match self {
            Self::Honoured | Self::Harmless(_) => true,
            Self::Only(wanted, _) => is_one_of(value, wanted),
        }
    }
}

/// A field's name and what is done about it.
pub type Field = (&'static str, Rule);

/// All fields of a class of configurations.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// The Python class.
    pub name: &'static str,
    /// Its fields, in groups that several classes may share.
    pub fields: &'static [&'static [Field]],
}

impl Class {
    /// Its fields one by one.
    pub fn iter(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().copied().flatten()
    }

    /// What is done about a field; `None` for one that nobody has heard of.
    pub fn rule(&self, name: &str) -> Option<Rule> {
        self.iter().find(|(field, _)| *field == name).map(|(_, rule)| *rule)
    }
}

/// What is read of a JSON file that somebody else's program wrote.
pub trait Configuration: DeserializeOwned {
    /// All of its fields.
    const CLASS: Class;
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is no configuration at all.
    #[error("{}: {why}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A value of which nothing is built here.
    #[error("{0}")]
    Refused(String),
}

/// Reads a configuration from what `path` holds. Fields that nobody has heard of are added to
/// `notes`.
///
/// # Errors
/// What is no object, a field that is refused, a value of the wrong type.
pub fn read<T: Configuration>(
    json: &Value,
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<T, Error> {
    check(&T::CLASS, json, path, notes)?;
    parsed(json, path)
}

/// The values of fields that were gone through.
///
/// # Errors
/// A value of the wrong type; its field is named.
pub fn parsed<T: DeserializeOwned>(json: &Value, path: &Path) -> Result<T, Error> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let field = error.path().to_string();
        let field = if field == "." { String::new() } else { format!("`{field}`: ") };
        broken(path, format!("{field}{}", error.inner()))
    })
}

/// Goes through the fields alone.
///
/// # Errors
/// What is no object, a field that is refused.
pub fn check(
    class: &Class,
    json: &Value,
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(fields) = json.as_object() else {
        return Err(broken(
            path,
            format!("it is no object with fields, which a {} is", class.name),
        ));
    };
    let mut unknown = Vec::new();
    for (field, value) in fields {
        match class.rule(field) {
            None => unknown.push(format!("`{field}`")),
            Some(rule @ Rule::Only(wanted, advice)) if !rule.allows(value) => {
                return Err(Error::Refused(format!(
                    "`{field}` in {} is {value}, and only {} is built here: {advice}",
                    path.display(),
                    wanted.join(" or ")
                )));
            }
            Some(_) => {}
        }
    }
    if !unknown.is_empty() {
        notes.push(format!(
            "{}: {} {} not known and ignored",
            path.display(),
            unknown.join(", "),
            if unknown.len() == 1 { "is" } else { "are" }
        ));
    }
    Ok(())
}

/// The JSON in a file, as Python's `json` writes it: infinities and NaN stand there as words, which
/// are texts here.
///
/// # Errors
/// A file that cannot be read, or holds no JSON.
pub fn open(path: &Path) -> Result<Value, Error> {
    let text =
        fs_err::read_to_string(path).map_err(|error| broken(path, error.kind().to_string()))?;
    parse(&text).map_err(|error| broken(path, error.to_string()))
}

/// [`open`] for a text.
///
/// # Errors
/// What is no JSON.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let strict = serde_json::from_str(text);
    if strict.is_ok() || !["Infinity", "NaN"].iter().any(|word| text.contains(word)) {
        return strict;
    }
    serde_json::from_str(&quoted(text))
}

/// Puts quotes around Python's words for numbers that JSON does not have, where they stand outside
/// of texts.
fn quoted(text: &str) -> String {
    let mut whole = String::with_capacity(text.len() + 16);
    let (mut inside, mut rest) = (false, text);
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| !inside && rest.starts_with(word));
        if let Some(word) = word {
            whole.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        // An escaped sign ends no text.
        let length = if inside && c == '\\' {
            1 + rest[1..].chars().next().map_or(0, char::len_utf8)
        } else {
            c.len_utf8()
        };
        inside ^= c == '"';
        whole.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    whole
}

fn is_one_of(value: &Value, wanted: &[&str]) -> bool {
    let equal = |wanted: &&str| {
        let wanted: Value = serde_json::from_str(wanted).unwrap_or_default();
        match (value.as_f64(), wanted.as_f64()) {
            (Some(number), Some(other)) => number.total_cmp(&other).is_eq(),
            _ => *value == wanted,
        }
    };
    match value {
        Value::Array(all) if !all.is_empty() => {
            wanted.iter().any(equal) || all.iter().all(|one| is_one_of(one, wanted))
        }
        _ => wanted.iter().any(equal),
    }
}

fn broken(path: &Path, why: String) -> Error {
    Error::Broken { path: path.to_path_buf(), why }
}

/// What diffusers writes into every configuration about itself.
pub const OF_DIFFUSERS: &[Field] = &[
    ("_diffusers_version", Rule::Harmless("which version wrote the file")),
    ("_name_or_path", Rule::Harmless("where the model was loaded from")),
    ("_commit_hash", Rule::Harmless("which commit of the hub it came from")),
    ("_use_default_values", Rule::Harmless("which of its fields were left out")),
    ("quantization_config", Rule::Only(&["null"], QUANTIZED)),
];

/// What is said of quantised weights.
pub const QUANTIZED: &str = "quantised weights cannot be read; take the model in f16, bf16 or f32";

const GENERATION: Rule = Rule::Harmless("of language models that write text");
const OUTPUTS: Rule = Rule::Harmless("what a Python call returns");
const TRAINING: Rule = Rule::Harmless("of training alone");
const LABELS: Rule = Rule::Harmless("of classifiers");

/// What transformers writes into every configuration, versions 4 and 5.
pub const OF_TRANSFORMERS: &[Field] = &[
    ("transformers_version", Rule::Harmless("which version wrote the file")),
    ("_name_or_path", Rule::Harmless("where the model was loaded from")),
    ("_commit_hash", Rule::Harmless("which commit of the hub it came from")),
    ("dtype", Rule::Harmless("the number type of the weights' file, which says it itself")),
    ("torch_dtype", Rule::Harmless("the number type of the weights' file, which says it itself")),
    ("quantization_config", Rule::Only(&["null"], QUANTIZED)),
    ("_attn_implementation", Rule::Harmless("which of equal implementations")),
    ("_attn_implementation_autoset", Rule::Harmless("which of equal implementations")),
    ("_attn_implementation_internal", Rule::Harmless("which of equal implementations")),
    ("attn_implementation", Rule::Harmless("which of equal implementations")),
    ("chunk_size_feed_forward", Rule::Harmless("how a layer is cut into pieces of equal result")),
    ("initializer_factor", TRAINING),
    ("initializer_range", TRAINING),
    ("attention_dropout", TRAINING),
    ("dropout", TRAINING),
    ("gradient_checkpointing", TRAINING),
    ("output_attentions", OUTPUTS),
    ("output_hidden_states", OUTPUTS),
    ("return_dict", OUTPUTS),
    ("use_cache", OUTPUTS),
    ("torchscript", OUTPUTS),
    ("use_bfloat16", OUTPUTS),
    ("tf_legacy_loss", OUTPUTS),
    ("id2label", LABELS),
    ("label2id", LABELS),
    ("problem_type", LABELS),
    ("finetuning_task", LABELS),
    ("pruned_heads", Rule::Only(&["null", "{}"], "heads that were taken out are not read")),
    ("add_cross_attention", Rule::Only(&["null", "false"], "it reads another network's states")),
    ("is_decoder", GENERATION),
    ("is_encoder_decoder", GENERATION),
    ("cross_attention_hidden_size", GENERATION),
    ("decoder_start_token_id", GENERATION),
    ("bad_words_ids", GENERATION),
    ("begin_suppress_tokens", GENERATION),
    ("diversity_penalty", GENERATION),
    ("do_sample", GENERATION),
    ("early_stopping", GENERATION),
    ("encoder_no_repeat_ngram_size", GENERATION),
    ("exponential_decay_length_penalty", GENERATION),
    ("forced_bos_token_id", GENERATION),
    ("forced_eos_token_id", GENERATION),
    ("length_penalty", GENERATION),
    ("max_length", GENERATION),
    ("min_length", GENERATION),
    ("no_repeat_ngram_size", GENERATION),
    ("num_beam_groups", GENERATION),
    ("num_beams", GENERATION),
    ("num_return_sequences", GENERATION),
    ("output_scores", GENERATION),
    ("prefix", GENERATION),
    ("remove_invalid_values", GENERATION),
    ("repetition_penalty", GENERATION),
    ("return_dict_in_generate", GENERATION),
    ("sep_token_id", GENERATION),
    ("suppress_tokens", GENERATION),
    ("task_specific_params", GENERATION),
    ("temperature", GENERATION),
    ("tie_encoder_decoder", GENERATION),
    ("tie_word_embeddings", GENERATION),
    ("tokenizer_class", GENERATION),
    ("top_k", GENERATION),
    ("top_p", GENERATION),
    ("typical_p", GENERATION),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(serde::Deserialize)]
    struct ToyConfig {
        #[serde(default)]
        size: i64,
    }

    impl Configuration for ToyConfig {
        const CLASS: Class = Class {
            name: "ToyConfig",
            fields: &[&[
                ("size", Rule::Honoured),
                ("name", Rule::Harmless("a name")),
                ("kind", Rule::Only(&["null", "false", "1"], "other kinds are not built")),
            ]],
        };
    }

    fn toy(json: Value) -> Result<(i64, Vec<String>), String> {
        let mut notes = Vec::new();
        read::<ToyConfig>(&json, Path::new("toy.json"), &mut notes)
            .map(|toy| (toy.size, notes))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn honoured_harmless_refused_or_said() {
        assert_eq!(toy(json!({"size": 3, "name": "x", "kind": null})).unwrap(), (3, Vec::new()));
        assert_eq!(toy(json!({"kind": 1.0})).unwrap().0, 0);
        assert!(toy(json!({"kind": [false, 1]})).is_ok());
        let error = toy(json!({"kind": [false, 2]})).unwrap_err();
        assert_eq!(
            error,
            "`kind` in toy.json is [false,2], and only null or false or 1 is built here: other \
             kinds are not built"
        );
        let (_, notes) = toy(json!({"size": 3, "colour": "red", "shape": 1})).unwrap();
        assert_eq!(notes, ["toy.json: `colour`, `shape` are not known and ignored"]);
        assert!(toy(json!([1])).unwrap_err().contains("no object"));
        assert!(toy(json!({"size": "x"})).unwrap_err().contains("toy.json"));
    }

    #[test]
    fn numbers_that_python_writes_and_json_does_not_have() {
        let text = r#"{"a": -Infinity, "b": [NaN, Infinity], "c": "Infinity \" NaN", "d": 1}"#;
        let json = parse(text).unwrap();
        assert_eq!(
            json,
            json!({"a": "-Infinity", "b": ["NaN", "Infinity"], "c": "Infinity \" NaN", "d": 1})
        );
        assert!(parse("{").is_err() && parse("{\"a\": Infinit}").is_err());
    }
}
