//! What a pipeline would run, and about how long it would take here.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::classes::{self, to_learn_from};
use super::evaluator::{EVALUATION_IMAGES, samples};
use super::prompts::{check_images, requests};
use super::reference_judge::clip_encoder;
use super::session::{Session, drawn};
use super::target::Target;
use super::{latents, prompts};
use crate::attack::{AttackCost, MAX_EVALUATION_IMAGES};
use crate::erasure::{
    Context, Cost, Error as ErasureError, Evaluator, Feedback, Method, Progress, PromptedImage,
    Task, TrainingImages,
};
use crate::generator::{ImageRequest, Synthesizer, sample_batch};
use crate::measure::{Answer, Subject, TargetClass};
use crate::pictures::{Picture, list_deep};
use crate::pipeline::{Batch, Judged, Pipeline, located, shipped_or_path};
use crate::run::Error;
use crate::torch::{Compute, Peak};
use crate::watch::{Quiet, Watch};

/// What would be run.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// Targets.
    pub targets: Vec<String>,
    /// Methods, each for every target.
    pub methods: Vec<String>,
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

/// What a pipeline will do, as far as that is known without its model.
struct Demand {
    targets: Vec<Target>,
    /// Pictures that are drawn and judged of each model.
    judged: usize,
    /// Those of them that ask for a target, at most.
    asked: usize,
    /// Pictures that are drawn beside these: to learn from, to compare.
    beside: usize,
    /// Pictures that are drawn to be labelled.
    labelled: usize,
    /// Some of what is drawn: prompt and seed.
    samples: Vec<(String, u64)>,
    /// Pictures of the concept to learn from, for one erasure.
    forget: usize,
    /// Why it cannot be run yet.
    missing: Option<String>,
}

/// Pictures of a demand that are enough to try.
const SAMPLES: usize = 64;

impl Demand {
    fn of(pipeline: &Pipeline, watch: &mut dyn Watch) -> Result<Self, Error> {
        let concept = &pipeline.concept;
        let learns = pipeline.learns_from_pictures();
        match pipeline.judged() {
            Judged::Answers(answers) => {
                let (set, classes) = classes::checked(pipeline, answers)?;
                let mut learn = HashSet::new();
                if concept.pictures.is_none() && learns {
                    for class in &classes {
                        let (forget, keep) = to_learn_from(&set, concept, class);
                        learn.extend(forget.into_iter().chain(keep));
                    }
                }
                let targets: Vec<Target> =
                    classes.iter().map(|class| classes::target(&set, concept, class)).collect();
                let answers = set.answers();
                let asking = |class: &TargetClass| {
                    let wanted = |answer: &&Answer| answer.wanted(class.domain) == class.name;
                    answers.iter().filter(wanted).count()
                };
                let some = answers.iter().take(SAMPLES);
                Ok(Self {
                    judged: answers.len(),
                    asked: classes.iter().map(asking).max().unwrap_or_default(),
                    beside: learn.len(),
                    labelled: 0,
                    samples: some.map(|answer| (answer.prompt(), answer.seed)).collect(),
                    forget: targets[0].pairs.len() * concept.forget_pictures(),
                    targets,
                    missing: None,
                })
            }
            Judged::Prompts(settings) => {
                let requests = requests(settings, watch)?;
                let target = prompts::target(pipeline);
                let forget = target.pairs.len() * concept.forget_pictures();
                let keep = target.keep.len() * concept.keep_pictures();
                let (forget, beside) = match &concept.pictures {
                    Some(folder) => {
                        (list_deep(&folder.join("forget")).map_or(0, |all| all.files.len()), 0)
                    }
                    None => (forget, if learns { forget + keep } else { 0 }),
                };
                let some = requests.iter().take(SAMPLES);
                let missing = check_images(pipeline, watch).err().map(|error| error.to_string());
                Ok(Self {
                    judged: requests.len(),
                    asked: requests.iter().filter(|(key, _)| key.role == Subject::Concept).count(),
                    beside,
                    labelled: 0,
                    samples: some.map(|(key, _)| (key.prompt.clone(), key.seed)).collect(),
                    forget,
                    targets: vec![target],
                    missing,
                })
            }
            Judged::Latents(settings) => {
                let classes = concept.targets_in(&settings.classes()?)?;
                let labelled =
                    if concept.labels.is_some() { 0 } else { concept.labelling().samples };
                Ok(Self {
                    judged: settings.n,
                    asked: settings.n,
                    beside: settings.n * (1 + settings.retrained.len()),
                    labelled,
                    samples: (0..SAMPLES as u64).map(|seed| (String::new(), seed)).collect(),
                    forget: 0,
                    targets: classes.iter().map(latents::target).collect(),
                    missing: None,
                })
            }
        }
    }
}

