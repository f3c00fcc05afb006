//! Studies of styles × objects, by UnlearnCanvas' measures.

use std::path::{Path, PathBuf};

use super::grids::of_classes;
use super::protocol::{Cell, Judges, Protocol, Run};
use super::reference_judge::ReferenceJudge;
use super::session::Session;
use super::target::Target;
use super::training_images::{CLASS_SEED, ImageDemand, first_rounds, numbers, read};
use crate::attack::Verdict;
use crate::erasure::{Pair, TrainingImages};
use crate::generator::ImageRequest;
use crate::measure::{
    self, Answer, AnswerSet, Became, Domain, JudgedAnswer, PLAIN, PictureStats, Reference, Score,
    blank, score_base, score_mean, score_target,
};
use crate::pictures::{Picture, list_deep, sole};
use crate::pipeline::{AnswerSettings, ConceptSettings, Pipeline};
use crate::run::Error;
use crate::run::evidence::{EvidenceFile, JudgedImage};
use crate::run::hashes::pictures_hash;
use crate::run::judging::judge_pictures;
use crate::torch::{Compute, Device, bits_of_seed};
use crate::watch::Watch;

/// A study of styles × objects.
pub(super) struct Classes<'a> {
    concept: &'a ConceptSettings,
    set: AnswerSet,
    erased: Vec<measure::TargetClass>,
    targets: Vec<Target>,
    judge: ReferenceJudge,
    /// Confirms what attacks bring back.
    second: Option<ReferenceJudge>,
    /// What is known about the judges, once they have named known pictures.
    reference: Option<Reference>,
    second_reference: Option<Reference>,
    device: Device,
}

/// What the judge said of one model's pictures.
pub(super) struct SeenAnswers {
    judged: Vec<JudgedImage<Answer>>,
    answers: Vec<JudgedAnswer>,
}

impl<'a> Classes<'a> {
    pub(super) fn open(
        pipeline: &'a Pipeline,
        answers: &AnswerSettings,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let (set, classes) = checked(pipeline, answers)?;
        let concept = &pipeline.concept;
        let targets = classes.iter().map(|class| target(&set, concept, class)).collect();
        let judge = ReferenceJudge::open(&pipeline.judge, &set, compute.device, watch)?;
        let device = compute.device;
        let settings = &pipeline.judge;
        let mut open =
            |path: &String| ReferenceJudge::open(&settings.by(path), &set, device, watch);
        let second = settings.second.as_ref().map(&mut open).transpose()?;
        if second.as_ref().is_some_and(|second| second.card().hash == judge.card().hash) {
            return Err(Error::Unknown(
                "judge.second is the same network as the judge; name another".to_owned(),
            ));
        }
        Ok(Self {
            concept,
            set,
            erased: classes,
            targets,
            judge,
            second,
            reference: None,
            second_reference: None,
            device,
        })
    }

    fn erased_of(&self, domain: Domain) -> impl Iterator<Item = usize> {
        (0..self.erased.len()).filter(move |&i| self.erased[i].domain == domain)
    }

    fn says_unmeasured(&self, watch: &mut dyn Watch) {
        for class in &self.erased {
            self.set.unmeasured(class).iter().for_each(|why| watch.note(why));
        }
    }
}

/// What a pipeline asks for, checked as far as that goes without its model.
pub(super) fn checked(
    pipeline: &Pipeline,
    answers: &AnswerSettings,
) -> Result<(AnswerSet, Vec<measure::TargetClass>), Error> {
    let set = answers.set()?;
    let classes = pipeline.concept.targets_in(&set)?;
    let none = pipeline.concept.pictures.is_none() && pipeline.concept.forget_pictures() == 0;
    if none && pipeline.learns_from_pictures() {
        return Err(Error::Unknown(
            "concept.forget_pictures is 0; at least 1 is needed".to_owned(),
        ));
    }
    Ok((set, classes))
}

