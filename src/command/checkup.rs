//! The facts of `unsee doctor`.

use std::path::Path;

use serde::Serialize;

use crate::generator::Checkpoint;
use crate::pipeline::shipped;
use crate::run::Error;
use crate::run::record::Machine;
use crate::torch::{Compute, CpuFeatures, Device, LIBTORCH, Precision, VERSION};
use crate::weights::Weights;

/// What there is.
#[derive(Debug, Clone, Serialize)]
pub struct Checkup {
    /// This program's version and commit.
    pub version: String,
    /// Folder of libtorch's libraries.
    pub libtorch: String,
    /// Its version.
    pub libtorch_version: String,
    /// The device that `auto` chooses, or the one that was asked for.
    pub device: String,
    /// Why CUDA cannot be used; missing where it can.
    pub why_no_cuda: Option<String>,
    /// Threads inside an operation.
    pub threads: usize,
    /// The processor's name.
    pub processor: String,
    /// What it knows of 16-bit numbers.
    pub features: CpuFeatures,
    /// The precision that is chosen.
    pub precision: Precision,
    /// Folder and hash of the shipped generator, or why there is none.
    pub miniature: String,
    /// Folder and hash of the shipped judge, or why there is none.
    pub judge: String,
    /// Free bytes where the current folder is.
    pub free_disk: u64,
}

/// Looks at everything.
pub fn checkup(device: Device, precision: Precision) -> Checkup {
    let machine = Machine::here(Compute::new(device, precision));
    Checkup {
        version: concat!(env!("CARGO_PKG_VERSION"), "+", env!("UNSEE_COMMIT")).to_owned(),
        libtorch: LIBTORCH.to_owned(),
        libtorch_version: VERSION.to_owned(),
        device: machine.device,
        why_no_cuda: Device::why_no_cuda().map(str::to_owned),
        threads: machine.threads,
        processor: machine.processor,
        features: CpuFeatures::of_this_machine(),
        precision,
        miniature: described(
            shipped("miniature")
                .map_err(Error::from)
                .and_then(|path| Ok((generator_hash(&path)?, path))),
        ),
        judge: described(
            shipped("judge").map_err(Error::from).and_then(|path| {
                Ok((Weights::open(&path.join("model.safetensors"))?.hash()?, path))
            }),
        ),
        free_disk: free_disk(),
    }
}

fn described(found: Result<(blake3::Hash, std::path::PathBuf), Error>) -> String {
    match found {
        Ok((hash, path)) => format!("{} {}", path.display(), &hash.to_hex()[..12]),
        Err(error) => error.to_string(),
    }
}

/// The hash in a generator's card.
fn generator_hash(root: &Path) -> Result<blake3::Hash, Error> {
    Ok(Checkpoint::open(&root.into())?.hash()?)
}

fn free_disk() -> u64 {
    let out = std::process::Command::new("df").args(["--output=avail", "-B1", "."]).output();
    out.ok()
        .and_then(|out| String::from_utf8(out.stdout).ok())
        .and_then(|text| text.lines().nth(1).and_then(|line| line.trim().parse().ok()))
        .unwrap_or(0)
}
