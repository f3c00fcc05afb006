//! What a method takes, from a few steps of it.

use super::evaluator::samples;
use super::probe::{LONG, Probe, grown};
use super::session::Session;
use super::target::Target;
use crate::erasure::{
    Context, Error as ErasureError, Evaluator, Feedback, Method, Progress, PromptedImage, Task,
    TrainingImages,
};
use crate::generator::{Synthesizer, sample_batch};
use crate::pictures::Picture;
use crate::run::Error;
use crate::torch::Peak;
use crate::watch::Quiet;

/// What a method takes.
pub(super) struct MethodProbe {
    /// Seconds of a step.
    pub step: f64,
    /// Seconds before the first step, for each picture to forget.
    pub pass: f64,
    pub peak: Peak,
}

/// Tries a method on grey pictures, or on samples whose labels mean nothing; `None` where it trains
/// nothing. Where a batch of two takes long, larger ones are put together from what one and two
/// pictures take: both time and memory grow by as much with each picture.
pub(super) fn probe_method(
    method: &dyn Method,
    session: &mut Session,
    target: &Target,
    seed: u64,
) -> Result<Option<MethodProbe>, Error> {
    let Some(batch) = method.shortened(1, 1).map(|_| method.cost().batch) else { return Ok(None) };
    let mut short = |batch: i64, steps: u64| match method.shortened(steps, batch) {
        Some(short) => erased(&*short, session, target, seed, batch),
        None => Err(Error::Unknown("a method that trains nothing has no steps".to_owned())),
    };
    let cost = |one: Probe, more: Probe, steps: f64, batch: i64| {
        let step = (more.seconds - one.seconds).max(0.0) / steps;
        let pass = (one.seconds - step).max(0.0) / batch.max(1) as f64;
        MethodProbe { step, pass, peak: one.peak.max(more.peak) }
    };
    let cycle = method.cost().cycle;
    if cycle > 0 {
        let (one, more) = (short(batch, 1)?, short(batch, cycle + 1)?);
        return Ok(Some(cost(one, more, cycle as f64, batch)));
    }
    let first = short(1, 1)?;
    if first.seconds < 4.0 * LONG {
        let (one, three) = (short(batch, 1)?, short(batch, 3)?);
        return Ok(Some(cost(one, three, 2.0, batch)));
    }
    let single = cost(first, short(1, 2)?, 1.0, 1);
    if batch == 1 {
        return Ok(Some(single));
    }
    let double = cost(short(2, 1)?, short(2, 2)?, 1.0, 2);
    let more = batch - 2;
    Ok(Some(MethodProbe {
        step: double.step + more as f64 * (double.step - single.step).max(0.0),
        pass: double.pass,
        peak: grown(single.peak, double.peak, more as u64),
    }))
}

/// One erasure.
fn erased(
    method: &dyn Method,
    session: &mut Session,
    target: &Target,
    seed: u64,
    batch: i64,
) -> Result<Probe, Error> {
    let side = session.side as usize;
    let grey = Picture::filled(side, side, [128; 3]);
    let images = |prompts: usize| {
        let numbers = (0..prompts).cycle().take(if prompts > 0 { batch as usize } else { 0 });
        numbers.map(|prompt| PromptedImage { picture: grey.clone(), prompt }).collect()
    };
    let images =
        TrainingImages { forget: images(target.pairs.len()), remain: images(target.keep.len()) };
    let seeds: Vec<u64> = (0..sample_batch(session.side) as u64).collect();
    let drawn = seeds.clone();
    let evaluator = move |model: &dyn Synthesizer| {
        samples(model, &drawn).map_err(|error| ErasureError::Task(error.to_string()))?;
        Ok(Progress { unlearned: 0.0, damage: 1.0 })
    };
    let feedback = Feedback {
        concept: target.concept.clone(),
        negatives: seeds.clone(),
        positives: seeds,
        seed,
        evaluator: Some(&evaluator as &Evaluator),
    };
    let task = Task {
        concept: &target.concept,
        pairs: &target.pairs,
        keep: &target.keep,
        seed,
        images: Some(&images),
        feedback: Some(&feedback),
    };
    let device = session.generator().compute().device;
    Probe::of(device, || {
        let mut context = Context { state: None, label: method.name(), watch: &mut Quiet };
        Ok(method.erase(session.model(), &task, &mut context)?)
    })
}
