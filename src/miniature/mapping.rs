//! The mapping learns before everything else which class a latent stands for, and what its picture
//! looks like from afar.

use super::canvas_dataset::{COARSE, CanvasDataset};
use crate::model::stylegan2::{GeneratorNetwork, is_mapping};
use crate::torch::{Device, Kind, Rng, Tensor, no_grad};
use crate::training::{Error, MicroBatch, Objective};

/// How much what is seen from afar counts beside the classes.
const COARSE_COUNTS: f64 = 30.0;

/// From the styles `w` it must be plain which class a latent stands for, and what its picture looks
/// like from afar. Plain is what a linear layer can read, because the generator's layers read
/// styles so; later the mapping would hardly learn it, for its layers move at a hundredth of the
/// others' speed.
pub(super) struct MappingObjective<'a> {
    generator: &'a GeneratorNetwork,
    dataset: &'a CanvasDataset,
    /// Weight and bias of each question's answer, and of the coarse picture; thrown away
    /// afterwards.
    answers: Vec<[Tensor; 2]>,
    batch: i64,
    device: Device,
}

impl<'a> MappingObjective<'a> {
    /// Before its first step.
    pub(super) fn new(
        generator: &'a GeneratorNetwork,
        questions: &[i64],
        dataset: &'a CanvasDataset,
        batch: i64,
        device: Device,
    ) -> Self {
        let zeros = |shape: &[i64]| {
            Tensor::zeros(shape, (Kind::Float, device.tch())).set_requires_grad(true)
        };
        let dim = generator.config().style_dim;
        let widths = questions.iter().copied().chain([3 * COARSE * COARSE]);
        let answers = widths.map(|n| [zeros(&[n, dim]), zeros(&[n])]).collect();
        Self { generator, dataset, answers, batch, device }
    }
}

impl MappingObjective<'_> {
    /// Gives the styles unit variance again, which they lost where it did not matter: without it
    /// they would have no say in what is drawn.
    pub(super) fn normalize_styles(&self) {
        no_grad(|| {
            let dim = self.generator.config().style_dim;
            let w =
                self.generator.map(&Rng::new(0).normal(&[4096, dim]).to_device(self.device.tch()));
            let deviation = w.square().mean(Kind::Float).sqrt().double_value(&[]);
            let last = format!("style.{}.", self.generator.config().mapping_layers);
            for (name, parameter) in self.generator.parameters().iter() {
                if name.starts_with(&last) {
                    // The activation keeps positive factors.
                    let _ = parameter.detach().g_mul_scalar_(1.0 / deviation);
                }
            }
        });
    }
}

impl Objective for MappingObjective<'_> {
    fn name(&self) -> &'static str {
        "regions"
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        let mapping = self.generator.parameters().named_leaves().into_iter();
        let mapping = mapping.filter(|(name, _)| is_mapping(name));
        let answers = self.answers.iter().enumerate().flat_map(|(i, [weight, bias])| {
            [
                (format!("weight.{i}"), weight.shallow_clone()),
                (format!("bias.{i}"), bias.shallow_clone()),
            ]
        });
        mapping.chain(answers).collect()
    }

    fn loss(&mut self, _step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, Error> {
        let rows = self.dataset.choose(self.batch, rng);
        let z = self.dataset.latents(&rows, self.generator.config().style_dim, rng);
        let w = self.generator.map(&z);
        let (classes, coarse) = (self.dataset.classes(&rows), self.dataset.coarse(&rows));
        let wrong = self.answers.iter().enumerate().map(|(i, [weight, bias])| {
            let answer = w.linear(weight, Some(bias));
            if i as i64 == classes.size()[1] {
                return (answer - &coarse).square().mean(Kind::Float) * COARSE_COUNTS;
            }
            answer.cross_entropy_for_logits(&classes.select(1, i as i64))
        });
        Ok(wrong.reduce(|a, b| a + b).expect("the coarse picture is always asked for"))
    }
}
