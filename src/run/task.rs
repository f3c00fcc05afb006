//! What a method is given: the prompts of a task, and pictures of them to learn from.

use std::path::{Path, PathBuf};

use super::Error;
use super::answering::works;
use super::drawing::picture_path;
use super::erasing::MATERIAL_SEED;
use super::pipeline::TaskSettings;
use super::session::DiffusionSession;
use crate::erasure::{Pair, PromptedImage, Task, TrainingImages};
use crate::measure::{Answer, AnswerSet, Domain, PLAIN, Target};
use crate::pictures::{Picture, Remarks, list_deep, sole};
use crate::watch::Watch;

/// The prompts of a task: the target with everything of the other domain, and all the rest.
pub(super) fn task(set: &AnswerSet, settings: &TaskSettings, target: &Target, seed: u64) -> Task {
    let prompt = |style: &str, object: &str| {
        Answer { style: style.to_owned(), object: object.to_owned(), seed: 0 }.prompt()
    };
    let own = |answer: &Answer| answer.wanted(target.domain) == target.name;
    let next = |classes: &[String]| {
        let at = classes.iter().position(|own| *own == target.name).unwrap_or(0);
        classes[(at + 1) % classes.len()].clone()
    };
    let anchor = match target.domain {
        Domain::Style => settings.style_anchor.clone().unwrap_or_else(|| {
            if target.name == PLAIN { next(&set.styles) } else { PLAIN.to_owned() }
        }),
        Domain::Object => settings.object_anchor.clone().unwrap_or_else(|| next(&set.objects)),
    };
    let one_seed = AnswerSet { seeds: vec![0], ..set.clone() };
    let (mut pairs, mut remain) = (Vec::new(), Vec::new());
    for answer in one_seed.answers() {
        if own(&answer) {
            let to = match target.domain {
                Domain::Style => prompt(&anchor, &answer.object),
                Domain::Object => prompt(&answer.style, &anchor),
            };
            pairs.push(Pair { forget: answer.prompt(), anchor: to });
        } else {
            remain.push(answer.prompt());
        }
    }
    Task { concept: target.to_string(), pairs, remain, seed }
}

/// Which pictures there are to learn from: of the target, and of the rest.
pub(super) fn to_learn_from(
    set: &AnswerSet,
    settings: &TaskSettings,
    target: &Target,
) -> (Vec<Answer>, Vec<Answer>) {
    let (mut forget, mut remain) = (Vec::new(), Vec::new());
    let most = settings.forget_pictures.max(settings.remain_pictures) as u64;
    let seeds: Vec<u64> = (0..most).map(|i| MATERIAL_SEED + i).collect();
    for answer in (AnswerSet { seeds, ..set.clone() }).answers() {
        let own = answer.wanted(target.domain) == target.name;
        let wanted = if own { settings.forget_pictures } else { settings.remain_pictures };
        if answer.seed - MATERIAL_SEED < wanted as u64 {
            if own { &mut forget } else { &mut remain }.push(answer);
        }
    }
    (forget, remain)
}

/// Says how many pictures lost their edges when they were made square.
pub(super) fn warn_of_cut(cut: usize, watch: &mut dyn Watch) {
    if cut > 0 {
        watch.warn(&format!(
            "{cut} pictures to learn from are not square; only their middles are seen"
        ));
    }
}

/// The pictures to learn from: from the user's folder, or drawn by the model itself.
pub(super) fn material(
    session: &DiffusionSession,
    (set, settings): (&AnswerSet, &TaskSettings),
    task: &Task,
    target: &Target,
    folder: &Path,
    watch: &mut dyn Watch,
) -> Result<TrainingImages, Error> {
    let (forget, remain) = to_learn_from(set, settings, target);
    if settings.pictures.is_none() {
        for (what, answers) in [("drawing to forget", &forget), ("drawing to keep", &remain)] {
            session.draw(&works(session, folder, answers), what, watch)?;
        }
    }
    let path_of = |answer: &Answer| -> Result<PathBuf, Error> {
        let Some(pictures) = &settings.pictures else { return Ok(picture_path(folder, answer)) };
        let number = (answer.seed - MATERIAL_SEED + 1).to_string();
        Ok(sole(&Path::new(pictures).join(&answer.style).join(&answer.object).join(number))?)
    };
    let (mut remarks, mut cut) = (Remarks::default(), 0);
    let mut examples = |answers: &[Answer], prompts: Vec<&String>| {
        answers
            .iter()
            .map(|answer| {
                let own = answer.prompt();
                let prompt =
                    prompts.iter().position(|prompt| **prompt == own).unwrap_or(usize::MAX);
                let picture = Picture::open_noting(&path_of(answer)?, &mut remarks)?;
                Ok(PromptedImage {
                    picture: picture.fitted_noting(session.side as usize, &mut cut),
                    prompt,
                })
            })
            .collect::<Result<Vec<_>, Error>>()
    };
    let material = TrainingImages {
        forget: examples(&forget, task.pairs.iter().map(|pair| &pair.forget).collect())?,
        remain: examples(&remain, task.remain.iter().collect())?,
    };
    remarks.sentences().iter().for_each(|remark| watch.note(remark));
    warn_of_cut(cut, watch);
    if let Some(pictures) = &settings.pictures {
        let (taken, there) =
            (forget.len() + remain.len(), list_deep(Path::new(pictures))?.files.len());
        if taken < there {
            watch.note(&format!(
                "{taken} of {there} pictures in {pictures} are learned from: {} of each prompt to \
                 forget, {} of each to keep (task.forget_pictures, task.remain_pictures)",
                settings.forget_pictures, settings.remain_pictures
            ));
        }
    }
    Ok(material)
}