/// A class with everything of the other domain, and all the rest to keep.
pub(super) fn target(
    set: &AnswerSet,
    settings: &ConceptSettings,
    class: &measure::TargetClass,
) -> Target {
    let next = |classes: &[String]| {
        let at = classes.iter().position(|name| *name == class.name).unwrap_or(0);
        classes[(at + 1) % classes.len()].clone()
    };
    let named = settings.anchor(class.domain).cloned();
    let anchor = named.unwrap_or_else(|| match class.domain {
        Domain::Style if class.name != PLAIN => PLAIN.to_owned(),
        domain => next(set.classes(domain)),
    });
    let (mut pairs, mut keep) = (Vec::new(), Vec::new());
    for answer in (AnswerSet { seeds: vec![0], ..set.clone() }).answers() {
        if answer.wanted(class.domain) != class.name {
            keep.push(answer.prompt());
            continue;
        }
        let to = match class.domain {
            Domain::Style => Answer { style: anchor.clone(), ..answer.clone() },
            Domain::Object => Answer { object: anchor.clone(), ..answer.clone() },
        };
        pairs.push(Pair { forget: answer.prompt(), anchor: to.prompt() });
    }
    Target { concept: class.to_string(), pairs, keep }
}

/// Which pictures there are to learn from: of the target, and of the rest.
pub(super) fn to_learn_from(
    set: &AnswerSet,
    settings: &ConceptSettings,
    class: &measure::TargetClass,
    demand: ImageDemand,
) -> (Vec<Answer>, Vec<Answer>) {
    let (mut forget, mut keep) = (Vec::new(), Vec::new());
    let most = settings.forget_pictures().max(settings.keep_pictures()) as u64;
    let seeds: Vec<u64> = (0..most).map(|i| CLASS_SEED + i).collect();
    for answer in (AnswerSet { seeds, ..set.clone() }).answers() {
        let is_target = answer.wanted(class.domain) == class.name;
        let wanted = if is_target { settings.forget_pictures() } else { settings.keep_pictures() };
        if answer.seed - CLASS_SEED < wanted as u64 {
            if is_target { &mut forget } else { &mut keep }.push(answer);
        }
    }
    let first = |all, n| first_rounds(all, n, |answer: &Answer| answer.seed);
    (first(forget, demand.forget), first(keep, demand.keep))
}

fn picture_path(folder: &Path, answer: &Answer) -> PathBuf {
    folder.join(format!("{}.png", answer.stem()))
}

