//! Adapt-then-Unlearn (Tiwary, Guha, Panda, Prathosh, TMLR 2025, arXiv 2309.14054): generators are
//! adapted to samples of the concept, and the generator then learns from samples without it while
//! it is repelled from where those went.
//!
//! `variant = "official"` keeps what the published code (at 163a354) does otherwise: the distance
//! is `official`, the repulsion's weight is a number (1 unless `gamma` is given) and not chosen
//! from gradients, EL2 is multiplied by 100 with α = γ, all latents are left to chance (no
//! `oversample`, `retain_weight` or `negative_share`), the GAN trainings' settings are rosinality's
//! (but for the batch), and the second stage goes all of its steps at one rate. The usual variant
//! has the paper's formulas and adds what that leaves to its authors' larger budget: those three,
//! settings that fit a short training, and the distance `equalised`.
//!
//! What was a plain defect in it (the loop over checkpoints on the disk at each step, classifiers
//! in training mode, unshuffled data) is not kept. It also goes on from optimizer states, and its
//! second stage from the unaveraged generator; here both stages begin with the averaged one and
//! with new optimizers. It draws the samples to learn from and those that say what matters under
//! two latents nine times in ten; here a sample is its seed, and has one. The generator's average
//! follows closely at first (`gan.ema_warmup`), the mean path length begins with the first that is
//! seen and not at 0, and of several adapted models each draws two thirds of the negatives at most.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::feedback::StopSettings;
use super::fine_tuning::{PositivesTraining, batches_fit, chosen, edit};
use super::method::synthesizer_of;
use super::repulsion::RepulsionPenalty;
use super::{
    Adaptation, Context, Cost, Distance, Error, Form, Method, Needs, Pair, Repulsion, Task, Variant,
};
use crate::generator::Model;
use crate::settings::{Configurable, over};
use crate::training::{GanConfig, TrainConfig};
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptThenUnlearn {
    /// Stage 1.
    pub adapt: Adaptation,
    /// What keeps stage 2 away from stage 1's models.
    pub repulsion: Repulsion,
    /// Steps of stage 2, at most.
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
    /// Beginnings of the names of the parameters that move (`style`, `convs`, `to_rgbs.3`, …); all
    /// where there is none.
    pub parameters: Vec<String>,
    /// The GAN training's settings.
    #[serde(deserialize_with = "gan")]
    pub gan: GanConfig,
    /// When it is enough.
    pub stop: StopSettings,
    /// `paper` or `official`.
    pub variant: Variant,
}

impl Default for AdaptThenUnlearn {
    fn default() -> Self {
        Self {
            adapt: Adaptation::default(),
            repulsion: Repulsion::default(),
            steps: 1000,
            lr: 2e-3,
            cooldown: 0.3,
            oversample: 0.75,
            retain_weight: 10.0,
            negative_share: 0.25,
            parameters: Vec::new(),
            gan: PositivesTraining::gan(),
            stop: StopSettings::default(),
            variant: Variant::Paper,
        }
    }
}

fn gan<'de, D: Deserializer<'de>>(from: D) -> Result<GanConfig, D::Error> {
    over(&AdaptThenUnlearn::default().gan, from)
}

/// What the published code multiplies EL2 with.
const OFFICIAL_EL2: f64 = 100.0;

