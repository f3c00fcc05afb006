//! The main job: draw before, erase, draw after, judge, score, lay out the grid.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::drawing::{draw_answers, picture_path};
use super::folder::{Machine, RunFolder, Status, write_json};
use super::judging::judge_answers;
use super::jury::{JudgeReport, Jury};
use super::naming::shipped_or_path;
use super::pipeline::{AnswerSettings, Method, Pipeline};
use crate::canvas;
use crate::erasure::{Erasure, Example, Material, Pair, Task};
use crate::generator::{Denoiser, Generator, Shot, StableDiffusion};
use crate::measure::{Answer, AnswerSet, Became, Domain, Score, Seen, Subject, Target, became, score_target};
use crate::pictures::Picture;
use crate::report::{Band, grid};
use crate::torch::{Device, Precision};
use crate::watch::Watch;
use crate::weights::Edit;

/// Where and in which precision a run computes.
pub type Place = (Device, Precision);

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

/// What would be run.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// Targets.
    pub targets: Vec<String>,
    /// Pictures to draw in all.
    pub pictures: usize,
    /// Training steps in all.
    pub steps: u64,
    /// Predicted minutes, from a probe on this machine.
    pub minutes: f64,
    /// Predicted peak of memory in bytes, from the same probe.
    pub memory: u64,
}

/// Everything that is loaded once.
struct Studio<'a> {
    pipeline: &'a Pipeline,
    set: AnswerSet,
    targets: Vec<Target>,
    model: StableDiffusion,
    side: i64,
}

impl<'a> Studio<'a> {
    fn open(pipeline: &'a Pipeline, place: Place) -> Result<Self, Error> {
        let Method::SalUn(method) = &pipeline.method;
        method.check()?;
        let set = answer_set(&pipeline.answers);
        let targets = pipeline.targets()?;
        for target in &targets {
            known(&set, target.domain, &target.name)?;
        }
        known(&set, Domain::Style, &pipeline.task.style_anchor)?;
        if let Some(anchor) = &pipeline.task.object_anchor {
            known(&set, Domain::Object, anchor)?;
        }
        let model = StableDiffusion::open(&shipped_or_path(&pipeline.model.path)?, place)?;
        let side = pipeline.draw.side.unwrap_or(model.card().side);
        Ok(Self { pipeline, set, targets, model, side })
    }

    fn shot(&self, prompt: String, seed: u64) -> Shot {
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

    fn draw(
        &self,
        folder: &Path,
        answers: &[Answer],
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let shot = |answer: &Answer| self.shot(answer.prompt(), answer.seed);
        draw_answers(&self.model, folder, answers, &shot, self.pipeline.draw.batch, what, watch)
    }
}

/// Runs a pipeline into `root`, or goes on with it.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn run(pipeline: &Pipeline, root: &Path, place: Place, watch: &mut dyn Watch) -> Result<Summary, Error> {
    let mut studio = Studio::open(pipeline, place)?;
    let jury = Jury::open(&pipeline.judge, &studio.set, place.0)?;
    in_folder(pipeline, root, place, |run| study(&mut studio, &jury, run, place.0, watch))
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
    let mut studio = Studio::open(pipeline, place)?;
    in_folder(pipeline, root, place, |run| {
        run.record.hashes.insert("base".to_owned(), studio.model.card().hash.clone());
        let mut files = Vec::new();
        for target in studio.targets.clone() {
            let places = Places::of(&studio.targets, &target);
            erase(&mut studio, run, &target, &places, place.0, watch)?;
            files.push(run.path(&places.edit));
        }
        Ok(files)
    })
}

/// Does `work` in the pipeline's run folder and notes how it ended.
fn in_folder<T>(
    pipeline: &Pipeline,
    root: &Path,
    (device, precision): Place,
    work: impl FnOnce(&mut RunFolder) -> Result<T, Error>,
) -> Result<T, Error> {
    let recipe = serde_json::to_value(pipeline).map_err(std::io::Error::other)?;
    let mut run = RunFolder::open(root, recipe, Machine::here(device, precision))?;
    let outcome = work(&mut run);
    run.record.status = match &outcome {
        Ok(_) => Status::Done,
        Err(Error::Interrupted) => Status::Interrupted,
        Err(_) => Status::Failed,
    };
    let saved = run.save();
    let value = outcome?; // the work's own error says more than that of run.json
    saved?;
    Ok(value)
}

