//! Extrapolation in parameter space (Tiwary et al. 2025, section 4): away from generators that were
//! adapted to the concept, `θ = θ_G - s · (θ̄_N - θ_G)`, without any training. It takes more out
//! than was asked for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::feedback::StopSettings;
use super::fine_tuning::{batches_fit, chosen, edit};
use super::method::synthesizer_of;
use super::{Adaptation, Context, Cost, Error, Method, Needs, Pair, Progress, Task};
use crate::files::write_json;
use crate::generator::Model;
use crate::settings::{Configurable, over};
use crate::torch::{Tensor, no_grad};
use crate::training::LentWeights;
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extrapolation {
    /// The models to go away from.
    pub adapt: Adaptation,
    /// How far, in distances to them. Of several the first is taken that is enough; where none is,
    /// the one that unlearns most among those whose damage is allowed, or else the least damaged.
    pub strengths: Vec<f64>,
    /// Beginnings of the names of the parameters that move; all where there is none.
    pub parameters: Vec<String>,
    /// When it is enough.
    #[serde(deserialize_with = "stop")]
    pub stop: StopSettings,
}

impl Default for Extrapolation {
    fn default() -> Self {
        Self {
            adapt: Adaptation::default(),
            strengths: (1..20).map(|tenths| f64::from(tenths) / 10.0).collect(),
            parameters: Vec::new(),
            // The first strength that is enough, because each goes further than the one before.
            stop: StopSettings { unlearned: Some(0.99), ..StopSettings::default() },
        }
    }
}

fn stop<'de, D: Deserializer<'de>>(from: D) -> Result<StopSettings, D::Error> {
    over(&Extrapolation::default().stop, from)
}

impl Extrapolation {
    /// Says what is wrong with the settings, before anything is loaded.
    ///
    /// # Errors
    /// A setting that makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        if self.strengths.is_empty() || self.strengths.iter().any(|s| !s.is_finite()) {
            return Err(Error::Task(
                "extrapolation needs at least one strength, each a number".to_owned(),
            ));
        }
        self.stop.check("extrapolation")?;
        self.adapt.check()
    }
}

impl Configurable for Extrapolation {
    fn name(&self) -> &'static str {
        "extrapolation"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        Self::check(self).map_err(|error| error.to_string())
    }
}

impl Method for Extrapolation {
    fn needs(&self) -> Needs {
        Needs::SAMPLES
    }

    fn cost(&self) -> Cost {
        // Of one strength there is no choice.
        let tried = self.strengths.len() as u64;
        Cost {
            batch: self.adapt.gan.batch,
            cycle: self.adapt.gan.cycle(),
            evaluations: if tried < 2 { 0 } else { tried },
            shared: Some(self.adapt.cost()),
            ..Cost::default()
        }
    }

