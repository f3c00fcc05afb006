//! The recipe of `pipelines/miniature-gan.toml`: a `StyleGAN2` of the canvas, and a labeller for
//! its samples, a CLIP that shares nothing with the judge.
//!
//! A GAN of so many classes would take days on two cores. So its generator first learns to trace
//! the canvas, whose pictures it can be told what they are of, and the GAN training begins with one
//! that can draw.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::canvas_dataset::CanvasDataset;
use super::class_conditioning::{ClassConditioning, MappingObjective};
use super::gan::{check_gan_compute, train_gan};
use super::gan_training::{EarlyStopping, GanConfig, GanTraining};
use super::miniature::{ClipPart, TrainingPart, clip_into};
use super::reconstruction::Reconstruction;
use super::stripe_probe::StripeProbe;
use super::{Error, TrainConfig, train};
use crate::canvas::{Object, Pose, SIDE, Style, TRAITS};
use crate::model::Builder;
use crate::model::stylegan2::{Config, Discriminator, Generator, Noise};
use crate::pictures::Picture;
use crate::torch::{Compute, Device, Kind, Rng, Tensor, no_grad, seed_from};
use crate::watch::Watch;
use crate::weights::{Weights, read_stylegan, save_as};

/// `pipelines/miniature-gan.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MiniatureGanRecipe {
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
    pub training: TrainingPart,
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
    /// The rules of the GAN training; its batch is the course's.
    #[serde(default)]
    pub config: GanConfig,
    /// Share of the steps, from the beginning, that are done with a class conditioning.
    pub conditioned_share: f64,
    /// How firmly the class conditioning holds the generator to the shapes that it has traced.
    #[serde(default)]
    pub shape_weight: f64,
    /// How firmly the class conditioning holds it to as much grain as the canvas has.
    #[serde(default)]
    pub grain_weight: f64,
    /// Steps in which the mapping learns the class conditioning's regions before everything else.
    pub mapping_steps: u64,
    /// How the generator learns to trace the canvas before the GAN training, course by course;
    /// without one it begins with nothing.
    #[serde(default)]
    pub reconstruction: Vec<ReconstructionPart>,
    /// A file of a generator of these sizes to begin with, and of its discriminator where it has
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Steps from one sheet of samples to the next.
    pub sample_every: u64,
}

/// A course of tracing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconstructionPart {
    /// Steps.
    pub steps: u64,
    /// Pictures a step.
    pub batch: i64,
    /// Peak learning rate.
    pub lr: f64,
    /// Pixels on a side of the coarsest view that is compared; of all views from there to the full
    /// size the mean counts.
    pub coarsest: i64,
    /// How much it counts that each level knows its finest stripes; see [`super::stripe_probe`].
    #[serde(default)]
    pub stripe_probe: f64,
    /// How much it counts that two drawings of one latent differ; see [`super::reconstruction`]. 0
    /// draws one a picture.
    #[serde(default)]
    pub noise_energy: f64,
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

