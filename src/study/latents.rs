//! Studies of what a GAN's samples show: labelled samples are learned from, and the same latents
//! are drawn before and after.

use std::path::{Path, PathBuf};

use super::evaluator::{Labelled, Split, evaluator};
use super::grids::of_latents;
use super::labels::read_labels;
use super::protocol::{Cell, Judges, LabelledSamples, Protocol, Run};
use super::reference_judge::ReferenceJudge;
use super::sample_judge::{SampleJudge, SeenSamples};
use super::samples::{Sample, samples};
use super::session::Session;
use super::target::Target;
use super::training_images::ImageDemand;
use crate::attack::{Exposure, Verdict};
use crate::erasure::TrainingImages;
use crate::generator::{Adapter, Generator as _, ImageRequest, Provenance, StyleGan2, Synthesizer};
use crate::judge::Features;
use crate::measure::{
    self, Answer, AnswerSet, Domain, JudgedSamples, LatentMeasures, Moments, PictureStats, Score,
    blank, mean_over_targets,
};
use crate::pictures::Picture;
use crate::pipeline::{
    LABELLED, LatentSettings, MEASURED, ModelSettings, Pipeline, SECOND_DRAW, located,
};
use crate::run::Error;
use crate::run::drawing::draw_missing;
use crate::run::evidence::EvidenceFile;
use crate::run::hashes::hash_with;
use crate::run::judging::{Unprompted, judge_pictures};
use crate::run::opening::opened_gan;
use crate::torch::{Compute, Tensor};
use crate::training::check_gan_compute;
use crate::watch::Watch;

/// A study of a GAN.
pub(super) struct Latents<'a> {
    pipeline: &'a Pipeline,
    settings: &'a LatentSettings,
    set: AnswerSet,
    classes: Vec<measure::TargetClass>,
    targets: Vec<Target>,
    labeller: ReferenceJudge,
    judge: SampleJudge,
    labeller_features: Features,
    references: [Option<measure::Reference>; 2],
    /// Samples to learn from, target by target.
    splits: Vec<Split>,
    /// A second draw of the base.
    second: Option<JudgedSamples>,
    /// Known pictures and their features.
    known: Option<(Vec<Answer>, Tensor)>,
    /// What generators draw that never saw a target, by target.
    retrained: Vec<Option<JudgedSamples>>,
    /// Whether each of the base's pictures showed it, by target.
    shown: Vec<Vec<bool>>,
    compute: Compute,
}

impl<'a> Latents<'a> {
    pub(super) fn open(
        pipeline: &'a Pipeline,
        settings: &'a LatentSettings,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        check_gan_compute(compute)?;
        let set = settings.classes()?;
        let classes = pipeline.concept.targets_in(&set)?;
        // Each is needed hours later, and a wrong path is to be known now.
        for path in settings.retrained.values() {
            opened_gan(&gan_at(path)?)?;
        }
        let device = compute.device;
        let judge_settings = &pipeline.judge;
        let labeller_path = pipeline.concept.labelling().labeller;
        let labeller =
            ReferenceJudge::open(&judge_settings.by(labeller_path), &set, device, watch)?;
        let judge = ReferenceJudge::open(judge_settings, &set, device, watch)?;
        if labeller.card().hash == judge.card().hash {
            return Err(Error::Unknown(
                "the labeller and the judge are the same network; name two".to_owned(),
            ));
        }
        let inception = judge_settings.inception.as_deref();
        Ok(Self {
            pipeline,
            settings,
            targets: classes.iter().map(target).collect(),
            labeller_features: labeller.features(None, device)?,
            retrained: classes.iter().map(|_| None).collect(),
            classes,
            set,
            labeller,
            judge: SampleJudge {
                features: judge.features(inception, device)?,
                reference: judge,
                device,
            },
            references: [None, None],
            splits: Vec::new(),
            shown: Vec::new(),
            second: None,
            known: None,
            compute,
        })
    }

