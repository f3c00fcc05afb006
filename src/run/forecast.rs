//! What a pipeline would run, and about how long it would take here.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::Error;
use super::pipeline::{Method, Pipeline};
use super::studio::Studio;
use super::task::{task, to_learn_from};
use crate::erasure::{Erasure, Example, Material, SalUn};
use crate::generator::{Denoiser, Generator, Shot};
use crate::measure::{Answer, Target};
use crate::pictures::Picture;
use crate::torch::Place;
use crate::watch::Quiet;

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

/// Says what would run, from a probe of a few steps on this machine. Draws and writes nothing.
///
/// # Errors
/// A pipeline that cannot run.
pub fn forecast(pipeline: &Pipeline, place: Place) -> Result<Forecast, Error> {
    let mut studio = Studio::open(pipeline, place)?;
    let answers = studio.set.answers();
    let targets = studio.targets.clone();
    let mut learn: HashSet<Answer> = HashSet::new();
    if pipeline.task.pictures.is_none() {
        for target in &targets {
            let (forget, remain) = to_learn_from(&studio, target);
            learn.extend(forget.into_iter().chain(remain));
        }
    }
    let pictures = answers.len() * (1 + targets.len()) + learn.len();
    let Method::SalUn(method) = &pipeline.method;
    let steps = method.steps * targets.len() as u64;

    crate::torch::Peak::reset(place.device);
    // A batch of two sampling steps; the first time warms up.
    let batch = pipeline.draw.batch.min(answers.len());
    let probe: Vec<Shot> = answers[..batch]
        .iter()
        .map(|answer| Shot { steps: 2, ..studio.shot(answer.prompt(), answer.seed) })
        .collect();
    let mut seconds = 0.0;
    for _ in 0..2 {
        seconds = timed(|| Ok(studio.model.draw(&probe, &mut Quiet)?))? / 2.0 / batch as f64;
    }
    let drawing = seconds * pipeline.draw.steps as f64 * pictures as f64;

    // The method itself on grey pictures: one step, then three. It leaves the model as it was.
    let task = task(&studio, &targets[0]);
    let side = studio.side as usize;
    let grey = Picture { width: side, height: side, rgb: vec![128; side * side * 3] };
    let examples = |prompts: usize| {
        let numbers = (0..prompts).cycle().take(method.batch as usize);
        numbers.map(|prompt| Example { picture: grey.clone(), prompt }).collect()
    };
    let material = Material { forget: examples(task.pairs.len()), remain: examples(task.remain.len()) };
    let mut short = |steps: u64| {
        let method = SalUn { steps, ..method.clone() };
        let model: &mut dyn Denoiser = &mut studio.model;
        timed(|| Ok(method.erase(model, &task, &material, None, &mut Quiet).map(drop)?))
    };
    let one = short(1)?;
    let step = (short(3)? - one).max(0.0) / 2.0;
    Ok(Forecast {
        targets: targets.iter().map(Target::to_string).collect(),
        pictures,
        steps,
        minutes: (drawing + step * steps as f64) / 60.0,
        memory: crate::torch::Peak::read(place.device).host,
    })
}

/// Seconds of some work.
fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<f64, Error> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}
