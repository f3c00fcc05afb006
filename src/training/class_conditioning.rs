//! Lets regions of the noise stand for classes while a GAN is young: a generator without labels,
//! taught with labels.
//!
//! The noise's first numbers are cut by question, and the largest number of a cut is the class:
//! every class has the same share, and a picture's classes follow from its latent alone. The
//! discriminator is told the classes and judges how well pictures fit them (the projection of
//! Miyato & Koyama 2018, equation 3), so that the generator draws them there. Both networks stay
//! what they are: the class conditioning's own weights are thrown away, and the last steps are done
//! without it.

use super::canvas_dataset::{COARSE, CanvasDataset};
use super::{Error, MicroBatch, Objective};
use crate::model::stylegan2::{Generator, is_mapping};
use crate::torch::{Device, Kind, Rng, Tensor, no_grad};

/// What classes there are, and how features of a picture fit them.
#[derive(Debug)]
pub struct ClassConditioning {
    /// Classes of each question.
    questions: Vec<i64>,
    /// Minus infinity for classes that do not occur, else 0, question by question.
    absent: Tensor,
    /// `[classes, features]` for each question.
    embeddings: Vec<Tensor>,
    /// The step from which on there is no class conditioning.
    pub until: u64,
    /// How much it counts beside the GAN training that pictures drawn from latents differ, seen
    /// from afar, from the pictures that these latents stand for: a GAN training alone soon gives
    /// up shapes for grain. Where grain lies is no latent's.
    pub shape_weight: f64,
    /// How much it counts that there is as much grain as in those pictures (the energy score of
    /// [`super::reconstruction`]): a GAN training cleans a rough style together with the smooth
    /// ones.
    pub grain_weight: f64,
}

impl ClassConditioning {
    /// A class conditioning that knows nothing yet; `absent` is minus infinity for classes that do
    /// not occur, else 0, question by question.
    pub fn new(
        questions: &[i64],
        absent: &Tensor,
        features: i64,
        (until, shape_weight, grain_weight): (u64, f64, f64),
        device: Device,
    ) -> Self {
        let zeros = |&classes: &i64| {
            Tensor::zeros([classes, features], (Kind::Float, device.tch())).set_requires_grad(true)
        };
        let embeddings = questions.iter().map(zeros).collect();
        Self {
            questions: questions.to_vec(),
            absent: absent.to_device(device.tch()),
            embeddings,
            until,
            shape_weight,
            grain_weight,
        }
    }

    /// The classes `[n, questions]` that latents `[n, style_dim]` stand for.
    pub fn classes(&self, z: &Tensor) -> Tensor {
        let mut from = 0;
        let largest = |&n: &i64| {
            from += n;
            (z.narrow(1, from - n, n) + self.absent.narrow(0, from - n, n)).argmax(1, false)
        };
        Tensor::stack(&self.questions.iter().map(largest).collect::<Vec<_>>(), 1)
    }

    /// How well features `[n, features]` fit classes `[n, questions]`: `[n]`.
    ///
    /// # Panics
    /// Without a question.
    pub fn fit(&self, features: &Tensor, classes: &Tensor) -> Tensor {
        let width = (features.size()[1] as f64).sqrt();
        let row = |(i, embedding): (usize, &Tensor)| {
            embedding.index_select(0, &classes.select(1, i as i64))
        };
        let wanted = self.embeddings.iter().enumerate().map(row).reduce(|a, b| a + b);
        let wanted = wanted.expect("a guide has at least one question");
        (features * wanted).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float) / width
    }

    /// Its weights.
    pub(super) fn parameters(&self) -> Vec<(String, Tensor)> {
        let named = |(i, own): (usize, &Tensor)| (format!("guide.{i}"), own.shallow_clone());
        self.embeddings.iter().enumerate().map(named).collect()
    }
}

/// How much what is seen from afar counts beside the classes.
const COARSE_COUNTS: f64 = 30.0;

/// Teaches the mapping before everything else: from the styles `w` it must be plain which class a
/// latent stands for, and what its picture looks like from afar. Plain is what a linear layer can
/// read, because the generator's layers read styles so; later the mapping would hardly learn it,
/// for its layers move at a hundredth of the others' speed.
pub struct MappingObjective<'a> {
    generator: &'a Generator,
    world: &'a CanvasDataset,
    /// Weight and bias of each question's answer, and of the coarse picture; thrown away
    /// afterwards.
    answers: Vec<[Tensor; 2]>,
    batch: i64,
    device: Device,
}

impl<'a> MappingObjective<'a> {
    /// Before its first step.
    pub(super) fn new(
        generator: &'a Generator,
        questions: &[i64],
        world: &'a CanvasDataset,
        batch: i64,
        device: Device,
    ) -> Self {
        let zeros = |shape: &[i64]| {
            Tensor::zeros(shape, (Kind::Float, device.tch())).set_requires_grad(true)
        };
        let dim = generator.config().style_dim;
        let widths = questions.iter().copied().chain([3 * COARSE * COARSE]);
        let answers = widths.map(|n| [zeros(&[n, dim]), zeros(&[n])]).collect();
        Self { generator, world, answers, batch, device }
    }
}

impl MappingObjective<'_> {
    /// Gives the styles unit variance again, which they lost where it did not matter: without it
    /// they would have no say in what is drawn.
    pub fn settle(&self) {
        no_grad(|| {
            let dim = self.generator.config().style_dim;
            let w =
                self.generator.map(&Rng::new(0).normal(&[4096, dim]).to_device(self.device.tch()));
            let noise_energy = w.square().mean(Kind::Float).sqrt().double_value(&[]);
            let last = format!("style.{}.", self.generator.config().mapping_layers);
            for (name, own) in self.generator.parameters().iter() {
                if name.starts_with(&last) {
                    // The activation keeps positive factors.
                    let _ = own.detach().g_mul_scalar_(1.0 / noise_energy);
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
        let rows = self.world.choose(self.batch, rng);
        let z = self.world.latents(&rows, self.generator.config().style_dim, rng);
        let w = self.generator.map(&z);
        let (classes, coarse) = (self.world.classes(&rows), self.world.coarse(&rows));
        let wrong = self.answers.iter().enumerate().map(|(i, [weight, bias])| {
            let answer = w.linear(weight, Some(bias));
            if i as i64 == classes.size()[1] {
                return (answer - &coarse).square().mean(Kind::Float) * COARSE_COUNTS;
            }
            answer.cross_entropy_for_logits(&classes.select(1, i as i64))
        });
        Ok(wrong.reduce(|a, b| a + b).expect("a guide has at least one question"))
    }
}
