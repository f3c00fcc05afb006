//! What a study of styles × objects asks for, checked as far as that goes without its model.

use std::path::{Path, PathBuf};

use super::Error;
use super::drawing::picture_path;
use super::pipeline::{AnswerSettings, Method, Pipeline};
use super::studio::Studio;
use crate::canvas;
use crate::generator::Shot;
use crate::measure::{Answer, AnswerSet, Domain, Target};

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

/// What is to be drawn into a folder for these answers.
pub(super) fn works(studio: &Studio, folder: &Path, answers: &[Answer]) -> Vec<(PathBuf, Shot)> {
    let work = |answer: &Answer| (picture_path(folder, answer), studio.shot(answer.prompt(), answer.seed));
    answers.iter().map(work).collect()
}
