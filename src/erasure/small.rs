//! A `StyleGAN2` of chance, small enough for tests, and samples that somebody has labelled.

use std::path::Path;

use super::{Context, Error, Evaluator, Feedback, Method, Task};
use crate::generator::{Model, StyleGan2};
use crate::model::Builder;
use crate::model::stylegan2::{Discriminator, GeneratorNetwork, StyleGan2Config};
use crate::torch::{Compute, Device, Kind, MemoryMode, Precision};
use crate::watch::Watch;
use crate::weights::{Edit, save_as};

/// Of 8×8 pixels.
pub(super) fn small_gan(folder: &Path) -> StyleGan2 {
    let config = StyleGan2Config {
        size: 8,
        style_dim: 8,
        mapping_layers: 2,
        channels: vec![8, 6],
        group: 4,
        clamp: None,
    };
    let generator = GeneratorNetwork::new(&config, Builder::fresh(1, Device::CPU)).unwrap();
    let discriminator = Discriminator::new(&config, Builder::fresh(2, Device::CPU)).unwrap();
    let named = |prefix: &'static str, all: Vec<(String, crate::torch::Tensor)>| {
        all.into_iter().map(move |(name, tensor)| (format!("{prefix}.{name}"), tensor))
    };
    let tensors: Vec<_> = named("g_ema", generator.parameters().named())
        .chain(named("d", discriminator.parameters().named()))
        .collect();
    let file = folder.join("small.safetensors");
    let about = [("unsee.stylegan2", serde_json::to_string(&config).unwrap())];
    save_as(&file, &tensors, Kind::Float, &about).unwrap();
    let compute =
        Compute { device: Device::CPU, precision: Precision::F32, memory: MemoryMode::Fast };
    StyleGan2::load(&file, compute).unwrap()
}

/// Eight samples that show it and eight that do not.
pub(super) fn labelled<'a>(evaluator: Option<&'a Evaluator<'a>>) -> Feedback<'a> {
    Feedback {
        concept: "object:Cat".to_owned(),
        negatives: (0..8).collect(),
        positives: (100..108).collect(),
        seed: 3,
        evaluator,
    }
}

/// Erases by a method, with nothing but samples.
pub(super) fn erase(
    method: &dyn Method,
    model: &mut StyleGan2,
    feedback: &Feedback,
    state: Option<&Path>,
    watch: &mut dyn Watch,
) -> Result<Edit, Error> {
    let task = Task {
        concept: &feedback.concept,
        pairs: &[],
        keep: &[],
        seed: feedback.seed,
        images: None,
        feedback: Some(feedback),
    };
    let mut context = Context { state, label: method.name(), watch };
    method.erase(Model::Gan(model), &task, &mut context)
}
