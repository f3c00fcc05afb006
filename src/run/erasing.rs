//! One erasure of a study, from its material to its edit.

use std::path::Path;

use super::pipeline::Method;
use super::session::DiffusionSession;
use super::{Error, RunFolder};
use crate::erasure::{DiffusionTask, Erasure as _, Task, TrainingImages};
use crate::generator::Denoiser;
use crate::torch::Device;
use crate::watch::Watch;
use crate::weights::Edit;

/// First seed of pictures to learn from in a study of classes. libtorch's generator reads the lower
/// 32 bits of a seed, so these draw what the seeds 0, 1, … draw; a study that judges these seeds is
/// told so.
pub(super) const MATERIAL_SEED: u64 = 1 << 40;
/// First seed of pictures to learn from in a study of prompts, far from those that lists of prompts
/// have as a rule.
pub(super) const CONCEPT_SEED: u64 = 0x4000_0000;

/// Where an erasure's files are, inside the run's folder.
#[derive(Debug, Clone)]
pub(super) struct ErasurePaths {
    pub edit: String,
    pub pictures: String,
    pub state: String,
    pub material: String,
}

impl ErasurePaths {
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

/// Finds the edit, or reads it where an earlier session found it. `material` brings the pictures to
/// learn from, which may be drawn into the folder that it is given.
pub(super) fn erase(
    session: &mut DiffusionSession,
    run: &mut RunFolder,
    (method, task, places): (&Method, &Task, &ErasurePaths),
    material: impl FnOnce(&DiffusionSession, &Path, &mut dyn Watch) -> Result<TrainingImages, Error>,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Edit, Error> {
    let file = run.path(&places.edit);
    if let Some(pair) =
        task.pairs.iter().find(|pair| session.model.reads_alike(&pair.forget, &pair.anchor))
    {
        return Err(Error::Unknown(format!(
            "«{}» is to become «{}», and the text encoder reads the same in both: they differ in \
             words that it does not know, or behind where it stops",
            pair.forget, pair.anchor
        )));
    }
    let recipe = method.recipe(task);
    let edit = if file.exists() {
        let edit = session.read_edit(&file)?;
        if edit.recipe != recipe {
            return Err(Error::Unknown(format!(
                "{} is of another erasure than this one, by what it says of itself; remove it, and \
                 the run finds its own",
                file.display()
            )));
        }
        run.unchanged(&places.edit)?;
        watch.note(&format!("{}: the edit of an earlier session is taken", file.display()));
        edit
    } else {
        let folder = run.path(&places.material);
        let material =
            run.phase("drawing to learn from", device, |_| material(session, &folder, watch))?;
        let state = run.path(&places.state);
        let Method::SalUn(method) = method;
        let model: &mut dyn Denoiser = &mut session.model;
        let name = task.concept.split_once(':').map_or(task.concept.as_str(), |(_, name)| name);
        let edit = run.phase(&format!("erasing {name}"), device, |_| {
            Ok(method.erase(
                model,
                &DiffusionTask { task, material: &material },
                Some(&state),
                watch,
            )?)
        })?;
        edit.check()?;
        if edit.is_empty() {
            watch.warn("the erasure has changed no weight: pictures after it are those before it");
        }
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
