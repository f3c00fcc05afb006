//! A generator and its discriminator go on learning, from samples instead of the pictures that they
//! were made from. Both are left as they were.

use std::collections::HashMap;
use std::path::Path;

use super::feedback::{Evaluator, StopSettings, fixed_images};
use super::{Context, Error, Feedback};
use crate::generator::{Model, Synthesizer};
use crate::model::stylegan2::unprefixed;
use crate::torch::{Rng, Tensor};
use crate::training::{
    self, EarlyStopping, GanConfig, GanTraining, LatentImages, NegativeImages, OversampledLatents,
    ParameterPenalty, RealImages, RetainedImages, TrainConfig, train_gan_and_restore,
};
use crate::watch::Watch;
use crate::weights::Edit;

/// What is learned, and how.
pub(super) struct FineTuning<'a> {
    /// A short name; part of the seed of every step.
    pub name: &'static str,
    /// What passes for real.
    pub real_images: &'a dyn RealImages,
    pub gan: &'a GanConfig,
    pub plan: &'a TrainConfig,
    /// Latents that are drawn more often.
    pub oversampled: Option<&'a OversampledLatents>,
    /// What is to stay as it is.
    pub retained: Option<&'a RetainedImages<'a>>,
    /// What never passes for real.
    pub negative_images: Option<&'a NegativeImages>,
    /// What else moves the generator.
    pub penalty: Option<&'a mut dyn ParameterPenalty>,
    /// When it is enough.
    pub stop: Option<StopSettings>,
    /// Beginnings of the names of the parameters that move; all where there is none.
    pub parameters: &'a [String],
}

/// A generator that goes on with its own positives: what stage 2 of Adapt-then-Unlearn and the
/// simpler methods share. They have the same settings, and differ in the penalty alone.
pub(super) struct PositivesTraining<'a> {
    pub method: &'static str,
    pub plan: TrainConfig,
    /// Share of each batch that is drawn from latents which showed the concept.
    pub oversample: f64,
    /// How firmly what the positives look like is held.
    pub retain_weight: f64,
    /// Share of what the discriminator is told to be drawn that are pictures of the concept.
    pub negative_share: f64,
    pub gan: &'a GanConfig,
    pub stop: StopSettings,
    pub parameters: &'a [String],
}

