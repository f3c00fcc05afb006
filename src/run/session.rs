//! The model of a study, and how it draws.

use std::path::{Path, PathBuf};

use super::drawing::{Provenance, draw_missing};
use super::opening::{hash_with, loaded, opened};
use super::pipeline::{DrawSettings, ModelSettings};
use super::{Adapter, Error, RunFolder, located};
use crate::generator::{
    Checkpoint, Denoiser as _, Generator, ImageRequest, Location, Seeding, StableDiffusion,
};
use crate::torch::Compute;
use crate::watch::Watch;
use crate::weights::{Edit, Weights};

/// Everything that is loaded once.
pub(super) struct DiffusionSession<'a> {
    settings: &'a DrawSettings,
    location: Location,
    pub model: StableDiffusion,
    pub side: i64,
    /// Pictures that are drawn at once.
    batch: usize,
    /// Whether its pictures are not for every eye.
    sensitive: bool,
    /// Of the model with what is on it.
    hash: String,
}

impl<'a> DiffusionSession<'a> {
    pub(super) fn open(
        model: &ModelSettings,
        settings: &'a DrawSettings,
        sensitive: bool,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let location = located(model)?;
        let model = loaded(&opened(&location, watch)?, compute, watch)?;
        let side = settings.side.unwrap_or(model.card().side);
        let hash = model.card().hash.clone();
        Ok(Self { settings, location, model, side, batch: 1, sensitive, hash })
    }

    /// Puts an edit on the model that lies in `file`, at full strength, in place of the one before.
    pub(super) fn put_on(&mut self, edit: &Edit, file: PathBuf) -> Result<(), Error> {
        self.model.apply(edit)?;
        self.hash = hash_with(&self.model.card().hash, &[Adapter { path: file, strength: 1.0 }])?;
        Ok(())
    }

    /// Restores the base.
    pub(super) fn take_off(&mut self) -> Result<(), Error> {
        self.model.apply(&Edit::default())?;
        self.hash.clone_from(&self.model.card().hash);
        Ok(())
    }

    /// Notes in the run which model this is and how many pictures are drawn at once, none of which
    /// is larger than `largest`.
    pub(super) fn sign(
        &mut self,
        run: &mut RunFolder,
        largest: (i64, i64),
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let card = self.model.card();
        run.record.sign("base", card)?;
        let request = ImageRequest { size: largest, ..self.request(String::new(), 0) };
        let device = self.model.compute().device;
        self.batch = self.settings.batch.settle(run, &self.model, &request, device, watch)?;
        Ok(())
    }

    /// Reads an edit that was made of this model.
    pub(super) fn read_edit(&self, file: &Path) -> Result<Edit, Error> {
        // Opened again rather than kept: mapped files count as memory of the process.
        let checkpoint = Checkpoint::open(&self.location)?;
        let base = |full: &str| checkpoint.tensor(full);
        let own = Weights::open_own(file, "remove it, and the run finds it again")?;
        Ok(Edit::read(&own, &self.model.card().hash, base)?)
    }

    pub(super) fn request(&self, prompt: String, seed: u64) -> ImageRequest {
        ImageRequest {
            prompt,
            negative: String::new(),
            seed,
            guidance: self.settings.guidance,
            steps: self.settings.steps,
            sampler: self.settings.sampler,
            size: (self.side, self.side),
            truncation: 1.0,
            blend: None,
            seeding: Seeding::default(),
        }
    }

    /// Draws what is not there yet.
    pub(super) fn draw(
        &self,
        works: &[(PathBuf, ImageRequest)],
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let stamp = Provenance { model: &self.hash, sensitive: self.sensitive };
        draw_missing(&self.model, works, (stamp, self.batch), what, watch)
    }
}
