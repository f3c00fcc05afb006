//! What a pipeline would run, and about how long it would take here.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::pipeline::{Method, Pipeline};
use super::studio::{Studio, checked};
use super::task::{task, to_learn_from};
use super::{Error, located};
use crate::erasure::{Erasure, Example, Material, SalUn};
use crate::generator::{Denoiser, Generator, Shot};
use crate::measure::{Answer, Target};
use crate::pictures::Picture;
use crate::torch::{Peak, Place};
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
    pub minutes: Option<f64>,
    /// Predicted peak of the host's memory in bytes, from the same probe.
    pub memory: Option<u64>,
    /// Predicted peak of the GPU's.
    pub device_memory: Option<u64>,
    /// Why nothing could be tried: the model is not here.
    pub missing: Option<String>,
}

/// Says what would run, from a probe of a few steps on this machine. Draws and writes nothing.
///
/// # Errors
/// A pipeline that cannot run.
pub fn forecast(pipeline: &Pipeline, place: Place) -> Result<Forecast, Error> {
    let (set, targets) = checked(pipeline)?;
    let answers = set.answers();
    let mut learn: HashSet<Answer> = HashSet::new();
    if pipeline.task.pictures.is_none() {
        for target in &targets {
            let (forget, remain) = to_learn_from(&set, &pipeline.task, target);
            learn.extend(forget.into_iter().chain(remain));
        }
    }
    let pictures = answers.len() * (1 + targets.len()) + learn.len();
    let Method::SalUn(method) = &pipeline.method;
    let steps = method.steps * targets.len() as u64;
    let mut forecast = Forecast {
        targets: targets.iter().map(Target::to_string).collect(),
        pictures,
        steps,
        minutes: None,
        memory: None,
        device_memory: None,
        missing: None,
    };
    if let Err(error) = located(&pipeline.model) {
        forecast.missing = Some(error.to_string());
        return Ok(forecast);
    }
    let mut studio = Studio::open(pipeline, place, &mut Quiet)?;

    Peak::reset(place.device);
    let drawing = drawing(&studio, &answers)? * pictures as f64;
    let drawn = Peak::read(place.device);

    let task = task(&studio, &targets[0]);
    let forget = task.pairs.len() * pipeline.task.forget_pictures;
    let side = studio.side as usize;
    let grey = Picture { width: side, height: side, rgb: vec![128; side * side * 3] };
    let mut short = |batch: i64, steps: u64| {
        let examples = |prompts: usize| {
            let numbers = (0..prompts).cycle().take(batch as usize);
            numbers.map(|prompt| Example { picture: grey.clone(), prompt }).collect()
        };
        let material = Material { forget: examples(task.pairs.len()), remain: examples(task.remain.len()) };
        let method = SalUn { steps, batch, ..method.clone() };
        let model: &mut dyn Denoiser = &mut studio.model;
        Peak::reset(place.device);
        let seconds = timed(|| Ok(method.erase(model, &task, &material, None, &mut Quiet).map(drop)?))?;
        Ok::<_, Error>(Probe { seconds, peak: Peak::read(place.device) })
    };
    let probe = probe(&mut short, method.batch)?;
    let mask = probe.mask * forget as f64;
    let peak = drawn.max(probe.peak);
    let seconds = drawing + probe.step * steps as f64 + mask * targets.len() as f64;
    forecast.minutes = Some(seconds / 60.0);
    forecast.memory = Some(peak.host);
    forecast.device_memory = place.device.is_cuda().then_some(peak.device);
    Ok(forecast)
}

/// Seconds of one picture.
fn drawing(studio: &Studio, answers: &[Answer]) -> Result<f64, Error> {
    let settings = &studio.pipeline.draw;
    let batch = settings.batch.min(answers.len());
    let draw = |n: usize, steps: usize| {
        let shots: Vec<Shot> = answers[..n]
            .iter()
            .map(|answer| Shot { steps, ..studio.shot(answer.prompt(), answer.seed) })
            .collect();
        Ok::<_, Error>(timed(|| Ok(studio.model.draw(&shots, &mut Quiet)?))? / n as f64)
    };
    // The first time warms up. Where one picture takes seconds, sixteen take sixteen times as many.
    let n = if draw(1, 1)? > LONG { 1 } else { batch };
    // Text and autoencoder cost the same for any number of steps.
    let (one, three) = (draw(n, 1)?, draw(n, 3)?);
    let step = (three - one).max(0.0) / 2.0;
    Ok((one - step).max(0.0) + step * settings.steps as f64)
}

/// Where one step of one picture takes more seconds than this, a whole batch is not tried.
const LONG: f64 = 1.0;

/// One short erasure.
#[derive(Debug, Clone, Copy)]
struct Probe {
    seconds: f64,
    peak: Peak,
}

/// What a method costs.
struct Costs {
    /// Seconds of a step.
    step: f64,
    /// Seconds before the first step, for each picture to forget.
    mask: f64,
    peak: Peak,
}

/// Tries the method on grey pictures. Where a batch of two takes long, larger ones are put together from what one
/// and two pictures take: both time and memory grow by as much with each picture.
fn probe(short: &mut dyn FnMut(i64, u64) -> Result<Probe, Error>, batch: i64) -> Result<Costs, Error> {
    let cost = |one: Probe, more: Probe, steps: f64, batch: i64| {
        let step = (more.seconds - one.seconds).max(0.0) / steps;
        Costs { step, mask: (one.seconds - step).max(0.0) / batch as f64, peak: one.peak.max(more.peak) }
    };
    let first = short(1, 1)?;
    if first.seconds < 4.0 * LONG {
        let (one, three) = (short(batch, 1)?, short(batch, 3)?);
        return Ok(cost(one, three, 2.0, batch));
    }
    let single = cost(first, short(1, 2)?, 1.0, 1);
    if batch == 1 {
        return Ok(single);
    }
    let double = cost(short(2, 1)?, short(2, 2)?, 1.0, 2);
    let more = (batch - 2) as f64;
    let grown = |one: u64, two: u64| two + (more * two.saturating_sub(one) as f64) as u64;
    Ok(Costs {
        step: double.step + more * (double.step - single.step).max(0.0),
        mask: double.mask,
        peak: Peak {
            host: grown(single.peak.host, double.peak.host),
            device: grown(single.peak.device, double.peak.device),
        },
    })
}

/// Seconds of some work.
fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<f64, Error> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}
