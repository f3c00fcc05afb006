//! Studies of a concept that prompts bring out: detectors say whether it is in a picture, before
//! and after on the same prompts and seeds.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::detectors::{DetectorReport, detectors, measured};
use super::grids::PromptGrid;
use super::prompt_key::{PromptKey, role_name};
use super::protocol::{Cell, Judges, Protocol, Run};
use super::session::Session;
use super::target::Target;
use super::training_images::{ImageDemand, PROMPT_SEED, captioned, first_rounds, read};
use crate::attack::Verdict;
use crate::erasure::{Needs, TrainingImages};
use crate::generator::ImageRequest;
use crate::judge::{ConceptDetector, ImageJudge as _, in_batches};
use crate::measure::{
    Estimate, Margin, PictureStats, Score, Shown, Subject, blank, rates_after, rates_before, share,
};
use crate::pictures::Picture;
use crate::pipeline::{ConceptSettings, Pipeline, PromptRow, PromptSettings};
use crate::run::Error;
use crate::run::evidence::{EvidenceFile, JudgedImage, json};
use crate::run::hashes::pictures_hash;
use crate::run::judging::judge_pictures;
use crate::torch::{Compute, Device};
use crate::watch::Watch;

/// A study of a concept by prompts.
pub(super) struct Prompts<'a> {
    concept: &'a ConceptSettings,
    reference: Option<PathBuf>,
    targets: Vec<Target>,
    requests: Vec<(PromptKey, PromptRow)>,
    /// Which prompt each request is of, by number: seeds of one hang together.
    numbers: Vec<usize>,
    detectors: Vec<(&'static str, ConceptDetector)>,
    reports: Vec<DetectorReport>,
    blurred: bool,
    device: Device,
}

/// What each detector saw in one model's pictures.
pub(super) struct SeenPrompts {
    /// By detector, in the order of the requests.
    judged: Vec<Vec<JudgedImage<PromptKey>>>,
    /// The same as what was shown.
    pub(super) shown: Vec<Vec<Shown>>,
}

impl<'a> Prompts<'a> {
    pub(super) fn open(
        pipeline: &'a Pipeline,
        settings: &PromptSettings,
        blurred: bool,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        check_images(pipeline, watch)?;
        let concept = &pipeline.concept;
        let requests = requests(settings, watch)?;
        let mut known: HashMap<(Subject, &str), usize> = HashMap::new();
        let numbers = requests
            .iter()
            .map(|(key, _)| {
                let next = known.len();
                *known.entry((key.role, key.case.as_str())).or_insert(next)
            })
            .collect();
        Ok(Self {
            concept,
            reference: pipeline.judge.shows_and_clear().map(PathBuf::from),
            targets: vec![target(pipeline)],
            numbers,
            requests,
            detectors: detectors(pipeline, compute.device, watch)?,
            reports: Vec::new(),
            blurred,
            device: compute.device,
        })
    }

    fn evidence_file(name: &str) -> String {
        format!("evidence-{name}.jsonl")
    }

    /// Pictures of the prompts that are there for this.
    fn of_role<'s>(&'s self, role: Subject, shown: &'s [Shown]) -> Vec<Shown> {
        let all = self.requests.iter().zip(shown);
        all.filter(|((key, _), _)| key.role == role).map(|(_, shown)| *shown).collect()
    }

    /// Numbers of one model's pictures, beside the base's where it is another.
    fn scores(&self, seen: &SeenPrompts, base: Option<&SeenPrompts>) -> Vec<Score> {
        let concept = &self.targets[0].concept;
        let mut scores = Vec::new();
        for role in [Subject::Concept, Subject::Keep] {
            for (i, (name, _)) in self.detectors.iter().enumerate() {
                let now = self.of_role(role, &seen.shown[i]);
                let all = match base {
                    None => rates_before(concept, role, &now),
                    Some(base) => {
                        rates_after(concept, role, &self.of_role(role, &base.shown[i]), &now)
                    }
                };
                scores.extend(all.into_iter().map(|score| score.by(name)));
            }
        }
        scores
    }
}

/// How often two detectors say the same of a picture.
fn agreement<'s>(all: impl Iterator<Item = &'s SeenPrompts>) -> Option<Estimate> {
    let pairs: Vec<(usize, bool)> = all
        .filter_map(|seen| match seen.shown.as_slice() {
            [a, b] => Some(a.iter().zip(b)),
            _ => None,
        })
        .flatten()
        .map(|(a, b)| (a.prompt, a.shown == b.shown))
        .collect();
    share(pairs.into_iter())
}

