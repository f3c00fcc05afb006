//! Every class of configurations that is read, with what is done about each of its fields.

use crate::fields::{Class, Configuration as _};
use crate::model::{clip, unet, vae};

/// All classes, in the order in which a model's folder has them.
pub fn configurations() -> Vec<Class> {
    let mut all = vec![crate::generator::PIPELINE, unet::UnetConfig::CLASS, vae::VaeConfig::CLASS];
    all.extend([clip::TextConfig::CLASS, clip::VisionConfig::CLASS, clip::ClipConfig::CLASS]);
    all.push(crate::judge::PROCESSOR);
    all.extend(crate::text::classes());
    all.extend(crate::sampler::scheduler_classes().copied());
    all.push(crate::weights::LORA_CONFIG);
    all.push(crate::weights::STYLEGAN2);
    all
}
