//! Settings of which a file gives some, and tables of what can be set by name.
//!
//! What a file leaves out is as usual in the place where it stands, which is not the same
//! everywhere: a method's GAN training has other settings than one from nothing.

use std::fmt::Debug;
use std::path::PathBuf;

use serde::de::{DeserializeOwned, Deserializer, Error};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Reads a table over `usual` settings.
///
/// # Errors
/// What is no table, or none that the settings can be read from.
pub fn over<'de, T, D>(usual: &T, from: D) -> Result<T, D::Error>
where
    T: Serialize + DeserializeOwned,
    D: Deserializer<'de>,
{
    merged(usual, Map::deserialize(from)?).map_err(D::Error::custom)
}

fn merged<T>(usual: &T, given: Map<String, Value>) -> Result<T, String>
where
    T: Serialize + DeserializeOwned,
{
    // What has no place in JSON.
    if let Some((key, _)) = given.iter().find(|(_, value)| value.is_null()) {
        return Err(format!("`{key}` is to be a finite number"));
    }
    let Value::Object(mut all) = serde_json::to_value(usual).map_err(|error| error.to_string())?
    else {
        return Err("these settings are no table".to_owned());
    };
    lay_over(&mut all, given);
    serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())
}

/// Lays a table over another; so with tables in both.
fn lay_over(usual: &mut Map<String, Value>, given: Map<String, Value>) {
    for (key, value) in given {
        match (usual.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => lay_over(below, above),
            (_, value) => {
                usual.insert(key, value);
            }
        }
    }
}

/// Something that a table names and that has settings: a method, an attack.
pub trait Configurable: Debug + Send + Sync {
    /// Its name in the table.
    fn name(&self) -> &'static str;

    /// The settings that are in force, with all that a variant of it decides.
    fn settings(&self) -> Value;

    /// Says what is wrong with them, before anything is loaded.
    ///
    /// # Errors
    /// The first complaint.
    fn check(&self) -> Result<(), String>;

    /// Files and folders on whose content everything depends.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A line of a table: a name, and what reads the settings that a file gives.
#[derive(Debug)]
pub struct Entry<T: ?Sized> {
    /// The name.
    pub name: &'static str,
    /// Reads settings; those that are not given are the usual ones.
    pub read: fn(Map<String, Value>) -> Result<Box<T>, String>,
}

/// Reads given settings over the usual ones; for an [`Entry`].
///
/// # Errors
/// A setting that there is none of, or of another type.
pub fn given_over<T>(usual: &T, given: Map<String, Value>) -> Result<Box<T>, String>
where
    T: Serialize + DeserializeOwned,
{
    merged(usual, given).map(Box::new)
}

/// Looks a name up.
///
/// # Errors
/// A name that no line has; the nearest and all others are named.
pub fn entry<'t, T: ?Sized>(
    table: &'t [Entry<T>],
    what: &str,
    name: &str,
) -> Result<&'t Entry<T>, String> {
    table.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|entry| entry.name).collect();
        let nearest = names
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
            .filter(|nearest| strsim::jaro_winkler(nearest, name) > 0.7)
            .map(|nearest| format!("; did you mean `{nearest}`?"))
            .unwrap_or_default();
        format!("`{name}` is no {what}{nearest}; there are {}", names.join(", "))
    })
}
