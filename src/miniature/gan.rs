//! Makes a `StyleGAN2` of the canvas, and a labeller for its samples, a CLIP that shares nothing
//! with the judge.
//!
//! A GAN of so many classes would take days on two cores. So its generator first learns to
//! reconstruct the canvas, whose pictures it can be told what they are of, and the GAN training
//! begins with one that can draw.

use std::path::{Path, PathBuf};

use super::canvas_dataset::{CanvasDataset, CanvasSelection};
use super::clip::ClipTraining;
use super::mapping::MappingObjective;
use super::reconstruction::Reconstruction;
use super::sample_sheets::SampleSheets;
use super::stripe_probe::StripeProbe;
use super::{GanPart, MiniatureGanRecipe, ReconstructionPart, TrainingPart};
use crate::canvas::{Language, Object, Pose, Style};
use crate::model::stylegan2::{Discriminator, GeneratorNetwork, StyleGan2Config};
use crate::model::{Builder, Parameters};
use crate::torch::{Compute, Kind, Tensor, seed_from};
use crate::training::{
    ClassConditioning, ConditioningSettings, EarlyStopping, Error, GanOutcome, GanTraining,
    TrainConfig, check_gan_compute, train, train_gan,
};
use crate::watch::Watch;
use crate::weights::{Weights, read_stylegan, save_as};

/// Trains what is not there yet and writes `miniature-gan/` and `labeller/` into `out`.
///
/// # Errors
/// Whatever stops a training; what was finished is kept.
pub fn train_miniature_gan(
    recipe: &MiniatureGanRecipe,
    out: &Path,
    here: Compute,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    check_gan_compute(here)?;
    if let Some(labeller) = &recipe.labeller {
        let training = ClipTraining {
            name: "labeller",
            part: &labeller.clip,
            canvas_seed: labeller.canvas_seed,
            words: Language::Names,
            tokens: labeller.tokens,
            seed: seed(recipe, "labeller"),
        };
        training.run(out, here, watch)?;
    }
    let file = out.join("miniature-gan/stylegan2.safetensors");
    if file.exists() {
        return Ok(());
    }
    let trainer = GanTrainer::new(recipe, out, here, watch)?;
    trainer.train_mapping(watch)?;
    for (i, part) in recipe.gan.reconstruction.iter().enumerate() {
        // The name that the seed is made of.
        let name = if i == 0 { "tracing".to_owned() } else { format!("tracing-{i}") };
        trainer.train_reconstruction(&name, part, watch)?;
    }
    let outcome = trainer.train_gan(watch)?;
    trainer.save(&file, outcome.loss)
}

fn seed(recipe: &MiniatureGanRecipe, what: &str) -> u64 {
    seed_from(&[&recipe.seed.to_le_bytes(), what.as_bytes()])
}

/// Style and object: how many classes each has.
fn questions() -> [i64; 2] {
    [Style::ALL.len() as i64, Object::ALL.len() as i64]
}

/// Both networks, and what they learn from.
struct GanTrainer<'a> {
    recipe: &'a MiniatureGanRecipe,
    part: &'a GanPart,
    out: &'a Path,
    here: Compute,
    config: StyleGan2Config,
    generator: GeneratorNetwork,
    discriminator: Discriminator,
    dataset: CanvasDataset,
}

impl<'a> GanTrainer<'a> {
    /// Before the first step: new networks, or those of a file.
    fn new(
        recipe: &'a MiniatureGanRecipe,
        out: &'a Path,
        here: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let (part, device) = (&recipe.gan, here.device);
        let config = part.network_config();
        let before =
            part.from.as_ref().map(|file| read_stylegan(&Weights::open(file)?)).transpose()?;
        let weights = match &before {
            Some(before) => Builder::load(&before.generator, device),
            None => Builder::fresh(seed(recipe, "generator"), device),
        };
        let generator = GeneratorNetwork::new(&config, weights)?;
        let weights = match before.as_ref().and_then(|before| before.discriminator.as_ref()) {
            Some(before) => Builder::load(before, device),
            None => Builder::fresh(seed(recipe, "discriminator"), device),
        };
        let discriminator = Discriminator::new(&config, weights)?;
        generator.parameters().train(true);
        discriminator.parameters().train(true);
        let selection = CanvasSelection {
            seed: recipe.canvas_seed,
            per_cell: part.training.per_cell,
            pose: if recipe.aligned { Pose::Aligned } else { Pose::Free },
            left_out: recipe.left_out(),
        };
        let dataset = CanvasDataset::draw(&selection, config.size, device, watch);
        Ok(Self { recipe, part, out, here, config, generator, discriminator, dataset })
    }