/// What methods are told.
pub(super) fn target(pipeline: &Pipeline) -> Target {
    let concept = &pipeline.concept;
    Target {
        concept: concept.name.clone().unwrap_or_else(|| pipeline.name.clone()),
        pairs: concept.pairs.clone(),
        keep: concept.keep.clone(),
    }
}

/// All that is drawn and judged, with how each picture is drawn.
///
/// # Errors
/// Prompt lists that cannot be read, two prompts of one number.
pub(super) fn requests(
    settings: &PromptSettings,
    watch: &mut dyn Watch,
) -> Result<Vec<(PromptKey, PromptRow)>, Error> {
    let [concept, keep] = settings.rows(watch)?;
    let mut all = Vec::new();
    for (role, rows) in [(Subject::Concept, concept), (Subject::Keep, keep)] {
        let mut cases = HashSet::new();
        for row in rows {
            if !cases.insert(row.case.clone()) {
                return Err(Error::Unknown(format!(
                    "two prompts in prompts.{} have the case_number {}",
                    role_name(role),
                    row.case
                )));
            }
            let seeds = row.seed.map_or_else(|| settings.seeds.clone(), |seed| vec![seed]);
            for (n, seed) in seeds.into_iter().enumerate() {
                let (case, prompt) = (row.case.clone(), row.prompt.clone());
                all.push((PromptKey { role, case, n, prompt, seed }, row.clone()));
            }
        }
    }
    Ok(all)
}

/// Whether there is something to learn from; asked before a model is loaded.
///
/// # Errors
/// Folders without pictures, captions that are no prompts, a method that needs more; sensitive
/// pictures that nobody gave, and that the model may not draw.
pub(super) fn check_images(pipeline: &Pipeline, watch: &mut dyn Watch) -> Result<(), Error> {
    let concept = &pipeline.concept;
    let needs = pipeline.method.iter().map(|method| method.value.needs());
    let needs: Vec<Needs> = needs.collect();
    let wrong = |why: String| Err(Error::Unknown(why));
    if let Some(i) = needs.iter().position(|needs| needs.keep_prompts)
        && concept.keep.is_empty()
    {
        return wrong(format!(
            "{} learns from prompts to keep, and there are none; give some: concept.keep = \
             \"prompts/retain.csv\", or a list of prompts",
            pipeline.method[i].name()
        ));
    }
    let none_to_keep =
        concept.keep.is_empty() || (concept.pictures.is_none() && concept.keep_pictures() == 0);
    if needs.iter().any(|needs| needs.keep_images) && none_to_keep {
        let method = &pipeline.method[needs.iter().position(|n| n.keep_images).unwrap_or(0)];
        return wrong(format!(
            "{} needs pictures to keep; give some (concept.keep), or switch off what it needs them \
             for",
            method.name()
        ));
    }
    if !pipeline.learns_from_pictures() {
        return Ok(());
    }
    if let Some(folder) = &concept.pictures {
        let forget: Vec<&str> = concept.pairs.iter().map(|pair| pair.forget.as_str()).collect();
        captioned(&folder.join("forget"), &forget, watch)?;
        if !concept.keep.is_empty() {
            let keep: Vec<&str> = concept.keep.iter().map(String::as_str).collect();
            captioned(&folder.join("keep"), &keep, watch)?;
        }
    } else if concept.forget_pictures() == 0 {
        return wrong("concept.forget_pictures is 0; at least 1 is needed".to_owned());
    }
    if concept.sensitive && concept.pictures.is_none() && !concept.draw_forget {
        return wrong(format!(
            "there are no pictures of {} to learn from: set concept.pictures to a folder of them, \
             or concept.draw_forget = true to let the model draw them into the run's folder",
            concept.name.as_deref().unwrap_or("the concept")
        ));
    }
    Ok(())
}