impl Protocol for Classes<'_> {
    type Key = Answer;
    type Seen = SeenAnswers;

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn requests(&self, session: &Session) -> Vec<(Answer, ImageRequest)> {
        let request = |answer: Answer| {
            let request = session.request(answer.prompt(), answer.seed);
            (answer, request)
        };
        self.set.answers().into_iter().map(request).collect()
    }

    fn path(&self, folder: &Path, key: &Answer) -> PathBuf {
        picture_path(folder, key)
    }

    fn bind(&self, session: &Session, run: &mut Run) -> Result<(), Error> {
        let record = &mut run.folder.record;
        if let Some(folder) = &self.concept.pictures {
            record.bind("folder of pictures to learn from", &pictures_hash(folder)?)?;
        }
        record.bind("judge", &self.judge.card().hash)?;
        record.bind("judge's settings and questions", &self.judge.card().fingerprint)?;
        if let Some(second) = &self.second {
            record.bind("second judge", &second.card().hash)?;
            record.bind("second judge's settings and questions", &second.card().fingerprint)?;
        }
        let learned = self.concept.forget_pictures().max(self.concept.keep_pictures()) as u64;
        let judged = |seed: &&u64| u64::from(bits_of_seed(**seed)) < learned;
        if self.concept.pictures.is_none()
            && let Some(seed) = self.set.seeds.iter().find(judged)
        {
            run.watch.warn(&format!(
                "answers.seeds has {seed}, whose pictures methods learn from: they draw the seeds \
                 0 to {}; judge others",
                learned - 1
            ));
        }
        let prompts: Vec<String> = self.set.answers().iter().map(Answer::prompt).collect();
        session.warn_of_unread(prompts.iter().map(String::as_str), run.watch);
        Ok(())
    }

    fn check_judges(&mut self, _: &Session, run: &mut Run) -> Result<(), Error> {
        let mut evidence = EvidenceFile::open(&run.folder.path("evidence.jsonl"), run.watch)?;
        let (judge, watch) = (&self.judge, &mut *run.watch);
        self.reference = run
            .folder
            .phase("checking the judge", self.device, |_| judge.check(&mut evidence, watch))?;
        if let Some(second) = &self.second {
            let file = run.folder.path("evidence-second.jsonl");
            let mut evidence = EvidenceFile::open(&file, run.watch)?;
            let watch = &mut *run.watch;
            let what = "checking the second judge";
            self.second_reference =
                run.folder.phase(what, self.device, |_| second.check(&mut evidence, watch))?;
        }
        self.says_unmeasured(run.watch);
        Ok(())
    }

    fn see(
        &self,
        subject: &str,
        pictures: &[(Answer, PathBuf)],
        _: &Session,
        run: &mut Run,
    ) -> Result<SeenAnswers, Error> {
        let mut evidence = EvidenceFile::open(&run.folder.path("evidence.jsonl"), run.watch)?;
        let (judge, watch) = (&self.judge.judge, &mut *run.watch);
        let what = format!("judging {subject}");
        let judged = run.folder.phase(&what, self.device, |_| {
            judge_pictures(judge, &mut evidence, subject, pictures, watch)
        })?;
        let questions = self.judge.questions();
        let answers = judged.iter().map(|judged| judged.seen(&questions)).collect();
        Ok(SeenAnswers { judged, answers })
    }

    fn score_base(
        &mut self,
        target: usize,
        base: &SeenAnswers,
        _: &Session,
        _: &mut Run,
    ) -> Result<Vec<Score>, Error> {
        let (class, known) = (&self.erased[target], self.reference.as_ref());
        Ok(score_base(&self.set, class, &base.answers, known)?)
    }

    fn score(
        &self,
        target: usize,
        base: &SeenAnswers,
        after: &SeenAnswers,
    ) -> Result<Vec<Score>, Error> {
        let (class, known) = (&self.erased[target], self.reference.as_ref());
        Ok(score_target(&self.set, class, &after.answers, Some(&base.answers), known)?)
    }

    fn same(&self, before: &SeenAnswers, after: &SeenAnswers) -> bool {
        let named = |seen: &JudgedAnswer| {
            let name = |domain| seen.named(domain).to_owned();
            [Domain::Style, Domain::Object].map(name)
        };
        before.answers.iter().map(named).eq(after.answers.iter().map(named))
    }

    fn blank(&self, target: usize, seen: &SeenAnswers) -> (usize, usize) {
        let class = &self.erased[target];
        let shown: Vec<PictureStats> = seen
            .answers
            .iter()
            .filter(|seen| seen.answer.wanted(class.domain) == class.name)
            .map(|seen| PictureStats { contrast: seen.contrast, logits: &seen.logits })
            .collect();
        (blank(&shown), shown.len())
    }

    fn means(&self, base: &SeenAnswers, after: &[(Cell, SeenAnswers)], _: &[Score]) -> Vec<Score> {
        let mut methods: Vec<&str> = after.iter().map(|(cell, _)| cell.method.as_str()).collect();
        methods.dedup();
        let mut seen_methods: Vec<&str> = Vec::new();
        methods.retain(|method| {
            let first = !seen_methods.contains(method);
            seen_methods.push(method);
            first
        });
        let mut scores = Vec::new();
        for domain in [Domain::Style, Domain::Object] {
            let targets: Vec<usize> = self.erased_of(domain).collect();
            if targets.len() < 2 {
                continue;
            }
            let before: Vec<_> =
                targets.iter().map(|&i| (&self.erased[i], base.answers.as_slice())).collect();
            scores.extend(score_mean(&self.set, domain, &base.answers, &before));
            for method in &methods {
                let erased: Vec<_> = after
                    .iter()
                    .filter(|(cell, _)| cell.method == *method && targets.contains(&cell.target))
                    .map(|(cell, seen)| (&self.erased[cell.target], seen.answers.as_slice()))
                    .collect();
                let means = score_mean(&self.set, domain, &base.answers, &erased);
                scores.extend(means.into_iter().map(|score| score.after(method)));
            }
        }
        scores
    }

    fn became(&self, cell: &Cell, seen: &SeenAnswers) -> Option<Became> {
        Some(measure::became(&self.erased[cell.target], &cell.method, &seen.answers))
    }

    fn images(
        &self,
        target: usize,
        demand: ImageDemand,
        session: &Session,
        folder: &Path,
        watch: &mut dyn Watch,
    ) -> Result<TrainingImages, Error> {
        let class = &self.erased[target];
        let (forget, keep) = to_learn_from(&self.set, self.concept, class, demand);
        let works = |answers: &[Answer]| -> Vec<(PathBuf, ImageRequest)> {
            let work = |answer: &Answer| {
                (picture_path(folder, answer), session.request(answer.prompt(), answer.seed))
            };
            answers.iter().map(work).collect()
        };
        let given = self.concept.pictures.as_deref();
        if given.is_none() {
            session.draw(&works(&forget), "drawing to forget", watch)?;
            session.draw(&works(&keep), "drawing to keep", watch)?;
        }
        let about = &self.targets[target];
        let file = |answer: &Answer| -> Result<PathBuf, Error> {
            let Some(pictures) = given else { return Ok(picture_path(folder, answer)) };
            let number = (answer.seed - CLASS_SEED + 1).to_string();
            Ok(sole(&pictures.join(&answer.style).join(&answer.object).join(number))?)
        };
        let with_number = |answers: &[Answer], prompts: Vec<String>| {
            let numbers = numbers(prompts.into_iter());
            let number = |answer: &Answer| {
                let number = numbers.get(&answer.prompt()).copied().unwrap_or(usize::MAX);
                Ok((file(answer)?, number))
            };
            answers.iter().map(number).collect::<Result<Vec<_>, Error>>()
        };
        let prompts = about.pairs.iter().map(|pair| pair.forget.clone()).collect();
        let images = read(
            &with_number(&forget, prompts)?,
            &with_number(&keep, about.keep.clone())?,
            session.side,
            watch,
        )?;
        if let Some(pictures) = given {
            self.say_how_many(pictures, forget.len() + keep.len(), watch)?;
        }
        Ok(images)
    }

    fn of_target(&self, target: usize) -> Vec<usize> {
        let class = &self.erased[target];
        let answers = self.set.answers();
        (0..answers.len()).filter(|i| answers[*i].wanted(class.domain) == class.name).collect()
    }

    fn shows(&self, target: usize, base: &SeenAnswers, request: usize) -> bool {
        let class = &self.erased[target];
        base.answers[request].named(class.domain) == class.name
    }

    fn verdicts(&self, target: usize, pictures: &[Picture]) -> Result<Vec<Verdict>, Error> {
        let class = &self.erased[target];
        let mut verdicts: Vec<Verdict> = self
            .judge
            .called(class, pictures)?
            .into_iter()
            .map(|shows| Verdict { shows, confirmed: None })
            .collect();
        if let Some(second) = &self.second {
            // It looks at what is back alone.
            let back = pictures.iter().zip(&verdicts).filter(|(_, verdict)| verdict.shows);
            let back: Vec<Picture> = back.map(|(picture, _)| picture.clone()).collect();
            let mut sure = second.called(class, &back)?.into_iter();
            for verdict in &mut verdicts {
                verdict.confirmed = Some(verdict.shows && sure.next() == Some(true));
            }
        }
        Ok(verdicts)
    }

    fn grid(
        &self,
        folder: &Path,
        cells: &[Cell],
        _: &SeenAnswers,
        _: &[(Cell, SeenAnswers)],
    ) -> Result<Picture, Error> {
        of_classes(&self.set, &self.erased, folder, cells, &picture_path)
    }

    fn judges(&self, base: &SeenAnswers, _: &[(Cell, SeenAnswers)]) -> Result<Judges, Error> {
        let judge = Some(self.judge.report(self.reference.as_ref(), &base.judged)?);
        let second = self.second.as_ref();
        let second = second.map(|second| second.report(self.second_reference.as_ref(), &[]));
        Ok(Judges { judge, second: second.transpose()?, ..Judges::default() })
    }
}

impl Classes<'_> {
    fn say_how_many(
        &self,
        pictures: &Path,
        taken: usize,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let there = list_deep(pictures)?.files.len();
        if taken < there {
            watch.note(&format!(
                "{taken} of {there} pictures in {} are learned from: {} of each prompt to forget, \
                 {} of each to keep (concept.forget_pictures, concept.keep_pictures)",
                pictures.display(),
                self.concept.forget_pictures(),
                self.concept.keep_pictures()
            ));
        }
        Ok(())
    }
}