    /// What methods learn from: samples of the base that the labeller names, or that the user did.
    fn labelled(&self, session: &Session, run: &mut Run) -> Result<Labelled, Error> {
        if let Some(labels) = &self.pipeline.concept.labels {
            let hash = &session.generator().card().hash;
            let labels = read_labels(labels, hash, MEASURED, run.watch)?;
            let text = format!("{labels:?}");
            run.folder.record.bind("labels", blake3::hash(text.as_bytes()).to_hex().as_str())?;
            return Ok(Labelled::Given(labels));
        }
        let samples = samples(LABELLED, self.pipeline.concept.labelling().samples);
        let folder = run.folder.path("pictures/labelled");
        let works: Vec<(PathBuf, ImageRequest)> = samples
            .iter()
            .map(|sample| (self.path(&folder, sample), session.request(String::new(), sample.seed)))
            .collect();
        let (device, watch) = (self.compute.device, &mut *run.watch);
        run.folder.phase("drawing to label", device, |_| {
            session.draw(&works, "drawing to label", watch)
        })?;
        let files = works.into_iter().map(|(file, _)| file);
        let pictures: Vec<(Sample, PathBuf)> = samples.into_iter().zip(files).collect();
        let mut evidence = EvidenceFile::open(&run.folder.path("labels.jsonl"), watch)?;
        let judged = run.folder.phase("labelling", device, |_| {
            let labeller = Unprompted(&self.labeller.judge);
            judge_pictures(&labeller, &mut evidence, "labelled", &pictures, watch)
        })?;
        Ok(Labelled::Judged(judged))
    }

    /// Draws and judges what another generator draws.
    fn of_other(
        &self,
        model: &dyn Synthesizer,
        latents: &[Sample],
        subject: &str,
        run: &mut Run,
    ) -> Result<JudgedSamples, Error> {
        let folder = run.folder.path("pictures").join(subject.replace([':', ' '], "-"));
        let side = model.card().side;
        let works: Vec<(PathBuf, ImageRequest)> = latents
            .iter()
            .map(|sample| {
                (self.path(&folder, sample), ImageRequest::of_seed(sample.seed, 1.0, side))
            })
            .collect();
        let crate::pipeline::Batch::Of(batch) = self.pipeline.draw.batch else {
            return Err(Error::Unknown("draw.batch is a number for a GAN".to_owned()));
        };
        let hash = hash_with(&model.card().hash, &[] as &[Adapter])?;
        let what = format!("drawing {subject}");
        let (device, watch) = (self.compute.device, &mut *run.watch);
        run.folder.phase(&what, device, |_| {
            let provenance = Provenance { model: &hash, sensitive: false };
            draw_missing(model, &works, provenance, batch, &what, watch)
        })?;
        let files = works.into_iter().map(|(file, _)| file);
        let pictures: Vec<(Sample, PathBuf)> = latents.iter().copied().zip(files).collect();
        Ok(self.judge.see(&self.set, subject, &pictures, run)?.samples)
    }

    fn measures<'s>(
        &'s self,
        target: usize,
        base: &'s SeenSamples,
    ) -> Result<LatentMeasures<'s>, Error> {
        let class = &self.classes[target];
        let known = self.known.as_ref().and_then(|known| without(known, class));
        let retrained =
            self.retrained[target].as_ref().map(|samples| samples.features.shallow_clone());
        let second = self.second.as_ref().unwrap_or(&base.samples);
        Ok(LatentMeasures::new(&self.set, class, &base.samples, second, known, retrained)?)
    }
}

/// Its prompts are none.
pub(super) fn target(class: &measure::TargetClass) -> Target {
    Target { concept: class.to_string(), pairs: Vec::new(), keep: Vec::new() }
}

/// The file of a GAN that is given by its path alone.
fn gan_at(path: &str) -> Result<PathBuf, Error> {
    Ok(located(&ModelSettings::at(path))?.path)
}

/// The moments of known pictures that do not show the target, where there are enough of them.
fn without(known: &(Vec<Answer>, Tensor), target: &measure::TargetClass) -> Option<Moments> {
    let (answers, features) = known;
    let rows = (0..).zip(answers).filter(|(_, answer)| answer.wanted(target.domain) != target.name);
    let rows: Vec<i64> = rows.map(|(row, _)| row).collect();
    (rows.len() > 1).then(|| Moments::of(&features.index_select(0, &Tensor::from_slice(&rows))))
}

