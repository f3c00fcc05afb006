//! Stage 1 of Adapt-then-Unlearn (Tiwary et al. 2025, section 4.1): the generator is adapted to the
//! concept's samples, several times from different draws of them, while elastic weight
//! consolidation keeps it from forgetting how to draw.

use serde::{Deserialize, Deserializer, Serialize};

use super::ensemble::Ensemble;
use super::ewc::Ewc;
use super::feedback::fixed_images;
use super::fine_tuning::{FineTuning, chosen};
use super::{Context, Error, Feedback};
use crate::generator::Synthesizer;
use crate::settings::over;
use crate::torch::{Rng, Tensor, seed_from};
use crate::training::{GanConfig, TrainConfig};
use crate::weights::{Weights, save};

/// How the generator is adapted to the concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adaptation {
    /// Adapted models.
    pub models: usize,
    /// Samples of the concept that each learns from, at most; several models draw two thirds of
    /// what there is at most.
    pub negatives: i64,
    /// Training steps of each.
    pub steps: u64,
    /// Adam's learning rate, before it is corrected for the lazy penalties.
    pub lr: f64,
    /// Weight λ of the elastic term; 0 leaves it out.
    pub lambda: f64,
    /// Samples of the generator over which it is measured what matters.
    pub fisher: i64,
    /// The GAN training's settings.
    #[serde(deserialize_with = "gan")]
    pub gan: GanConfig,
}

impl Default for Adaptation {
    fn default() -> Self {
        Self {
            models: 3,
            negatives: 300,
            steps: 50,
            lr: 2e-3,
            lambda: 5e8,
            fisher: 32,
            gan: GanConfig::fine_tuning(),
        }
    }
}

fn gan<'de, D: Deserializer<'de>>(from: D) -> Result<GanConfig, D::Error> {
    over(&Adaptation::default().gan, from)
}

impl Adaptation {
    /// Says what is wrong with the settings.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), Error> {
        if self.models < 1 || self.negatives < 2 || self.steps < 1 || self.fisher < 1 {
            return Err(Error::Task(format!(
                "adapt has {} models, {} negatives, {} steps and {} samples for what matters; at \
                 least 1, 2, 1 and 1 are needed",
                self.models, self.negatives, self.steps, self.fisher
            )));
        }
        if self.lr.is_nan() || self.lr <= 0.0 || self.lambda.is_nan() || self.lambda < 0.0 {
            return Err(Error::Task(format!(
                "adapt's lr is {} and lambda {}; lr is above 0, lambda at least 0",
                self.lr, self.lambda
            )));
        }
        self.gan.check(self.steps).map_err(|why| Error::Task(format!("adapt's gan: {why}")))
    }

    /// What tells these from others, and training steps in all.
    pub(super) fn cost(&self) -> (String, u64) {
        (serde_json::json!(self).to_string(), self.models as u64 * self.steps)
    }

    /// The adapted models' parameters, in the order of those that move. Models that were adapted
    /// before lie in `state`; other methods of the same concept find them there.
    pub(super) fn ensemble(
        &self,
        model: &dyn Synthesizer,
        feedback: &Feedback,
        parameters: &[String],
        context: &mut Context<'_>,
    ) -> Result<Ensemble, Error> {
        let (state, watch) = (context.state, &mut *context.watch);
        let trained = chosen(model, parameters)?;
        let about = serde_json::json!({
            "adapting": self,
            "concept": feedback.concept,
            "base": model.card().hash,
            "seed": feedback.seed,
            "negatives": feedback.negatives,
            "parameters": parameters,
            "precision": model.compute().precision.to_string(),
        });
        let print = blake3::hash(about.to_string().as_bytes()).to_hex()[..12].to_owned();
        let folder = state.map(|state| state.join(format!("adapted-{print}")));
        let (mut ewc, mut drawn) = (None, None);
        let mut models = Vec::new();
        for k in 0..self.models {
            let file = folder.as_ref().map(|folder| folder.join(format!("{k}.safetensors")));
            if let Some(file) = file.as_ref().filter(|file| file.exists()) {
                let saved = Weights::open_own(file, "remove it, and this model is adapted again")?;
                let device = model.compute().device.tch();
                let read = |(name, _): &(String, Tensor)| Ok(saved.floats(name)?.to_device(device));
                models.push(trained.iter().map(read).collect::<Result<Vec<_>, Error>>()?);
                continue;
            }
            if ewc.is_none() && self.lambda > 0.0 {
                let (lambda, pictures) = (self.lambda, self.fisher);
                ewc = Some(Ewc::measure(model, &trained, lambda, pictures, feedback.seed)?);
            }
            let seed =
                seed_from(&[&feedback.seed.to_le_bytes(), b"adapting", &(k as u64).to_le_bytes()]);
            // So many that each model sees others, wherever there are enough.
            let there = feedback.negatives.len() as i64;
            let each = if self.models > 1 { (there * 2 / 3).max(2) } else { there };
            let all = match drawn.take() {
                Some(all) => all,
                None => fixed_images(model, &feedback.negatives)?,
            };
            let negatives = drawn
                .insert(all)
                .some_of(self.negatives.min(each), &mut Rng::for_step(seed, "negatives", 0));
            let plan = TrainConfig::constant(self.steps, self.lr, seed);
            let tuning = FineTuning {
                name: "adapting",
                real_images: &negatives,
                gan: &self.gan,
                plan: &plan,
                oversampled: None,
                retained: None,
                negative_images: None,
                penalty: ewc.as_mut().map(|ewc| ewc as &mut dyn crate::training::ParameterPenalty),
                stop: None,
                parameters,
            };
            let training = folder.as_ref().map(|folder| folder.join(format!("{k}")));
            watch.note(&format!(
                "adapting to {}: model {} of {}",
                feedback.concept,
                k + 1,
                self.models
            ));
            let adapted = tuning.run(model, feedback, training.as_deref(), watch)?;
            if let Some(file) = &file {
                save(file, &adapted, &[])?;
            }
            // What the training came to is of no use any more.
            if let Some(training) = training.filter(|training| training.exists()) {
                fs_err::remove_dir_all(training)?;
            }
            models.push(adapted.into_iter().map(|(_, tensor)| tensor).collect());
        }
        Ok(Ensemble::new(&models))
    }
}
