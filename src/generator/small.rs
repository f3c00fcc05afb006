//! The shipped miniature, for tests.

use std::path::Path;

use super::{Checkpoint, StableDiffusion};
use crate::torch::{Compute, Device, Precision};

pub(crate) fn miniature() -> StableDiffusion {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/miniature");
    let checkpoint = Checkpoint::open(&folder.as_path().into()).unwrap();
    StableDiffusion::load(&checkpoint, Compute::new(Device::CPU, Precision::F32)).unwrap()
}
