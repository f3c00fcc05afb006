//! The job for a GAN: label samples, erase by each method, draw the same latents before and after, judge, compare.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::answering::{answer_set, known};
use super::drawing::{Stamp, draw_missing};
use super::gan::{GanMethod, Unlearning};
use super::judging::{Looked, judge_pictures};
use super::jury::{JudgeReport, Jury};
use super::labels::read_labels;
use super::pipeline::{JudgeSettings, ModelSettings};
use super::samples::{Sample, Unprompted, classes, probabilities, samples, works};
use super::{Ending, Error, Machine, RunFolder, located, shipped_or_path};
use crate::attack::Return;
use crate::canvas;
use crate::erasure::{Examiner, Feedback, Grade};
use crate::files::write_json;
use crate::generator::{Generator as _, StyleGan2, Synthesizer};
use crate::judge::{FeatureCard, Features, in_batches};
use crate::measure::{AnswerSet, Domain, Estimate, Moments, Target, Turned, frechet, precision_recall};
use crate::pictures::Picture;
use crate::report::{Band, grid};
use crate::torch::{Device, Place, Tensor};
use crate::watch::{Quiet, Watch};
use crate::weights::{Edit, Weights};

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
    pub returns: Vec<Returned>,
    /// Where its results are, and what it took.
    #[serde(flatten)]
    pub ending: Ending,
}

/// One number of one method on one concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GanScore {
    /// `object:Cat`, or `mean` over all.
    pub target: String,
    /// The method, or `base`.
    pub method: String,
    /// `PUL`, `PUL of negatives`, `FID to positives`, …
    pub measure: String,
    /// The number.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// How a concept came back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Returned {
    /// The concept.
    pub target: String,
    /// The method that took it out.
    pub method: String,
    /// The curve.
    #[serde(flatten)]
    pub back: Return,
}

/// First seeds of samples that are labelled, of those that are measured, of a second draw of these, and of those that are
/// looked at on the way. libtorch's generator reads 32 bits of a seed, so they differ in those.
const LABELLED: u64 = 0x4000_0000;
const MEASURED: u64 = 0x8000_0000;
const SECOND: u64 = 0xA000_0000;
const LOOKED_AT: u64 = 0xC000_0000;

/// Runs a GAN's pipeline into `root`, or goes on with it.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn unlearn(
    pipeline: &Unlearning,
    root: &Path,
    place: Place,
    watch: &mut dyn Watch,
) -> Result<Unlearned, Error> {
    let set = answer_set(&pipeline.classes);
    let targets = pipeline.targets()?;
    for target in &targets {
        known(&set, target.domain, &target.name)?;
    }
    let jury = |path: &str| {
        let settings = JudgeSettings { path: path.to_owned(), ..JudgeSettings::default() };
        Jury::open(&settings, &set, place.device)
    };
    let (labeller, judge) = (jury(&pipeline.feedback.labeller)?, jury(&pipeline.measure.judge)?);
    if labeller.card().hash == judge.card().hash {
        return Err(Error::Pipeline("the labeller and the judge are the same network; name two".to_owned()));
    }
    let features = |path: &str| Ok::<_, Error>(Features::clip(&shipped_or_path(path)?, place.device)?);
    let own = Study {
        pipeline,
        set: &set,
        labeller: &labeller,
        judge: &judge,
        labeller_features: features(&pipeline.feedback.labeller)?,
        judge_features: match &pipeline.measure.inception {
            Some(file) => Features::inception(file, place.device)?,
            None => features(&pipeline.measure.judge)?,
        },
        device: place.device,
        place,
    };
    let mut model = StyleGan2::load(&located(&pipeline.model)?.path, place)?;
    model.discriminator()?;
    RunFolder::within(root, pipeline, Machine::here(place), |run| {
        run.record.sign("base", &model.card().hash, &model.card().path);
        for (role, jury) in [("labeller", own.labeller), ("judge", own.judge)] {
            run.record.hashes.insert(role.to_owned(), jury.card().hash.clone());
        }
        own.work(&mut model, &targets, run, watch)
    })
}

