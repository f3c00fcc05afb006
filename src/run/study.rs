//! The main job: draw before, erase, draw after, judge, score, lay out the grid.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::drawing::picture_path;
use super::folder::{Machine, RunFolder};
use super::judging::judge_answers;
use super::jury::{JudgeReport, Jury};
use super::layouts::before_and_after;
use super::pipeline::{Method, Pipeline};
use super::studio::Studio;
use super::task::{material, task};
use crate::erasure::Erasure;
use crate::files::write_json;
use crate::generator::{Denoiser, Generator};
use crate::measure::{
    Answer, Became, Domain, Score, Seen, Subject, Target, became, score_mean, score_target,
};
use crate::torch::{Device, Place};
use crate::watch::Watch;
use crate::weights::Edit;

/// What a run ends with; `scores.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// The judge, and how good it is.
    pub judge: JudgeReport,
    /// All numbers.
    pub scores: Vec<Score>,
    /// What the erased prompts became.
    pub became: Vec<Became>,
    /// The run's folder.
    pub folder: PathBuf,
    /// The grid.
    pub grid: PathBuf,
    /// Seconds of work in all.
    pub seconds: f64,
    /// Peak memory of the host, bytes.
    pub peak_host: u64,
    /// Peak memory of the device, bytes.
    pub peak_device: u64,
}

/// Runs a pipeline into `root`, or goes on with it.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn run(pipeline: &Pipeline, root: &Path, place: Place, watch: &mut dyn Watch) -> Result<Summary, Error> {
    let mut studio = Studio::open(pipeline, place, watch)?;
    let jury = Jury::open(&pipeline.judge, &studio.set, place.device)?;
    let machine = Machine::here(place);
    RunFolder::within(root, pipeline, machine, |run| study(&mut studio, &jury, run, place.device, watch))
}

/// Finds the edits of a pipeline and nothing else; returns their files.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn erase_only(
    pipeline: &Pipeline,
    root: &Path,
    place: Place,
    watch: &mut dyn Watch,
) -> Result<Vec<PathBuf>, Error> {
    let mut studio = Studio::open(pipeline, place, watch)?;
    RunFolder::within(root, pipeline, Machine::here(place), |run| {
        studio.sign(run);
        let mut files = Vec::new();
        for target in studio.targets.clone() {
            let places = Places::of(&studio.targets, &target);
            erase(&mut studio, run, &target, &places, place.device, watch)?;
            files.push(run.path(&places.edit));
        }
        Ok(files)
    })
}