/// Steps of one target's erasures and attacks. What methods share is done once.
fn steps(pipeline: &Pipeline) -> u64 {
    let mut shared = HashSet::new();
    let mut steps = 0;
    for method in &pipeline.method {
        steps += steps_of(&method.value.cost(), &mut shared);
    }
    steps + attack_costs(pipeline, 0).map(|cost| cost.steps).sum::<u64>()
}

/// Steps of one method beside others, whose shared steps are done once.
fn steps_of(cost: &Cost, shared: &mut HashSet<String>) -> u64 {
    let more = cost.shared.as_ref().filter(|(key, _)| shared.insert(key.clone()));
    cost.steps + more.map_or(0, |(_, steps)| *steps)
}

/// Of all attacks on all erasures of one target, of which so many pictures tell whether it is back.
fn attack_costs(pipeline: &Pipeline, requests: usize) -> impl Iterator<Item = AttackCost> {
    let attacks = pipeline.attack.iter().map(move |attack| attack.value.cost(requests));
    attacks.flat_map(|cost| std::iter::repeat_n(cost, pipeline.method.len()))
}

/// Says what would run, from a probe of a few steps on this machine. Draws and writes nothing.
///
/// # Errors
/// A pipeline that cannot run.
pub fn forecast(
    pipeline: &Pipeline,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Forecast, Error> {
    let demand = Demand::of(pipeline, watch)?;
    let targets = demand.targets.len();
    let compared = demand.judged * (1 + targets * pipeline.method.len()) + demand.beside;
    let pictures = compared + demand.labelled;
    let mut forecast = Forecast {
        targets: demand.targets.iter().map(|target| target.concept.clone()).collect(),
        methods: pipeline.method.iter().map(|method| method.label.clone()).collect(),
        pictures,
        steps: steps(pipeline) * targets as u64,
        minutes: None,
        memory: None,
        device_memory: None,
        missing: demand.missing.clone(),
    };
    if forecast.missing.is_none()
        && let Err(error) = located(&pipeline.model)
    {
        forecast.missing = Some(error.to_string());
    }
    if forecast.missing.is_some() {
        return Ok(forecast);
    }
    let mut session = Session::open(pipeline, compute, watch)?;
    super::suits(pipeline, &demand.targets, &mut session)?;
    Peak::reset(compute.device);
    let evaluations: u64 =
        pipeline.method.iter().map(|method| method.value.cost().evaluations).sum();
    let requests = demand.asked.min(MAX_EVALUATION_IMAGES);
    let attacked: u64 = attack_costs(pipeline, requests).map(|cost| cost.images).sum();
    let evaluated = targets * (evaluations as usize * EVALUATION_IMAGES + attacked as usize);
    let mut seconds = drawing(&session, pipeline, &demand)? * (pictures + evaluated) as f64;
    if let Judged::Latents(_) = pipeline.judged() {
        // A network of features beside the judge looks at what is compared once more.
        let networks = 1 + usize::from(pipeline.judge.inception.is_some());
        let looked = networks * compared + demand.labelled + evaluated;
        seconds += judging(&session, pipeline, compute)? * looked as f64;
    }
    let mut peak = Peak::read(compute.device);
    let mut slowest: f64 = 0.0;
    let mut shared = HashSet::new();
    for method in &pipeline.method {
        let cost = method.value.cost();
        let Some(costs) = probe(&*method.value, &mut session, pipeline, &demand)? else {
            watch.note(&format!("{} trains nothing; its seconds are not counted", method.label));
            continue;
        };
        let passes = costs.pass * (demand.forget as u64 * cost.passes) as f64;
        let steps = steps_of(&cost, &mut shared);
        seconds += (costs.step * steps as f64 + passes) * targets as f64;
        slowest = slowest.max(costs.step);
        peak = peak.max(costs.peak);
    }
    let attacked: u64 = attack_costs(pipeline, requests).map(|cost| cost.steps).sum();
    if slowest == 0.0 && attacked > 0 {
        watch
            .note("no method trains here, so the seconds of the attacks' training are not counted");
    }
    seconds += slowest * (attacked as usize * targets) as f64;
    forecast.minutes = Some(seconds / 60.0);
    forecast.memory = Some(peak.host);
    forecast.device_memory = compute.device.is_cuda().then_some(peak.device);
    Ok(forecast)
}

/// Seconds of one picture.
fn drawing(session: &Session, pipeline: &Pipeline, demand: &Demand) -> Result<f64, Error> {
    let samples = &demand.samples;
    let batch = match pipeline.draw.batch {
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
        Ok::<_, Error>(timed(|| drawn(session.generator(), &requests, n))? / n as f64)
    };
    // Where one picture takes seconds, sixteen take sixteen times as many.
    let alone = draw(1, 1)? > LONG;
    let n = match draw(if alone { 1 } else { batch }, 1) {
        Ok(_) if !alone => batch,
        Err(Error::Generator(error)) if !error.is_out_of_memory() => return Err(error.into()),
        _ => 1,
    };
    // Text and autoencoder cost the same for any number of steps. A GAN has none.
    let (one, three) = (draw(n, 1)?, draw(n, 3)?);
    let step = (three - one).max(0.0) / 2.0;
    let steps = session.request(String::new(), 0).steps;
    Ok((one - step).max(0.0) + step * steps as f64)
}

/// Seconds of judging one of a GAN's pictures.
fn judging(session: &Session, pipeline: &Pipeline, compute: Compute) -> Result<f64, Error> {
    let (engine, device) = (pipeline.judge.engine(), compute.device);
    let clip = |path: &str| clip_encoder(&shipped_or_path(path)?, engine, device);
    let judge = clip(pipeline.judge.path())?;
    let _labeller = clip(pipeline.concept.labelling().labeller)?;
    let seeds: Vec<u64> = (0..sample_batch(session.side) as u64).collect();
    let pictures = samples(session.gan()?, &seeds)?;
    let look = || timed(|| Ok(judge.image_features(&pictures)?));
    look()?;
    Ok(look()? / pictures.len() as f64)
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
    pass: f64,
    peak: Peak,
}

/// Tries a method on grey pictures, or on samples whose labels mean nothing; `None` where it trains
/// nothing. Where a batch of two takes long, larger ones are put together from what one and two
/// pictures take: both time and memory grow by as much with each picture.
fn probe(
    method: &dyn Method,
    session: &mut Session,
    pipeline: &Pipeline,
    demand: &Demand,
) -> Result<Option<Costs>, Error> {
    let Some(batch) = method.shortened(1, 1).map(|_| method.cost().batch) else { return Ok(None) };
    let mut short = |batch: i64, steps: u64| short(method, session, pipeline, demand, batch, steps);
    let cost = |one: Probe, more: Probe, steps: f64, batch: i64| {
        let step = (more.seconds - one.seconds).max(0.0) / steps;
        let pass = (one.seconds - step).max(0.0) / batch.max(1) as f64;
        Costs { step, pass, peak: one.peak.max(more.peak) }
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
    let more = (batch - 2) as f64;
    let grown = |one: u64, two: u64| two + (more * two.saturating_sub(one) as f64) as u64;
    Ok(Some(Costs {
        step: double.step + more * (double.step - single.step).max(0.0),
        pass: double.pass,
        peak: Peak {
            host: grown(single.peak.host, double.peak.host),
            device: grown(single.peak.device, double.peak.device),
        },
    }))
}

/// One short erasure of the first target.
fn short(
    method: &dyn Method,
    session: &mut Session,
    pipeline: &Pipeline,
    demand: &Demand,
    batch: i64,
    steps: u64,
) -> Result<Probe, Error> {
    let Some(method) = method.shortened(steps, batch) else {
        return Err(Error::Unknown("a method that trains nothing has no steps".to_owned()));
    };
    let target = &demand.targets[0];
    let side = session.side as usize;
    let grey = Picture { width: side, height: side, rgb: vec![128; side * side * 3] };
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
        seed: pipeline.seed,
        evaluator: Some(&evaluator as &Evaluator),
    };
    let task = Task {
        concept: &target.concept,
        pairs: &target.pairs,
        keep: &target.keep,
        seed: pipeline.seed,
        images: Some(&images),
        feedback: Some(&feedback),
    };
    let device = session.generator().compute().device;
    Peak::reset(device);
    let seconds = timed(|| {
        let mut context = Context { state: None, label: method.name(), watch: &mut Quiet };
        Ok(method.erase(session.model(), &task, &mut context)?)
    })?;
    Ok(Probe { seconds, peak: Peak::read(device) })
}

/// Seconds of some work.
fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<f64, Error> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}
