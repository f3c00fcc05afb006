//! Everything that a pipeline loads once: the model, what it is asked to draw, and what is to be forgotten.

use std::path::Path;

use super::drawing::{draw_missing, picture_path};
use super::opening::opened;
use super::pipeline::{AnswerSettings, Method, Pipeline};
use super::{Error, RunFolder, located};
use crate::canvas;
use crate::generator::{Checkpoint, Generator, Location, Shot, StableDiffusion};
use crate::measure::{Answer, AnswerSet, Domain, Target};
use crate::torch::Place;
use crate::watch::Watch;
use crate::weights::{Edit, Weights};

/// Everything that is loaded once.
pub(super) struct Studio<'a> {
    pub pipeline: &'a Pipeline,
    pub set: AnswerSet,
    pub targets: Vec<Target>,
    pub location: Location,
    pub model: StableDiffusion,
    pub side: i64,
}

impl<'a> Studio<'a> {
    pub(super) fn open(pipeline: &'a Pipeline, place: Place, watch: &mut dyn Watch) -> Result<Self, Error> {
        let (set, targets) = checked(pipeline)?;
        let location = located(&pipeline.model)?;
        let model = StableDiffusion::load(&opened(&location, watch)?, place)?;
        let side = pipeline.draw.side.unwrap_or(model.card().side);
        Ok(Self { pipeline, set, targets, location, model, side })
    }

    /// Notes in the run which model this is.
    pub(super) fn sign(&self, run: &mut RunFolder) {
        let card = self.model.card();
        run.record.sign("base", &card.hash, &card.path);
    }

    /// Reads an edit that was made of this model.
    pub(super) fn read_edit(&self, file: &Path) -> Result<Edit, Error> {
        // Opened again rather than kept: mapped files count as memory of the process.
        let checkpoint = Checkpoint::open(&self.location)?;
        let base = |full: &str| checkpoint.tensor(full);
        Ok(Edit::read(&Weights::open(file)?, &self.model.card().hash, base)?)
    }

    pub(super) fn shot(&self, prompt: String, seed: u64) -> Shot {
        let draw = &self.pipeline.draw;
        Shot {
            prompt,
            negative: String::new(),
            seed,
            guidance: draw.guidance,
            steps: draw.steps,
            sampler: draw.sampler,
            size: (self.side, self.side),
        }
    }

    pub(super) fn draw(
        &self,
        folder: &Path,
        answers: &[Answer],
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let work = |answer: &Answer| (picture_path(folder, answer), self.shot(answer.prompt(), answer.seed));
        let works: Vec<_> = answers.iter().map(work).collect();
        draw_missing(&self.model, &works, (&self.model.card().hash, self.pipeline.draw.batch), what, watch)
    }
}

/// What a pipeline asks for, checked as far as that goes without its model.
pub(super) fn checked(pipeline: &Pipeline) -> Result<(AnswerSet, Vec<Target>), Error> {
    let Method::SalUn(method) = &pipeline.method;
    method.check()?;
    let set = answer_set(&pipeline.answers);
    let targets = pipeline.targets()?;
    for target in &targets {
        known(&set, target.domain, &target.name)?;
    }
    if targets.iter().any(|target| target.domain == Domain::Style) {
        known(&set, Domain::Style, &pipeline.task.style_anchor)?;
    }
    if let Some(anchor) = &pipeline.task.object_anchor {
        known(&set, Domain::Object, anchor)?;
    }
    Ok((set, targets))
}

/// The pipeline's answer set; the canvas' names where it gives none.
pub(super) fn answer_set(answers: &AnswerSettings) -> AnswerSet {
    let or_canvas = |given: &[String], canvas: Vec<&str>| {
        if given.is_empty() { canvas.into_iter().map(str::to_owned).collect() } else { given.to_vec() }
    };
    AnswerSet {
        styles: or_canvas(&answers.styles, canvas::Style::ALL.iter().map(|s| s.name()).collect()),
        objects: or_canvas(&answers.objects, canvas::Object::ALL.iter().map(|o| o.name()).collect()),
        seeds: answers.seeds.clone(),
    }
}

pub(super) fn known(set: &AnswerSet, domain: Domain, name: &str) -> Result<(), Error> {
    let classes = set.classes(domain);
    if classes.iter().any(|own| own == name) {
        return Ok(());
    }
    let nearest = classes
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
        .map(|nearest| format!("; did you mean {nearest}?"))
        .unwrap_or_default();
    Err(Error::Unknown(format!(
        "the judge does not know the {} `{name}`{nearest} It knows {}",
        domain.name(),
        classes.join(", ")
    )))
}
