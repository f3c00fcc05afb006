//! What a pipeline would run, and about how long it would take here.

use std::collections::HashSet;

use serde::Serialize;

use super::attack_probe::probe_attack;
use super::classes::{self, to_learn_from};
use super::evaluator::{EVALUATION_IMAGES, samples};
use super::method_probe::probe_method;
use super::probe::{LONG, timed};
use super::prompts::{check_images, requests};
use super::reference_judge::clip_encoder;
use super::session::{Session, drawn};
use super::target::Target;
use super::training_images::ImageDemand;
use super::{latents, prompts};
use crate::attack::MAX_EVALUATION_IMAGES;
use crate::erasure::Cost;
use crate::generator::{ImageRequest, sample_batch};
use crate::measure::{Answer, Subject, TargetClass};
use crate::pictures::list_deep;
use crate::pipeline::{AttackSetting, Batch, Judged, Pipeline, located, shipped_or_path};
use crate::run::Error;
use crate::torch::{Compute, Peak};
use crate::watch::Watch;

/// What would be run.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// Targets.
    pub targets: Vec<String>,
    /// Methods, each for every target.
    pub methods: Vec<String>,
    /// Pictures to draw in all.
    pub pictures: usize,
    /// Training steps of the methods in all.
    pub steps: u64,
    /// What attacks do on all erasures, at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attacks: Vec<AttackForecast>,
    /// Predicted minutes, from a probe on this machine.
    pub minutes: Option<f64>,
    /// Predicted peak of the host's memory in bytes, from the same probe.
    pub memory: Option<u64>,
    /// Predicted peak of the GPU's.
    pub device_memory: Option<u64>,
    /// Why nothing could be tried: the model, or pictures to learn from, are not here.
    pub missing: Option<String>,
}

/// What one attack does on all erasures, at most.
#[derive(Debug, Clone, Serialize)]
pub struct AttackForecast {
    /// Its label.
    pub attack: String,
    /// Training steps.
    pub training_steps: u64,
    /// Steps of a search: a pass through the network and back for one picture, or a generation for
    /// one prompt.
    pub search_steps: u64,
    /// Pictures to draw and judge.
    pub pictures: u64,
    /// Predicted minutes.
    pub minutes: Option<f64>,
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
    /// Pictures that tell whether a target is back, at most.
    fn attacked(&self) -> usize {
        self.asked.min(MAX_EVALUATION_IMAGES)
    }

    fn of(pipeline: &Pipeline, watch: &mut dyn Watch) -> Result<Self, Error> {
        let concept = &pipeline.concept;
        let learned = ImageDemand::of_pipeline(pipeline);
        match pipeline.judged() {
            Judged::Answers(answers) => {
                let (set, classes) = classes::checked(pipeline, answers)?;
                let mut learn = HashSet::new();
                if concept.pictures.is_none() {
                    for class in &classes {
                        let (forget, keep) = to_learn_from(&set, concept, class, learned);
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
                    None => (forget, forget.min(learned.forget) + keep.min(learned.keep)),
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

/// Training steps of one target's erasures. What methods share is done once.
fn steps(pipeline: &Pipeline) -> u64 {
    let mut shared = HashSet::new();
    pipeline.method.iter().map(|method| steps_of(&method.value.cost(), &mut shared)).sum()
}

/// Steps of one method beside others, whose shared steps are done once.
fn steps_of(cost: &Cost, shared: &mut HashSet<String>) -> u64 {
    let more = cost.shared.as_ref().filter(|(key, _)| shared.insert(key.clone()));
    cost.steps + more.map_or(0, |(_, steps)| *steps)
}

/// What each attack does on all erasures; none of it takes seconds yet.
fn attacks(pipeline: &Pipeline, demand: &Demand) -> Vec<AttackForecast> {
    let erasures = (demand.targets.len() * pipeline.method.len()) as u64;
    let requests = demand.attacked();
    let of = |attack: &AttackSetting| {
        let cost = attack.value.cost(attack.tried(requests));
        let searches = if cost.shared { demand.targets.len() as u64 } else { erasures };
        AttackForecast {
            attack: attack.label.clone(),
            training_steps: cost.training_steps() * erasures,
            search_steps: cost.search_steps * searches,
            pictures: cost.images * erasures,
            minutes: None,
        }
    };
    pipeline.attack.iter().map(of).collect()
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
        attacks: attacks(pipeline, &demand),
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
    let evaluated = targets * evaluations as usize * EVALUATION_IMAGES;
    let drawn = drawing(&session, pipeline, &demand)?;
    // A network of features beside the judge looks at what is compared once more.
    let judged = match pipeline.judged() {
        Judged::Latents(_) => judging(&session, pipeline, compute)?,
        _ => 0.0,
    };
    let networks = 1 + usize::from(pipeline.judge.inception.is_some());
    let mut seconds = (drawn + judged) * (pictures + evaluated) as f64
        + judged * ((networks - 1) * compared) as f64;
    let mut peak = Peak::read(compute.device);
    let mut shared = HashSet::new();
    let target = &demand.targets[0];
    for method in &pipeline.method {
        let cost = method.value.cost();
        let probed = probe_method(&*method.value, &mut session, target, pipeline.seed)?;
        let Some(probed) = probed else {
            watch.note(&format!("{} trains nothing; its seconds are not counted", method.label));
            continue;
        };
        let passes = probed.pass * (demand.forget as u64 * cost.passes) as f64;
        let steps = steps_of(&cost, &mut shared);
        // With guidance a step of drawing is two passes.
        let sampled = drawn * cost.sampling as f64 / (2 * pipeline.draw.steps) as f64;
        seconds += (probed.step * steps as f64 + passes + sampled) * targets as f64;
        peak = peak.max(probed.peak);
    }
    for (attack, forecast) in pipeline.attack.iter().zip(&mut forecast.attacks) {
        let (attack, requests) = (&*attack.value, attack.tried(demand.attacked()));
        let probed = probe_attack(attack, &mut session, target, pipeline.seed, requests)?;
        let step = probed.as_ref().map_or(0.0, |probed| probed.step);
        let steps = forecast.training_steps + forecast.search_steps;
        let taken = step * steps as f64 + (drawn + judged) * forecast.pictures as f64;
        forecast.minutes = Some(taken / 60.0);
        seconds += taken;
        peak = probed.map_or(peak, |probed| peak.max(probed.peak));
    }
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
