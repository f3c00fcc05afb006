//! What a pipeline would run, and about how long it would take here.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::answering::{answer_set, checked, known};
use super::concept::Screening;
use super::gan::{GanMethod, Unlearning};
use super::labelled::LOOK;
use super::labels::read_labels;
use super::pipeline::{DrawSettings, Job, Method, ModelSettings, Pipeline};
use super::samples::{MEASURED, drawn};
use super::screening::requests;
use super::screens::pictures_in;
use super::session::DiffusionSession;
use super::task::{task, to_learn_from};
use super::{Batch, Error, located, shipped_or_path};
use crate::erasure::{
    Adaptation, DiffusionTask, Erasure, Evaluator, Feedback, PositivesOnly, Progress,
    PromptedImage, SalUn, StopSettings, Task, TrainingImages,
};
use crate::generator::{Denoiser, Generator, ImageRequest, StyleGan2, Synthesizer, at_once};
use crate::judge::Features;
use crate::measure::{Answer, Target};
use crate::pictures::Picture;
use crate::torch::{Compute, Peak};
use crate::training::GanConfig;
use crate::watch::{Quiet, Watch};

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
    /// Why nothing could be tried: the model, or pictures to learn from, are not here.
    pub missing: Option<String>,
}

/// What a job will do, as far as that is known without its model.
struct Demand<'a> {
    targets: Vec<String>,
    pictures: usize,
    /// Some of them: prompt and seed.
    samples: Vec<(String, u64)>,
    /// The first erasure's.
    task: Task,
    /// Pictures that one erasure is to forget.
    forget: usize,
    model: &'a ModelSettings,
    draw: &'a DrawSettings,
    method: &'a Method,
}

/// Pictures of a demand that are enough to try.
const SAMPLES: usize = 64;

fn of_classes(pipeline: &Pipeline) -> Result<Demand<'_>, Error> {
    let (set, targets) = checked(pipeline)?;
    let answers = set.answers();
    let mut learn: HashSet<Answer> = HashSet::new();
    if pipeline.task.pictures.is_none() {
        for target in &targets {
            let (forget, remain) = to_learn_from(&set, &pipeline.task, target);
            learn.extend(forget.into_iter().chain(remain));
        }
    }
    let task = task(&set, &pipeline.task, &targets[0], pipeline.seed);
    Ok(Demand {
        targets: targets.iter().map(Target::to_string).collect(),
        pictures: answers.len() * (1 + targets.len()) + learn.len(),
        samples: answers
            .iter()
            .take(SAMPLES)
            .map(|answer| (answer.prompt(), answer.seed))
            .collect(),
        forget: task.pairs.len() * pipeline.task.forget_pictures,
        task,
        model: &pipeline.model,
        draw: &pipeline.draw,
        method: &pipeline.method,
    })
}

fn of_concept<'a>(pipeline: &'a Screening, watch: &mut dyn Watch) -> Result<Demand<'a>, Error> {
    let requests = requests(pipeline, watch)?;
    let (task, concept) = (pipeline.task(), &pipeline.concept);
    let drawn =
        [task.pairs.len() * concept.forget_pictures, task.remain.len() * concept.keep_pictures];
    let (forget, learn) = match &concept.pictures {
        Some(folder) => (pictures_in(&folder.join("forget"), watch)?.len(), 0),
        None => (drawn[0], drawn.iter().sum()),
    };
    Ok(Demand {
        targets: vec![concept.name.clone()],
        pictures: 2 * requests.len() + learn,
        samples: requests.iter().take(SAMPLES).map(|(r, _)| (r.prompt.clone(), r.seed)).collect(),
        task,
        forget,
        model: &pipeline.model,
        draw: &pipeline.draw,
        method: &pipeline.method,
    })
}