    fn shortened(&self, steps: u64, _: i64) -> Option<Box<dyn Method>> {
        let adapt = Adaptation { models: 1, steps, ..self.adapt.clone() };
        Some(Box::new(Self { adapt, strengths: vec![1.0], ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, _: &[Pair]) -> Result<(), String> {
        batches_fit(model, &[&self.adapt.gan])
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
        let ensemble = self.adapt.ensemble(model, feedback, &self.parameters, context)?;
        let state = context.own_state();
        let watch = &mut *context.watch;
        let trained = chosen(model, &self.parameters)?;
        let parameters = || trained.iter().map(|(_, parameter)| parameter);
        let base: Vec<Tensor> = parameters().map(Tensor::detach).collect();
        let at = |strength: f64| -> Vec<Tensor> {
            let pairs = base.iter().zip(&ensemble.mean);
            no_grad(|| pairs.map(|(weight, mean)| weight - (mean - weight) * strength).collect())
        };
        // Strength and rank.
        let mut best: Option<(f64, f64)> = None;
        if let Some(evaluator) = feedback.evaluator.filter(|_| self.strengths.len() > 1) {
            watch.begin("extrapolating", self.strengths.len() as u64);
            let mut log = StrengthLog::open(state.as_deref())?;
            for (i, &strength) in self.strengths.iter().enumerate() {
                let progress = log.progress(strength, || {
                    let _lent = LentWeights::pointing(parameters(), &at(strength));
                    evaluator(model)
                })?;
                let rank = self.stop.rank(progress);
                if best.is_none_or(|(_, old)| rank > old) {
                    best = Some((strength, rank));
                }
                watch.at(
                    i as u64 + 1,
                    &format!(
                        "{:.0} % unlearned, damage {:.2}",
                        progress.unlearned * 100.0,
                        progress.damage
                    ),
                );
                if self.stop.unlearned.is_some_and(|enough| rank >= enough) {
                    break;
                }
                if watch.interrupted() && i + 1 < self.strengths.len() {
                    return Err(crate::training::Error::Interrupted(i as u64 + 1).into());
                }
            }
            watch.end();
            if let Some((_, rank)) = best {
                self.stop.report(rank, "extrapolating", &feedback.concept, watch);
            }
        }
        let strength = best.map_or(self.strengths[0], |(strength, _)| strength);
        let names = trained.iter().map(|(name, _)| name.clone());
        let extrapolated = names.zip(at(strength)).collect();
        let recipe = task.recipe_with(self, serde_json::json!({"strength": strength}));
        Ok(edit(model, recipe, extrapolated))
    }
}

/// What was seen at which strength, in a file that a later session goes on with.
struct StrengthLog {
    file: Option<PathBuf>,
    seen: Vec<(f64, Progress)>,
}

impl StrengthLog {
    fn open(state: Option<&Path>) -> Result<Self, Error> {
        let file = state.map(|state| state.join("strengths.json"));
        let seen = match &file {
            Some(file) if file.exists() => {
                serde_json::from_str(&fs_err::read_to_string(file)?).ok()
            }
            _ => None,
        };
        Ok(Self { file, seen: seen.unwrap_or_default() })
    }

    /// What was seen at this strength, or what is seen now.
    fn progress(
        &mut self,
        strength: f64,
        evaluate: impl FnOnce() -> Result<Progress, Error>,
    ) -> Result<Progress, Error> {
        let same = |(seen, _): &&(f64, Progress)| seen.total_cmp(&strength).is_eq();
        if let Some((_, known)) = self.seen.iter().find(same) {
            return Ok(*known);
        }
        let progress = evaluate()?;
        self.seen.push((strength, progress));
        if let Some(file) = &self.file {
            write_json(file, &self.seen)?;
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erasure::Feedback;
    use crate::erasure::ensemble::Ensemble;
    use crate::erasure::small::{erase, labelled, small_gan};
    use crate::generator::{StyleGan2, Synthesizer};
    use crate::training::GanConfig;
    use crate::watch::{InterruptAfter, Quiet};

    fn adapting() -> Adaptation {
        let gan = GanConfig { batch: 4, g_reg_every: 0, d_reg_every: 0, ..GanConfig::default() };
        Adaptation { models: 2, negatives: 4, steps: 3, fisher: 4, gan, ..Adaptation::default() }
    }

    fn adapted(
        method: &Extrapolation,
        model: &StyleGan2,
        feedback: &Feedback,
        state: Option<&Path>,
    ) -> Ensemble {
        let mut context = Context { state, label: "extrapolation", watch: &mut Quiet };
        method.adapt.ensemble(model, feedback, &[], &mut context).unwrap()
    }

    fn erased(
        strengths: Vec<f64>,
        feedback: &Feedback,
    ) -> (Edit, Vec<(String, Tensor)>, Vec<Tensor>) {
        let folder = tempfile::tempdir().unwrap();
        let mut model = small_gan(folder.path());
        let method = Extrapolation { adapt: adapting(), strengths, ..Extrapolation::default() };
        let state = Some(folder.path());
        let ensemble = adapted(&method, &model, feedback, state);
        let before: Vec<(String, Tensor)> = model
            .parameters()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.detach().copy()))
            .collect();
        let edit = erase(&method, &mut model, feedback, state, &mut Quiet).unwrap();
        let after = model.parameters();
        assert!(
            before.iter().zip(&after).all(|((_, a), (_, b))| a.equal(&b.detach())),
            "the base moved"
        );
        (edit, before, ensemble.mean)
    }

    #[test]
    fn strength_zero_is_the_base_and_minus_one_the_adapted_models_mean() {
        let feedback = labelled(None);
        assert!(erased(vec![0.0], &feedback).0.tensors.is_empty());
        let (edit, before, mean) = erased(vec![-1.0], &feedback);
        assert!(!edit.tensors.is_empty());
        let mean = |name: &str| &mean[before.iter().position(|(base, _)| base == name).unwrap()];
        for (name, tensor) in &edit.tensors {
            let apart = (tensor - mean(name)).abs().max().double_value(&[]);
            assert!(apart < 1e-5 * (1.0 + tensor.abs().max().double_value(&[])), "{name} {apart}");
        }
    }

    #[test]
    fn what_was_seen_before_an_interruption_is_not_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut model = small_gan(folder.path());
        let looks = std::cell::Cell::new(0);
        // The second of four is the best.
        let evaluator = |_: &dyn Synthesizer| {
            looks.set(looks.get() + 1);
            Ok(Progress { unlearned: if looks.get() == 2 { 0.7 } else { 0.1 }, damage: 1.0 })
        };
        let feedback = labelled(Some(&evaluator));
        let method = Extrapolation {
            adapt: adapting(),
            strengths: vec![0.1, 0.2, 0.3, 0.4],
            ..Extrapolation::default()
        };
        let state = Some(folder.path());
        adapted(&method, &model, &feedback, state);
        let stopped =
            erase(&method, &mut model, &feedback, state, &mut InterruptAfter(3, 0)).unwrap_err();
        assert!(stopped.to_string().contains("interrupted") && looks.get() == 3, "{stopped}");
        let edit = erase(&method, &mut model, &feedback, state, &mut Quiet).unwrap();
        assert_eq!(looks.get(), 4);
        let recipe: serde_json::Value = serde_json::from_str(&edit.recipe).unwrap();
        assert_eq!(recipe["found"]["strength"], 0.2);
    }

    #[test]
    fn the_first_strength_that_is_enough_is_taken_unless_it_damages() {
        let looks = std::cell::Cell::new(0);
        // The farther from the base, the more is gone; from the third on too much is broken.
        let evaluator = |_: &dyn Synthesizer| {
            looks.set(looks.get() + 1);
            let unlearned = f64::from(looks.get()) / 10.0;
            Ok(Progress { unlearned, damage: if looks.get() < 3 { 1.0 } else { 9.0 } })
        };
        let strengths = vec![0.1, 0.2, 0.3, 0.4];
        let (edit, ..) = erased(strengths, &labelled(Some(&evaluator)));
        assert_eq!(looks.get(), 4);
        let recipe: serde_json::Value = serde_json::from_str(&edit.recipe).unwrap();
        assert_eq!(recipe["found"]["strength"], 0.2);
    }
}
