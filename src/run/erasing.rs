//! One erasure of a study, from its material to its edit.

use std::path::Path;

use super::pipeline::Method;
use super::studio::Studio;
use super::{Error, RunFolder};
use crate::erasure::{Brief, Erasure as _, Material, Task};
use crate::generator::Denoiser;
use crate::torch::Device;
use crate::watch::Watch;
use crate::weights::Edit;

/// First seed of pictures to learn from. libtorch's generator reads the lower 32 bits of a seed, so these draw what the
/// seeds 0, 1, … draw, and are apart from those that are judged as long as these are not so small.
pub(super) const MATERIAL_SEED: u64 = 1 << 40;

/// Where an erasure's files are, inside the run's folder.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub edit: String,
    pub pictures: String,
    pub state: String,
    pub material: String,
}

impl Places {
    /// `suffix` keeps several erasures of a run apart.
    pub(super) fn new(suffix: &str) -> Self {
        Self {
            edit: format!("edit{suffix}.safetensors"),
            pictures: format!("pictures/erased{suffix}"),
            state: format!("state/erasure{suffix}"),
            material: "pictures/material".to_owned(),
        }
    }
}

/// Finds the edit, or reads it where an earlier sitting found it. `material` brings the pictures to learn from,
/// which may be drawn into the folder that it is given.
pub(super) fn erase(
    studio: &mut Studio,
    run: &mut RunFolder,
    (method, task, places): (&Method, &Task, &Places),
    material: impl FnOnce(&Studio, &Path, &mut dyn Watch) -> Result<Material, Error>,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Edit, Error> {
    let file = run.path(&places.edit);
    let edit = if file.exists() {
        studio.read_edit(&file)?
    } else {
        let folder = run.path(&places.material);
        let material = run.phase("drawing to learn from", device, |_| material(studio, &folder, watch))?;
        let state = run.path(&places.state);
        let Method::SalUn(method) = method;
        let model: &mut dyn Denoiser = &mut studio.model;
        let name = task.concept.split_once(':').map_or(task.concept.as_str(), |(_, name)| name);
        let edit = run.phase(&format!("erasing {name}"), device, |_| {
            Ok(method.erase(model, &Brief { task, material: &material }, Some(&state), watch)?)
        })?;
        edit.check()?;
        edit.save(&file)?;
        // The moments of the optimizer are of no use once the edit is there.
        let moments = state.join("state.safetensors");
        if moments.exists() {
            fs_err::remove_file(moments)?;
        }
        edit
    };
    run.artifact(&places.edit)?;
    Ok(edit)
}