/// What a GAN's pipeline costs: drawn pictures that are looked at, and steps of the contest that
/// all methods are made of.
fn of_gan(
    pipeline: &Unlearning,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Forecast, Error> {
    /// A step in sixteen has R1, and one in four the path length: so many steps hold what is due of
    /// both.
    const SOME: u64 = 16;
    let (mut steps, measure) = (0, &pipeline.measure);
    let mut adapted = Vec::new();
    for method in &pipeline.method {
        // Adapted models are shared by the methods that want the same.
        let mut adapt = |own: &Adaptation| {
            let print = format!("{own:?}");
            if adapted.contains(&print) {
                return 0;
            }
            adapted.push(print);
            own.models as u64 * own.steps
        };
        steps += match method {
            GanMethod::AdaptThenUnlearn(method) => adapt(&method.adapt) + method.steps,
            GanMethod::Extrapolation(method) => adapt(&method.adapt),
            GanMethod::Positives(method) | GanMethod::PositivesEwc(method) => method.steps,
        };
    }
    let targets = pipeline.targets()?;
    let set = answer_set(&pipeline.classes)?;
    targets.iter().try_for_each(|target| known(&set, target.domain, &target.name))?;
    let labelled = if pipeline.feedback.labels.is_some() { 0 } else { pipeline.feedback.samples };
    let pictures = labelled
        + measure.latents * (2 + measure.retrained.len() + targets.len() * pipeline.method.len());
    steps += measure.relearn.as_ref().map_or(0, |own| own.steps) * pipeline.method.len() as u64;
    let steps = steps * targets.len() as u64;
    let on_the_way =
        pipeline.method.iter().map(GanMethod::looks).sum::<u64>() as usize * targets.len() * LOOK;
    let mut forecast = Forecast {
        targets: targets.iter().map(Target::to_string).collect(),
        pictures,
        steps,
        minutes: None,
        memory: None,
        device_memory: None,
        missing: None,
    };
    let mut model = match located(&pipeline.model) {
        Ok(location) => StyleGan2::load(&location.path, compute)?,
        Err(error) => {
            forecast.missing = Some(error.to_string());
            return Ok(forecast);
        }
    };
    Peak::reset(compute.device);
    let side = model.card().side;
    let seeds: Vec<u64> = (0..at_once(side) as u64).collect();
    let requests: Vec<ImageRequest> =
        seeds.iter().map(|&seed| ImageRequest::of_seed(seed, 1.0, side)).collect();
    let draw = |model: &StyleGan2| timed(|| Ok(model.draw(&requests, &mut Quiet).map(drop)?));
    draw(&model)?; // The first time warms up.
    let drawing = draw(&model)? / requests.len() as f64 * (pictures + on_the_way) as f64;
    let encoders = Features::clip(&shipped_or_path(&pipeline.measure.judge)?, compute.device)?;
    let _labeller = Features::clip(&shipped_or_path(&pipeline.feedback.labeller)?, compute.device)?;
    let sample = model.draw(&requests, &mut Quiet)?;
    let look = || timed(|| Ok(encoders.of(&sample).map(drop)?));
    look()?;
    // One look names what a picture shows and another compares it, but for those that are only
    // labelled.
    let looking = look()? / requests.len() as f64 * (2 * (pictures + on_the_way) - labelled) as f64;
    let gan = pipeline.gan().into_iter().max_by_key(|gan| gan.batch).cloned().unwrap_or_default();
    let gan = GanConfig { discriminator_warmup: 0, ..gan };
    gan.fits(model.network().config().group).map_err(Error::Pipeline)?;
    let mut short = |steps: u64| {
        let (negatives, positives) = (seeds.clone(), seeds.clone());
        let evaluator = |model: &dyn Synthesizer| {
            let look = || Ok::<_, Error>(encoders.of(&drawn(model, &seeds)?).map(drop)?);
            look().map_err(|error| crate::erasure::Error::Task(error.to_string()))?;
            Ok(Progress { unlearned: 0.0, damage: 1.0 })
        };
        let evaluator = Some(&evaluator as &Evaluator);
        let feedback =
            Feedback { concept: String::new(), negatives, positives, seed: 0, evaluator };
        // One look at the end, however many steps there are: it counts for memory.
        let stop = StopSettings { every: steps, ..StopSettings::default() };
        let method = PositivesOnly { steps, gan: gan.clone(), stop, ..PositivesOnly::default() };
        let model: &mut dyn Synthesizer = &mut model;
        timed(|| Ok(method.erase(model, &feedback, None, &mut Quiet).map(drop)?))
    };
    let step = (short(SOME + 1)? - short(1)?).max(0.0) / SOME as f64;
    let peak = Peak::read(compute.device);
    forecast.minutes = Some((drawing + looking + step * steps as f64) / 60.0);
    let samples = match &pipeline.feedback.labels {
        Some(labels) => read_labels(labels, &model.card().hash, MEASURED, watch)?.len(),
        None => labelled,
    };
    // Methods hold them as the network draws them, three colours of four bytes.
    let held = samples as u64 * 12 * (side * side) as u64;
    forecast.memory = Some(peak.host + held);
    forecast.device_memory = compute.device.is_cuda().then_some(peak.device);
    Ok(forecast)
}

/// Says what would run, from a probe of a few steps on this machine. Draws and writes nothing.
///
/// # Errors
/// A pipeline that cannot run.
pub fn forecast(job: &Job, compute: Compute, watch: &mut dyn Watch) -> Result<Forecast, Error> {
    let demand = match job {
        Job::Classes(pipeline) => of_classes(pipeline)?,
        Job::Concept(pipeline) => of_concept(pipeline, watch)?,
        Job::Gan(pipeline) => return of_gan(pipeline, compute, watch),
    };
    let Demand { pictures, task, .. } = &demand;
    let Method::SalUn(method) = demand.method;
    let erasures = demand.targets.len();
    let steps = method.steps * erasures as u64;
    let mut forecast = Forecast {
        targets: demand.targets.clone(),
        pictures: *pictures,
        steps,
        minutes: None,
        memory: None,
        device_memory: None,
        missing: None,
    };
    let ready = match job {
        Job::Classes(_) | Job::Gan(_) => Ok(()),
        Job::Concept(pipeline) => pipeline.check_material(watch),
    };
    if let Err(error) = ready.and_then(|()| located(demand.model).map(drop)) {
        forecast.missing = Some(error.to_string());
        return Ok(forecast);
    }
    let mut session = DiffusionSession::open(demand.model, demand.draw, false, compute, watch)?;

    Peak::reset(compute.device);
    let drawing = drawing(&session, &demand)? * *pictures as f64;
    let drawn = Peak::read(compute.device);

    let side = session.side as usize;
    let grey = Picture { width: side, height: side, rgb: vec![128; side * side * 3] };
    let mut short = |batch: i64, steps: u64| {
        let examples = |prompts: usize| {
            let numbers = (0..prompts).cycle().take(batch as usize);
            numbers.map(|prompt| PromptedImage { picture: grey.clone(), prompt }).collect()
        };
        let material = TrainingImages {
            forget: examples(task.pairs.len()),
            remain: examples(task.remain.len()),
        };
        let method = SalUn { steps, batch, ..method.clone() };
        let model: &mut dyn Denoiser = &mut session.model;
        Peak::reset(compute.device);
        let seconds = timed(|| {
            Ok(method
                .erase(model, &DiffusionTask { task, material: &material }, None, &mut Quiet)
                .map(drop)?)
        })?;
        Ok::<_, Error>(Probe { seconds, peak: Peak::read(compute.device) })
    };
    let probe = probe(&mut short, method.batch)?;
    let mask = probe.mask * demand.forget as f64;
    let peak = drawn.max(probe.peak);
    let seconds = drawing + probe.step * steps as f64 + mask * erasures as f64;
    forecast.minutes = Some(seconds / 60.0);
    forecast.memory = Some(peak.host);
    forecast.device_memory = compute.device.is_cuda().then_some(peak.device);
    Ok(forecast)
}

/// Seconds of one picture.
fn drawing(session: &DiffusionSession, demand: &Demand) -> Result<f64, Error> {
    let Demand { draw: settings, samples, .. } = demand;
    let batch = match settings.batch {
        Batch::Of(n) => n,
        Batch::Auto => AUTO,
    };
    let batch = batch.min(samples.len());
    let draw = |n: usize, steps: usize| {
        let request = |(prompt, seed): &(String, u64)| ImageRequest {
            steps,
            ..session.request(prompt.clone(), *seed)
        };
        let requests: Vec<ImageRequest> = samples[..n].iter().map(request).collect();
        Ok::<_, Error>(timed(|| Ok(session.model.draw(&requests, &mut Quiet)?))? / n as f64)
    };
    // The first time warms up. Where one picture takes seconds, sixteen take sixteen times as many.
    let alone = draw(1, 1)? > LONG;
    let n = match draw(if alone { 1 } else { batch }, 1) {
        Ok(_) if !alone => batch,
        Err(Error::Generator(error)) if !error.is_out_of_memory() => return Err(error.into()),
        _ => 1,
    };
    // Text and autoencoder cost the same for any number of steps.
    let (one, three) = (draw(n, 1)?, draw(n, 3)?);
    let step = (three - one).max(0.0) / 2.0;
    Ok((one - step).max(0.0) + step * settings.steps as f64)
}

/// The batch that is tried where it would be measured.
const AUTO: usize = 8;

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

/// Tries the method on grey pictures. Where a batch of two takes long, larger ones are put together
/// from what one and two pictures take: both time and memory grow by as much with each picture.
fn probe(
    short: &mut dyn FnMut(i64, u64) -> Result<Probe, Error>,
    batch: i64,
) -> Result<Costs, Error> {
    let cost = |one: Probe, more: Probe, steps: f64, batch: i64| {
        let step = (more.seconds - one.seconds).max(0.0) / steps;
        Costs {
            step,
            mask: (one.seconds - step).max(0.0) / batch as f64,
            peak: one.peak.max(more.peak),
        }
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