impl PositivesTraining<'_> {
    /// The usual settings. The discriminator first moves alone, because a new one has nothing to
    /// tell, and stays the faster one.
    pub(super) fn gan() -> GanConfig {
        GanConfig { discriminator_warmup: 150, generator_lr: 0.6, ..GanConfig::fine_tuning() }
    }

    /// Says what is wrong with it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let method = self.method;
        for (what, share) in
            [("oversample", self.oversample), ("negative_share", self.negative_share)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::Task(format!(
                    "{method}'s {what} is {share}; it is a share of each batch, 0 to 1"
                )));
            }
        }
        if self.retain_weight.is_nan() || self.retain_weight < 0.0 {
            return Err(Error::Task(format!(
                "{method}'s retain_weight is {}; it is a weight, and not negative",
                self.retain_weight
            )));
        }
        let TrainConfig { steps, lr, cooldown, .. } = self.plan;
        if !(0.0..=1.0).contains(&cooldown) {
            return Err(Error::Task(format!(
                "{method}'s cooldown is {cooldown}; it is a share of the steps, 0 to 1"
            )));
        }
        if steps < 1 || lr.is_nan() || lr <= 0.0 {
            return Err(Error::Task(format!(
                "{method} has {steps} steps and lr {lr}; at least 1 step and a rate above 0 are \
                 needed"
            )));
        }
        if self.retain_weight > 0.0 && self.oversample * (self.gan.batch as f64) < 0.5 {
            return Err(Error::Task(format!(
                "{method}'s oversample is {} and retain_weight {}: what is held fills the batch of \
                 {}, and no latent of the concept would be drawn; raise oversample, or leave all \
                 to chance with retain_weight = 0",
                self.oversample, self.retain_weight, self.gan.batch
            )));
        }
        self.stop.check(method)?;
        self.gan.check(steps).map_err(|why| Error::Task(format!("{method}'s gan: {why}")))
    }

    /// Learns, and gives the averages of the parameters that moved by name.
    pub(super) fn run(
        self,
        model: &dyn Synthesizer,
        feedback: &Feedback,
        penalty: Option<&mut dyn ParameterPenalty>,
        context: &mut Context<'_>,
    ) -> Result<Vec<(String, Tensor)>, Error> {
        let positives = fixed_images(model, &feedback.positives)?;
        let share = self.oversample;
        let oversampled = (share > 0.0)
            .then(|| OversampledLatents { latents: model.latents(&feedback.negatives), share });
        let some = |n: i64, rng: &mut Rng| {
            let rows = rng.below(feedback.positives.len() as i64, &[n]);
            let seeds: Vec<u64> =
                (0..n).map(|i| feedback.positives[rows.int64_value(&[i]) as usize]).collect();
            let (z, noises) = model.latents_and_noises(&seeds);
            LatentImages { z, noises, pictures: positives.at(&rows) }
        };
        let negative_images = (self.negative_share > 0.0)
            .then(|| {
                fixed_images(model, &feedback.negatives)
                    .map(|pictures| NegativeImages { pictures, share: self.negative_share })
            })
            .transpose()?;
        let retained = RetainedImages { some: &some, weight: self.retain_weight };
        let tuning = FineTuning {
            name: "unlearning",
            real_images: &positives,
            gan: self.gan,
            plan: &self.plan,
            oversampled: oversampled.as_ref(),
            retained: (self.retain_weight > 0.0).then_some(&retained),
            negative_images: negative_images.as_ref(),
            penalty: penalty.map(|penalty| penalty as &mut dyn ParameterPenalty),
            stop: Some(self.stop),
            parameters: self.parameters,
        };
        tuning.run(model, feedback, context.own_state().as_deref(), context.watch)
    }
}

/// Whether a parameter's name begins so; `convs.10` does not begin with `convs.1`.
fn begins(name: &str, start: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    let rest = name.strip_prefix(start);
    rest.is_some_and(|rest| !(start.ends_with(is_digit) && rest.starts_with(is_digit)))
}

/// The parameters that move.
pub(super) fn chosen(
    model: &dyn Synthesizer,
    parameters: &[String],
) -> Result<Vec<(String, Tensor)>, Error> {
    let all = model.parameters();
    let takes = |name: &str| {
        parameters.is_empty() || parameters.iter().any(|start| begins(unprefixed(name), start))
    };
    let unknown = |start: &&String| !all.iter().any(|(name, _)| begins(unprefixed(name), start));
    if let Some(start) = parameters.iter().find(unknown) {
        return Err(Error::Task(format!(
            "no parameter of the generator begins with `{start}`; its layers are style, input, \
             conv1, to_rgb1, convs.N and to_rgbs.N"
        )));
    }
    Ok(all.into_iter().filter(|(name, _)| takes(name)).collect())
}

