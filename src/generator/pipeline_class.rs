//! `model_index.json`: which pipeline of diffusers a folder is, and which class each of its
//! components is.

use serde::Deserialize;

use crate::fields::{Class, Configuration, OF_DIFFUSERS, Rule};

/// What is read of it.
#[derive(Debug, Deserialize)]
pub(super) struct ModelIndex {
    #[serde(default)]
    scheduler: Option<[Option<String>; 2]>,
}

impl ModelIndex {
    /// The class that diffusers makes of `scheduler_config.json`, whatever that file says itself.
    pub(super) fn scheduler(&self) -> Option<&str> {
        self.scheduler.as_ref()?[1].as_deref()
    }
}

const KIND: &str =
    "it is another kind of pipeline than Stable Diffusion 1.x's and 2.x's for text to image";
const XL: &str = "it is a Stable Diffusion XL or another pipeline with several text encoders";
const BESIDE: &str = "it draws with a network beside the UNet, which is not built";

impl Configuration for ModelIndex {
    const CLASS: Class = Class {
        name: "StableDiffusionPipeline",
        fields: &[
            OF_DIFFUSERS,
            &[
                (
                    "_class_name",
                    Rule::Only(
                        &[
                            "\"StableDiffusionPipeline\"",
                            "\"StableDiffusionImg2ImgPipeline\"",
                            "\"StableDiffusionPipelineSafe\"",
                        ],
                        KIND,
                    ),
                ),
                ("unet", Rule::Only(&["[\"diffusers\", \"UNet2DConditionModel\"]"], KIND)),
                ("vae", Rule::Only(&["[\"diffusers\", \"AutoencoderKL\"]"], KIND)),
                (
                    "text_encoder",
                    Rule::Only(
                        &[
                            "[\"transformers\", \"CLIPTextModel\"]",
                            "[\"transformers\", \"CLIPTextModelWithProjection\"]",
                        ],
                        KIND,
                    ),
                ),
                (
                    "tokenizer",
                    Rule::Only(
                        &[
                            "[\"transformers\", \"CLIPTokenizer\"]",
                            "[\"transformers\", \"CLIPTokenizerFast\"]",
                        ],
                        KIND,
                    ),
                ),
                ("scheduler", Rule::Honoured),
                (
                    "safety_checker",
                    Rule::Harmless(
                        "pictures are drawn unfiltered; a study can let it judge them \
                         (judge.checker)",
                    ),
                ),
                (
                    "feature_extractor",
                    Rule::Harmless("of the safety checker, which reads it itself"),
                ),
                ("requires_safety_checker", Rule::Harmless("a Python warning")),
                ("image_encoder", Rule::Harmless("of IP-adapters, which are not built")),
                ("force_zeros_for_empty_prompt", Rule::Only(&["null", "false"], XL)),
                ("text_encoder_2", Rule::Only(&["[null, null]", "null"], XL)),
                ("tokenizer_2", Rule::Only(&["[null, null]", "null"], XL)),
                ("text_encoder_3", Rule::Only(&["[null, null]", "null"], XL)),
                ("tokenizer_3", Rule::Only(&["[null, null]", "null"], XL)),
                ("controlnet", Rule::Only(&["[null, null]", "null"], BESIDE)),
                ("motion_adapter", Rule::Only(&["[null, null]", "null"], BESIDE)),
                ("adapter", Rule::Only(&["[null, null]", "null"], BESIDE)),
                ("depth_estimator", Rule::Only(&["[null, null]", "null"], BESIDE)),
                ("low_res_scheduler", Rule::Only(&["[null, null]", "null"], BESIDE)),
            ],
        ],
    };
}
