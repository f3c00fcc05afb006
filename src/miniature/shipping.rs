//! Parts as they are shipped, and as the parts after them find them.

use std::path::Path;

use crate::model::Parameters;
use crate::torch::{Kind, Tensor};
use crate::training::{Error, Outcome};
use crate::weights::save_as;

/// Writes what a network learned, rounded to f16.
///
/// # Errors
/// A disk that is full.
pub(super) fn ship(file: &Path, parameters: &Parameters, outcome: &Outcome) -> Result<(), Error> {
    let named: Vec<(String, Tensor)> = parameters
        .iter()
        .zip(&outcome.weights)
        .map(|((name, _), weight)| (name.to_owned(), weight.shallow_clone()))
        .collect();
    let about = [("loss", format!("{:.5}", outcome.loss))];
    Ok(save_as(file, &named, Kind::Half, &about)?)
}

/// Reads the configuration that stands beside a part's weights.
///
/// # Errors
/// A file that is missing or is no such configuration.
pub(super) fn read_config<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs_err::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|error| invalid(format!("{}: {error}", path.display())))
}

/// A configuration that no network can be built by.
pub(super) fn invalid(error: impl std::fmt::Display) -> Error {
    Error::Model(crate::model::Error::Config(error.to_string()))
}
