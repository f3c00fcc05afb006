//! The model of a pipeline.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sampler::Prediction;
use crate::weights::EmaChoice;

/// The generator.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// A shipped model's name (`miniature`, `miniature-gan`), a diffusers folder, a single file, a
    /// GAN's file, or a model of the hub that was pulled.
    pub path: String,
    /// Whether a single file's averaged weights are taken, `yes` or `no`; `auto` takes the last
    /// ones, as diffusers does.
    #[serde(skip_serializing_if = "is_default")]
    pub ema: EmaChoice,
    /// A diffusers folder whose configuration and tokenizer belong to a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// What the UNet predicts, `epsilon` or `v_prediction`, where its files do not say it or say it
    /// wrongly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ModelSettings {
    /// A model by its path alone.
    pub fn at(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }
}
