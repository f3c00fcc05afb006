//! Lets regions of the noise stand for classes in the first steps of a GAN training: a generator
//! without labels that learns from labelled pictures.
//!
//! The noise's first numbers are cut by question, and the largest number of a cut is the class:
//! every class has the same share, and a picture's classes follow from its latent alone. The
//! discriminator is told the classes and judges how well pictures fit them (the projection of
//! Miyato & Koyama 2018, equation 3), so that the generator draws them there. Both networks stay
//! what they are: the class conditioning's own weights are thrown away, and the last steps are done
//! without it.

use crate::torch::{Device, Kind, Tensor};

/// What classes there are, and how features of a picture fit them.
#[derive(Debug)]
pub struct ClassConditioning {
    /// Classes of each question.
    questions: Vec<i64>,
    /// Minus infinity for classes that do not occur, else 0, question by question.
    absent: Tensor,
    /// `[classes, features]` for each question.
    embeddings: Vec<Tensor>,
    /// How long and how firmly.
    pub settings: ConditioningSettings,
}

/// How long there is a class conditioning, and how firmly it holds the generator to pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConditioningSettings {
    /// The step from which on there is no class conditioning.
    pub until: u64,
    /// How much it counts beside the GAN training that pictures drawn from latents differ, seen
    /// from afar, from the pictures that these latents stand for: a GAN training alone soon gives
    /// up shapes for grain. Where grain lies is no latent's.
    pub shape_weight: f64,
    /// How much it counts that there is as much grain as in those pictures
    /// ([`super::energy_score`]): a GAN training cleans a rough style together with the smooth
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
        settings: ConditioningSettings,
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
            settings,
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
        let wanted = wanted.expect("a class conditioning has at least one question");
        (features * wanted).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float) / width
    }

    /// Its weights.
    pub(super) fn parameters(&self) -> Vec<(String, Tensor)> {
        let named = |(i, embedding): (usize, &Tensor)| {
            (format!("conditioning.{i}"), embedding.shallow_clone())
        };
        self.embeddings.iter().enumerate().map(named).collect()
    }
}