impl Protocol for Prompts<'_> {
    type Key = PromptKey;
    type Seen = SeenPrompts;

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn requests(&self, session: &Session) -> Vec<(PromptKey, ImageRequest)> {
        let request =
            |(key, row): &(PromptKey, PromptRow)| (key.clone(), session.request_of(row, key.seed));
        self.requests.iter().map(request).collect()
    }

    fn path(&self, folder: &Path, key: &PromptKey) -> PathBuf {
        key.path(folder)
    }

    fn bind(&self, session: &Session, run: &mut Run) -> Result<(), Error> {
        let record = &mut run.folder.record;
        let rows: Vec<&PromptRow> = self.requests.iter().map(|(_, row)| row).collect();
        record.bind("prompts", blake3::hash(json(&rows)?.as_bytes()).to_hex().as_str())?;
        if let Some(folder) = &self.concept.pictures {
            record.bind("folder of pictures to learn from", &pictures_hash(folder)?)?;
        }
        for (name, detector) in &self.detectors {
            record.bind(name, &detector.card().hash)?;
            let fingerprint = &detector.card().fingerprint;
            record.bind(&format!("{name}'s settings and questions"), fingerprint)?;
        }
        let pairs = self.concept.pairs.iter().flat_map(|pair| [&pair.forget, &pair.anchor]);
        let all = rows.iter().map(|row| &row.prompt).chain(pairs).chain(&self.concept.keep);
        session.warn_of_unread(all.map(String::as_str), run.watch);
        Ok(())
    }

    fn check_judges(&mut self, _: &Session, run: &mut Run) -> Result<(), Error> {
        for (name, detector) in &self.detectors {
            let file = run.folder.path(Self::evidence_file(name));
            let mut evidence = EvidenceFile::open(&file, run.watch)?;
            let (reference, watch) = (self.reference.as_deref(), &mut *run.watch);
            let what = format!("checking {name}");
            self.reports.push(run.folder.phase(&what, self.device, |_| {
                measured(name, detector, reference, &mut evidence, watch)
            })?);
        }
        Ok(())
    }

    fn see(
        &self,
        subject: &str,
        pictures: &[(PromptKey, PathBuf)],
        _: &Session,
        run: &mut Run,
    ) -> Result<SeenPrompts, Error> {
        let (mut judged, mut shown) = (Vec::new(), Vec::new());
        for (name, detector) in &self.detectors {
            let file = run.folder.path(Self::evidence_file(name));
            let mut evidence = EvidenceFile::open(&file, run.watch)?;
            let watch = &mut *run.watch;
            let what = format!("judging {subject} ({name})");
            let all = run.folder.phase(&what, self.device, |_| {
                judge_pictures(detector, &mut evidence, subject, pictures, watch)
            })?;
            let of = |(judged, &prompt): (&JudgedImage<PromptKey>, &usize)| Shown {
                prompt,
                shown: detector.margin(&judged.evidence) > 0.0,
                // One class: on which side it is was the question.
                margin: (detector.distance(&judged.evidence))
                    .map(|logits| Margin { class: 0, logits }),
                fit: judged.evidence.clip_score.map(f64::from),
            };
            shown.push(all.iter().zip(&self.numbers).map(of).collect());
            judged.push(all);
        }
        Ok(SeenPrompts { judged, shown })
    }

    fn score_base(
        &mut self,
        _: usize,
        base: &SeenPrompts,
        _: &Session,
        _: &mut Run,
    ) -> Result<Vec<Score>, Error> {
        Ok(self.scores(base, None))
    }

    fn score(
        &self,
        _: usize,
        base: &SeenPrompts,
        after: &SeenPrompts,
    ) -> Result<Vec<Score>, Error> {
        Ok(self.scores(after, Some(base)))
    }

    fn same(&self, before: &SeenPrompts, after: &SeenPrompts) -> bool {
        let shown = |seen: &SeenPrompts| -> Vec<bool> {
            seen.shown.iter().flatten().map(|detected| detected.shown).collect()
        };
        shown(before) == shown(after)
    }

    fn blank(&self, _: usize, seen: &SeenPrompts) -> (usize, usize) {
        let first = seen.judged.first().map(Vec::as_slice).unwrap_or_default();
        let concept: Vec<PictureStats> = first
            .iter()
            .filter(|judged| judged.asked.role == Subject::Concept)
            .map(JudgedImage::stats)
            .collect();
        (blank(&concept), concept.len())
    }

    fn means(&self, _: &SeenPrompts, _: &[(Cell, SeenPrompts)], _: &[Score]) -> Vec<Score> {
        Vec::new()
    }

    fn images(
        &self,
        _: usize,
        demand: ImageDemand,
        session: &Session,
        folder: &Path,
        watch: &mut dyn Watch,
    ) -> Result<TrainingImages, Error> {
        let forget: Vec<&str> =
            self.concept.pairs.iter().map(|pair| pair.forget.as_str()).collect();
        let keep: Vec<&str> = self.concept.keep.iter().map(String::as_str).collect();
        if let Some(folder) = &self.concept.pictures {
            let mut files = |what: &str, prompts: &[&str], wanted: bool| {
                if prompts.is_empty() || !wanted {
                    return Ok(Vec::new());
                }
                captioned(&folder.join(what), prompts, watch)
            };
            let forget = files("forget", &forget, demand.forget > 0)?;
            let keep = files("keep", &keep, demand.keep > 0)?;
            return read(&forget, &keep, session.side, watch);
        }
        let mut drawn = |what: &str, prompts: &[&str], each: usize, most: usize| {
            let all: Vec<(usize, u64)> = (0..prompts.len())
                .flat_map(|prompt| (0..each as u64).map(move |i| (prompt, i)))
                .collect();
            let wanted = first_rounds(all, most, |(_, i)| *i);
            let works: Vec<(PathBuf, ImageRequest)> = wanted
                .iter()
                .map(|&(prompt, i)| {
                    let file = folder.join(what).join(format!("{prompt}_{i}.png"));
                    (file, session.request(prompts[prompt].to_owned(), PROMPT_SEED + i))
                })
                .collect();
            session.draw(&works, &format!("drawing to {what}"), watch)?;
            let files = works.into_iter().map(|(file, _)| file);
            let numbers = wanted.into_iter().map(|(prompt, _)| prompt);
            Ok::<_, Error>(files.zip(numbers).collect::<Vec<_>>())
        };
        let concept = self.concept;
        let forget = drawn("forget", &forget, concept.forget_pictures(), demand.forget)?;
        let keep = drawn("keep", &keep, concept.keep_pictures(), demand.keep)?;
        read(&forget, &keep, session.side, watch)
    }

    fn of_target(&self, _: usize) -> Vec<usize> {
        let all = 0..self.requests.len();
        all.filter(|i| self.requests[*i].0.role == Subject::Concept).collect()
    }

    fn shows(&self, _: usize, base: &SeenPrompts, request: usize) -> bool {
        base.shown.iter().any(|detector| detector[request].shown)
    }

    fn verdicts(&self, _: usize, pictures: &[Picture]) -> Result<Vec<Verdict>, Error> {
        let mut by_detector = Vec::new();
        for (_, detector) in &self.detectors {
            let prompts = vec![String::new(); pictures.len()];
            let evidence =
                in_batches(pictures, |batch| detector.judge(batch, &prompts[..batch.len()]))?;
            let sees = |evidence| detector.margin(evidence) > 0.0;
            by_detector.push(evidence.iter().map(sees).collect::<Vec<bool>>());
        }
        // What one of them sees is there; that both do confirms it.
        let verdict = |i: usize| {
            let mut seen = by_detector.iter().map(|seen| seen[i]);
            let both = by_detector.len() > 1;
            let confirmed = both.then(|| by_detector.iter().all(|seen| seen[i]));
            Verdict { shows: seen.any(|seen| seen), confirmed }
        };
        Ok((0..pictures.len()).map(verdict).collect())
    }

    fn grid(
        &self,
        folder: &Path,
        cells: &[Cell],
        base: &SeenPrompts,
        after: &[(Cell, SeenPrompts)],
    ) -> Result<Picture, Error> {
        let keys: Vec<&PromptKey> = self.requests.iter().map(|(key, _)| key).collect();
        let by_any = |seen: &SeenPrompts| -> Vec<bool> {
            let any = |i: usize| seen.shown.iter().any(|detector| detector[i].shown);
            (0..keys.len()).map(any).collect()
        };
        let grid = PromptGrid {
            concept: &self.targets[0].concept,
            keys: &keys,
            shown_before: &by_any(base),
            shown_after: after.first().map(|(_, seen)| by_any(seen)),
            blurred: self.blurred,
        };
        grid.draw(folder, cells)
    }

    fn judges(&self, base: &SeenPrompts, after: &[(Cell, SeenPrompts)]) -> Result<Judges, Error> {
        let all = std::iter::once(base).chain(after.iter().map(|(_, seen)| seen));
        let agreement = agreement(all);
        Ok(Judges { detectors: self.reports.clone(), agreement, ..Judges::default() })
    }
}
