//! How soon a generator learns again what was taken out of it: it is trained on a few of the
//! concept's pictures until half of the concept is back. What was only hidden comes back at once.

use serde::{Deserialize, Deserializer, Serialize};

use super::Error;
use crate::generator::Synthesizer;
use crate::settings::over;
use crate::torch::Tensor;
use crate::training::{
    self, EarlyStopping, FixedImages, GanConfig, GanTraining, TrainConfig, train_gan_and_restore,
};
use crate::watch::Watch;

/// How a concept is taught again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relearning {
    /// Pictures of the concept that it is taught with.
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

impl Default for Relearning {
    fn default() -> Self {
        Self { pictures: 16, steps: 60, every: 5, lr: 2e-3, gan: GanConfig::fine_tuning() }
    }
}

fn gan<'de, D: Deserializer<'de>>(from: D) -> Result<GanConfig, D::Error> {
    over(&Relearning::default().gan, from)
}

/// How much of the concept was there at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelearnPoint {
    /// Steps of relearning before it.
    pub step: u64,
    /// Pictures that show the concept.
    pub hits: usize,
    /// Pictures that were looked at, all of which showed it before it was taken out.
    pub n: usize,
}

impl RelearnPoint {
    /// How much of the concept is back: 1 is all that the base had.
    fn share(self) -> f64 {
        self.hits as f64 / self.n.max(1) as f64
    }
}

/// How the concept came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelearnCurve {
    /// Look by look.
    pub curve: Vec<RelearnPoint>,
    /// The first step that was looked at after which half was back.
    pub half: Option<u64>,
}

impl Relearning {
    /// Says what is wrong with the settings.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        if self.pictures < 1
            || self.steps < 1
            || self.every < 1
            || self.lr.is_nan()
            || self.lr <= 0.0
        {
            return Err(format!(
                "relearning has {} pictures, {} steps, a look every {} and lr {}; all are above 0",
                self.pictures, self.steps, self.every, self.lr
            ));
        }
        self.gan.check(self.steps).map_err(|why| format!("relearning's gan: {why}"))
    }

    /// Teaches the model, with the edit that is on it, pictures `[n, 3, size, size]` of the
    /// concept. `back` looks at pictures of latents that showed it, and says how many show it and
    /// how many there are. The model is left as it was.
    ///
    /// # Errors
    /// A model without a discriminator; whatever stops a training.
    pub fn run(
        &self,
        model: &dyn Synthesizer,
        pictures: &Tensor,
        back: &Back,
        seed: u64,
        watch: &mut dyn Watch,
    ) -> Result<RelearnCurve, Error> {
        let real_images = FixedImages::new(pictures, model.compute().device);
        let mut looks = Evaluations { model, back, every: self.every, curve: Vec::new() };
        looks.look(0)?;
        let plan = TrainConfig::constant(self.steps, self.lr, seed);
        let rivals = (model.network(), model.discriminator()?);
        let contest = GanTraining {
            parameters: model.parameters(),
            early_stopping: Some(&mut looks),
            ..GanTraining::between("relearning", rivals, &real_images, &self.gan)
        };
        train_gan_and_restore(contest, &plan, model.compute(), None, watch)?;
        let half = looks.curve.iter().find(|sight| sight.share() >= HALF).map(|sight| sight.step);
        Ok(RelearnCurve { curve: looks.curve, half })
    }
}

/// What is looked for.
const HALF: f64 = 0.5;

/// Counts the pictures that show the concept, and all that were looked at.
type Back<'a> = dyn Fn(&dyn Synthesizer) -> Result<(usize, usize), String> + 'a;

struct Evaluations<'a> {
    model: &'a dyn Synthesizer,
    back: &'a Back<'a>,
    every: u64,
    curve: Vec<RelearnPoint>,
}

impl Evaluations<'_> {
    fn look(&mut self, step: u64) -> Result<RelearnPoint, training::Error> {
        let (hits, n) = (self.back)(self.model).map_err(training::Error::EarlyStopping)?;
        let sight = RelearnPoint { step, hits, n };
        self.curve.push(sight);
        Ok(sight)
    }
}

impl EarlyStopping for Evaluations<'_> {
    fn every(&self) -> u64 {
        self.every
    }

    fn evaluate(&mut self, step: u64) -> Result<Option<f64>, training::Error> {
        Ok(Some(self.look(step)?.share()))
    }

    fn target(&self) -> f64 {
        HALF
    }
}
