//! The job for a GAN: label samples, erase by each method, draw the same latents before and after,
//! judge, compare.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::answering::{answer_set, known};
use super::drawing::{Provenance, draw_missing};
use super::evidence::EvidenceFile;
use super::gan::Unlearning;
use super::judging::{hash_of, judge_pictures, warn_of_blank};
use super::labelled::{Labelled, Split, evaluator};
use super::labels::read_labels;
use super::measured::{GanScore, JudgedSamples, Measured, means};
use super::opening::{hash_with, opened_gan};
use super::pipeline::{JudgeSettings, ModelSettings};
use super::reference_judge::{JudgeReport, ReferenceJudge, features};
use super::relearned::{Again, Relearned};
use super::samples::{LABELLED, MEASURED, SECOND, Sample, Unprompted, samples, works};
use super::{Ending, Error, Machine, RunFolder, located};
use crate::canvas;
use crate::erasure::Feedback;
use crate::files::write_json;
use crate::generator::{Adapter, Generator as _, StyleGan2, Synthesizer};
use crate::judge::{FeatureCard, Features};
use crate::measure::{Answer, AnswerSet, BlankCheck, Moments, Target, blank};
use crate::pictures::Picture;
use crate::report::grid;
use crate::torch::{Compute, Tensor};
use crate::training::check_gan_compute;
use crate::watch::Watch;
use crate::weights::{Edit, Weights, save};

/// What a GAN's study ends with; `scores.json` holds all but where it lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unlearned {
    /// Who labelled what methods learned from, and how good it is.
    pub labeller: JudgeReport,
    /// Who named what was drawn, and how good it is.
    pub judge: JudgeReport,
    /// Whose features pictures were compared by.
    pub features: FeatureCard,
    /// All numbers.
    pub scores: Vec<GanScore>,
    /// How the concepts came back when they were taught again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returns: Vec<Relearned>,
    /// Where its results are, and what it took.
    #[serde(flatten)]
    pub ending: Ending,
}

/// Runs a GAN's pipeline into `root`, or goes on with it.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn unlearn(
    pipeline: &Unlearning,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Unlearned, Error> {
    within(pipeline, root, compute, watch, |own, model, targets, run, watch| {
        own.work(model, targets, run, watch)
    })
}

