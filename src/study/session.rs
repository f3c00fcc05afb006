//! The model of a study, what is on it, and how it draws.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::generator::{
    Adapter, Checkpoint, Generator, ImageRequest, Location, Model, ModelKind, Seeding,
    StableDiffusion, StyleGan2, Synthesizer as _, sample_batch,
};
use crate::pictures::Picture;
use crate::pipeline::{DrawSettings, Pipeline, located};
use crate::run::Error;
use crate::run::batch::settled;
use crate::run::drawing::{Provenance, draw_missing};
use crate::run::folder::RunFolder;
use crate::run::hashes::hash_with;
use crate::run::opening::{loaded, opened, warn_of_unread};
use crate::torch::{Compute, Kind, Tensor};
use crate::watch::{Quiet, Watch};
use crate::weights::{Edit, EmaChoice, Weights, is_lora};

/// A model that is loaded once.
pub(super) struct Session<'a> {
    settings: &'a DrawSettings,
    location: Location,
    model: Loaded,
    /// Pixels on a side that it draws.
    pub side: i64,
    /// Pictures that are drawn at once.
    batch: usize,
    /// Whether its pictures are not for every eye.
    sensitive: bool,
    /// Of the model with what is on it.
    hash: String,
}

enum Loaded {
    Diffusion(Box<StableDiffusion>),
    Gan(Box<StyleGan2>),
}

impl<'a> Session<'a> {
    pub(super) fn open(
        pipeline: &'a Pipeline,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let location = located(&pipeline.model)?;
        let model = match pipeline.kind() {
            ModelKind::Diffusion => {
                let model = loaded(&opened(&location, watch)?, compute, watch)?;
                Loaded::Diffusion(Box::new(model))
            }
            ModelKind::Gan => Loaded::Gan(Box::new(StyleGan2::load(&location.path, compute)?)),
        };
        let settings = &pipeline.draw;
        let sensitive = pipeline.concept.sensitive;
        let mut session =
            Self { settings, location, model, side: 0, batch: 1, sensitive, hash: String::new() };
        let card = session.generator().card();
        let (side, hash) = (settings.side.unwrap_or(card.side), card.hash.clone());
        (session.side, session.hash) = (side, hash);
        Ok(session)
    }

    /// What draws.
    pub(super) fn generator(&self) -> &dyn Generator {
        match &self.model {
            Loaded::Diffusion(model) => &**model,
            Loaded::Gan(model) => &**model,
        }
    }

    /// What is edited and attacked.
    pub(super) fn model(&mut self) -> Model<'_> {
        match &mut self.model {
            Loaded::Diffusion(model) => Model::Diffusion(&mut **model),
            Loaded::Gan(model) => Model::Gan(&mut **model),
        }
    }

    /// The GAN.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn gan(&self) -> Result<&StyleGan2, Error> {
        match &self.model {
            Loaded::Gan(model) => Ok(model),
            Loaded::Diffusion(_) => {
                Err(Error::Unknown("latents are a GAN's, and this is none".to_owned()))
            }
        }
    }

    /// Pictures that are drawn at once.
    pub(super) fn at_once(&self) -> usize {
        match &self.model {
            Loaded::Diffusion(_) => self.batch,
            Loaded::Gan(_) => sample_batch(self.side),
        }
    }

    /// How far an edit moves each component, ‖Δ‖ / ‖W‖ of all of its tensors. The base is read from
    /// its files: an edit may be on the model.
    pub(super) fn moved(&self, edit: &Edit) -> Result<Vec<(String, f64)>, Error> {
        match &self.model {
            Loaded::Diffusion(_) => {
                let checkpoint = Checkpoint::open(&self.location)?;
                moved(edit, &checkpoint.names(), |name| Ok(checkpoint.tensor(name)?))
            }
            Loaded::Gan(model) => {
                let names: Vec<String> =
                    model.parameters().into_iter().map(|(name, _)| name).collect();
                moved(edit, &names, |name| Ok(model.base_tensor(name)?))
            }
        }
    }

    /// Whether two prompts are the same to the model.
    pub(super) fn reads_alike(&self, one: &str, other: &str) -> bool {
        match &self.model {
            Loaded::Diffusion(model) => model.reads_alike(one, other),
            Loaded::Gan(_) => true,
        }
    }

    /// Says which prompts are longer than the model reads.
    pub(super) fn warn_of_unread<'p>(
        &self,
        prompts: impl Iterator<Item = &'p str>,
        watch: &mut dyn Watch,
    ) {
        if let Loaded::Diffusion(model) = &self.model {
            warn_of_unread(model, prompts, watch);
        }
    }

    /// Puts an edit on the model that lies in `file`, at full strength, in place of the one before.
    pub(super) fn put_on(&mut self, edit: &Edit, file: &Path) -> Result<(), Error> {
        self.apply(edit)?;
        let adapter = Adapter { path: file.to_path_buf(), strength: 1.0 };
        self.hash = hash_with(&self.generator().card().hash, &[adapter])?;
        Ok(())
    }

    /// Restores the base.
    pub(super) fn take_off(&mut self) -> Result<(), Error> {
        self.apply(&Edit::default())?;
        self.hash = self.generator().card().hash.clone();
        Ok(())
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), Error> {
        match &mut self.model {
            Loaded::Diffusion(model) => model.apply(edit)?,
            Loaded::Gan(model) => model.apply(edit)?,
        }
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
        let hash = &self.generator().card().hash;
        match &self.model {
            Loaded::Diffusion(_) => {
                let checkpoint = Checkpoint::open(&self.location)?;
                if is_lora(&weights) {
                    weights.unchanged()?;
                    let whole = Adapter { path: file.to_path_buf(), strength: 1.0 };
                    return Ok(checkpoint.merge(&[whole], EmaChoice::Auto)?.edit);
                }
                Ok(Edit::read(&weights, hash, |full: &str| checkpoint.tensor(full))?)
            }
            Loaded::Gan(model) => {
                Ok(Edit::read(&weights, hash, |full: &str| model.base_tensor(full))?)
            }
        }
    }

    /// A picture of a prompt, or of a GAN's latent.
    pub(super) fn request(&self, prompt: String, seed: u64) -> ImageRequest {
        if let Loaded::Gan(_) = self.model {
            return ImageRequest::of_seed(seed, 1.0, self.side);
        }
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

    /// Draws into files what is not there yet.
    pub(super) fn draw(
        &self,
        works: &[(PathBuf, ImageRequest)],
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
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

/// How far an edit moves each component that it changes.
fn moved(
    edit: &Edit,
    names: &[String],
    base: impl Fn(&str) -> Result<Tensor, Error>,
) -> Result<Vec<(String, f64)>, Error> {
    let component = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let square =
        |tensor: &Tensor| tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    let mut changed: BTreeMap<String, f64> = BTreeMap::new();
    // In one order, wherever the edit comes from: sums are the same to the bit.
    let mut tensors: Vec<&(String, Tensor)> = edit.tensors.iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, tensor) in tensors {
        let before = base(name)?.to_device(tensor.device());
        let change = tensor.to_kind(Kind::Double) - before.to_kind(Kind::Double);
        *changed.entry(component(name)).or_default() += square(&change);
    }
    changed
        .into_iter()
        .map(|(part, change)| {
            let mut length = 0.0;
            for name in names.iter().filter(|name| component(name) == part) {
                length += square(&base(name)?);
            }
            let moved = if length > 0.0 { (change / length).sqrt() } else { 0.0 };
            Ok((part, moved))
        })
        .collect()
}