impl FineTuning<'_> {
    /// Learns, and gives the averages of the parameters that moved by name.
    pub(super) fn run(
        self,
        model: &dyn Synthesizer,
        feedback: &Feedback,
        state: Option<&Path>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<(String, Tensor)>, Error> {
        let trained = chosen(model, self.parameters)?;
        let discriminator = model.discriminator()?;
        let stop = self.stop.filter(|stop| stop.every > 0).zip(feedback.evaluator);
        let mut early_stopping =
            stop.map(|(stop, evaluator)| EvaluatorStopping { model, evaluator, stop });
        let training = GanTraining {
            name: self.name,
            generator: model.network(),
            parameters: trained
                .iter()
                .map(|(name, parameter)| (name.clone(), parameter.shallow_clone()))
                .collect(),
            discriminator,
            real_images: self.real_images,
            config: self.gan,
            conditioning: None,
            oversampled: self.oversampled,
            retained: self.retained,
            negative_images: self.negative_images,
            penalty: self.penalty.map(|penalty| penalty as &mut dyn ParameterPenalty),
            early_stopping: early_stopping
                .as_mut()
                .map(|early_stopping| early_stopping as &mut dyn EarlyStopping),
        };
        let outcome = train_gan_and_restore(training, self.plan, model.compute(), state, watch)?;
        if let (Some(early_stopping), Some(rank)) = (early_stopping, outcome.score) {
            early_stopping.stop.report(rank, self.name, &feedback.concept, watch);
        }
        Ok(trained.into_iter().map(|(name, _)| name).zip(outcome.average).collect())
    }
}

/// Looks now and then how far the erasure has come.
struct EvaluatorStopping<'a> {
    model: &'a dyn Synthesizer,
    evaluator: &'a Evaluator<'a>,
    stop: StopSettings,
}

impl EarlyStopping for EvaluatorStopping<'_> {
    fn every(&self) -> u64 {
        self.stop.every
    }

    fn evaluate(&mut self, _step: u64) -> Result<Option<f64>, training::Error> {
        let score = (self.evaluator)(self.model)
            .map_err(|error| training::Error::EarlyStopping(error.to_string()))?;
        Ok(Some(self.stop.rank(score)))
    }

    fn target(&self) -> f64 {
        self.stop.unlearned.unwrap_or(f64::INFINITY)
    }
}

/// The edit that a method's parameters are; `recipe` says how they were found.
pub(super) fn edit(
    model: &dyn Synthesizer,
    recipe: String,
    parameters: Vec<(String, Tensor)>,
) -> Edit {
    let before: HashMap<String, Tensor> = model.parameters().into_iter().collect();
    let tensors = parameters
        .into_iter()
        .filter(|(name, new)| before.get(name).is_none_or(|old| !old.equal(new)))
        .collect();
    Edit { base: model.card().hash.clone(), recipe, tensors, ..Edit::default() }
}