fn study(
    studio: &mut Studio,
    jury: &Jury,
    run: &mut RunFolder,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Summary, Error> {
    studio.sign(run);
    run.record.hashes.insert("judge".to_owned(), jury.card().hash.clone());
    let reference = run.phase("checking the judge", device, |_| jury.check(watch))?;

    let answers = studio.set.answers();
    let base_folder = run.path("pictures/base");
    run.phase("drawing before", device, |_| studio.draw(&base_folder, &answers, "drawing before", watch))?;
    let look = |run: &RunFolder, subject: &str, folder: &Path, watch: &mut dyn Watch| {
        let with_path = |answer: &Answer| (answer.clone(), picture_path(folder, answer));
        let pictures: Vec<_> = answers.iter().map(with_path).collect();
        judge_answers(&jury.judge, &run.path("evidence.jsonl"), subject, &pictures, watch)
    };
    let base = run.phase("judging before", device, |run| look(run, "base", &base_folder, watch))?;
    let questions = jury.questions();
    let base_seen: Vec<Seen> = base.iter().map(|looked| looked.seen(&questions)).collect();

    let (mut scores, mut turned) = (Vec::new(), Vec::new());
    let targets = studio.targets.clone();
    let (mut folders, mut erased) = (Vec::new(), Vec::new());
    for target in &targets {
        let place = Places::of(&targets, target);
        let edit = erase(studio, run, target, &place, device, watch)?;
        studio.model.apply(&edit)?;
        let folder = run.path(&place.pictures);
        let what = format!("drawing without {}", target.name);
        run.phase(&what, device, |_| studio.draw(&folder, &answers, &what, watch))?;
        studio.model.apply(&Edit::default())?;
        let subject = place.subject.clone();
        let looked = run.phase(&format!("judging without {}", target.name), device, |run| {
            look(run, &subject, &folder, watch)
        })?;
        let seen: Vec<Seen> = looked.iter().map(|looked| looked.seen(&questions)).collect();
        let (set, known) = (&studio.set, reference.as_ref());
        scores.extend(score_target(set, target, Subject::Base, &base_seen, None, known)?);
        scores.extend(score_target(set, target, Subject::Erased, &seen, Some(&base_seen), known)?);
        turned.push(became(target, &seen));
        folders.push((target.clone(), folder));
        erased.push(seen);
    }
    for domain in [Domain::Style, Domain::Object] {
        let after: Vec<(&Target, &[Seen])> = (targets.iter().zip(&erased))
            .filter(|(target, _)| target.domain == domain)
            .map(|(target, seen)| (target, seen.as_slice()))
            .collect();
        if after.len() > 1 {
            let before: Vec<_> = after.iter().map(|&(target, _)| (target, base_seen.as_slice())).collect();
            scores.extend(score_mean(domain, Subject::Base, &before));
            scores.extend(score_mean(domain, Subject::Erased, &after));
        }
    }

    let picture = run.path("grid.png");
    before_and_after(&studio.set, &base_folder, &folders)?.save(&picture, &[])?;
    let judge = jury.report(reference.as_ref(), &base)?;
    let phases = &run.record.phases;
    let summary = Summary {
        judge,
        scores,
        became: turned,
        folder: run.root().to_path_buf(),
        grid: picture,
        seconds: phases.iter().map(|phase| phase.seconds).sum(),
        peak_host: phases.iter().map(|phase| phase.peak.host).max().unwrap_or(0),
        peak_device: phases.iter().map(|phase| phase.peak.device).max().unwrap_or(0),
    };
    let file = serde_json::json!({
        "judge": summary.judge, "scores": summary.scores, "became": summary.became
    });
    write_json(&run.path("scores.json"), &file)?;
    for artifact in ["evidence.jsonl", "scores.json", "grid.png"] {
        run.artifact(artifact)?;
    }
    Ok(summary)
}

/// Where a target's files are: without a suffix where there is one target only.
struct Places {
    edit: String,
    pictures: String,
    subject: String,
    state: String,
    material: String,
}

impl Places {
    fn of(all: &[Target], target: &Target) -> Self {
        let suffix =
            if all.len() == 1 { String::new() } else { format!("-{}-{}", target.domain.name(), target.name) };
        Self {
            edit: format!("edit{suffix}.safetensors"),
            pictures: format!("pictures/erased{suffix}"),
            subject: format!("erased:{target}"),
            state: format!("state/erasure{suffix}"),
            material: "pictures/material".to_owned(),
        }
    }
}

/// Finds the edit for a target, or reads it where an earlier sitting found it.
fn erase(
    studio: &mut Studio,
    run: &mut RunFolder,
    target: &Target,
    place: &Places,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Edit, Error> {
    let file = run.path(&place.edit);
    let edit = if file.exists() {
        studio.read_edit(&file)?
    } else {
        let task = task(studio, target);
        let folder = run.path(&place.material);
        let material =
            run.phase("drawing to learn from", device, |_| material(studio, &task, target, &folder, watch))?;
        let state = run.path(&place.state);
        let Method::SalUn(method) = &studio.pipeline.method;
        let model: &mut dyn Denoiser = &mut studio.model;
        let edit = run.phase(&format!("erasing {}", target.name), device, |_| {
            Ok(method.erase(model, &task, &material, Some(&state), watch)?)
        })?;
        edit.save(&file)?;
        // The moments of the optimizer are of no use once the edit is there.
        if state.exists() {
            fs_err::remove_file(state.join("state.safetensors"))?;
        }
        edit
    };
    run.artifact(&place.edit)?;
    Ok(edit)
}
