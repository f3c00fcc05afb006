//! The recipe of `pipelines/miniature-gan.toml`: a `StyleGAN2` of the canvas, and a labeller for its samples, a CLIP that
//! shares nothing with the judge.
//!
//! A GAN of so many classes would take days on two cores. So its generator first learns to trace the canvas, whose pictures
//! it can be told what they are of, and the contest begins with one that can draw.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::adversarial::{can_compete, compete};
use super::contest::{Contest, Exam, Rules};
use super::guide::{Guide, Regions};
use super::miniature::{ClipPart, Course, clip_into};
use super::tracing::Tracing;
use super::waves::Waves;
use super::world::World;
use super::{Error, Plan, train};
use crate::canvas::{Object, Pose, SIDE, Style, TRAITS};
use crate::model::Builder;
use crate::model::stylegan2::{Config, Discriminator, Generator, Noise};
use crate::pictures::Picture;
use crate::torch::{Device, Kind, Place, Rng, Tensor, no_grad, seed_from};
use crate::watch::Watch;
use crate::weights::{Weights, read_stylegan, save_as};

/// `pipelines/miniature-gan.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every part; each derives its own.
    pub seed: u64,
    /// The canvas world that the generator learns from.
    pub world: u64,
    /// Whether the canvas' objects are aligned.
    #[serde(default)]
    pub aligned: bool,
    /// Styles that are left out of what it learns.
    #[serde(default)]
    pub without_styles: Vec<String>,
    /// Objects that are left out.
    #[serde(default)]
    pub without_objects: Vec<String>,
    /// Both networks.
    pub gan: GanPart,
    /// The labeller, and the canvas world that it learns from; without one none is made.
    pub labeller: Option<Labeller>,
}

/// The networks' sizes, and how they learn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanPart {
    /// How it learns; the rate is Adam's, constant and falling over the last part.
    pub course: Course,
    /// Share of the steps, at the end, over which the rate falls.
    pub cooldown: f64,
    /// Pixels on a side.
    pub size: i64,
    /// Width of `z` and `w`.
    pub style_dim: i64,
    /// Layers from `z` to `w`.
    pub mapping_layers: i64,
    /// Channels at 4, 8, … pixels.
    pub channels: Vec<i64>,
    /// The rules of the contest; its batch is the course's.
    #[serde(default)]
    pub rules: Rules,
    /// Share of the steps, from the beginning, that are done with a guide.
    pub guided: f64,
    /// How firmly the guide holds the generator to the shapes that it has traced.
    #[serde(default)]
    pub hold: f64,
    /// How firmly the guide holds it to as much grain as the canvas has.
    #[serde(default)]
    pub grain: f64,
    /// Steps in which the mapping learns the guide's regions before everything else.
    pub regions: u64,
    /// How the generator learns to trace the canvas before the contest, course by course; without one it begins with
    /// nothing.
    #[serde(default)]
    pub tracing: Vec<TracingPart>,
    /// A file of a generator of these sizes to begin with, and of its discriminator where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Steps from one sheet of samples to the next.
    pub sheets: u64,
}

/// A course of tracing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracingPart {
    /// Steps.
    pub steps: u64,
    /// Pictures a step.
    pub batch: i64,
    /// Peak learning rate.
    pub lr: f64,
    /// Pixels on a side of the coarsest view that is compared; of all views from there to the full size the mean counts.
    pub coarsest: i64,
    /// How much it counts that each level knows its finest stripes; see [`super::waves`].
    #[serde(default)]
    pub waves: f64,
    /// How much it counts that two drawings of one latent differ; see [`super::tracing`]. 0 draws one a picture.
    #[serde(default)]
    pub spread: f64,
}

/// The labeller.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labeller {
    /// The canvas world that it learns from.
    pub world: u64,
    /// Tokens of a prompt.
    pub tokens: usize,
    /// The CLIP.
    pub clip: ClipPart,
}