/// Erases alone: labels samples, and finds the edits of each method for each target, whose files it
/// returns.
///
/// # Errors
/// As [`unlearn`].
pub fn erase_shown(
    pipeline: &Unlearning,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<PathBuf>, Error> {
    within(pipeline, root, compute, watch, |own, model, targets, run, watch| {
        let labelled = own.labelled(model, run, watch)?;
        let mut files = Vec::new();
        for (target, split) in targets.iter().zip(own.splits(&labelled, targets)?) {
            files.extend(own.edits(model, target, &split, run, watch)?);
        }
        Ok(files)
    })
}

/// Opens everything that a pipeline names, and works with it in its run folder.
fn within<T>(
    pipeline: &Unlearning,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
    work: impl FnOnce(
        &GanStudy,
        &mut StyleGan2,
        &[Target],
        &mut RunFolder,
        &mut dyn Watch,
    ) -> Result<T, Error>,
) -> Result<T, Error> {
    check_gan_compute(compute)?;
    let set = answer_set(&pipeline.classes)?;
    let targets = pipeline.targets()?;
    for target in &targets {
        known(&set, target.domain, &target.name)?;
        set.tells_apart(target.domain)?;
    }
    let mut jury = |path: &str| {
        let (path, reference) = (path.to_owned(), pipeline.reference());
        let settings = JudgeSettings { path, reference, ..JudgeSettings::default() };
        ReferenceJudge::open(&settings, &set, compute.device, watch)
    };
    let (labeller, judge) = (jury(&pipeline.feedback.labeller)?, jury(&pipeline.measure.judge)?);
    if labeller.card().hash == judge.card().hash {
        return Err(Error::Pipeline(
            "the labeller and the judge are the same network; name two".to_owned(),
        ));
    }
    let mut model = StyleGan2::load(&located(&pipeline.model)?.path, compute)?;
    model.discriminator()?;
    // Each is needed hours later, and a wrong path is to be known now.
    for path in pipeline.measure.retrained.values() {
        opened_gan(&gan_at(path)?)?;
    }
    let group = model.network().config().group;
    pipeline.gan().into_iter().try_for_each(|gan| gan.fits(group)).map_err(Error::Pipeline)?;
    let labels = pipeline.feedback.labels.as_ref();
    let labels = labels
        .map(|labels| read_labels(labels, &model.card().hash, MEASURED, watch))
        .transpose()?;
    let measure = &pipeline.measure;
    let own = GanStudy {
        pipeline,
        set: &set,
        labeller: &labeller,
        judge: &judge,
        labeller_features: features(&pipeline.feedback.labeller, None, compute.device)?,
        judge_features: features(&measure.judge, measure.inception.as_deref(), compute.device)?,
        labels,
        compute,
    };
    RunFolder::within(root, pipeline, Machine::here(compute), watch, |run, watch| {
        run.record.sign("base", model.card())?;
        // The labeller also says when a training may stop.
        for (what, jury) in [("judge", own.judge), ("labeller", own.labeller)] {
            run.record.bind(what, &jury.card().hash)?;
            run.record
                .bind(&format!("{what}'s settings and questions"), &jury.card().fingerprint)?;
        }
        run.record.bind("features", &own.judge_features.card().fingerprint)?;
        if let Some(labels) = &own.labels {
            let labels = format!("{labels:?}");
            run.record.bind("labels", blake3::hash(labels.as_bytes()).to_hex().as_str())?;
        }
        work(&own, &mut model, &targets, run, watch)
    })
}

/// The file of a GAN that is given by its path alone.
fn gan_at(path: &str) -> Result<PathBuf, Error> {
    Ok(located(&ModelSettings { path: path.to_owned(), ..ModelSettings::default() })?.path)
}

/// Everything that is opened once.
struct GanStudy<'a> {
    pipeline: &'a Unlearning,
    set: &'a AnswerSet,
    labeller: &'a ReferenceJudge,
    judge: &'a ReferenceJudge,
    labeller_features: Features,
    judge_features: Features,
    /// What the user says samples show, instead of the labeller.
    labels: Option<Vec<(u64, bool)>>,
    compute: Compute,
}

