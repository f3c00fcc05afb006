//! How soon a generator learns again what was taken out of it: it is trained on a few of the
//! concept's pictures until half of the concept is back. What was only hidden comes back at once.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::saved_curves::SavedCurves;
use super::{
    Arm, Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, ConceptJudge, Error,
    Evaluation, Findings,
};
use crate::generator::{ImageRequest, Model, ModelKind};
use crate::settings::{Configurable, over};
use crate::training::{
    self, EarlyStopping, FixedImages, GanConfig, GanTraining, TrainConfig, train_gan_and_restore,
};

/// How a concept is learned again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GanRelearning {
    /// Pictures of the concept that it learns from.
    pub pictures: usize,
    /// Steps at most.
    pub steps: u64,
    /// Steps from one look to the next.
    pub every: u64,
    /// Adam's learning rate, before it is corrected for the lazy penalties.
    pub lr: f64,
    /// The GAN training's settings.
    #[serde(deserialize_with = "gan")]
    pub gan: GanConfig,
}

impl Default for GanRelearning {
    fn default() -> Self {
        Self { pictures: 16, steps: 60, every: 5, lr: 2e-3, gan: GanConfig::fine_tuning() }
    }
}

fn gan<'de, D: Deserializer<'de>>(from: D) -> Result<GanConfig, D::Error> {
    over(&GanRelearning::default().gan, from)
}

impl Configurable for GanRelearning {
    fn name(&self) -> &'static str {
        "gan-relearning"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        if self.pictures < 1
            || self.steps < 1
            || self.every < 1
            || self.lr.is_nan()
            || self.lr <= 0.0
        {
            return Err(format!(
                "gan-relearning has {} pictures, {} steps, a look every {} and lr {}; all are \
                 above 0",
                self.pictures, self.steps, self.every, self.lr
            ));
        }
        self.gan.check(self.steps).map_err(|why| format!("gan-relearning's gan: {why}"))
    }
}

impl Attack for GanRelearning {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds {
            model: ModelKind::Gan,
            training_images: self.pictures,
            ..AttackNeeds::WEIGHTS
        }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let evaluations = 1 + self.steps.div_ceil(self.every);
        let images = evaluations * requests as u64;
        AttackCost {
            steps: self.steps,
            arms: 1,
            images,
            batch: self.gan.batch as usize,
            ..AttackCost::default()
        }
    }

    fn shortened(&self, steps: u64) -> Option<Box<dyn Attack>> {
        Some(Box::new(Self { steps, every: steps, ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, _: &[String]) -> Result<(), String> {
        let Model::Gan(model) = model else { return Ok(()) };
        self.gan.fits(model.network().config().group)
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let AttackTask { exposure, judge, seed, .. } = *task;
        let (Model::Gan(gan), Some(pictures)) = (&model, &exposure.samples) else {
            return Err(Error::Task("gan-relearning was shown no pictures of a GAN".to_owned()));
        };
        let mut curves = SavedCurves::open(context)?;
        let folder = curves.training(Arm::CONCEPT);
        let mut curve = Curve {
            model: &model,
            judge,
            requests: &exposure.requests,
            every: self.every,
            curves: &mut curves,
        };
        if curve.curves.of(Arm::CONCEPT).is_empty() {
            curve.evaluate_at(0)?;
        }
        let real_images = FixedImages::new(pictures, gan.compute().device);
        let config = TrainConfig::constant(self.steps, self.lr, seed);
        let (generator, discriminator) = (gan.network(), gan.discriminator()?);
        let training = GanTraining {
            parameters: gan.parameters(),
            early_stopping: Some(&mut curve),
            ..GanTraining::between("relearning", generator, discriminator, &real_images, &self.gan)
        };
        train_gan_and_restore(training, &config, gan.compute(), folder.as_deref(), context.watch)?;
        Ok(Findings::Curves(vec![curves.finished(Arm::CONCEPT)?]))
    }
}

/// What is looked for.
const HALF: f64 = 0.5;

/// Looks now and then how much is back.
struct Curve<'a, 'm> {
    model: &'a Model<'m>,
    judge: &'a dyn ConceptJudge,
    requests: &'a [ImageRequest],
    every: u64,
    curves: &'a mut SavedCurves,
}

impl Curve<'_, '_> {
    fn evaluate_at(&mut self, step: u64) -> Result<Evaluation, training::Error> {
        let counted = self.judge.count(self.model, self.requests);
        let (hits, n) =
            counted.map_err(|error| training::Error::EarlyStopping(error.to_string()))?;
        let evaluation = Evaluation { step, hits, n };
        self.curves.add(Arm::CONCEPT, evaluation)?;
        Ok(evaluation)
    }
}

impl EarlyStopping for Curve<'_, '_> {
    fn every(&self) -> u64 {
        self.every
    }

    fn evaluate(&mut self, step: u64) -> Result<Option<f64>, training::Error> {
        Ok(Some(self.evaluate_at(step)?.share()))
    }

    fn target(&self) -> f64 {
        HALF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_is_evaluated_too() {
        let attack = GanRelearning { steps: 60, every: 7, ..GanRelearning::default() };
        assert_eq!(attack.cost(3).images, 30);
    }
}
