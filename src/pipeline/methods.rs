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

/// A method or an attack with its settings.
#[derive(Debug)]
pub struct Setting<T: ?Sized> {
    /// What it is called in tables and files: `label`, else its name.
    pub label: String,
    /// It.
    pub value: Arc<T>,
}

/// A `[[method]]`.
pub type MethodSetting = Setting<dyn Method>;
/// An `[[attack]]`.
pub type AttackSetting = Setting<dyn Attack>;

impl<T: ?Sized> Clone for Setting<T> {
    fn clone(&self) -> Self {
        Self { label: self.label.clone(), value: Arc::clone(&self.value) }
    }
}

impl<T: Configurable + ?Sized> Setting<T> {
    /// Its name in its table.
    pub fn name(&self) -> &'static str {
        self.value.name()
    }

    fn read(table: &[Entry<T>], what: &str, mut given: Map<String, Value>) -> Result<Self, String> {
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
        Ok(Self { label, value: Arc::from(value) })
    }
}

impl MethodSetting {
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
}

impl<'de> Deserialize<'de> for MethodSetting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::read(METHODS, "method", Map::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AttackSetting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::read(ATTACKS, "attack", Map::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl<T: Configurable + ?Sized> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = Map::new();
        all.insert("name".to_owned(), self.name().into());
        if self.label != self.name() {
            all.insert("label".to_owned(), self.label.clone().into());
        }
        if let Value::Object(settings) = self.value.settings() {
            all.extend(settings);
        }
        all.serialize(serializer)
    }
}
