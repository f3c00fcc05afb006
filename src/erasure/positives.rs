//! Fine-tuning on samples without the concept, and nothing else; or with elastic weight
//! consolidation. Adapt-then-Unlearn must be better than these to be worth its first stage.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use super::ewc::Ewc;
use super::feedback::StopSettings;
use super::fine_tuning::{PositivesTraining, chosen};
use super::{Erasure, Error, Feedback};
use crate::generator::Synthesizer;
use crate::settings::over;
use crate::training::{GanConfig, ParameterPenalty, TrainConfig};
use crate::watch::Watch;
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PositivesOnly {
    /// Steps, at most.
    pub steps: u64,
    /// Adam's learning rate, before it is corrected for the lazy penalties.
    pub lr: f64,
    /// Share of the steps, the last ones, over which the rate falls to nothing.
    pub cooldown: f64,
    /// Share of each batch that is drawn from latents which showed the concept. They are few, and
    /// the discriminator has much to learn about them: what they become then passes for a real
    /// picture sooner. 0 leaves all to chance, where `retain_weight` is 0 too.
    pub oversample: f64,
    /// How firmly the positives are held: the weight, beside the GAN training, of the mean absolute
    /// difference between what was drawn from their latents and what is drawn now, in that part of
    /// the generator's batch that is not oversampled. 0 leaves them to the discriminator, which
    /// only sees to it that pictures pass for some positive.
    pub retain_weight: f64,
    /// Share of what the discriminator is told to be drawn that are the negatives' own pictures, so
    /// that it does not forget the concept once little of it is drawn. They stand in for pictures
    /// from latents which showed it, so that others keep their share.
    pub negative_share: f64,
    /// Weight λ of the elastic term; without one there is no such term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// Samples of the generator over which it is measured what matters.
    pub fisher: i64,
    /// Beginnings of the names of the parameters that move; all where there is none.
    pub parameters: Vec<String>,
    /// The GAN training's settings.
    #[serde(deserialize_with = "gan")]
    pub gan: GanConfig,
    /// When it is enough.
    pub stop: StopSettings,
}

impl Default for PositivesOnly {
    fn default() -> Self {
        Self {
            steps: 1000,
            lr: 2e-3,
            cooldown: 0.3,
            oversample: 0.75,
            retain_weight: 10.0,
            negative_share: 0.25,
            lambda: None,
            fisher: 32,
            parameters: Vec::new(),
            gan: PositivesTraining::gan(),
            stop: StopSettings::default(),
        }
    }
}

fn gan<'de, D: Deserializer<'de>>(from: D) -> Result<GanConfig, D::Error> {
    over(&PositivesOnly::default().gan, from)
}

impl PositivesOnly {
    /// Says what is wrong with the settings, before anything is loaded.
    ///
    /// # Errors
    /// A setting that makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(lambda) = self.lambda
            && (lambda.is_nan() || lambda <= 0.0 || self.fisher < 1)
        {
            return Err(Error::Task(format!(
                "lambda is {lambda} and fisher {}; lambda is above 0, fisher at least 1",
                self.fisher
            )));
        }
        self.training(0).check()
    }

    fn training(&self, seed: u64) -> PositivesTraining<'_> {
        PositivesTraining {
            method: if self.lambda.is_some() { "positives-ewc" } else { "positives" },
            plan: TrainConfig {
                cooldown: self.cooldown,
                ..TrainConfig::constant(self.steps, self.lr, seed)
            },
            oversample: self.oversample,
            retain_weight: self.retain_weight,
            negative_share: self.negative_share,
            gan: &self.gan,
            stop: self.stop,
            parameters: &self.parameters,
        }
    }
}

impl<'m> Erasure<dyn Synthesizer + 'm, Feedback<'_>> for PositivesOnly {
    fn erase(
        &self,
        model: &mut (dyn Synthesizer + 'm),
        feedback: &Feedback,
        state: Option<&Path>,
        watch: &mut dyn Watch,
    ) -> Result<Edit, Error> {
        self.check()?;
        feedback.check()?;
        let model = &*model;
        let trained = chosen(model, &self.parameters)?;
        let mut ewc = self
            .lambda
            .map(|lambda| Ewc::measure(model, &trained, (lambda, self.fisher), feedback.seed))
            .transpose()?;
        let penalty = ewc.as_mut().map(|ewc| ewc as &mut dyn ParameterPenalty);
        let settings = serde_json::to_value(self).map_err(std::io::Error::other)?;
        self.training(feedback.seed).run(model, feedback, settings, penalty, state, watch)
    }
}
