//! What `pipelines/miniature-gan.toml` says, and what cannot be made of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::left_out::LeftOut;
use super::{ClipPart, TrainingPart};
use crate::canvas::{Object, SIDE, Style, TRAITS};
use crate::model::stylegan2::StyleGan2Config;
use crate::training::GanConfig;

/// `pipelines/miniature-gan.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MiniatureGanRecipe {
    /// Seed of every part; each derives its own.
    pub seed: u64,
    /// Seed of the canvas pictures that the generator learns from.
    pub canvas_seed: u64,
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
    /// The labeller; without one none is made.
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
    /// The settings of the GAN training; its batch is `training.batch`.
    #[serde(default)]
    pub config: GanConfig,
    /// Share of the steps, from the beginning, that are done with a class conditioning.
    pub conditioned_share: f64,
    /// How firmly the class conditioning holds the generator to the shapes that it has learned to
    /// reconstruct.
    #[serde(default)]
    pub shape_weight: f64,
    /// How firmly the class conditioning holds it to as much grain as the canvas has.
    #[serde(default)]
    pub grain_weight: f64,
    /// Steps in which the mapping learns the class conditioning's regions before everything else.
    pub mapping_steps: u64,
    /// How the generator learns to reconstruct the canvas before the GAN training, part by part;
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

/// A part of the reconstruction.
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
    /// How much it counts that each level knows its finest stripes (the stripe probe).
    #[serde(default)]
    pub stripe_probe: f64,
    /// How much it counts that two drawings of one latent differ: 1 is the energy score, 0 draws
    /// one a picture.
    #[serde(default)]
    pub noise_energy: f64,
}

/// The labeller.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labeller {
    /// Seed of the canvas pictures that it learns from.
    pub canvas_seed: u64,
    /// Tokens of a prompt.
    pub tokens: usize,
    /// The CLIP.
    pub clip: ClipPart,
}

/// Pictures that the discriminator compares with each other.
const GROUP: i64 = 4;

impl MiniatureGanRecipe {
    pub(super) fn left_out(&self) -> LeftOut<'_> {
        LeftOut { styles: &self.without_styles, objects: &self.without_objects }
    }

    /// Says what is wrong with it, before anything is drawn or learned.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        let part = &self.gan;
        part.check_sizes()?;
        self.left_out().check()?;
        part.check_trainings()?;
        part.check_conditioning()?;
        part.config.check(part.training.steps)
    }
}

impl GanPart {
    /// The GAN training's settings, with this part's batch.
    pub(super) fn gan_config(&self) -> GanConfig {
        GanConfig { batch: self.training.batch, ..self.config.clone() }
    }

    /// The networks' sizes.
    pub(super) fn network_config(&self) -> StyleGan2Config {
        StyleGan2Config {
            size: self.size,
            style_dim: self.style_dim,
            mapping_layers: self.mapping_layers,
            channels: self.channels.clone(),
            group: GROUP,
            clamp: None,
        }
    }

    fn check_sizes(&self) -> Result<(), String> {
        self.network_config().check().map_err(|error| error.to_string())?;
        if self.size > SIDE as i64 {
            return Err(format!(
                "gan.size is {}; the canvas has {SIDE} pixels on a side",
                self.size
            ));
        }
        let least = (Style::ALL.len() + Object::ALL.len() + TRAITS) as i64;
        let told = self.conditioned_share > 0.0
            || self.mapping_steps > 0
            || !self.reconstruction.is_empty();
        if told && self.style_dim < least {
            return Err(format!(
                "gan.style_dim is {}; a latent that says style, object and the drawing's chances \
                 needs at least {least} numbers",
                self.style_dim
            ));
        }
        Ok(())
    }

    fn check_trainings(&self) -> Result<(), String> {
        let parts = self.reconstruction.iter().map(|part| (part.batch, part.lr, part.coarsest));
        let TrainingPart { batch, lr, per_cell, .. } = self.training;
        for (batch, lr, least) in parts.chain([(batch, lr, i64::from(per_cell))]) {
            if batch < 1 || least < 1 || !lr.is_finite() || lr <= 0.0 {
                return Err(format!(
                    "a training has batch {batch}, lr {lr} and per_cell or coarsest {least}; at \
                     least 1, above 0 and at least 1 are needed"
                ));
            }
        }
        for &ReconstructionPart { stripe_probe, noise_energy, .. } in &self.reconstruction {
            if stripe_probe.is_nan() || stripe_probe < 0.0 || !(0.0..=1.0).contains(&noise_energy) {
                return Err(format!(
                    "gan.reconstruction has stripe_probe {stripe_probe} and noise_energy \
                     {noise_energy}; stripe_probe is not negative, noise_energy 0 to 1"
                ));
            }
        }
        if self.config.batch != batch && self.config.batch != GanConfig::default().batch {
            return Err(format!(
                "gan.config.batch is {}, and gan.training.batch, which counts, {batch}",
                self.config.batch
            ));
        }
        Ok(())
    }

    fn check_conditioning(&self) -> Result<(), String> {
        let Self { conditioned_share, cooldown, shape_weight, grain_weight, .. } = *self;
        if (shape_weight > 0.0 && conditioned_share == 0.0)
            || (grain_weight > 0.0 && shape_weight == 0.0)
        {
            return Err(format!(
                "gan.grain_weight is {grain_weight}, gan.shape_weight {shape_weight} and \
                 gan.conditioned_share {conditioned_share}; a class conditioning that holds to \
                 grain holds to shapes too, for a part of the steps"
            ));
        }
        self.gan_config().fits(GROUP).map_err(|why| format!("gan.training: {why}"))?;
        if [conditioned_share, cooldown].iter().any(|share| !(0.0..=1.0).contains(share))
            || [shape_weight, grain_weight].iter().any(|weight| weight.is_nan() || *weight < 0.0)
        {
            return Err(format!(
                "gan.conditioned_share is {conditioned_share}, gan.cooldown {cooldown}, \
                 gan.shape_weight {shape_weight} and gan.grain_weight {grain_weight}; the first \
                 two are shares, 0 to 1, the others not negative"
            ));
        }
        Ok(())
    }
}