    fn seed(&self, what: &str) -> u64 {
        seed(self.recipe, what)
    }

    fn state(&self, what: &str) -> PathBuf {
        self.out.join("training").join(what)
    }

    /// The mapping learns the class conditioning's regions, where the recipe wants it.
    fn train_mapping(&self, watch: &mut dyn Watch) -> Result<(), Error> {
        if self.part.mapping_steps == 0 {
            return Ok(());
        }
        // The mapping's weights are a hundred times as large as others, and move as slowly.
        let plan = TrainConfig {
            cooldown: 0.7,
            ..TrainConfig::constant(self.part.mapping_steps, 2.0, self.seed("regions"))
        };
        let device = self.here.device;
        let mut objective =
            MappingObjective::new(&self.generator, &questions(), &self.dataset, 256, device);
        let state = self.state("regions");
        let learned = train(&mut objective, &plan, self.here, Some(&state), watch)?;
        objective.normalize_styles();
        watch.note(&format!("the mapping tells regions apart: loss {:.3}", learned.loss));
        Ok(())
    }

    /// The generator learns to reconstruct the canvas.
    fn train_reconstruction(
        &self,
        name: &str,
        part: &ReconstructionPart,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let &ReconstructionPart { steps, batch, lr, coarsest, stripe_probe, noise_energy } = part;
        let training = TrainingPart { steps, batch, lr, per_cell: 0 };
        let plan = TrainConfig {
            ema: Some(0.995),
            beta2: 0.99,
            decoupled: false,
            ..training.plan(self.seed(name))
        };
        let device = self.here.device;
        let stripe_probe =
            (stripe_probe > 0.0).then(|| (StripeProbe::new(&self.config, device), stripe_probe));
        let mut objective = Reconstruction {
            generator: &self.generator,
            dataset: &self.dataset,
            batch,
            coarsest,
            noise_energy,
            stripe_probe,
            device,
        };
        let learned = train(&mut objective, &plan, self.here, Some(&self.state(name)), watch)?;
        // The stripe probe's weights stand behind the generator's.
        let count = self.generator.parameters().named_leaves().len();
        self.generator.parameters().assign(&learned.weights[..count]);
        watch.note(&format!("the generator reconstructs the canvas: loss {:.4}", learned.loss));
        Ok(())
    }

    /// Trains both networks in turns, and leaves the generator with its averages.
    fn train_gan(&self, watch: &mut dyn Watch) -> Result<GanOutcome, Error> {
        let (part, device) = (self.part, self.here.device);
        let conditioning = (part.conditioned_share > 0.0).then(|| self.class_conditioning());
        let plan = TrainConfig {
            extends: true,
            cooldown: part.cooldown,
            ..TrainConfig::constant(part.training.steps, part.training.lr, self.seed("gan"))
        };
        let mut sheets = SampleSheets {
            generator: &self.generator,
            every: part.sample_every,
            folder: self.out.to_path_buf(),
            device,
        };
        let config = part.gan_config();
        let training = GanTraining {
            conditioning: conditioning.as_ref(),
            early_stopping: (part.sample_every > 0)
                .then_some(&mut sheets as &mut dyn EarlyStopping),
            ..GanTraining::between(
                "gan",
                &self.generator,
                &self.discriminator,
                &self.dataset,
                &config,
            )
        };
        let outcome = train_gan(training, &plan, self.here, Some(&self.state("gan")), watch)?;
        self.generator.parameters().assign(&outcome.average);
        Ok(outcome)
    }

    fn class_conditioning(&self) -> ClassConditioning {
        let part = self.part;
        let settings = ConditioningSettings {
            until: (part.conditioned_share * part.training.steps as f64) as u64,
            shape_weight: part.shape_weight,
            grain_weight: part.grain_weight,
        };
        let features = *self.config.channels.first().unwrap_or(&1);
        let absent = self.dataset.absent();
        ClassConditioning::new(&questions(), absent, features, settings, self.here.device)
    }

    /// Writes both networks.
    fn save(&self, file: &Path, loss: f64) -> Result<(), Error> {
        let named = |prefix: &'static str, parameters: &Parameters| {
            let named = parameters.named().into_iter();
            named.map(move |(name, tensor)| (format!("{prefix}.{name}"), tensor))
        };
        let tensors: Vec<(String, Tensor)> = named("g_ema", self.generator.parameters())
            .chain(named("d", self.discriminator.parameters()))
            .collect();
        let config = serde_json::to_string(&self.config).map_err(std::io::Error::other)?;
        let about = [("unsee.stylegan2", config), ("loss", format!("{loss:.5}"))];
        Ok(save_as(file, &tensors, Kind::Half, &about)?)
    }
}
