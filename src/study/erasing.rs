//! One erasure: a target by a method, from what there is to learn from to its edit.

use super::Study;
use super::protocol::{Protocol, Run};
use super::session::Session;
use super::target::Target;
use super::training_images::ImageDemand;
use crate::erasure::{Context, Feedback, Task};
use crate::measure::{Better, Estimate, Measure, Score, Subject, Unit};
use crate::pipeline::MethodSetting;
use crate::run::Error;
use crate::run::folder::RunFolder;
use crate::torch::Device;
use crate::weights::Edit;

/// An edit that is there.
pub(super) struct Erased {
    pub edit: Edit,
    /// Its file, inside the run's folder.
    pub file: String,
    /// Hash of its file.
    pub hash: String,
    /// The target's concept.
    concept: String,
    /// The phase in which it was found.
    phase: String,
    /// How far the weights of each component moved, ‖Δ‖ / ‖W‖ of its tensors.
    moved: Vec<(String, f64)>,
}

pub(super) const SECONDS: Measure = Measure {
    name: "seconds",
    subject: Subject::Model,
    unit: Unit::Seconds,
    better: Better::Lower,
};
const MEMORY: Measure = Measure {
    name: "peak memory",
    subject: Subject::Model,
    unit: Unit::Bytes,
    better: Better::Lower,
};
const BYTES: Measure =
    Measure { name: "edit", subject: Subject::Model, unit: Unit::Bytes, better: Better::Lower };
const MOVED: Measure =
    Measure { name: "moved", subject: Subject::Model, unit: Unit::Ratio, better: Better::Neither };

impl Erased {
    /// Components that the edit changed.
    pub(super) fn components(&self) -> Vec<String> {
        let named = self.moved.iter().filter(|(_, share)| *share > 0.0);
        named.map(|(component, _)| component.clone()).collect()
    }

    /// What it took and how far it went, for the method that is to be named.
    pub(super) fn scores(&self, run: &RunFolder, device: Device) -> Vec<Score> {
        let mut scores = Vec::new();
        let of = |measure: Measure, value: f64| measure.of(&self.concept, Estimate::exact(value));
        if let Some(phase) = run.record.phases.iter().find(|phase| phase.name == self.phase) {
            scores.push(of(SECONDS, phase.seconds));
            scores.push(of(MEMORY, phase.peak.on(device) as f64));
        }
        if let Ok(about) = fs_err::metadata(run.path(&self.file)) {
            scores.push(of(BYTES, about.len() as f64));
        }
        let largest = self.moved.iter().map(|(_, moved)| *moved).fold(0.0, f64::max);
        scores.push(of(MOVED, largest));
        scores.extend(self.moved.iter().map(|(component, moved)| Score {
            measure: format!("moved {component}"),
            detail: true,
            ..of(MOVED, *moved)
        }));
        scores
    }
}

impl<P: Protocol> Study<'_, P> {
    /// Finds the edit, or reads it where an earlier session found it.
    pub(super) fn edit(
        &self,
        target: usize,
        method: &MethodSetting,
        session: &mut Session,
        run: &mut Run,
    ) -> Result<Erased, Error> {
        let about = &self.protocol.targets()[target];
        let name = format!("{}-{}", about.stem(), method.label);
        let file = format!("edits/{name}.safetensors");
        let phase = format!("erasing {} ({})", about.title(), method.label);
        read_apart(about, session)?;
        let task = Task {
            concept: &about.concept,
            pairs: &about.pairs,
            keep: &about.keep,
            seed: self.pipeline.seed,
            images: None,
            feedback: None,
        };
        let path = run.folder.path(&file);
        let (edit, hash) = if path.exists() {
            let edit = session.read_edit(&path)?;
            same_recipe(&edit, &task.recipe(&*method.value)).then_some(()).ok_or_else(|| {
                Error::Unknown(format!(
                    "{} is of another erasure than this one, by what it says of itself; remove it, \
                     and the run finds its own",
                    path.display()
                ))
            })?;
            let hash = run.folder.unchanged(&file)?;
            run.watch.note(&format!("{}: the edit of an earlier session is taken", path.display()));
            (edit, hash)
        } else {
            let edit = self.found(target, method, &phase, task, session, run)?;
            edit.save(&path)?;
            (edit, run.folder.artifact(&file)?)
        };
        let moved = session.moved(&edit)?;
        if moved.iter().all(|(_, share)| *share == 0.0) {
            run.watch.warn(&format!(
                "{} by {} has moved no weight: pictures after it are those before it",
                about.concept, method.label
            ));
        }
        Ok(Erased { edit, file, hash, concept: about.concept.clone(), phase, moved })
    }

    /// Finds the edit.
    fn found(
        &self,
        target: usize,
        method: &MethodSetting,
        phase: &str,
        task: Task,
        session: &mut Session,
        run: &mut Run,
    ) -> Result<Edit, Error> {
        let device = self.compute.device;
        let about = &self.protocol.targets()[target];
        let needs = method.value.needs();
        let images = if needs.forget_images || needs.keep_images {
            let demand = ImageDemand::of_method(needs);
            let folder = run.folder.path("pictures/training");
            let watch = &mut *run.watch;
            Some(run.folder.phase("drawing to learn from", device, |_| {
                self.protocol.images(target, demand, session, &folder, watch)
            })?)
        } else {
            None
        };
        let samples =
            if needs.samples { self.protocol.samples(target, session, run.watch)? } else { None };
        let feedback = samples.as_ref().map(|samples| Feedback {
            concept: about.concept.clone(),
            negatives: samples.negatives.clone(),
            positives: samples.positives.clone(),
            seed: self.pipeline.seed,
            evaluator: Some(&*samples.evaluator),
        });
        let task = Task { images: images.as_ref(), feedback: feedback.as_ref(), ..task };
        let state = run.folder.path("state").join(about.stem());
        let watch = &mut *run.watch;
        let edit = run.folder.phase(phase, device, |_| {
            let mut context = Context { state: Some(&state), label: &method.label, watch };
            Ok(method.value.erase(session.model(), &task, &mut context)?)
        })?;
        edit.check()?;
        // Weights and moments of its training are of no use once the edit is there.
        let training = state.join(&method.label).join("state.safetensors");
        if training.exists() {
            fs_err::remove_file(training)?;
        }
        Ok(edit)
    }
}

/// What is the same to the text encoder cannot be told apart by any method.
fn read_apart(target: &Target, session: &Session) -> Result<(), Error> {
    let alike = |pair: &&crate::erasure::Pair| session.reads_alike(&pair.forget, &pair.anchor);
    match target.pairs.iter().find(alike) {
        Some(pair) => Err(Error::Unknown(format!(
            "«{}» is to become «{}», and the text encoder reads the same in both: they differ in \
             words that it does not know, or behind where it stops",
            pair.forget, pair.anchor
        ))),
        None => Ok(()),
    }
}

/// Whether an edit was made so; what a method found on its way is no part of that.
fn same_recipe(edit: &Edit, recipe: &str) -> bool {
    let without_findings = |text: &str| -> serde_json::Value {
        let mut json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(all) = json.as_object_mut() {
            all.shift_remove("found");
        }
        json
    };
    without_findings(&edit.recipe) == without_findings(recipe)
}
