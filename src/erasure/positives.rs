//! Fine-tuning on samples without the concept, and nothing else; or with elastic weight
//! consolidation. Adapt-then-Unlearn must be better than these to be worth its first stage.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::ewc::Ewc;
use super::feedback::StopSettings;
use super::fine_tuning::{PositivesTraining, batches_fit, chosen, edit};
use super::method::synthesizer_of;
use super::{Context, Cost, Error, Method, Needs, Pair, Task};
use crate::generator::Model;
use crate::settings::{Configurable, over};
use crate::training::{GanConfig, ParameterPenalty, TrainConfig};
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PositivesOnly {
    // duplicate: Adapt-then-Unlearn has them too, and serde refuses unknown keys of flat tables
    // alone
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
            // duplicate: a test holds them to be Adapt-then-Unlearn's
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

/// Weight of the elastic term, as Adapt-then-Unlearn's code has it.
const EWC: f64 = 5e8;

impl PositivesOnly {
    /// With elastic weight consolidation.
    pub fn ewc() -> Self {
        Self { lambda: Some(EWC), ..Self::default() }
    }

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
            method: self.name(),
            // duplicate: the same training of the same settings, which lie flat in two tables
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

impl Configurable for PositivesOnly {
    fn name(&self) -> &'static str {
        if self.lambda.is_some() { "positives-ewc" } else { "positives" }
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        Self::check(self).map_err(|error| error.to_string())
    }
}

impl Method for PositivesOnly {
    fn needs(&self) -> Needs {
        Needs::SAMPLES
    }

    fn cost(&self) -> Cost {
        Cost {
            steps: self.steps,
            batch: self.gan.batch,
            cycle: self.gan.cycle(),
            evaluations: self.stop.evaluations(self.steps),
            ..Cost::default()
        }
    }

    fn shortened(&self, steps: u64, _: i64) -> Option<Box<dyn Method>> {
        let gan = GanConfig { discriminator_warmup: 0, ..self.gan.clone() };
        let stop = self.stop.at_the_end(steps);
        Some(Box::new(Self { steps, gan, stop, ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, _: &[Pair]) -> Result<(), String> {
        batches_fit(model, &[&self.gan])
    }

    fn erase(
        &self,
        model: Model<'_>,
        task: &Task<'_>,
        context: &mut Context<'_>,
    ) -> Result<Edit, Error> {
        self.check()?;
        let model = &*synthesizer_of(model, self.name())?;
        let feedback = task.feedback()?;
        let trained = chosen(model, &self.parameters)?;
        let mut ewc = self
            .lambda
            .map(|lambda| Ewc::measure(model, &trained, lambda, self.fisher, task.seed))
            .transpose()?;
        let penalty = ewc.as_mut().map(|ewc| ewc as &mut dyn ParameterPenalty);
        let unlearned = self.training(task.seed).run(model, feedback, penalty, context)?;
        Ok(edit(model, task.recipe(self), unlearned))
    }
}
