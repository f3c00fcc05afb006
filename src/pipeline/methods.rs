//! Methods and attacks in a pipeline: found by name in their tables, each with its own settings.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::attack::{ATTACKS, Attack};
use crate::erasure::{GivenEdit, METHODS, Method};
use crate::generator::ModelKind;
use crate::settings::{Configurable, Entry, entry};
use crate::weights::EmaChoice;

/// A `[[method]]`.
#[derive(Debug, Clone)]
pub struct MethodSetting {
    /// What it is called in tables and files: `label`, else its name.
    pub label: String,
    /// The method with its settings.
    pub value: Arc<dyn Method>,
}

/// An `[[attack]]`.
#[derive(Debug, Clone)]
pub struct AttackSetting {
    /// What it is called in tables and files: `label`, else its name.
    pub label: String,
    /// How many of the pictures that showed the concept it tries to bring back, or of a list's
    /// prompts it asks for; all where it is not said.
    pub trials: Option<usize>,
    /// The attack with its settings.
    pub value: Arc<dyn Attack>,
}

/// Takes the label and what it belongs to out of a table of a pipeline.
fn read<T: Configurable + ?Sized>(
    table: &[Entry<T>],
    what: &str,
    mut given: Map<String, Value>,
) -> Result<(String, Arc<T>), String> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(format!("{other} is no name of a {what}")),
    };
    let name = given.remove("name").ok_or_else(|| format!("a {what} has no name"))?;
    let name = text(name)?;
    let label = given.remove("label").map(text).transpose()?.unwrap_or_else(|| name.clone());
    if label.is_empty() || !label.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
        return Err(format!(
            "the label `{label}` is part of files' names: letters, digits, -, _ and . can be"
        ));
    }
    let value = (entry(table, what, &name)?.read)(given)?;
    Ok((label, Arc::from(value)))
}

/// The same table again.
fn written(name: &str, label: &str, settings: Value) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("name".to_owned(), name.into());
    if label != name {
        all.insert("label".to_owned(), label.into());
    }
    if let Value::Object(settings) = settings {
        all.extend(settings);
    }
    all
}

impl MethodSetting {
    /// Its name in the table of methods.
    pub fn name(&self) -> &'static str {
        self.value.name()
    }

    /// Every method's name.
    pub fn names() -> Vec<&'static str> {
        METHODS.iter().map(|entry| entry.name).collect()
    }

    /// What was erased elsewhere: files that go onto the base, each with `@STRENGTH` behind it
    /// where not all of it is wanted.
    pub fn given(label: String, files: Vec<String>, ema: EmaChoice) -> Self {
        Self { label, value: Arc::new(GivenEdit { files, ema }) }
    }

    /// The usual method for a kind of model: the first in the table that edits it.
    pub fn usual(kind: ModelKind) -> Option<Self> {
        METHODS.iter().find_map(|entry| {
            let value = (entry.read)(Map::new()).ok()?;
            let label = entry.name.to_owned();
            (value.needs().model == Some(kind)).then(|| Self { label, value: Arc::from(value) })
        })
    }
}

impl AttackSetting {
    /// Every attack's name.
    pub fn names() -> Vec<&'static str> {
        ATTACKS.iter().map(|entry| entry.name).collect()
    }

    /// All that what it finds depends on.
    pub fn settings(&self) -> Value {
        let mut settings = self.value.settings();
        if let (Some(trials), Some(settings)) = (self.trials, settings.as_object_mut()) {
            settings.insert(TRIALS.to_owned(), trials.into());
        }
        settings
    }

    /// How many of so many pictures it tries to bring back.
    pub fn tried(&self, pictures: usize) -> usize {
        self.trials.map_or(pictures, |trials| trials.min(pictures))
    }
}

/// How many pictures an attack tries to bring back, in its table.
const TRIALS: &str = "trials";

impl<'de> Deserialize<'de> for MethodSetting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = read(METHODS, "method", Map::deserialize(from)?);
        read.map(|(label, value)| Self { label, value }).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AttackSetting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut given = Map::deserialize(from)?;
        let number = |trials: Value| match trials.as_u64() {
            Some(number @ 1..) => Ok(number as usize),
            _ => Err(D::Error::custom(format!(
                "an attack's {TRIALS} are {trials}; they are a number of pictures, at least 1"
            ))),
        };
        let trials = given.remove(TRIALS).map(number).transpose()?;
        let read = read(ATTACKS, "attack", given);
        read.map(|(label, value)| Self { label, trials, value }).map_err(D::Error::custom)
    }
}

impl Serialize for MethodSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        written(self.name(), &self.label, self.value.settings()).serialize(serializer)
    }
}

impl Serialize for AttackSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        written(self.value.name(), &self.label, self.settings()).serialize(serializer)
    }
}
