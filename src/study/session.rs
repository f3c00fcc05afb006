//! The model of a study, what is on it, and how it draws.

use std::path::{Path, PathBuf};

use crate::generator::{
    Generator, ImageRequest, Model, ModelKind, Provenance, Seeding, StyleGan2, Synthesizer,
    read_edit,
};
use crate::measure::moved;
use crate::pictures::Picture;
use crate::pipeline::{DrawSettings, Pipeline, PromptRow, located};
use crate::run::Error;
use crate::run::batch::settled;
use crate::run::drawing::draw_missing;
use crate::run::folder::RunFolder;
use crate::run::hashes::hash_with_content;
use crate::run::opening::{loaded, opened, warn_of_unread};
use crate::torch::Compute;
use crate::watch::{Quiet, Watch};
use crate::weights::{Edit, Sampling, Weights};

/// A model that is loaded once.
pub(super) struct Session<'a> {
    settings: &'a DrawSettings,
    model: Box<dyn Generator>,
    /// Pixels on a side that it draws.
    pub side: i64,
    /// Pictures that are drawn at once.
    batch: usize,
    /// Whether its pictures are not for every eye.
    sensitive: bool,
    /// Of the model with what is on it.
    hash: String,
    /// How to sample with the edit that is on it.
    sampling: Option<Sampling>,
}

impl<'a> Session<'a> {
    pub(super) fn open(
        pipeline: &'a Pipeline,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let location = located(&pipeline.model)?;
        let model: Box<dyn Generator> = match pipeline.kind() {
            ModelKind::Diffusion => Box::new(loaded(&opened(&location, watch)?, compute, watch)?),
            ModelKind::Gan => Box::new(StyleGan2::load(&location.path, compute)?),
        };
        let settings = &pipeline.draw;
        let sensitive = pipeline.concept.sensitive;
        let card = model.card();
        let (side, hash) = (settings.side.unwrap_or(card.side), card.hash.clone());
        let batch = model.at_once().unwrap_or(1);
        Ok(Self { settings, model, side, batch, sensitive, hash, sampling: None })
    }

    /// Of the model with what is on it.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// What draws.
    pub(super) fn generator(&self) -> &dyn Generator {
        &*self.model
    }

    /// What is edited and attacked.
    pub(super) fn model(&mut self) -> Model<'_> {
        self.model.model()
    }

    /// The GAN.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn gan(&self) -> Result<&dyn Synthesizer, Error> {
        let none = || Error::Unknown("latents are a GAN's, and this is none".to_owned());
        self.model.synthesizer().ok_or_else(none)
    }

    /// Pictures that are drawn at once.
    pub(super) fn at_once(&self) -> usize {
        self.model.at_once().unwrap_or(self.batch)
    }

    /// How far an edit moves each component, ‖Δ‖ / ‖W‖ of all of its tensors.
    pub(super) fn moved(&self, edit: &Edit) -> Result<Vec<(String, f64)>, Error> {
        moved(&edit.tensors, &self.model.tensor_names(), |name| Ok(self.model.base_tensor(name)?))
    }

    /// Whether two prompts are the same to the model.
    pub(super) fn reads_alike(&self, one: &str, other: &str) -> bool {
        self.model.reads_alike(one, other)
    }

    /// Says which prompts are longer than the model reads.
    pub(super) fn warn_of_unread<'p>(
        &self,
        prompts: impl Iterator<Item = &'p str>,
        watch: &mut dyn Watch,
    ) {
        warn_of_unread(&*self.model, prompts, watch);
    }

    /// Puts an edit on the model, in place of the one before; `content` is its file's hash.
    pub(super) fn put_on(&mut self, edit: &Edit, content: &str) -> Result<(), Error> {
        self.model.apply(edit)?;
        self.sampling = edit.sampling;
        self.hash = hash_with_content(&self.generator().card().hash, content, 1.0);
        Ok(())
    }

    /// Restores the base.
    pub(super) fn take_off(&mut self) -> Result<(), Error> {
        self.model.apply(&Edit::default())?;
        self.sampling = None;
        self.hash = self.generator().card().hash.clone();
        Ok(())
    }

    /// Notes in the run which model this is and how many pictures are drawn at once, none of which
    /// is larger than `largest`.
    pub(super) fn bind(
        &mut self,
        run: &mut RunFolder,
        largest: (i64, i64),
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        run.record.sign("base", self.generator().card())?;
        let request = ImageRequest { size: largest, ..self.request(String::new(), 0) };
        let device = self.generator().compute().device;
        self.batch = settled(self.settings.batch, run, self.generator(), &request, device, watch)?;
        Ok(())
    }

    /// Reads an edit that was made of this model.
    pub(super) fn read_edit(&self, file: &Path) -> Result<Edit, Error> {
        // Opened again rather than kept: mapped files count as memory of the process.
        let weights = Weights::open_own(file, "remove it, and the run finds it again")?;
        Ok(read_edit(&*self.model, &weights)?)
    }

    /// A picture of a prompt, or of a GAN's latent.
    pub(super) fn request(&self, prompt: String, seed: u64) -> ImageRequest {
        let request = ImageRequest {
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
        };
        self.model.taken(request).sampled(self.sampling)
    }

    /// A picture of a list's row.
    pub(super) fn request_of(&self, row: &PromptRow, seed: u64) -> ImageRequest {
        let request = self.request(row.prompt.clone(), seed);
        let guidance = row.guidance.unwrap_or(request.guidance);
        let size = row.size.unwrap_or(request.size);
        ImageRequest { guidance, size, ..request }
    }

    /// How to sample with the edit that is on the model, where it says so.
    pub(super) fn sampling(&self) -> Option<Sampling> {
        self.sampling
    }

    /// Draws into files what is not there yet.
    pub(super) fn draw(
        &self,
        works: &[(PathBuf, ImageRequest)],
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        if works.is_empty() {
            return Ok(());
        }
        let provenance = Provenance { model: &self.hash, sensitive: self.sensitive };
        draw_missing(self.generator(), works, provenance, self.batch, what, watch)
    }
}

/// Draws pictures and keeps them in memory.
pub(super) fn drawn(
    generator: &dyn Generator,
    requests: &[ImageRequest],
    at_once: usize,
) -> Result<Vec<Picture>, Error> {
    let mut pictures = Vec::with_capacity(requests.len());
    for group in requests.chunks(at_once.max(1)) {
        pictures.extend(generator.draw(group, &mut Quiet)?);
    }
    Ok(pictures)
}