impl MiniatureGanRecipe {
    /// Says what is wrong with it, before anything is drawn or learned.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        let part = &self.gan;
        part.config().check().map_err(|error| error.to_string())?;
        if part.size > SIDE as i64 {
            return Err(format!(
                "gan.size is {}; the canvas has {SIDE} pixels on a side",
                part.size
            ));
        }
        let least = (Style::ALL.len() + Object::ALL.len() + TRAITS) as i64;
        let told = part.conditioned_share > 0.0
            || part.mapping_steps > 0
            || !part.reconstruction.is_empty();
        if told && part.style_dim < least {
            return Err(format!(
                "gan.style_dim is {}; a latent that says style, object and the drawing's chances \
                 needs at least {least} numbers",
                part.style_dim
            ));
        }
        let known = |names: &[String], all: Vec<&str>, what: &str| {
            if let Some(name) = names.iter().find(|name| !all.contains(&name.as_str())) {
                return Err(format!(
                    "without_{what} names `{name}`; the canvas knows {}",
                    all.join(", ")
                ));
            }
            let stays = all.iter().any(|name| !names.iter().any(|own| own == name));
            if stays { Ok(()) } else { Err(format!("without_{what} leaves nothing to learn")) }
        };
        known(&self.without_styles, Style::ALL.iter().map(|own| own.name()).collect(), "styles")?;
        known(
            &self.without_objects,
            Object::ALL.iter().map(|own| own.name()).collect(),
            "objects",
        )?;
        let trainings = part.reconstruction.iter().map(|own| (own.batch, own.lr, own.coarsest));
        let all = trainings.chain([(
            part.training.batch,
            part.training.lr,
            i64::from(part.training.per_cell),
        )]);
        for (batch, lr, least) in all {
            if batch < 1 || least < 1 || !lr.is_finite() || lr <= 0.0 {
                return Err(format!(
                    "a training has batch {batch}, lr {lr} and per_cell or coarsest {least}; at \
                     least 1, above 0 and at least 1 are needed"
                ));
            }
        }
        for &ReconstructionPart { stripe_probe, noise_energy, .. } in &part.reconstruction {
            if stripe_probe.is_nan() || stripe_probe < 0.0 || !(0.0..=1.0).contains(&noise_energy) {
                return Err(format!(
                    "a course of tracing has waves {stripe_probe} and spread {noise_energy}; waves \
                     is not negative, noise_energy 0 to 1"
                ));
            }
        }
        let (own, training) = (part.config.batch, part.training.batch);
        if own != training && own != GanConfig::default().batch {
            return Err(format!(
                "gan.config.batch is {own}, and gan.training.batch, which counts, {training}"
            ));
        }
        if (part.shape_weight > 0.0 && part.conditioned_share == 0.0)
            || (part.grain_weight > 0.0 && part.shape_weight == 0.0)
        {
            return Err(format!(
                "gan.grain_weight is {}, gan.shape_weight {} and gan.conditioned_share {}; a guide \
                 that holds to grain holds to shapes too, for a part of the steps",
                part.grain_weight, part.shape_weight, part.conditioned_share
            ));
        }
        part.gan_config().fits(GROUP).map_err(|why| format!("gan.training: {why}"))?;
        if [part.conditioned_share, part.cooldown].iter().any(|share| !(0.0..=1.0).contains(share))
            || [part.shape_weight, part.grain_weight]
                .iter()
                .any(|weight| weight.is_nan() || *weight < 0.0)
        {
            return Err(format!(
                "gan.conditioned_share is {}, gan.cooldown {}, gan.shape_weight {} and \
                 gan.grain_weight {}; the first two are shares, 0 to 1, the others not negative",
                part.conditioned_share, part.cooldown, part.shape_weight, part.grain_weight
            ));
        }
        part.config.check(part.training.steps)
    }
}

/// Trains what is not there yet and writes `miniature-gan/` and `labeller/` into `out`.
///
/// # Errors
/// Whatever stops a training; what was finished is kept.
pub fn miniature_gan(
    recipe: &MiniatureGanRecipe,
    out: &Path,
    here: Compute,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    check_gan_compute(here)?;
    if let Some(labeller) = &recipe.labeller {
        let seed = seed_from(&[&recipe.seed.to_le_bytes(), b"labeller"]);
        clip_into(
            out,
            "labeller",
            &labeller.clip,
            (labeller.world, labeller.tokens, seed),
            here,
            watch,
        )?;
    }
    gan(recipe, out, here, watch)
}

