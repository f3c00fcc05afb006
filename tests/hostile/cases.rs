//! What is done with a wrong file.

use std::path::{Path, PathBuf};

use unsee::command::inspect::inspect;
use unsee::generator::{Adapter, Checkpoint};
use unsee::weights::{EmaChoice, Weights};

/// What is done with a file, and a part of what must be said about it.
pub(crate) type Case = (&'static str, PathBuf, fn(&Path) -> Result<(), String>, &'static str);

pub(crate) fn look(path: &Path) -> Result<(), String> {
    inspect(path).map(drop).map_err(|error| error.to_string())
}

pub(crate) fn read(path: &Path) -> Result<(), String> {
    let open = || {
        let file = Weights::open(path)?;
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        names.iter().try_for_each(|name| file.tensor(name).map(drop))
    };
    open().map_err(|error| error.to_string())
}

pub(crate) fn shards(path: &Path) -> Result<(), String> {
    Weights::open_sharded(path).map(drop).map_err(|error| error.to_string())
}

pub(crate) fn merge(path: &Path) -> Result<(), String> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/miniature");
    let base = Checkpoint::open(&models.as_path().into()).unwrap();
    base.merge(&[Adapter { path: path.to_owned(), strength: 1.0 }], EmaChoice::Auto)
        .map(drop)
        .map_err(|error| error.to_string())
}

pub(crate) fn model(path: &Path) -> Result<(), String> {
    Checkpoint::open(&path.into()).map(drop).map_err(|error| error.to_string())
}
