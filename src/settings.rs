//! Settings of which a file gives some. Those that it leaves out are the usual ones of the place
//! where they stand, which are not the same everywhere: a method's contest has other rules than one
//! from nothing.

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
    let given: Map<String, Value> = Map::deserialize(from)?;
    // What has no place in JSON.
    if let Some((key, _)) = given.iter().find(|(_, value)| value.is_null()) {
        return Err(D::Error::custom(format!("`{key}` is to be a finite number")));
    }
    let Value::Object(mut all) = serde_json::to_value(usual).map_err(D::Error::custom)? else {
        return Err(D::Error::custom("these settings are no table"));
    };
    all.extend(given);
    serde_json::from_value(Value::Object(all)).map_err(D::Error::custom)
}