impl GanStudy<'_> {
    fn work(
        &self,
        model: &mut StyleGan2,
        targets: &[Target],
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Unlearned, Error> {
        let device = self.compute.device;
        let on_known = |jury: &ReferenceJudge,
                        what: &str,
                        run: &mut RunFolder,
                        watch: &mut dyn Watch| {
            let mut evidence =
                EvidenceFile::open(&run.path(format!("{what}-reference.jsonl")), watch)?;
            run.phase(&format!("checking the {what}"), device, |_| jury.check(&mut evidence, watch))
        };
        let labeller_known = on_known(self.labeller, "labeller", run, watch)?;
        let judge_known = on_known(self.judge, "judge", run, watch)?;
        let labelled = self.labelled(model, run, watch)?;
        let splits = self.splits(&labelled, targets)?;
        let latents = samples(MEASURED, self.pipeline.measure.latents);
        let base = self.album((model, &[]), (&latents, "base"), run, watch)?;
        let again = samples(SECOND, self.pipeline.measure.latents);
        let second = self.album((model, &[]), (&again, "second draw"), run, watch)?;
        let (mut scores, mut bands, mut returns) = (Vec::new(), Vec::new(), Vec::new());
        let questions = self.judge.questions();
        let known = self.known(watch)?;
        for (target, split) in targets.iter().zip(&splits) {
            let retrained = self.retrained(target, &latents, run, watch)?;
            let known = known.as_ref().and_then(|known| without(known, target));
            let never = retrained.as_ref().map(|album| album.features.shallow_clone());
            let measured =
                Measured::new((self.set, &questions), target, (&base, &second), known, never)?;
            scores.extend(measured.of_base());
            scores.extend(retrained.iter().flat_map(|album| measured.of_retrained(album)));
            let edits = self.edits(model, target, split, run, watch)?;
            let lesson = match &self.pipeline.measure.relearn {
                Some(settings) => {
                    let taught = &split.negatives[..split.negatives.len().min(settings.pictures)];
                    if taught.len() < settings.pictures {
                        watch.warn(&format!(
                            "{target}: relearning is taught with {} pictures; there are no {} \
                             samples that show it",
                            taught.len(),
                            settings.pictures
                        ));
                    }
                    let (pictures, seed) = (model.sample(taught)?, self.pipeline.seed);
                    Some(Again { settings, pictures, seed, judge: &self.judge.judge })
                }
                None => None,
            };
            let mut rows = Vec::new();
            for (method, path) in self.pipeline.method.iter().zip(edits) {
                let on = [Adapter { path, strength: 1.0 }];
                model.apply(&model.lay(&on)?.edit)?;
                let subject = format!("{target} {}", method.name());
                let after = self.album((model, &on), (&latents, &subject), run, watch);
                let back = lesson.as_ref().filter(|_| after.is_ok()).map(|lesson| {
                    lesson.teach(
                        model,
                        (target, &measured),
                        (method.name(), &on[0].path),
                        run,
                        watch,
                    )
                });
                model.apply(&Edit::default())?;
                let after = after?;
                let shown = |album: &JudgedSamples| {
                    let pictures = album.judged.iter().zip(&base.judged);
                    let own = pictures.filter(|(_, before)| measured.shows(&before.evidence));
                    let all: Vec<BlankCheck> = own.map(|(judged, _)| judged.impression()).collect();
                    (blank(&all), all.len())
                };
                let ((before, _), (now, n)) = (shown(&base), shown(&after));
                if now > before {
                    warn_of_blank(&subject, now, n, watch);
                }
                returns.extend(back.transpose()?);
                scores.extend(measured.after(method.name(), &after));
                rows.push((method.name(), after.folder));
            }
            bands.extend(measured.bands(&base.folder, &rows)?);
        }
        scores.extend(means(&scores, targets.len()));
        let picture = run.path("grid.png");
        let names: Vec<String> =
            targets.iter().map(|target| canvas::spaced(&target.name)).collect();
        grid(
            &format!("{} unlearned: latents that showed it, and others", names.join(", ")),
            &[],
            &bands,
        )
        .save_sheet(&picture)?;
        let report = |jury: &ReferenceJudge, known: Option<&_>| jury.report(known, &[]);
        let unlearned = Unlearned {
            labeller: report(self.labeller, labeller_known.as_ref())?,
            judge: report(self.judge, judge_known.as_ref())?,
            features: self.judge_features.card().clone(),
            scores,
            returns,
            ending: run.ending(picture),
        };
        let file = serde_json::json!({
            "labeller": unlearned.labeller, "judge": unlearned.judge, "features": unlearned.features,
            "scores": unlearned.scores, "returns": unlearned.returns,
        });
        write_json(&run.path("scores.json"), &file)?;
        for artifact in ["scores.json", "grid.png", "evidence.jsonl"] {
            run.artifact(artifact)?;
        }
        Ok(unlearned)
    }

    /// All of them before the first is worked on: too few samples of one end the run.
    fn splits(&self, labelled: &Labelled, targets: &[Target]) -> Result<Vec<Split>, Error> {
        let (questions, threshold) = (self.labeller.questions(), self.pipeline.feedback.threshold);
        let split = |target: &Target| labelled.split(&questions, self.set, target, threshold);
        targets.iter().map(split).collect()
    }

    /// What a generator draws that never saw the target, where there is one.
    fn retrained(
        &self,
        target: &Target,
        latents: &[Sample],
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Option<JudgedSamples>, Error> {
        let Some(path) = self.pipeline.measure.retrained.get(&target.to_string()) else {
            return Ok(None);
        };
        let model = StyleGan2::load(&gan_at(path)?, self.compute)?;
        run.record.bind(&format!("retrained {target}"), &model.card().hash)?;
        self.album((&model, &[]), (latents, &format!("retrained {target}")), run, watch).map(Some)
    }

    /// What known pictures show, and their features; `None` where there are none.
    fn known(&self, watch: &mut dyn Watch) -> Result<Option<(Vec<Answer>, Tensor)>, Error> {
        let known = self.judge.known(0, self.pipeline.measure.per_cell, watch)?;
        let (answers, pictures): (Vec<Answer>, Vec<Picture>) = known.into_iter().unzip();
        (!answers.is_empty()).then(|| Ok((answers, self.judge_features.of(&pictures)?))).transpose()
    }

    /// Draws samples of the base and lets the labeller name them; without one what the user says is
    /// read.
    fn labelled(
        &self,
        model: &StyleGan2,
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Labelled, Error> {
        if let Some(labels) = &self.labels {
            return Ok(Labelled::Given(labels.clone()));
        }
        let own = samples(LABELLED, self.pipeline.feedback.samples);
        let folder = run.path("pictures/labelled");
        run.phase("drawing to label", self.compute.device, |_| {
            self.draw((model, &[]), &own, &folder, "drawing to label", watch)
        })?;
        let pictures: Vec<(Sample, PathBuf)> =
            own.iter().map(|sample| (*sample, sample.path(&folder))).collect();
        let mut evidence = EvidenceFile::open(&run.path("labels.jsonl"), watch)?;
        let judged = run.phase("labelling", self.compute.device, |_| {
            judge_pictures(
                &Unprompted(&self.labeller.judge),
                &mut evidence,
                "labelled",
                &pictures,
                watch,
            )
        })?;
        run.artifact("labels.jsonl")?;
        Ok(Labelled::JudgedAnswer(judged))
    }

    /// Draws what a model with these edits on it draws.
    fn draw(
        &self,
        (model, on): (&StyleGan2, &[Adapter]),
        own: &[Sample],
        folder: &Path,
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let hash = hash_with(&model.card().hash, on)?;
        let stamp = Provenance { model: &hash, sensitive: false };
        let super::Batch::Of(batch) = self.pipeline.measure.batch else {
            return Err(Error::Pipeline("measure.batch is a number for a GAN".to_owned()));
        };
        draw_missing(model, &works(model, own, folder), (stamp, batch), what, watch)
    }

    /// Draws, judges and looks at the features of what a model with these edits on it draws.
    fn album(
        &self,
        drawer: (&StyleGan2, &[Adapter]),
        (own, subject): (&[Sample], &str),
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<JudgedSamples, Error> {
        let folder = run.path("pictures").join(subject.replace([':', ' '], "-"));
        let what = format!("drawing {subject}");
        run.phase(&what, self.compute.device, |_| self.draw(drawer, own, &folder, &what, watch))?;
        let files: Vec<(Sample, PathBuf)> =
            own.iter().map(|sample| (*sample, sample.path(&folder))).collect();
        let mut evidence = EvidenceFile::open(&run.path("evidence.jsonl"), watch)?;
        let judged = run.phase(&format!("judging {subject}"), self.compute.device, |_| {
            judge_pictures(&Unprompted(&self.judge.judge), &mut evidence, subject, &files, watch)
        })?;
        let features = run.phase(&format!("comparing {subject}"), self.compute.device, |run| {
            let name = format!("{}.safetensors", subject.replace([':', ' '], "-"));
            self.features(&files, &run.path("features").join(name))
        })?;
        Ok(JudgedSamples { judged, folder, features })
    }

    /// Features of pictures, from a file where an earlier session left them.
    fn features(&self, pictures: &[(Sample, PathBuf)], file: &Path) -> Result<Tensor, Error> {
        let network = &self.judge_features.card().fingerprint;
        let mut content = blake3::Hasher::new();
        for (_, picture) in pictures {
            content.update(hash_of(picture)?.as_bytes());
        }
        let content = content.finalize().to_hex().to_string();
        if file.exists() {
            let saved = Weights::open_own(file, "remove it, and the features are computed again")?;
            let about = saved.metadata();
            if about.get("network") == Some(network) && about.get("pictures") == Some(&content) {
                return Ok(saved.floats("features")?);
            }
        }
        let pictures =
            pictures.iter().map(|(_, file)| Picture::open(file)).collect::<Result<Vec<_>, _>>()?;
        let features = self.judge_features.of(&pictures)?;
        let own = [("features".to_owned(), features.shallow_clone())];
        save(file, &own, &[("network", network.clone()), ("pictures", content)])?;
        Ok(features)
    }

    /// Finds the methods' edits that no earlier session found, and says where all of them are, in
    /// the methods' order.
    fn edits(
        &self,
        model: &mut StyleGan2,
        target: &Target,
        split: &Split,
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Vec<PathBuf>, Error> {
        let stem = target.to_string().replace(':', "-");
        let names: Vec<String> = self
            .pipeline
            .method
            .iter()
            .map(|method| format!("edits/{stem}-{}.safetensors", method.name()))
            .collect();
        let files: Vec<PathBuf> = names.iter().map(|name| run.path(name)).collect();
        if !files.iter().all(|file| file.exists()) {
            let encoders = (self.labeller, &self.labeller_features);
            if split.negatives.len() < 4 {
                watch.warn(&format!(
                    "{target}: of only {} samples that show it none is held out; how much is \
                     unlearned on the way is looked at in those that are learned from",
                    split.negatives.len()
                ));
            }
            let looking = evaluator(model, encoders, (self.set, target), split)?;
            let feedback = Feedback {
                concept: target.to_string(),
                negatives: split.hold_out().1.to_vec(),
                positives: split.positives.clone(),
                seed: self.pipeline.seed,
                evaluator: Some(&*looking),
            };
            let state = run.path(format!("state/{stem}"));
            for (method, file) in
                self.pipeline.method.iter().zip(&files).filter(|(_, file)| !file.exists())
            {
                let what = format!("{} {target}", method.name());
                let edit = run.phase(&what, self.compute.device, |_| {
                    Ok(method.erasure().erase(model, &feedback, Some(&state), watch)?)
                })?;
                edit.check()?;
                if edit.is_empty() {
                    watch.warn(&format!(
                        "{what} has changed no weight: pictures after it are those before it"
                    ));
                }
                edit.save(file)?;
                // What the training came to is of no use once the edit is there; adapted models
                // are, to other methods.
                let own = state.join(method.name());
                if own.exists() {
                    fs_err::remove_dir_all(own)?;
                }
            }
        }
        for (name, file) in names.iter().zip(&files) {
            Weights::open_own(file, "remove it, and the run finds it again")?;
            run.unchanged(name)?;
        }
        names.iter().try_for_each(|name| run.artifact(name))?;
        Ok(files)
    }
}

/// The moments of known pictures that do not show the target, where there are enough of them.
fn without((answers, features): &(Vec<Answer>, Tensor), target: &Target) -> Option<Moments> {
    let rows = (0..).zip(answers).filter(|(_, answer)| answer.wanted(target.domain) != target.name);
    let rows: Vec<i64> = rows.map(|(row, _)| row).collect();
    (rows.len() > 1).then(|| Moments::of(&features.index_select(0, &Tensor::from_slice(&rows))))
}