fn gan(
    recipe: &MiniatureGanRecipe,
    out: &Path,
    here: Compute,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    let file = out.join("miniature-gan/stylegan2.safetensors");
    if file.exists() {
        return Ok(());
    }
    let (part, device) = (&recipe.gan, here.device);
    let gan = part.gan_config();
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
    let world = CanvasDataset::draw(
        recipe.world,
        without,
        part.training.per_cell,
        pose,
        config.size,
        device,
        watch,
    );
    let state = out.join("training");

    let questions = [Style::ALL.len() as i64, Object::ALL.len() as i64];
    let conditioning = (part.conditioned_share > 0.0).then(|| {
        let until = (part.conditioned_share * part.training.steps as f64) as u64;
        let features = *config.channels.first().unwrap_or(&1);
        ClassConditioning::new(
            &questions,
            world.absent(),
            features,
            (until, part.shape_weight, part.grain_weight),
            device,
        )
    });
    if part.mapping_steps > 0 {
        // The mapping's weights are a hundred times as large as others, and move as slowly.
        let plan = TrainConfig {
            cooldown: 0.7,
            ..TrainConfig::constant(part.mapping_steps, 2.0, seed("regions"))
        };
        let mut objective = MappingObjective::new(&generator, &questions, &world, 256, device);
        let learned = train(&mut objective, &plan, here, Some(&state.join("regions")), watch)?;
        objective.settle();
        watch.note(&format!("the mapping tells regions apart: loss {:.3}", learned.loss));
    }
    for (i, &ReconstructionPart { steps, batch, lr, coarsest, stripe_probe, noise_energy }) in
        part.reconstruction.iter().enumerate()
    {
        let training = TrainingPart { steps, batch, lr, per_cell: 0 };
        let name = if i == 0 { "tracing".to_owned() } else { format!("tracing-{i}") };
        let plan = TrainConfig {
            ema: Some(0.995),
            beta2: 0.99,
            decoupled: false,
            ..training.plan(seed(&name))
        };
        let stripe_probe =
            (stripe_probe > 0.0).then(|| (StripeProbe::new(&config, device), stripe_probe));
        let mut objective = Reconstruction {
            generator: &generator,
            world: &world,
            batch,
            coarsest,
            noise_energy,
            stripe_probe,
            device,
        };
        let traced = train(&mut objective, &plan, here, Some(&state.join(&name)), watch)?;
        let own = generator.parameters().named_leaves().len();
        generator.parameters().assign(&traced.weights[..own]);
        watch.note(&format!("the generator traces the canvas: loss {:.4}", traced.loss));
    }

    let plan = TrainConfig {
        extends: true,
        cooldown: part.cooldown,
        ..TrainConfig::constant(part.training.steps, part.training.lr, seed("gan"))
    };
    let mut sample_every = SampleSheets {
        generator: &generator,
        every: part.sample_every,
        folder: out.to_path_buf(),
        device,
    };
    let training = GanTraining {
        conditioning: conditioning.as_ref(),
        early_stopping: (part.sample_every > 0)
            .then_some(&mut sample_every as &mut dyn EarlyStopping),
        ..GanTraining::between("gan", (&generator, &discriminator), &world, &gan)
    };
    let outcome = train_gan(training, &plan, here, Some(&state.join("gan")), watch)?;
    generator.parameters().assign(&outcome.average);
    let named = |prefix: &'static str, parameters: &crate::model::Parameters| {
        parameters.named().into_iter().map(move |(name, own)| (format!("{prefix}.{name}"), own))
    };
    let tensors: Vec<(String, Tensor)> = named("g_ema", generator.parameters())
        .chain(named("d", discriminator.parameters()))
        .collect();
    let config = serde_json::to_string(&config).map_err(std::io::Error::other)?;
    let about = [("unsee.stylegan2", config), ("loss", format!("{:.5}", outcome.loss))];
    Ok(save_as(&file, &tensors, Kind::Half, &about)?)
}

impl GanPart {
    /// The GAN training's settings, with the course's batch.
    fn gan_config(&self) -> GanConfig {
        GanConfig { batch: self.training.batch, ..self.config.clone() }
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
struct SampleSheets<'a> {
    generator: &'a Generator,
    every: u64,
    folder: PathBuf,
    device: Device,
}

/// Pictures that the discriminator compares with each other.
const GROUP: i64 = 4;

/// Samples on a sheet's side.
const SHEET: i64 = 13;

impl EarlyStopping for SampleSheets<'_> {
    fn every(&self) -> u64 {
        self.every
    }

    fn evaluate(&mut self, step: u64) -> Result<Option<f64>, Error> {
        let config = self.generator.config();
        let mut rng = Rng::new(0);
        let n = SHEET * SHEET;
        let z = rng.normal(&[n, config.style_dim]).to_device(self.device.tch());
        let noises = config.noises(n, &mut rng, self.device);
        let side = SHEET * config.size;
        let sheet = no_grad(|| {
            let styles = self.generator.broadcast(&self.generator.map(&z));
            let drawn = self.generator.synthesize(&styles, Noise::Given(&noises));
            let rows =
                drawn.view([SHEET, SHEET, 3, config.size, config.size]).permute([0, 3, 1, 4, 2]);
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

    fn target(&self) -> f64 {
        f64::INFINITY
    }
}