impl AdaptThenUnlearn {
    /// Says what is wrong with the settings, before anything is loaded.
    ///
    /// # Errors
    /// A setting that makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        let effective = self.effective();
        if let Some(key) = self.overruled()? {
            return Err(Error::Task(format!(
                "{key} is given, and `variant = \"official\"` has its own; leave it out, or leave \
                 the variant out"
            )));
        }
        effective.adapt.check()?;
        effective.stage2(0).check()?;
        let Repulsion { gamma, ratio, alpha, .. } = effective.repulsion;
        let negative = |value: f64| value.is_nan() || value < 0.0;
        if negative(ratio) || gamma.is_some_and(negative) || alpha.is_some_and(negative) {
            return Err(Error::Task(format!(
                "the repulsion's ratio is {ratio}, gamma {gamma:?} and alpha {alpha:?}; none is \
                 negative"
            )));
        }
        Ok(())
    }

    /// The settings that are in force, with what the variant says of them.
    #[must_use]
    pub fn effective(&self) -> Self {
        if self.variant == Variant::Paper {
            return self.clone();
        }
        let gamma = self.repulsion.gamma.unwrap_or(1.0);
        let el2 = self.repulsion.form == Form::El2;
        let repulsion = Repulsion {
            distance: Distance::Official,
            gamma: Some(if el2 { OFFICIAL_EL2 } else { gamma }),
            alpha: self.repulsion.alpha.or(Some(gamma)),
            ..self.repulsion
        };
        let rosinality = |gan: &GanConfig| GanConfig { batch: gan.batch, ..GanConfig::default() };
        Self {
            adapt: Adaptation { gan: rosinality(&self.adapt.gan), ..self.adapt.clone() },
            repulsion,
            cooldown: 0.0,
            oversample: 0.0,
            retain_weight: 0.0,
            negative_share: 0.0,
            gan: rosinality(&self.gan),
            stop: StopSettings { every: 0, ..StopSettings::default() },
            ..self.clone()
        }
    }

    /// A setting that is given and that the variant overrules.
    fn overruled(&self) -> Result<Option<String>, Error> {
        fn first(path: &str, given: &Value, usual: &Value, forced: &Value) -> Option<String> {
            match given {
                Value::Object(all) => all.iter().find_map(|(key, given)| {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    first(&path, given, &usual[key], &forced[key])
                }),
                _ => (given != usual && given != forced).then(|| path.to_owned()),
            }
        }
        let value = |settings: &Self| serde_json::to_value(settings).map_err(std::io::Error::other);
        let (mut given, usual, forced) =
            (value(self)?, value(&Self::default())?, value(&self.effective())?);
        // Under EL2 it is α.
        given["repulsion"]["gamma"] = forced["repulsion"]["gamma"].clone();
        Ok(first("", &given, &usual, &forced))
    }

    fn stage2(&self, seed: u64) -> PositivesTraining<'_> {
        PositivesTraining {
            method: "adapt-then-unlearn",
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

impl Configurable for AdaptThenUnlearn {
    fn name(&self) -> &'static str {
        "adapt-then-unlearn"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self.effective())
    }

    fn check(&self) -> Result<(), String> {
        Self::check(self).map_err(|error| error.to_string())
    }
}

impl Method for AdaptThenUnlearn {
    fn needs(&self) -> Needs {
        Needs::SAMPLES
    }

    fn cost(&self) -> Cost {
        Cost {
            steps: self.steps,
            batch: self.gan.batch,
            cycle: self.gan.cycle(),
            evaluations: self.effective().stop.evaluations(self.steps),
            shared: Some(self.effective().adapt.cost()),
            ..Cost::default()
        }
    }