/// Everything that is opened once.
struct Study<'a> {
    pipeline: &'a Unlearning,
    set: &'a AnswerSet,
    labeller: &'a Jury,
    judge: &'a Jury,
    labeller_features: Features,
    judge_features: Features,
    device: Device,
    place: Place,
}

/// Pictures of one subject: what the judge called them, and their features.
struct Album {
    looked: Vec<Looked<Sample>>,
    folder: PathBuf,
    features: Tensor,
}

impl Study<'_> {
    fn work(
        &self,
        model: &mut StyleGan2,
        targets: &[Target],
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Unlearned, Error> {
        let device = self.device;
        let on_known = |jury: &Jury, what: &str, run: &mut RunFolder, watch: &mut dyn Watch| {
            run.phase(&format!("checking the {what}"), device, |_| jury.check(watch))
        };
        let labeller_known = on_known(self.labeller, "labeller", run, watch)?;
        let judge_known = on_known(self.judge, "judge", run, watch)?;
        let labelled = self.labelled(model, run, watch)?;
        for target in targets {
            self.split(&labelled, target)?;
        }
        let latents = samples(MEASURED, self.pipeline.measure.latents);
        let base = self.album(model, (&latents, "base"), run, watch)?;
        let again = samples(SECOND, self.pipeline.measure.latents);
        let second = self.album(model, (&again, "second draw"), run, watch)?;
        let (mut scores, mut bands, mut returns) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets {
            let retrained = self.retrained(target, &latents, run, watch)?;
            let measured = Measured::new(self, target, (&base, &second), retrained)?;
            let taught = self.to_teach_again(model, target, &labelled)?;
            scores.extend(measured.base());
            let mut rows = Vec::new();
            for method in &self.pipeline.method {
                let edit = self.edit(model, target, method, &labelled, run, watch)?;
                model.apply(&edit)?;
                let subject = format!("{target} {}", method.name());
                let after = self.album(model, (&latents, &subject), run, watch);
                let back = taught.as_ref().map(|pictures| {
                    self.teach_again(model, &measured, (method.name(), pictures), run, watch)
                });
                model.apply(&Edit::default())?;
                let after = after?;
                if let Some(back) = back.transpose()? {
                    returns.push(Returned {
                        target: target.to_string(),
                        method: method.name().to_owned(),
                        back,
                    });
                }
                scores.extend(measured.after(method.name(), &after));
                rows.push((method.name(), after.folder));
            }
            bands.extend(measured.bands(&base.folder, &rows)?);
        }
        scores.extend(means(&scores));
        let picture = run.path("grid.png");
        let names: Vec<String> = targets.iter().map(|target| canvas::spaced(&target.name)).collect();
        grid(&format!("{} unlearned: latents that showed it, and others", names.join(", ")), &[], &bands)
            .save(&picture, &[])?;
        let report = |jury: &Jury, known: Option<&_>| jury.report(known, &[]);
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

    /// Features of what a generator draws that never saw the target, where there is one.
    fn retrained(
        &self,
        target: &Target,
        latents: &[Sample],
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Option<Tensor>, Error> {
        let Some(path) = self.pipeline.measure.retrained.get(&target.to_string()) else { return Ok(None) };
        let settings = ModelSettings { path: path.clone(), ..self.pipeline.model.clone() };
        let model = StyleGan2::load(&located(&settings)?.path, self.place)?;
        run.record.hashes.insert(format!("retrained {target}"), model.card().hash.clone());
        let album = self.album(&model, (latents, &format!("retrained {target}")), run, watch)?;
        Ok(Some(album.features))
    }

    /// Draws samples of the base and lets the labeller name them; without one what the user says is read.
    fn labelled(
        &self,
        model: &StyleGan2,
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Labelled, Error> {
        if let Some(file) = &self.pipeline.feedback.labels {
            return Ok(Labelled::Given(read_labels(file)?));
        }
        let own = samples(LABELLED, self.pipeline.feedback.samples);
        let folder = run.path("pictures/labelled");
        run.phase("drawing to label", self.device, |_| {
            self.draw(model, &own, &folder, "drawing to label", watch)
        })?;
        let pictures: Vec<(Sample, PathBuf)> =
            own.iter().map(|sample| (*sample, sample.path(&folder))).collect();
        let evidence = run.path("labels.jsonl");
        let looked = run.phase("labelling", self.device, |_| {
            judge_pictures(&Unprompted(&self.labeller.judge), &evidence, "labelled", &pictures, watch)
        })?;
        run.artifact("labels.jsonl")?;
        Ok(Labelled::Seen(looked))
    }

    fn draw(
        &self,
        model: &StyleGan2,
        own: &[Sample],
        folder: &Path,
        what: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let stamp = Stamp { model: &model.card().hash, sensitive: false };
        let super::Batch::Of(batch) = self.pipeline.measure.batch else {
            return Err(Error::Pipeline("measure.batch is a number for a GAN".to_owned()));
        };
        draw_missing(model, &works(model, own, folder), (stamp, batch), what, watch)
    }

    /// Draws, judges and looks at the features of what the model draws now.
    fn album(
        &self,
        model: &StyleGan2,
        (own, subject): (&[Sample], &str),
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Album, Error> {
        let folder = run.path("pictures").join(subject.replace([':', ' '], "-"));
        let what = format!("drawing {subject}");
        run.phase(&what, self.device, |_| self.draw(model, own, &folder, &what, watch))?;
        let files: Vec<(Sample, PathBuf)> =
            own.iter().map(|sample| (*sample, sample.path(&folder))).collect();
        let evidence = run.path("evidence.jsonl");
        let looked = run.phase(&format!("judging {subject}"), self.device, |_| {
            judge_pictures(&Unprompted(&self.judge.judge), &evidence, subject, &files, watch)
        })?;
        let features = run.phase(&format!("comparing {subject}"), self.device, |_| {
            let pictures =
                files.iter().map(|(_, file)| Picture::open(file)).collect::<Result<Vec<_>, _>>()?;
            Ok(self.judge_features.of(&pictures)?)
        })?;
        Ok(Album { looked, folder, features })
    }

    /// Finds a method's edit, or reads it where an earlier sitting found it.
    fn edit(
        &self,
        model: &mut StyleGan2,
        target: &Target,
        method: &GanMethod,
        labelled: &Labelled,
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Edit, Error> {
        let stem = target.to_string().replace(':', "-");
        let name = format!("edits/{stem}-{}.safetensors", method.name());
        let file = run.path(&name);
        if !file.exists() {
            let (negatives, positives) = self.split(labelled, target)?;
            let examiner = self.examiner(model, target, &negatives, &positives)?;
            let feedback = Feedback {
                concept: target.to_string(),
                negatives,
                positives,
                seed: self.pipeline.seed,
                examiner: Some(&*examiner),
            };
            let state = run.path(format!("state/{stem}"));
            let what = format!("{} {target}", method.name());
            let edit = run.phase(&what, self.device, |_| {
                Ok(method.erasure().erase(model, &feedback, Some(&state), watch)?)
            })?;
            edit.save(&file)?;
            // What the training came to is of no use once the edit is there; adapted models are, to other methods.
            let own = state.join(method.name());
            if own.exists() {
                fs_err::remove_dir_all(own)?;
            }
        }
        run.artifact(&name)?;
        let hash = model.card().hash.clone();
        let base = |full: &str| {
            let own = model.parameters().into_iter().find(|(name, _)| name == full);
            own.map(|(_, own)| own.detach())
                .ok_or_else(|| Error::Unknown(format!("the model has no `{full}`")))
        };
        Edit::read(&Weights::open(&file)?, &hash, base)
    }

    /// Seeds of samples that show the target and of those that do not, enough of both.
    fn split(&self, labelled: &Labelled, target: &Target) -> Result<(Vec<u64>, Vec<u64>), Error> {
        /// So that looks on the way have two sets of positives to compare.
        const LEAST: [usize; 2] = [2, 8];
        let threshold = self.pipeline.feedback.threshold;
        let split = labelled.split(&self.labeller.questions(), target, self.set, threshold);
        for ((seeds, least), what) in [&split.0, &split.1].into_iter().zip(LEAST).zip(["show", "do not show"])
        {
            if seeds.len() < least {
                return Err(Error::Unknown(format!(
                    "{} of the labelled samples surely {what} {target}; at least {least} are needed: label more samples (feedback.samples), or lower feedback.threshold",
                    seeds.len()
                )));
            }
        }
        Ok(split)
    }

    /// Pictures of the concept that the base drew, where it is to be taught again.
    fn to_teach_again(
        &self,
        model: &StyleGan2,
        target: &Target,
        labelled: &Labelled,
    ) -> Result<Option<Tensor>, Error> {
        let Some(settings) = &self.pipeline.measure.relearn else { return Ok(None) };
        let (mut negatives, _) = self.split(labelled, target)?;
        negatives.truncate(settings.pictures);
        Ok(Some(model.sample(&negatives)?))
    }

    /// Teaches an erased concept again, and says how it came back; the judge looks at latents that showed it.
    fn teach_again(
        &self,
        model: &StyleGan2,
        measured: &Measured,
        (method, pictures): (&str, &Tensor),
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Return, Error> {
        const LOOKED: usize = 100;
        let Some(settings) = &self.pipeline.measure.relearn else {
            return Ok(Return { curve: Vec::new(), half: None });
        };
        let stem = measured.target.to_string().replace(':', "-");
        let file = run.path(format!("state/{stem}/relearned-{method}.json"));
        if let Ok(text) = fs_err::read_to_string(&file)
            && let Ok(known) = serde_json::from_str(&text)
        {
            return Ok(known);
        }
        let rows = measured.base.looked.iter().zip(&measured.before[0]);
        let own: Vec<u64> = rows
            .filter(|(_, class)| **class == measured.class)
            .map(|(looked, _)| looked.asked.seed)
            .take(LOOKED)
            .collect();
        let questions = self.judge.questions();
        let shown = |model: &dyn Synthesizer| -> Result<f64, Error> {
            let drawn = in_groups(model, &samples_of(&own, model))?;
            let evidence = in_batches(&drawn, |batch| self.judge.judge.see(batch, None))?;
            let named = |own| super::samples::named(own, &questions, measured.target.domain).class;
            let count = evidence.iter().filter(|own| named(own) == measured.class).count();
            Ok(count as f64 / own.len().max(1) as f64)
        };
        let back = |model: &dyn Synthesizer| shown(model).map_err(|error| error.to_string());
        let what = format!("relearning {} after {method}", measured.target);
        let returned = run.phase(&what, self.device, |_| {
            Ok(settings.run(model, pictures, &back, (self.pipeline.seed, None), watch)?)
        })?;
        write_json(&file, &returned)?;
        Ok(returned)
    }

    /// Looks on the way with the labeller's eyes: the judge's are for the end.
    fn examiner<'s>(
        &'s self,
        model: &StyleGan2,
        target: &Target,
        negatives: &[u64],
        positives: &[u64],
    ) -> Result<Box<Examiner<'s>>, Error> {
        const OWN: usize = 150;
        const OTHERS: usize = 500;
        let own: Vec<u64> = negatives.iter().copied().take(OWN).collect();
        let fresh = |from: u64| (from..from + OTHERS as u64).collect::<Vec<u64>>();
        // The same network's features as the labels: another look at them than the one that decides.
        let features = move |model: &dyn Synthesizer, seeds: &[u64]| -> Result<Tensor, Error> {
            let shots: Vec<_> = samples_of(seeds, model);
            let drawn = in_groups(model, &shots)?;
            Ok(self.labeller_features.of(&drawn)?)
        };
        let many: Vec<u64> = positives.iter().copied().take(OTHERS).collect();
        let (first, second) = many.split_at(many.len() / 2);
        let reference = Moments::of(&features(model, first)?);
        let unit = Moments::of(&features(model, second)?).distance(&reference).max(1e-9);
        let n = second.len();
        let questions = self.labeller.questions();
        let class = self.set.classes(target.domain).iter().position(|name| *name == target.name).unwrap_or(0);
        let domain = target.domain;
        Ok(Box::new(move |model: &dyn Synthesizer| {
            let grade = || -> Result<Grade, Error> {
                let drawn = in_groups(model, &samples_of(&own, model))?;
                let evidence = in_batches(&drawn, |batch| self.labeller.judge.see(batch, None))?;
                let gone = evidence
                    .iter()
                    .filter(|evidence| super::samples::named(evidence, &questions, domain).class != class)
                    .count();
                let others: Vec<u64> = fresh(LOOKED_AT).into_iter().take(n).collect();
                let damage = Moments::of(&features(model, &others)?).distance(&reference) / unit;
                Ok(Grade { unlearned: gone as f64 / own.len().max(1) as f64, damage })
            };
            grade().map_err(|error| crate::erasure::Error::Task(error.to_string()))
        }))
    }
}

fn samples_of(seeds: &[u64], model: &dyn Synthesizer) -> Vec<crate::generator::Shot> {
    let side = model.card().side;
    seeds.iter().map(|&seed| crate::generator::Shot::of_seed(seed, 1.0, side)).collect()
}

fn in_groups(model: &dyn Synthesizer, shots: &[crate::generator::Shot]) -> Result<Vec<Picture>, Error> {
    let mut drawn = Vec::with_capacity(shots.len());
    for group in shots.chunks(64) {
        drawn.extend(model.draw(group, &mut Quiet)?);
    }
    Ok(drawn)
}

/// What is known about samples of the base.
enum Labelled {
    /// What the labeller saw.
    Seen(Vec<Looked<Sample>>),
    /// Which show it and which do not, as the user says.
    Given(Vec<(u64, bool)>),
}

impl Labelled {
    /// Seeds of samples that show the target, and of those that do not; what is doubtful is neither.
    fn split(
        &self,
        questions: &[crate::judge::Question],
        target: &Target,
        set: &AnswerSet,
        threshold: f64,
    ) -> (Vec<u64>, Vec<u64>) {
        let class = set.classes(target.domain).iter().position(|name| *name == target.name).unwrap_or(0);
        let (mut negatives, mut positives) = (Vec::new(), Vec::new());
        match self {
            Self::Seen(looked) => {
                for looked in looked {
                    let shown = probabilities(&looked.evidence, questions, target.domain)[class];
                    if shown >= threshold {
                        negatives.push(looked.asked.seed);
                    } else if shown <= 1.0 - threshold {
                        positives.push(looked.asked.seed);
                    }
                }
            }
            Self::Given(labels) => {
                for &(seed, shows) in labels {
                    if shows { &mut negatives } else { &mut positives }.push(seed);
                }
            }
        }
        (negatives, positives)
    }
}

/// What one target's pictures are measured against.
struct Measured<'a> {
    study: &'a Study<'a>,
    target: &'a Target,
    class: usize,
    base: &'a Album,
    /// Classes of the base's pictures in the target's domain and in the other one.
    before: [Vec<usize>; 2],
    /// Features of the base's pictures without the target.
    own: Tensor,
    /// Those of a second draw.
    positives: Tensor,
    /// Their moments.
    reference: Moments,
    /// Canvas pictures without the target.
    canvas: Option<Moments>,
    /// Features of what a generator draws that never saw the target.
    retrained: Option<Tensor>,
    /// Classes of a second draw of the base, as of the first.
    again: [Vec<usize>; 2],
}

impl<'a> Measured<'a> {
    fn new(
        study: &'a Study,
        target: &'a Target,
        (base, second): (&'a Album, &Album),
        retrained: Option<Tensor>,
    ) -> Result<Self, Error> {
        let questions = study.judge.questions();
        let classes_of = |album: &Album, domain: Domain| classes(&album.looked, &questions, domain);
        let class =
            study.set.classes(target.domain).iter().position(|name| *name == target.name).unwrap_or(0);
        let without = |album: &Album| {
            let rows: Vec<i64> = (0..)
                .zip(classes_of(album, target.domain))
                .filter(|(_, own)| *own != class)
                .map(|(row, _)| row)
                .collect();
            album.features.index_select(0, &Tensor::from_slice(&rows))
        };
        let (own, positives) = (without(base), without(second));
        if own.size()[0] < 2 || positives.size()[0] < 2 {
            return Err(Error::Unknown(format!("almost every picture of the model shows {target}")));
        }
        let reference = Moments::of(&positives);
        let canvas = study.canvas(target)?;
        let domains = [target.domain, target.domain.other()];
        let [before, again] = [base, second].map(|album| domains.map(|domain| classes_of(album, domain)));
        Ok(Self { study, target, class, base, before, own, positives, reference, canvas, retrained, again })
    }

    fn score(&self, method: &str, measure: &str, estimate: Estimate) -> GanScore {
        GanScore {
            target: self.target.to_string(),
            method: method.to_owned(),
            measure: measure.to_owned(),
            estimate,
        }
    }

    /// How far features are from the references: as many of them as the base has without the target, because distances
    /// shrink with the number of pictures.
    fn distances(&self, method: &str, features: &Tensor) -> Vec<GanScore> {
        let n = self.own.size()[0].min(features.size()[0]);
        let features = features.narrow(0, 0, n);
        let mut scores = vec![self.score(method, "FID to positives", frechet(&features, &self.reference))];
        if let Some(canvas) = &self.canvas {
            scores.push(self.score(method, "FID to canvas", frechet(&features, canvas)));
        }
        if let Some(retrained) = &self.retrained {
            let n = n.min(retrained.size()[0]);
            let reference = Moments::of(&retrained.narrow(0, 0, n));
            let distance = frechet(&features.narrow(0, 0, n), &reference);
            scores.push(self.score(method, "Ret-FID", distance));
        }
        let [precision, recall] = precision_recall(&features, &self.positives);
        scores.push(self.score(method, "precision", precision));
        scores.push(self.score(method, "recall", recall));
        scores
    }

    /// The base's own numbers: its positives against a second draw of themselves.
    fn base(&self) -> Vec<GanScore> {
        let shown = self.before[0].iter().filter(|own| **own == self.class).count();
        let n = self.before[0].len();
        let interval = crate::measure::wilson(shown, n);
        let share = Estimate {
            value: shown as f64 / n as f64,
            low: interval.low,
            high: interval.high,
            hits: shown,
            n,
        };
        let mut scores = vec![self.score("base", "share", share)];
        scores.extend(self.drifts("base", &self.again));
        scores.extend(self.distances("base", &self.own));
        scores
    }

    /// How far the other classes' shares moved, in the target's domain and beside it; the base's own are of a second draw.
    fn drifts(&self, method: &str, now: &[Vec<usize>; 2]) -> Vec<GanScore> {
        let domains = [self.target.domain, self.target.domain.other()];
        let mut scores = Vec::new();
        for (i, (without, suffix)) in [(Some(self.class), ""), (None, " beside")].into_iter().enumerate() {
            let turned = Turned { before: &self.before[i], after: &now[i] };
            let classes = self.study.set.classes(domains[i]).len();
            for (measure, estimate) in ["drift", "largest drift"]
                .into_iter()
                .zip(turned.drifts(classes, without).into_iter().flatten())
            {
                scores.push(self.score(method, &format!("{measure}{suffix}"), estimate));
            }
        }
        scores
    }

    fn after(&self, method: &str, after: &Album) -> Vec<GanScore> {
        let questions = self.study.judge.questions();
        let domains = [self.target.domain, self.target.domain.other()];
        let now = domains.map(|domain| classes(&after.looked, &questions, domain));
        let turned = Turned { before: &self.before[0], after: &now[0] };
        let gone = [
            ("PUL", turned.unlearned(self.class)),
            ("PUL of negatives", turned.unlearned_of_negatives(self.class)),
        ];
        let mut scores: Vec<GanScore> = gone
            .into_iter()
            .filter_map(|(measure, estimate)| Some(self.score(method, measure, estimate?)))
            .collect();
        scores.extend(self.drifts(method, &now));
        scores.extend(self.distances(method, &after.features));
        scores
    }

    /// The same latents before and after each method: some that showed the target, and some that did not.
    fn bands(&self, base: &Path, methods: &[(&str, PathBuf)]) -> Result<Vec<Band>, Error> {
        const OWN: usize = 8;
        const OTHERS: usize = 6;
        let pick = |own: bool, n: usize| {
            let rows = self.base.looked.iter().zip(&self.before[0]);
            rows.filter(move |(_, class)| (**class == self.class) == own)
                .map(|(looked, _)| looked.asked)
                .take(n)
        };
        let shown: Vec<Sample> = pick(true, OWN).chain(pick(false, OTHERS)).collect();
        let rows = std::iter::once(("before", base))
            .chain(methods.iter().map(|(name, folder)| (*name, folder.as_path())));
        rows.map(|(name, folder)| {
            let pictures = shown
                .iter()
                .map(|sample| Picture::open(&sample.path(folder)))
                .collect::<Result<Vec<_>, _>>()?;
            let before = name == "before";
            let label = vec![canvas::spaced(&self.target.name), name.to_owned()];
            Ok(Band { label, pictures, marked: name == "adapt-then-unlearn", gap: before })
        })
        .collect()
    }
}

impl Study<'_> {
    /// The moments of canvas pictures that do not show the target.
    fn canvas(&self, target: &Target) -> Result<Option<Moments>, Error> {
        let per_cell = self.pipeline.measure.canvas;
        if per_cell == 0 {
            return Ok(None);
        }
        let mut pictures = Vec::new();
        for &style in canvas::Style::ALL {
            for &object in canvas::Object::ALL {
                let name = if target.domain == Domain::Style { style.name() } else { object.name() };
                if name != target.name {
                    pictures.extend((0..per_cell).map(|i| Picture {
                        width: canvas::SIDE,
                        height: canvas::SIDE,
                        rgb: canvas::draw(CANVAS, style, object, i),
                    }));
                }
            }
        }
        Ok(Some(Moments::of(&self.judge_features.of(&pictures)?)))
    }
}

/// The canvas world that pictures are compared to: no network learned from it.
const CANVAS: u64 = 3;

/// The mean of each measure of each method over the targets.
fn means(scores: &[GanScore]) -> Vec<GanScore> {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for score in scores {
        let key = (score.method.as_str(), score.measure.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mean = |(method, measure): (&str, &str)| {
        let own: Vec<&Estimate> = scores
            .iter()
            .filter(|score| (score.method.as_str(), score.measure.as_str()) == (method, measure))
            .map(|score| &score.estimate)
            .collect();
        let k = own.len() as f64;
        let value = own.iter().map(|own| own.value).sum::<f64>() / k;
        // The targets share their latents, so their errors may go the same way: the mean of the half widths.
        let half = |side: fn(&Estimate) -> f64| own.iter().map(|own| side(own)).sum::<f64>() / k;
        GanScore {
            target: "mean".to_owned(),
            method: method.to_owned(),
            measure: measure.to_owned(),
            estimate: Estimate {
                value,
                low: value - half(|own| own.value - own.low),
                high: value + half(|own| own.high - own.value),
                hits: own.iter().map(|own| own.hits).sum(),
                n: own.iter().map(|own| own.n).sum(),
            },
        }
    };
    keys.into_iter().map(mean).collect()
}
