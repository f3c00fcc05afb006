//! The configurations of a Stable Diffusion's networks, read and held against each other before any
//! of them is loaded.

use std::path::Path;

use serde_json::Value;

use super::Error;
use super::presets::Configs;
use crate::fields;
use crate::model::clip::TextConfig;
use crate::model::unet::UnetConfig;
use crate::model::vae::VaeConfig;
use crate::sampler::{Prediction, SchedulerConfig};

/// What the networks are.
#[derive(Debug, Clone)]
pub(super) struct Networks {
    pub(super) text: TextConfig,
    pub(super) unet: UnetConfig,
    pub(super) vae: VaeConfig,
    pub(super) scheduler: SchedulerConfig,
}

/// diffusers' pipelines add this to the timesteps of every schedule.
const STEPS_OFFSET: i64 = 1;

impl Networks {
    /// Reads them from the JSON that lies, or would lie, under `root`.
    ///
    /// # Errors
    /// A field that is refused, networks that do not fit each other.
    pub(super) fn of(
        configs: &Configs,
        root: &Path,
        notes: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let config = |component: &str| root.join(component).join("config.json");
        let networks = Self {
            text: fields::read(&configs.text_encoder, &config("text_encoder"), notes)?,
            unet: fields::read(&configs.unet, &config("unet"), notes)?,
            vae: fields::read(&configs.vae, &config("vae"), notes)?,
            scheduler: scheduler(
                &configs.scheduler,
                &root.join("scheduler/scheduler_config.json"),
                notes,
            )?,
        };
        networks.check(root)?;
        if networks.unet.sample_size.is_none() {
            notes.push(format!(
                "{}: the UNet's configuration has no sample_size; 64 is assumed",
                root.display()
            ));
        }
        Ok(networks)
    }

    /// Says which networks do not fit each other.
    fn check(&self, root: &Path) -> Result<(), Error> {
        let Self { text, unet, vae, .. } = self;
        let wrong = |why: String| Err(Error::Config { path: root.to_path_buf(), why });
        if unet.in_channels != vae.latent_channels {
            return wrong(format!(
                "the UNet's in_channels are {}, the autoencoder's latents have {}: {}",
                unet.in_channels,
                vae.latent_channels,
                with_more_inputs(unet.in_channels)
            ));
        }
        if unet.out_channels != unet.in_channels {
            return wrong(format!(
                "the UNet's out_channels are {}, its in_channels {}: a network that predicts a \
                 variance too is not built",
                unet.out_channels, unet.in_channels
            ));
        }
        if unet.cross_attention_dim != text.hidden_size {
            return wrong(format!(
                "the UNet reads texts of width {} (cross_attention_dim), the text encoder writes \
                 {} (hidden_size); do both belong together?",
                unet.cross_attention_dim, text.hidden_size
            ));
        }
        Ok(())
    }
}

/// What a UNet is whose input is more than noisy latents.
pub(super) fn with_more_inputs(channels: i64) -> &'static str {
    match channels {
        9 => {
            "it is an inpainting model, which sees a mask and a picture too; the model for text to \
             image can be loaded"
        }
        8 => {
            "it is InstructPix2Pix or another model that sees a picture too; the model for text to \
             image can be loaded"
        }
        5 => {
            "it is a depth-to-image model, which sees depths too; the model for text to image can \
             be loaded"
        }
        7 => {
            "it is an upscaler, which sees a small picture too; the model for text to image can be \
             loaded"
        }
        _ => "do both belong together?",
    }
}

/// A model's schedule as diffusers' pipelines take it: latents are not clamped, and timesteps are
/// counted from one.
fn scheduler(json: &Value, path: &Path, notes: &mut Vec<String>) -> Result<SchedulerConfig, Error> {
    let mut config = SchedulerConfig::read(json, path, notes)?;
    let by_itself = config.class_name.as_deref() == Some("DDIMScheduler");
    if config.clip_sample.unwrap_or(by_itself) {
        notes.push(format!(
            "{}: clip_sample is {}; latents are not clamped, as in diffusers' pipelines",
            path.display(),
            if config.clip_sample.is_some() { "true" } else { "missing, which means true" }
        ));
    }
    config.clip_sample = Some(false);
    if config.steps_offset != STEPS_OFFSET {
        if config.counts_from_offset() {
            notes.push(format!(
                "{}: steps_offset is {}; {STEPS_OFFSET} is taken, as in diffusers' pipelines",
                path.display(),
                config.steps_offset
            ));
        }
        config.steps_offset = STEPS_OFFSET;
    }
    if config.rescale_betas_zero_snr && config.prediction_type == Prediction::Epsilon {
        notes.push(format!(
            "{}: rescale_betas_zero_snr leaves no signal at the last timestep, where a network \
             that predicts noise says nothing",
            path.display()
        ));
    }
    Ok(config)
}