    fn shortened(&self, steps: u64, _: i64) -> Option<Box<dyn Method>> {
        let adapt = Adaptation { models: 1, steps: 1, ..self.adapt.clone() };
        let gan = GanConfig { discriminator_warmup: 0, ..self.gan.clone() };
        let stop = self.stop.at_the_end(steps);
        Some(Box::new(Self { adapt, steps, gan, stop, ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, _: &[Pair]) -> Result<(), String> {
        batches_fit(model, &[&self.adapt.gan, &self.gan])
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
        let settings = self.effective();
        let parameters = &settings.parameters;
        let ensemble = settings.adapt.ensemble(model, feedback, parameters, context)?;
        let trained = chosen(model, parameters)?;
        let mut penalty = RepulsionPenalty::new(settings.repulsion, &ensemble, &trained)?;
        let stage = settings.stage2(task.seed);
        let unlearned = stage.run(model, feedback, Some(&mut penalty), context)?;
        Ok(edit(model, task.recipe(self), unlearned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erasure::PositivesOnly;
    use crate::erasure::small::{erase, labelled, small_gan};
    use crate::generator::Synthesizer;
    use crate::watch::Quiet;

    #[test]
    fn the_simpler_methods_have_the_same_settings() {
        let whole = serde_json::to_value(AdaptThenUnlearn::default()).unwrap();
        let simpler = serde_json::to_value(PositivesOnly::default()).unwrap();
        let shared: Vec<&String> =
            simpler.as_object().unwrap().keys().filter(|key| whole.get(key).is_some()).collect();
        assert_eq!(shared.len(), 9, "{shared:?}");
        for key in shared {
            assert_eq!(whole[key], simpler[key], "{key}");
        }
    }

    #[test]
    fn the_published_code_s_variant_leaves_out_what_it_has_not() {
        let usual = AdaptThenUnlearn::default();
        let batch = |gan: &GanConfig| GanConfig { batch: 4, ..gan.clone() };
        let gan = batch(&usual.adapt.gan);
        let adapt =
            Adaptation { models: 2, negatives: 4, steps: 2, fisher: 4, gan, ..usual.adapt.clone() };
        let folder = tempfile::tempdir().unwrap();
        let mut model = small_gan(folder.path());
        let looked = std::cell::Cell::new(false);
        let evaluator = |_: &dyn Synthesizer| {
            looked.set(true);
            Ok(crate::erasure::Progress { unlearned: 1.0, damage: 1.0 })
        };
        let feedback = labelled(Some(&evaluator));
        for (form, gamma, alpha) in
            [(Form::Il2, 2.0, 2.0), (Form::Nl2, 2.0, 2.0), (Form::El2, 100.0, 2.0)]
        {
            let repulsion = Repulsion { form, gamma: Some(2.0), ..Repulsion::default() };
            let method = AdaptThenUnlearn {
                adapt: adapt.clone(),
                repulsion,
                steps: 2,
                gan: batch(&usual.gan),
                variant: Variant::Official,
                ..AdaptThenUnlearn::default()
            };
            assert_eq!(method.effective().effective(), method.effective());
            let edit =
                erase(&method, &mut model, &feedback, Some(folder.path()), &mut Quiet).unwrap();
            assert!(!looked.get(), "it goes all of its steps, unseen");
            // The edit says what was done, and not what was asked for.
            let recipe: serde_json::Value = serde_json::from_str(&edit.recipe).unwrap();
            let settings = &recipe["settings"];
            assert_eq!(
                (&settings["oversample"], &settings["retain_weight"], &settings["negative_share"]),
                (&0.0.into(), &0.0.into(), &0.0.into())
            );
            let repulsion = &settings["repulsion"];
            assert_eq!(
                (&repulsion["distance"], &repulsion["gamma"]),
                (&"official".into(), &gamma.into())
            );
            assert_eq!(repulsion["alpha"], alpha);
        }
        let given =
            AdaptThenUnlearn { variant: Variant::Official, retain_weight: 3.0, ..usual.clone() };
        assert!(given.check().unwrap_err().to_string().starts_with("retain_weight is given"));
        let gan = GanConfig { r1_gamma: 7.0, ..usual.gan.clone() };
        let given = AdaptThenUnlearn { variant: Variant::Official, gan, ..usual.clone() };
        assert!(given.check().unwrap_err().to_string().starts_with("gan.r1_gamma is given"));
        let stop = StopSettings { unlearned: Some(0.9), ..usual.stop };
        let given = AdaptThenUnlearn { variant: Variant::Official, stop, ..usual };
        assert!(given.check().unwrap_err().to_string().starts_with("stop.unlearned is given"));
    }
}