fn study(
    studio: &mut Studio,
    jury: &Jury,
    run: &mut RunFolder,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Summary, Error> {
    run.record.hashes.insert("base".to_owned(), studio.model.card().hash.clone());
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
    let mut folders = Vec::new();
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
        Edit::open(&file)?
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

/// The prompts of a task: the target with everything of the other domain, and all the rest.
fn task(studio: &Studio, target: &Target) -> Task {
    let (set, settings) = (&studio.set, &studio.pipeline.task);
    let prompt = |style: &str, object: &str| {
        Answer { style: style.to_owned(), object: object.to_owned(), seed: 0 }.prompt()
    };
    let own = |answer: &Answer| answer.wanted(target.domain) == target.name;
    let next = |classes: &[String]| {
        let at = classes.iter().position(|own| *own == target.name).unwrap_or(0);
        classes[(at + 1) % classes.len()].clone()
    };
    let anchor = match target.domain {
        Domain::Style if settings.style_anchor != target.name => settings.style_anchor.clone(),
        Domain::Object => settings
            .object_anchor
            .clone()
            .filter(|anchor| *anchor != target.name)
            .unwrap_or_else(|| next(&set.objects)),
        Domain::Style => next(&set.styles),
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
    Task { concept: target.to_string(), pairs, remain, seed: studio.pipeline.seed }
}

/// First seed of pictures to learn from: far from the seeds of answer sets.
const MATERIAL_SEED: u64 = 1 << 40;

/// The pictures to learn from: from the user's folder, or drawn by the model itself.
fn material(
    studio: &Studio,
    task: &Task,
    target: &Target,
    folder: &Path,
    watch: &mut dyn Watch,
) -> Result<Material, Error> {
    let settings = &studio.pipeline.task;
    let (mut forget, mut remain) = (Vec::new(), Vec::new());
    let most = settings.forget_pictures.max(settings.remain_pictures) as u64;
    let seeds: Vec<u64> = (0..most).map(|i| MATERIAL_SEED + i).collect();
    for answer in (AnswerSet { seeds, ..studio.set.clone() }).answers() {
        let own = answer.wanted(target.domain) == target.name;
        let wanted = if own { settings.forget_pictures } else { settings.remain_pictures };
        if answer.seed - MATERIAL_SEED < wanted as u64 {
            if own { &mut forget } else { &mut remain }.push(answer);
        }
    }
    let path_of: Box<dyn Fn(&Answer) -> PathBuf> = if let Some(pictures) = &settings.pictures {
        let root = PathBuf::from(pictures);
        Box::new(move |answer| {
            let stem = format!("{}/{}/{}", answer.style, answer.object, answer.seed - MATERIAL_SEED + 1);
            let png = root.join(format!("{stem}.png"));
            if png.exists() { png } else { root.join(format!("{stem}.jpg")) }
        })
    } else {
        for (what, answers) in [("drawing to forget", &forget), ("drawing to keep", &remain)] {
            studio.draw(folder, answers, what, watch)?;
        }
        let folder = folder.to_path_buf();
        Box::new(move |answer| picture_path(&folder, answer))
    };
    let examples = |answers: &[Answer], prompts: Vec<&String>| {
        answers
            .iter()
            .map(|answer| {
                let own = answer.prompt();
                let prompt = prompts.iter().position(|prompt| **prompt == own).unwrap_or(usize::MAX);
                Ok(Example { picture: Picture::open(&path_of(answer))?, prompt })
            })
            .collect::<Result<Vec<_>, Error>>()
    };
    Ok(Material {
        forget: examples(&forget, task.pairs.iter().map(|pair| &pair.forget).collect())?,
        remain: examples(&remain, task.remain.iter().collect())?,
    })
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

/// A band of pictures before and after for each target and for some neighbours.
fn before_and_after(set: &AnswerSet, base: &Path, erased: &[(Target, PathBuf)]) -> Result<Picture, Error> {
    const NEIGHBOURS: usize = 3;
    let seed = set.seeds[0];
    let mut bands = Vec::new();
    for (target, folder) in erased {
        let own = set.classes(target.domain).iter();
        let at = own.clone().position(|name| *name == target.name).unwrap_or(0);
        let others = own.clone().cycle().skip(at + 1).take(NEIGHBOURS.min(own.len() - 1));
        for (i, name) in std::iter::once(&target.name).chain(others).enumerate() {
            for (when, folder) in [("before", base), ("after", folder.as_path())] {
                let pictures = set
                    .classes(target.domain.other())
                    .iter()
                    .map(|other| {
                        let (style, object) = match target.domain {
                            Domain::Style => (name, other),
                            Domain::Object => (other, name),
                        };
                        let answer = Answer { style: style.clone(), object: object.clone(), seed };
                        Ok(Picture::open(&picture_path(folder, &answer))?)
                    })
                    .collect::<Result<Vec<_>, Error>>()?;
                bands.push(Band {
                    label: vec![canvas::spaced(name), when.to_owned()],
                    pictures,
                    marked: i == 0 && when == "after",
                    gap: when == "before",
                });
            }
        }
    }
    let columns = erased.first().map(|(target, _)| set.classes(target.domain.other())).unwrap_or_default();
    let columns: Vec<String> = columns.iter().map(|name| canvas::spaced(name)).collect();
    let names: Vec<String> = erased.iter().map(|(target, _)| canvas::spaced(&target.name)).collect();
    Ok(grid(&format!("{} erased, seed {seed}", names.join(", ")), &columns, &bands))
}

/// Says what would run, from a probe of a few steps on this machine. Draws and writes nothing.
///
/// # Errors
/// A pipeline that cannot run.
pub fn forecast(pipeline: &Pipeline, place: Place) -> Result<Forecast, Error> {
    let studio = Studio::open(pipeline, place)?;
    let answers = studio.set.answers();
    let targets = studio.targets.len();
    let task = &pipeline.task;
    let mut learn = 0;
    if task.pictures.is_none() {
        for target in &studio.targets {
            let prompts = self::task(&studio, target);
            learn += prompts.pairs.len() * task.forget_pictures + prompts.remain.len() * task.remain_pictures;
        }
    }
    let pictures = answers.len() * (1 + targets) + learn;
    let Method::SalUn(method) = &pipeline.method;
    let steps = method.steps * targets as u64;

    // A batch of two sampling steps, twice (the first warms up), gives seconds a picture.
    let batch = pipeline.draw.batch.min(answers.len());
    let probe: Vec<Shot> = answers[..batch]
        .iter()
        .map(|answer| Shot { steps: 2, ..studio.shot(answer.prompt(), answer.seed) })
        .collect();
    crate::torch::Peak::reset(place.0);
    let mut seconds = 0.0;
    for _ in 0..2 {
        let began = std::time::Instant::now();
        studio.model.draw(&probe, &mut crate::watch::Quiet)?;
        seconds = began.elapsed().as_secs_f64() / 2.0 / batch as f64;
    }
    let drawing = seconds * pipeline.draw.steps as f64 * pictures as f64;
    // A training step sees the forget batch twice and the remain batch once, and the way back costs two
    // more of the two; drawing with guidance sees each picture twice a step.
    let seen = if (pipeline.draw.guidance - 1.0).abs() > 1e-9 { 2.0 } else { 1.0 };
    let training = seconds / seen * method.batch as f64 * 7.0 * steps as f64;
    Ok(Forecast {
        targets: studio.targets.iter().map(Target::to_string).collect(),
        pictures,
        steps,
        minutes: (drawing + training) / 60.0,
        memory: crate::torch::Peak::read(place.0).host,
    })
}