impl Recipe {
    /// Says what is wrong with it, before anything is drawn or learned.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        let part = &self.gan;
        part.config().check().map_err(|error| error.to_string())?;
        if part.size > SIDE as i64 {
            return Err(format!("gan.size is {}; the canvas has {SIDE} pixels on a side", part.size));
        }
        let least = (Style::ALL.len() + Object::ALL.len() + TRAITS) as i64;
        let told = part.guided > 0.0 || part.regions > 0 || !part.tracing.is_empty();
        if told && part.style_dim < least {
            return Err(format!(
                "gan.style_dim is {}; a latent that says style, object and the drawing's chances needs at least {least} numbers",
                part.style_dim
            ));
        }
        let known = |names: &[String], all: Vec<&str>, what: &str| {
            if let Some(name) = names.iter().find(|name| !all.contains(&name.as_str())) {
                return Err(format!("without_{what} names `{name}`; the canvas knows {}", all.join(", ")));
            }
            let stays = all.iter().any(|name| !names.iter().any(|own| own == name));
            if stays { Ok(()) } else { Err(format!("without_{what} leaves nothing to learn")) }
        };
        known(&self.without_styles, Style::ALL.iter().map(|own| own.name()).collect(), "styles")?;
        known(&self.without_objects, Object::ALL.iter().map(|own| own.name()).collect(), "objects")?;
        let courses = part.tracing.iter().map(|own| (own.batch, own.lr, own.coarsest));
        let all = courses.chain([(part.course.batch, part.course.lr, i64::from(part.course.per_cell))]);
        for (batch, lr, least) in all {
            if batch < 1 || least < 1 || !lr.is_finite() || lr <= 0.0 {
                return Err(format!(
                    "a course has batch {batch}, lr {lr} and per_cell or coarsest {least}; at least 1, above 0 and at least 1 are needed"
                ));
            }
        }
        for &TracingPart { waves, spread, .. } in &part.tracing {
            if waves.is_nan() || waves < 0.0 || !(0.0..=1.0).contains(&spread) {
                return Err(format!(
                    "a course of tracing has waves {waves} and spread {spread}; waves is not negative, spread 0 to 1"
                ));
            }
        }
        let (own, course) = (part.rules.batch, part.course.batch);
        if own != course && own != Rules::default().batch {
            return Err(format!("gan.rules.batch is {own}, and gan.course.batch, which counts, {course}"));
        }
        if (part.hold > 0.0 && part.guided == 0.0) || (part.grain > 0.0 && part.hold == 0.0) {
            return Err(format!(
                "gan.grain is {}, gan.hold {} and gan.guided {}; a guide that holds to grain holds to shapes too, for a part of the steps",
                part.grain, part.hold, part.guided
            ));
        }
        part.rules().fits(GROUP).map_err(|why| format!("gan.course: {why}"))?;
        if [part.guided, part.cooldown].iter().any(|share| !(0.0..=1.0).contains(share))
            || [part.hold, part.grain].iter().any(|weight| weight.is_nan() || *weight < 0.0)
        {
            return Err(format!(
                "gan.guided is {}, gan.cooldown {}, gan.hold {} and gan.grain {}; the first two are shares, 0 to 1, the others not negative",
                part.guided, part.cooldown, part.hold, part.grain
            ));
        }
        part.rules.check(part.course.steps)
    }
}

/// Trains what is not there yet and writes `miniature-gan/` and `labeller/` into `out`.
///
/// # Errors
/// Whatever stops a training; what was finished is kept.
pub fn miniature_gan(recipe: &Recipe, out: &Path, here: Place, watch: &mut dyn Watch) -> Result<(), Error> {
    can_compete(here)?;
    if let Some(labeller) = &recipe.labeller {
        let seed = seed_from(&[&recipe.seed.to_le_bytes(), b"labeller"]);
        clip_into(out, "labeller", &labeller.clip, (labeller.world, labeller.tokens, seed), here, watch)?;
    }
    gan(recipe, out, here, watch)
}

