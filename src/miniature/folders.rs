//! The JSON files of the folders that are shipped: what `diffusers` and `transformers` would have
//! written.

use serde::Serialize;
use serde_json::{Value, json};

use crate::canvas::SIDE;
use crate::model::clip;
use crate::sampler::Prediction;

/// `value` with the entries of `more` added.
fn with(mut value: Value, more: &Value) -> Value {
    if let (Some(map), Some(more)) = (value.as_object_mut(), more.as_object()) {
        map.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    value
}

pub(super) fn diffusers_json(class: &str, config: &impl Serialize) -> Value {
    with(json!({"_class_name": class, "_diffusers_version": "0.42.1"}), &json!(config))
}

pub(super) fn text_json(config: &clip::TextConfig, about: &Value) -> Value {
    let end = config.vocab_size - 1;
    let tokens = json!({"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end});
    with(with(about.clone(), &json!(config)), &tokens)
}

pub(super) fn clip_json(config: &clip::ClipConfig, about: &Value) -> Value {
    let mut value = with(about.clone(), &json!(config));
    let text = json!({"model_type": "clip_text_model", "projection_dim": config.projection_dim});
    value["text_config"] = text_json(&config.text_config, &text);
    value["vision_config"] = with(
        json!({"model_type": "clip_vision_model", "projection_dim": config.projection_dim}),
        &value["vision_config"],
    );
    value
}

/// Pictures have the judge's size already; colours go from [0, 1] to [-1, 1].
pub(super) fn preprocessor() -> Value {
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": {"shortest_edge": SIDE},
        "resample": 3,
        "do_center_crop": true,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5]
    })
}

/// Stable Diffusion's schedule. With velocities the last step has no signal left and sampling
/// begins there (Lin et al. 2024): otherwise dark styles come out grey, because the first latent is
/// never dark.
pub(super) fn scheduler(prediction: Prediction) -> Value {
    let velocity = prediction == Prediction::VPrediction;
    json!({
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.42.1",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
        "rescale_betas_zero_snr": velocity,
        "clip_sample": false,
        "set_alpha_to_one": velocity,
        "steps_offset": i32::from(!velocity),
        "timestep_spacing": if velocity { "trailing" } else { "leading" }
    })
}

pub(super) fn model_index() -> Value {
    json!({
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [null, null],
        "image_encoder": [null, null],
        "requires_safety_checker": false,
        "safety_checker": [null, null],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"]
    })
}
