//! What a study of styles × objects asks for, checked as far as that goes without its model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Error;
use super::drawing::picture_path;
use super::pipeline::{AnswerSettings, Method, Pipeline};
use super::session::DiffusionSession;
use crate::canvas;
use crate::generator::ImageRequest;
use crate::measure::{Answer, AnswerSet, Domain, PLAIN, Target};
use crate::torch::bits_of_seed;

/// What a pipeline asks for, checked as far as that goes without its model.
pub(super) fn checked(pipeline: &Pipeline) -> Result<(AnswerSet, Vec<Target>), Error> {
    let Method::SalUn(method) = &pipeline.method;
    method.check()?;
    let set = answer_set(&pipeline.answers)?;
    let targets = pipeline.targets()?;
    let task = &pipeline.task;
    for (domain, anchor) in
        [(Domain::Style, &task.style_anchor), (Domain::Object, &task.object_anchor)]
    {
        if anchor.is_some() && !targets.iter().any(|target| target.domain == domain) {
            return Err(Error::Pipeline(format!(
                "task.{0}_anchor is what an erased {0} becomes, and no {0} is to be forgotten; \
                 leave it out",
                domain.name()
            )));
        }
    }
    for target in &targets {
        known(&set, target.domain, &target.name)?;
        set.tells_apart(target.domain)?;
        let anchor = match target.domain {
            Domain::Style => task.style_anchor.as_ref(),
            Domain::Object => task.object_anchor.as_ref(),
        };
        if let Some(anchor) = anchor {
            known(&set, target.domain, anchor)?;
            if *anchor == target.name {
                return Err(Error::Pipeline(format!(
                    "{target} is to become itself: the anchor (task.{0}_anchor) is the target; \
                     name another {0}",
                    target.domain.name()
                )));
            }
        }
    }
    if targets.iter().any(|target| target.domain == Domain::Style) && task.style_anchor.is_none() {
        known(&set, Domain::Style, PLAIN)?;
    }
    Ok((set, targets))
}

/// The pipeline's answer set; the canvas' names where it gives none.
///
/// # Errors
/// A name or a seed that is there twice: its pictures would count twice.
pub(super) fn answer_set(answers: &AnswerSettings) -> Result<AnswerSet, Error> {
    let or_canvas = |given: &[String], canvas: Vec<&str>| {
        if given.is_empty() {
            canvas.into_iter().map(str::to_owned).collect()
        } else {
            given.to_vec()
        }
    };
    let set = AnswerSet {
        styles: or_canvas(&answers.styles, canvas::Style::ALL.iter().map(|s| s.name()).collect()),
        objects: or_canvas(
            &answers.objects,
            canvas::Object::ALL.iter().map(|o| o.name()).collect(),
        ),
        seeds: answers.seeds.clone(),
    };
    // Names are texts to the judge, where an underscore is a space and capitals are none; of a seed
    // not all bits count.
    let alike =
        |names: &[String]| names.iter().map(|name| name.replace('_', " ").to_lowercase()).collect();
    let seeds: Vec<String> = set.seeds.iter().map(|seed| bits_of_seed(*seed).to_string()).collect();
    for (what, names, written) in [
        ("styles", alike(&set.styles), set.styles.clone()),
        ("objects", alike(&set.objects), set.objects.clone()),
        ("seeds", seeds, set.seeds.iter().map(u64::to_string).collect::<Vec<_>>()),
    ] {
        let names: Vec<String> = names;
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            let first = names.iter().position(|name| *name == names[twice]).unwrap_or(0);
            let same = if written[first] == written[twice] {
                format!("{} twice", written[twice])
            } else {
                format!("{} and {}, which are the same", written[first], written[twice])
            };
            return Err(Error::Pipeline(format!(
                "the {what} have {same}; its pictures would count twice"
            )));
        }
    }
    let mut stems = HashMap::new();
    let one_seed = AnswerSet { seeds: vec![0], ..set.clone() };
    for answer in one_seed.answers() {
        let names = format!("{} × {}", answer.style, answer.object);
        if let Some(other) = stems.insert(answer.stem(), names.clone()) {
            return Err(Error::Pipeline(format!(
                "pictures of {other} and of {names} would have the same file names; name one of \
                 them otherwise"
            )));
        }
    }
    Ok(set)
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
pub(super) fn works(
    session: &DiffusionSession,
    folder: &Path,
    answers: &[Answer],
) -> Vec<(PathBuf, ImageRequest)> {
    let work = |answer: &Answer| {
        (picture_path(folder, answer), session.request(answer.prompt(), answer.seed))
    };
    answers.iter().map(work).collect()
}