/// Says which batches the discriminator cannot compare in its groups.
pub(super) fn batches_fit(model: &Model<'_>, settings: &[&GanConfig]) -> Result<(), String> {
    let Model::Gan(model) = model else { return Ok(()) };
    let group = model.network().config().group;
    settings.iter().try_for_each(|settings| settings.fits(group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erasure::small::{erase, labelled, small_gan};
    use crate::erasure::{PositivesOnly, Progress};
    use crate::watch::{Quiet, WarningRecorder};

    fn method(stop: StopSettings, parameters: &[&str]) -> PositivesOnly {
        let gan = GanConfig { batch: 4, g_reg_every: 0, d_reg_every: 0, ..GanConfig::default() };
        let parameters = parameters.iter().map(|&start| start.to_owned()).collect();
        PositivesOnly { steps: 6, cooldown: 0.0, gan, stop, parameters, ..PositivesOnly::default() }
    }

    #[test]
    fn only_what_was_chosen_moves() {
        let folder = tempfile::tempdir().unwrap();
        let mut model = small_gan(folder.path());
        let edit = erase(
            &method(StopSettings::default(), &["to_rgb"]),
            &mut model,
            &labelled(None),
            None,
            &mut Quiet,
        );
        let edit = edit.unwrap();
        assert!(!edit.tensors.is_empty());
        assert!(edit.tensors.iter().all(|(name, _)| name.starts_with("g.to_rgb")));
        let wrong = erase(
            &method(StopSettings::default(), &["convolutions"]),
            &mut model,
            &labelled(None),
            None,
            &mut Quiet,
        );
        assert!(wrong.unwrap_err().to_string().contains("its layers are"));
    }

    #[test]
    fn layers_are_named_by_whole_numbers() {
        for (name, start, does) in [
            ("convs.1.conv.weight", "convs.1", true),
            ("convs.10.conv.weight", "convs.1", false),
            ("convs.10.conv.weight", "convs.", true),
            ("to_rgb1.conv.weight", "to_rgb", true),
            ("style.1.weight", "convs", false),
        ] {
            assert_eq!(begins(name, start), does, "{name} {start}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let usual = || method(StopSettings::default(), &[]);
        let stop = |unlearned, damage| StopSettings { unlearned, damage, every: 1 };
        for (wrong, why) in [
            (
                PositivesOnly { oversample: 0.1, ..usual() },
                "no latent of the concept would be drawn",
            ),
            (PositivesOnly { stop: stop(Some(99.0), 3.0), ..usual() }, "stop.unlearned is 99"),
            (PositivesOnly { stop: stop(None, f64::NAN), ..usual() }, "stop.damage is NaN"),
            (PositivesOnly { negative_share: 1.5, ..usual() }, "negative_share is 1.5"),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(PositivesOnly { oversample: 0.0, retain_weight: 0.0, ..usual() }.check().is_ok());
    }

    #[test]
    fn where_all_latents_showed_it_nothing_is_left_to_hold() {
        let folder = tempfile::tempdir().unwrap();
        let mut model = small_gan(folder.path());
        let all = PositivesOnly {
            oversample: 1.0,
            retain_weight: 10.0,
            ..method(StopSettings::default(), &[])
        };
        let edit = erase(&all, &mut model, &labelled(None), None, &mut Quiet).unwrap();
        let none = PositivesOnly { retain_weight: 0.0, ..all };
        let same = erase(&none, &mut model, &labelled(None), None, &mut Quiet).unwrap();
        for ((name, a), (_, b)) in edit.tensors.iter().zip(&same.tensors) {
            assert!(a.equal(b), "{name}");
        }
    }

    #[test]
    fn it_stops_at_the_first_look_that_is_good_enough() {
        let folder = tempfile::tempdir().unwrap();
        let mut model = small_gan(folder.path());
        let looks = std::cell::Cell::new(0);
        let evaluator = |_: &dyn Synthesizer| {
            looks.set(looks.get() + 1);
            // The first is damaged.
            Ok(Progress { unlearned: 1.0, damage: if looks.get() == 1 { 5.0 } else { 1.0 } })
        };
        let stop = StopSettings { unlearned: Some(0.9), damage: 2.0, every: 2 };
        let feedback = labelled(Some(&evaluator));
        erase(&method(stop, &[]), &mut model, &feedback, None, &mut Quiet).unwrap();
        assert_eq!(looks.get(), 2);
    }

    #[test]
    fn where_all_is_damaged_the_least_is_kept_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut model = small_gan(folder.path());
        let looks = std::cell::Cell::new(0);
        // The second of three is the least damaged.
        let evaluator = |_: &dyn Synthesizer| {
            looks.set(looks.get() + 1);
            Ok(Progress { unlearned: 1.0, damage: if looks.get() == 2 { 5.0 } else { 9.0 } })
        };
        let feedback = labelled(Some(&evaluator));
        let mut erased = |every: u64, steps: u64, damage: f64| {
            looks.set(0);
            let stop = StopSettings { unlearned: None, damage, every };
            let method = PositivesOnly { steps, ..method(stop, &[]) };
            let mut recorder = WarningRecorder::default();
            (erase(&method, &mut model, &feedback, None, &mut recorder).unwrap(), recorder.0)
        };
        let (retained, warnings) = erased(2, 6, 2.0);
        assert!(warnings.len() == 1 && warnings[0].contains("5.00"), "{warnings:?}");
        // The same as after its first four steps.
        let (four, warnings) = erased(0, 4, 2.0);
        assert!(warnings.is_empty());
        assert!(retained.tensors.iter().zip(&four.tensors).all(|((_, a), (_, b))| a.equal(b)));
    }
}
