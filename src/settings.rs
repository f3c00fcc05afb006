//! Settings of which a file gives some. Those that it leaves out are the usual ones of the place where they stand, which are
//! not the same everywhere: a method's contest has other rules than one from nothing.

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
    let given = Map::deserialize(from)?;
    let mut all = serde_json::to_value(usual).map_err(D::Error::custom)?;
    if let Value::Object(all) = &mut all {
        all.extend(given);
    }
    serde_json::from_value(all).map_err(D::Error::custom)
}