fn gan(recipe: &Recipe, out: &Path, here: Place, watch: &mut dyn Watch) -> Result<(), Error> {
    let file = out.join("miniature-gan/stylegan2.safetensors");
    if file.exists() {
        return Ok(());
    }
    let (part, device) = (&recipe.gan, here.device);
    let rules = part.rules();
    let config = part.config();
    let seed = |what: &str| seed_from(&[&recipe.seed.to_le_bytes(), what.as_bytes()]);
    let before = part.from.as_ref().map(|file| read_stylegan(&Weights::open(file)?)).transpose()?;
    let generator = match &before {
        Some(before) => Generator::new(&config, Builder::load(&before.generator, device))?,
        None => Generator::new(&config, Builder::fresh(seed("generator"), device))?,
    };
    let discriminator = match before.as_ref().and_then(|before| before.discriminator.as_ref()) {
        Some(before) => Discriminator::new(&config, Builder::load(before, device))?,
        None => Discriminator::new(&config, Builder::fresh(seed("discriminator"), device))?,
    };
    generator.parameters().train(true);
    discriminator.parameters().train(true);
    let without = [recipe.without_styles.as_slice(), &recipe.without_objects];
    let pose = if recipe.aligned { Pose::Aligned } else { Pose::Free };
    let world = World::draw(recipe.world, without, part.course.per_cell, pose, config.size, device, watch);
    let state = out.join("training");

    let questions = [Style::ALL.len() as i64, Object::ALL.len() as i64];
    let guide = (part.guided > 0.0).then(|| {
        let until = (part.guided * part.course.steps as f64) as u64;
        let features = *config.channels.first().unwrap_or(&1);
        Guide::new(&questions, world.absent(), features, (until, part.hold, part.grain), device)
    });
    if part.regions > 0 {
        // The mapping's weights are a hundred times as large as others, and move as slowly.
        let plan = Plan { cooldown: 0.7, ..Plan::constant(part.regions, 2.0, seed("regions")) };
        let mut lesson = Regions::new(&generator, &questions, &world, 256, device);
        let learned = train(&mut lesson, &plan, here, Some(&state.join("regions")), watch)?;
        lesson.settle();
        watch.note(&format!("the mapping tells regions apart: loss {:.3}", learned.loss));
    }
    for (i, &TracingPart { steps, batch, lr, coarsest, waves, spread }) in part.tracing.iter().enumerate() {
        let course = Course { steps, batch, lr, per_cell: 0 };
        let name = if i == 0 { "tracing".to_owned() } else { format!("tracing-{i}") };
        let plan = Plan { ema: Some(0.995), beta2: 0.99, decoupled: false, ..course.plan(seed(&name)) };
        let waves = (waves > 0.0).then(|| (Waves::new(&config, device), waves));
        let mut lesson =
            Tracing { generator: &generator, world: &world, batch, coarsest, spread, waves, device };
        let traced = train(&mut lesson, &plan, here, Some(&state.join(&name)), watch)?;
        let own = generator.parameters().named_leaves().len();
        generator.parameters().assign(&traced.weights[..own]);
        watch.note(&format!("the generator traces the canvas: loss {:.4}", traced.loss));
    }

    let plan = Plan {
        extends: true,
        cooldown: part.cooldown,
        ..Plan::constant(part.course.steps, part.course.lr, seed("gan"))
    };
    let mut sheets = Sheets { generator: &generator, every: part.sheets, folder: out.to_path_buf(), device };
    let contest = Contest {
        guide: guide.as_ref(),
        exam: (part.sheets > 0).then_some(&mut sheets as &mut dyn Exam),
        ..Contest::between("gan", (&generator, &discriminator), &world, &rules)
    };
    let rivals = compete(contest, &plan, here, Some(&state.join("gan")), watch)?;
    generator.parameters().assign(&rivals.average);
    let named = |prefix: &'static str, parameters: &crate::model::Parameters| {
        parameters.named().into_iter().map(move |(name, own)| (format!("{prefix}.{name}"), own))
    };
    let tensors: Vec<(String, Tensor)> =
        named("g_ema", generator.parameters()).chain(named("d", discriminator.parameters())).collect();
    let config = serde_json::to_string(&config).map_err(std::io::Error::other)?;
    let about = [("unsee.stylegan2", config), ("loss", format!("{:.5}", rivals.loss))];
    Ok(save_as(&file, &tensors, Kind::Half, &about)?)
}

impl GanPart {
    /// The contest's rules, with the course's batch.
    fn rules(&self) -> Rules {
        Rules { batch: self.course.batch, ..self.rules.clone() }
    }

    fn config(&self) -> Config {
        Config {
            size: self.size,
            style_dim: self.style_dim,
            mapping_layers: self.mapping_layers,
            channels: self.channels.clone(),
            group: GROUP,
            clamp: None,
        }
    }
}

/// Writes a sheet of samples now and then, so that one can see how it goes.
struct Sheets<'a> {
    generator: &'a Generator,
    every: u64,
    folder: PathBuf,
    device: Device,
}

/// Pictures that the discriminator compares with each other.
const GROUP: i64 = 4;

/// Samples on a sheet's side.
const SHEET: i64 = 13;

impl Exam for Sheets<'_> {
    fn every(&self) -> u64 {
        self.every
    }

    fn grade(&mut self, step: u64) -> Result<Option<f64>, Error> {
        let config = self.generator.config();
        let mut rng = Rng::new(0);
        let n = SHEET * SHEET;
        let z = rng.normal(&[n, config.style_dim]).to_device(self.device.tch());
        let noises = config.noises(n, &mut rng, self.device);
        let side = SHEET * config.size;
        let sheet = no_grad(|| {
            let styles = self.generator.broadcast(&self.generator.map(&z));
            let drawn = self.generator.synthesize(&styles, Noise::Given(&noises));
            let rows = drawn.view([SHEET, SHEET, 3, config.size, config.size]).permute([0, 3, 1, 4, 2]);
            let bytes = ((rows.reshape([side, side, 3]) + 1.0) * 127.5).clamp(0.0, 255.0).round();
            bytes.to_kind(Kind::Uint8).to_device(tch::Device::Cpu).flatten(0, -1)
        });
        let bytes = Vec::<u8>::try_from(&sheet).map_err(crate::torch::Error::from)?;
        let picture = Picture { width: side as usize, height: side as usize, rgb: bytes };
        picture
            .save(&self.folder.join(format!("samples-{step:06}.png")), &[])
            .map_err(std::io::Error::other)?;
        Ok(None)
    }

    fn pass(&self) -> f64 {
        f64::INFINITY
    }
}