impl Protocol for Latents<'_> {
    type Key = Sample;
    type Seen = SeenSamples;

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn requests(&self, session: &Session) -> Vec<(Sample, ImageRequest)> {
        let latents = samples(MEASURED, self.settings.n).into_iter();
        latents.map(|sample| (sample, session.request(String::new(), sample.seed))).collect()
    }

    fn path(&self, folder: &Path, key: &Sample) -> PathBuf {
        folder.join(format!("{}.png", key.seed))
    }

    fn bind(&self, session: &Session, run: &mut Run) -> Result<(), Error> {
        session.gan()?.discriminator()?;
        let record = &mut run.folder.record;
        // The labeller also says when a training may stop.
        for (what, judge) in [("judge", &self.judge.reference), ("labeller", &self.labeller)] {
            record.bind(what, &judge.card().hash)?;
            record.bind(&format!("{what}'s settings and questions"), &judge.card().fingerprint)?;
        }
        record.bind("features", &self.judge.features.card().fingerprint)
    }

    fn check_judges(&mut self, _: &Session, run: &mut Run) -> Result<(), Error> {
        for (i, (what, judge)) in
            [("labeller", &self.labeller), ("judge", &self.judge.reference)].into_iter().enumerate()
        {
            let file = run.folder.path(format!("{what}-reference.jsonl"));
            let mut evidence = EvidenceFile::open(&file, run.watch)?;
            let watch = &mut *run.watch;
            let phase = format!("checking the {what}");
            self.references[i] = run
                .folder
                .phase(&phase, self.compute.device, |_| judge.check(&mut evidence, watch))?;
        }
        Ok(())
    }

    fn see(
        &self,
        subject: &str,
        pictures: &[(Sample, PathBuf)],
        _: &Session,
        run: &mut Run,
    ) -> Result<SeenSamples, Error> {
        self.judge.see(&self.set, subject, pictures, run)
    }

    /// All targets before the first is worked on: too few samples of one end the run.
    fn prepare(&mut self, session: &Session, run: &mut Run) -> Result<(), Error> {
        let labelled = self.labelled(session, run)?;
        let (questions, threshold) =
            (self.labeller.questions(), self.pipeline.concept.labelling().threshold);
        self.splits = self
            .classes
            .iter()
            .map(|class| labelled.split(&questions, &self.set, class, threshold))
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn compare_base(
        &mut self,
        base: &SeenSamples,
        session: &Session,
        run: &mut Run,
    ) -> Result<(), Error> {
        for class in &self.classes {
            let number = self.set.class(class)?;
            let classes = base.samples.classes(class.domain).iter();
            self.shown.push(classes.map(|shown| *shown == number).collect());
        }
        let again = samples(SECOND_DRAW, self.settings.n);
        self.second = Some(self.of_other(session.gan()?, &again, "second draw", run)?);
        let known = self.judge.reference.known(0, self.pipeline.judge.compare(), run.watch)?;
        let (answers, pictures): (Vec<Answer>, Vec<Picture>) = known.into_iter().unzip();
        if !answers.is_empty() {
            self.known = Some((answers, self.judge.features.of(&pictures)?));
        }
        Ok(())
    }

    fn score_base(
        &mut self,
        target: usize,
        base: &SeenSamples,
        _: &Session,
        run: &mut Run,
    ) -> Result<Vec<Score>, Error> {
        let name = self.targets[target].concept.clone();
        if let Some(path) = self.settings.retrained.get(&name) {
            let model = StyleGan2::load(&gan_at(path)?, self.compute)?;
            let role = format!("retrained {name}");
            run.folder.record.bind(&role, &model.card().hash)?;
            let latents = samples(MEASURED, self.settings.n);
            self.retrained[target] = Some(self.of_other(&model, &latents, &role, run)?);
        }
        let measures = self.measures(target, base)?;
        let mut scores = measures.of_base();
        if let Some(retrained) = &self.retrained[target] {
            let of_retrained = measures.of_retrained(retrained);
            scores.extend(of_retrained.into_iter().map(|score| score.after("retrained")));
        }
        Ok(scores)
    }

    fn score(
        &self,
        target: usize,
        base: &SeenSamples,
        after: &SeenSamples,
    ) -> Result<Vec<Score>, Error> {
        Ok(self.measures(target, base)?.of(&after.samples))
    }

    fn same(&self, before: &SeenSamples, after: &SeenSamples) -> bool {
        let same = |domain| before.samples.classes(domain) == after.samples.classes(domain);
        [Domain::Style, Domain::Object].into_iter().all(same)
    }

    fn blank(&self, target: usize, seen: &SeenSamples) -> (usize, usize) {
        let showed = seen.judged.iter().zip(&self.shown[target]).filter(|(_, shown)| **shown);
        let all: Vec<PictureStats> = showed.map(|(judged, _)| judged.stats()).collect();
        (blank(&all), all.len())
    }

    fn means(&self, _: &SeenSamples, _: &[(Cell, SeenSamples)], scores: &[Score]) -> Vec<Score> {
        mean_over_targets(scores, self.targets.len())
    }

    fn images(
        &self,
        _: usize,
        _: ImageDemand,
        _: &Session,
        _: &Path,
        _: &mut dyn Watch,
    ) -> Result<TrainingImages, Error> {
        Ok(TrainingImages { forget: Vec::new(), remain: Vec::new() })
    }

    fn samples<'s>(
        &'s self,
        target: usize,
        session: &Session,
        watch: &mut dyn Watch,
    ) -> Result<Option<LabelledSamples<'s>>, Error> {
        let split = &self.splits[target];
        let concept = self.targets[target].concept.clone();
        if split.negatives.len() < 4 {
            watch.warn(&format!(
                "{concept}: of only {} samples that show it none is held out; how much is \
                 unlearned on the way is looked at in those that are learned from",
                split.negatives.len()
            ));
        }
        let evaluator = evaluator(
            session.gan()?,
            &self.labeller,
            &self.labeller_features,
            &self.set,
            &self.classes[target],
            split,
        )?;
        Ok(Some(LabelledSamples {
            negatives: split.hold_out().1.to_vec(),
            positives: split.positives.clone(),
            evaluator,
        }))
    }

    fn of_target(&self, target: usize) -> Vec<usize> {
        let shown = &self.shown[target];
        (0..shown.len()).filter(|i| shown[*i]).collect()
    }

    fn shows(&self, target: usize, _: &SeenSamples, request: usize) -> bool {
        self.shown[target][request]
    }

    fn exposure(
        &self,
        target: usize,
        requests: Vec<ImageRequest>,
        session: &Session,
        pictures: usize,
        run: &mut Run,
    ) -> Result<Exposure, Error> {
        let negatives = &self.splits[target].negatives;
        let taught = &negatives[..negatives.len().min(pictures)];
        if taught.len() < pictures {
            run.watch.warn(&format!(
                "{}: the attack is taught with {} pictures; there are no {pictures} samples that \
                 show it",
                self.targets[target].concept,
                taught.len()
            ));
        }
        let samples = session.gan()?.sample(taught)?;
        Ok(Exposure::of_samples(samples, requests))
    }

    fn verdicts(&self, target: usize, pictures: &[Picture]) -> Result<Vec<Verdict>, Error> {
        let called = self.judge.reference.called(&self.classes[target], pictures)?.into_iter();
        Ok(called.map(|shows| Verdict { shows, confirmed: None }).collect())
    }

    fn grid(
        &self,
        folder: &Path,
        cells: &[Cell],
        base: &SeenSamples,
        _: &[(Cell, SeenSamples)],
    ) -> Result<Picture, Error> {
        let seeds: Vec<u64> = base.judged.iter().map(|judged| judged.asked.seed).collect();
        of_latents(&self.classes, &seeds, &self.shown, folder, cells)
    }

    fn judges(&self, _: &SeenSamples, _: &[(Cell, SeenSamples)]) -> Result<Judges, Error> {
        let [labeller, judge] = &self.references;
        Ok(Judges {
            judge: Some(self.judge.reference.report(judge.as_ref(), &[])?),
            labeller: Some(self.labeller.report(labeller.as_ref(), &[])?),
            features: Some(self.judge.features.card().clone()),
            ..Judges::default()
        })
    }
}
