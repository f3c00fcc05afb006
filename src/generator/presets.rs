//! Configurations for single files, which bring none: those of the published Stable Diffusion 1.x
//! and 2.x.
//!
//! Facts: the JSON files of the published folders, and for sizes the tensors themselves.

use serde_json::{Value, json};

use super::Error;
use crate::sampler::Prediction;
use crate::text::END;
use crate::weights::{SingleFile, Weights};

/// What a folder says about its components in JSON.
#[derive(Debug, Clone)]
pub(super) struct Configs {
    pub(super) text_encoder: Value,
    pub(super) unet: Value,
    pub(super) vae: Value,
    pub(super) scheduler: Value,
}

impl Configs {
    /// Whether it is a Stable Diffusion 2.x.
    pub(super) fn is_sd2(&self) -> bool {
        self.unet["cross_attention_dim"] == SD2_TEXT_WIDTH
    }

    /// The architecture in modelspec's words.
    pub(super) fn architecture(&self) -> &'static str {
        match (self.is_sd2(), self.predicts_velocity()) {
            (false, _) => "stable-diffusion-v1",
            (true, false) => "stable-diffusion-v2-512",
            (true, true) => "stable-diffusion-v2-768-v",
        }
    }

    /// Whether its UNet predicts velocities; noise if not.
    pub(super) fn predicts_velocity(&self) -> bool {
        self.scheduler["prediction_type"] == VELOCITY
    }

    /// Sets what the UNet predicts; says so, and who wanted it, where they said otherwise.
    pub(super) fn set_prediction(
        &mut self,
        prediction: Prediction,
        as_whom: &str,
    ) -> Option<String> {
        let wanted = serde_json::to_value(prediction).unwrap_or_default();
        let said = std::mem::replace(&mut self.scheduler["prediction_type"], wanted.clone());
        (said != wanted).then(|| {
            format!(
                "the UNet is taken to predict {wanted}, as {as_whom}; its configuration says {said}"
            )
        })
    }

    /// Settings that a single file has no place for, and that are other than those which are
    /// assumed for it.
    pub(super) fn not_in_a_single_file(&self) -> Vec<String> {
        let fields =
            ["beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "trained_betas"];
        let of_scheduler =
            fields.map(|field| ("scheduler", field, &self.scheduler, scheduler(false, false)));
        of_scheduler
            .into_iter()
            .chain([("vae", "scaling_factor", &self.vae, vae(false))])
            .filter(|(_, field, config, usual)| {
                config.get(field).is_some_and(|value| *value != usual[field])
            })
            .map(|(component, field, ..)| format!("{component}.{field}"))
            .collect()
    }

    /// The token that fills prompts: the end token, or in Stable Diffusion 2.x the first word of
    /// the vocabulary.
    pub(super) fn pad(&self) -> &'static str {
        if self.is_sd2() { "!" } else { END }
    }
}

/// Stable Diffusion 2.x' width of the text encoder.
const SD2_TEXT_WIDTH: i64 = 1024;
/// The scheduler's word for a UNet that predicts velocities.
const VELOCITY: &str = "v_prediction";

/// Configurations for the components of a single file. `prediction` says what the UNet predicts;
/// where nobody does, it predicts velocities if the file's name says so (`768-v`, `v-pred`), else
/// noise.
///
/// # Errors
/// Components that are neither Stable Diffusion 1.x nor 2.x.
pub(super) fn presets(
    file: &SingleFile,
    name: &str,
    prediction: Option<Prediction>,
    zero_snr: bool,
) -> Result<Configs, Error> {
    let width = width(&file.unet)?;
    let sd2 = match width {
        768 => false,
        SD2_TEXT_WIDTH => true,
        other => {
            return Err(Error::Request(format!(
                "the UNet in {name} reads texts of width {other}; Stable Diffusion 1.x (768) and \
                 2.x (1024) are known as single files: name a folder with its configuration \
                 (--config FOLDER)"
            )));
        }
    };
    let lowercase = name.to_lowercase();
    let marks = ["768-v", "768_v", "768v", "v2-1_768", "v-pred", "v_pred", "vpred"];
    let by_name = marks.iter().any(|mark| lowercase.contains(mark));
    let velocity = prediction.map_or(by_name, |prediction| prediction == Prediction::VPrediction);
    // Stable Diffusion 1.x is of 512 pixels whatever it predicts.
    let large = sd2 && velocity;
    Ok(Configs {
        text_encoder: text_encoder(sd2),
        unet: unet(sd2, large),
        vae: vae(large),
        scheduler: scheduler(velocity, zero_snr),
    })
}

fn width(unet: &Weights) -> Result<i64, Error> {
    let name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    match unet.info(name).as_ref().map(|info| info.shape.as_slice()) {
        Some(&[_, width]) => Ok(width),
        _ => Err(Error::Request(format!(
            "the file's UNet has no `{name}`: it is no Stable Diffusion 1.x or 2.x"
        ))),
    }
}

fn text_encoder(sd2: bool) -> Value {
    let (hidden, inner, layers, heads, act) = if sd2 {
        (SD2_TEXT_WIDTH, 4096, 23, 16, "gelu")
    } else {
        (768, 3072, 12, 12, "quick_gelu")
    };
    json!({
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": act,
        "hidden_size": hidden,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": inner,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "projection_dim": if sd2 { 512 } else { 768 },
        "vocab_size": 49408
    })
}

fn unet(sd2: bool, large: bool) -> Value {
    json!({
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": if sd2 { json!([5, 10, 20, 20]) } else { json!(8) },
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": false,
        "cross_attention_dim": if sd2 { SD2_TEXT_WIDTH } else { 768 },
        "down_block_types": [
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D"
        ],
        "downsample_padding": 1,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": if large { 96 } else { 64 },
        "up_block_types": [
            "UpBlock2D",
            "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D"
        ],
        "use_linear_projection": sd2
    })
}

fn vae(large: bool) -> Value {
    json!({
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": [
            "DownEncoderBlock2D",
            "DownEncoderBlock2D",
            "DownEncoderBlock2D",
            "DownEncoderBlock2D"
        ],
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": if large { 768 } else { 512 },
        "scaling_factor": 0.18215,
        "up_block_types": [
            "UpDecoderBlock2D",
            "UpDecoderBlock2D",
            "UpDecoderBlock2D",
            "UpDecoderBlock2D"
        ]
    })
}

fn scheduler(velocity: bool, zero_snr: bool) -> Value {
    json!({
        "_class_name": "DDIMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": false,
        "num_train_timesteps": 1000,
        "prediction_type": if velocity { VELOCITY } else { "epsilon" },
        "rescale_betas_zero_snr": zero_snr,
        "set_alpha_to_one": false,
        "steps_offset": 1,
        "timestep_spacing": if zero_snr { "trailing" } else { "leading" },
        "trained_betas": null
    })
}
