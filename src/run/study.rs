//! The main job: draw before, erase, draw after, judge, score, lay out the grid.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::answering::{checked, works};
use super::drawing::picture_path;
use super::erasing::{ErasurePaths, erase};
use super::evidence::EvidenceFile;
use super::folder::{Ending, Machine, RunFolder};
use super::judging::{judge_pictures, warn_of_blanks};
use super::layouts::before_and_after;
use super::opening::{pictures_hash, warn_of_unread};
use super::pipeline::Pipeline;
use super::reference_judge::{JudgeReport, ReferenceJudge};
use super::session::DiffusionSession;
use super::task::{material, task};
use crate::files::write_json;
use crate::measure::{
    Answer, AnswerSet, Became, Domain, JudgedAnswer, Score, Subject, Target, became, score_mean,
    score_target,
};
use crate::torch::{Compute, Device, bits_of_seed};
use crate::watch::Watch;
use crate::weights::Edit;

/// What a run ends with; `scores.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// The judge, and how good it is.
    pub judge: JudgeReport,
    /// All numbers.
    pub scores: Vec<Score>,
    /// What the erased prompts became.
    pub became: Vec<Became>,
    /// Where its results are, and what it took.
    #[serde(flatten)]
    pub ending: Ending,
}

/// Runs a pipeline into `root`, or goes on with it.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn run(
    pipeline: &Pipeline,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Summary, Error> {
    let mut own = ClassStudy::open(pipeline, compute, watch)?;
    let jury = ReferenceJudge::open(&pipeline.judge, &own.set, compute.device, watch)?;
    let machine = Machine::here(compute);
    RunFolder::within(root, pipeline, machine, watch, |run, watch| {
        study(&mut own, &jury, run, compute.device, watch)
    })
}

/// Finds the edits of a pipeline and nothing else; returns their files.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn erase_only(
    pipeline: &Pipeline,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<PathBuf>, Error> {
    let mut study = ClassStudy::open(pipeline, compute, watch)?;
    RunFolder::within(root, pipeline, Machine::here(compute), watch, |run, watch| {
        study.sign(run, watch)?;
        let mut files = Vec::new();
        for target in study.targets.clone() {
            study.erase(run, &target, compute.device, watch)?;
            files.push(run.path(&places(&study.targets, &target).edit));
        }
        Ok(files)
    })
}

fn study(
    own: &mut ClassStudy,
    jury: &ReferenceJudge,
    run: &mut RunFolder,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Summary, Error> {
    own.sign(run, watch)?;
    run.record.bind("judge", &jury.card().hash)?;
    run.record.bind("judge's settings and questions", &jury.card().fingerprint)?;
    let mut evidence = EvidenceFile::open(&run.path("evidence.jsonl"), watch)?;
    let reference =
        run.phase("checking the judge", device, |_| jury.check(&mut evidence, watch))?;

    let answers = own.set.answers();
    let base_folder = run.path("pictures/base");
    run.phase("drawing before", device, |_| {
        own.session.draw(&works(&own.session, &base_folder, &answers), "drawing before", watch)
    })?;
    let mut look = |subject: &str, folder: &Path, watch: &mut dyn Watch| {
        let with_path = |answer: &Answer| (answer.clone(), picture_path(folder, answer));
        let pictures: Vec<_> = answers.iter().map(with_path).collect();
        judge_pictures(&jury.judge, &mut evidence, subject, &pictures, watch)
    };
    let base = run.phase("judging before", device, |_| look("base", &base_folder, watch))?;
    let questions = jury.questions();
    let base_seen: Vec<JudgedAnswer> = base.iter().map(|judged| judged.seen(&questions)).collect();

    let (mut scores, mut turned) = (Vec::new(), Vec::new());
    let targets = own.targets.clone();
    let (mut folders, mut erased) = (Vec::new(), Vec::new());
    for target in &targets {
        let edit = own.erase(run, target, device, watch)?;
        let places = places(&targets, target);
        own.session.put_on(&edit, run.path(&places.edit))?;
        let folder = run.path(&places.pictures);
        let what = format!("drawing without {}", target.name);
        run.phase(&what, device, |_| {
            own.session.draw(&works(&own.session, &folder, &answers), &what, watch)
        })?;
        own.session.take_off()?;
        let subject = format!("erased:{target}");
        let judged = run.phase(&format!("judging without {}", target.name), device, |_| {
            look(&subject, &folder, watch)
        })?;
        let seen: Vec<JudgedAnswer> = judged.iter().map(|judged| judged.seen(&questions)).collect();
        let (set, known) = (&own.set, reference.as_ref());
        set.unmeasured(target).iter().for_each(|why| watch.note(why));
        scores.extend(score_target(set, target, Subject::Base, &base_seen, None, known)?);
        scores.extend(score_target(set, target, Subject::Erased, &seen, Some(&base_seen), known)?);
        warn_of_blanks(target, &scores, watch);
        turned.push(became(target, &seen));
        folders.push((target.clone(), folder));
        erased.push(seen);
    }
    for domain in [Domain::Style, Domain::Object] {
        let after: Vec<(&Target, &[JudgedAnswer])> = (targets.iter().zip(&erased))
            .filter(|(target, _)| target.domain == domain)
            .map(|(target, seen)| (target, seen.as_slice()))
            .collect();
        if after.len() > 1 {
            let before: Vec<_> =
                after.iter().map(|&(target, _)| (target, base_seen.as_slice())).collect();
            scores.extend(score_mean(domain, Subject::Base, &before));
            scores.extend(score_mean(domain, Subject::Erased, &after));
        }
    }

    let picture = run.path("grid.png");
    before_and_after(&own.set, &base_folder, &folders)?.save_sheet(&picture)?;
    let judge = jury.report(reference.as_ref(), &base)?;
    let summary = Summary { judge, scores, became: turned, ending: run.ending(picture) };
    let file = serde_json::json!({
        "judge": summary.judge, "scores": summary.scores, "became": summary.became
    });
    write_json(&run.path("scores.json"), &file)?;
    for artifact in ["evidence.jsonl", "scores.json", "grid.png"] {
        run.artifact(artifact)?;
    }
    Ok(summary)
}

/// Without a suffix where there is one target only.
fn places(all: &[Target], target: &Target) -> ErasurePaths {
    let suffix = if all.len() == 1 {
        String::new()
    } else {
        format!("-{}-{}", target.domain.name(), target.name)
    };
    ErasurePaths::new(&suffix)
}

/// A study of styles × objects.
struct ClassStudy<'a> {
    pipeline: &'a Pipeline,
    session: DiffusionSession<'a>,
    set: AnswerSet,
    targets: Vec<Target>,
}

impl<'a> ClassStudy<'a> {
    fn open(
        pipeline: &'a Pipeline,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let (set, targets) = checked(pipeline)?;
        let session =
            DiffusionSession::open(&pipeline.model, &pipeline.draw, false, compute, watch)?;
        Ok(Self { pipeline, session, set, targets })
    }

    /// Notes in the run what it depends on.
    fn sign(&mut self, run: &mut RunFolder, watch: &mut dyn Watch) -> Result<(), Error> {
        self.session.sign(run, (self.session.side, self.session.side), watch)?;
        if let Some(folder) = &self.pipeline.task.pictures {
            run.record
                .bind("folder of pictures to learn from", &pictures_hash(Path::new(folder))?)?;
        }
        let learned =
            self.pipeline.task.forget_pictures.max(self.pipeline.task.remain_pictures) as u64;
        if self.pipeline.task.pictures.is_none()
            && let Some(seed) =
                self.set.seeds.iter().find(|seed| u64::from(bits_of_seed(**seed)) < learned)
        {
            watch.warn(&format!(
                "answers.seeds has {seed}, whose pictures the method learns from: it draws the \
                 seeds 0 to {}; judge others",
                learned - 1
            ));
        }
        let prompts: Vec<String> = self.set.answers().iter().map(Answer::prompt).collect();
        warn_of_unread(&self.session.model, prompts.iter().map(String::as_str), watch);
        Ok(())
    }

    fn erase(
        &mut self,
        run: &mut RunFolder,
        target: &Target,
        device: Device,
        watch: &mut dyn Watch,
    ) -> Result<Edit, Error> {
        let (set, settings) = (&self.set, &self.pipeline.task);
        let task = task(set, settings, target, self.pipeline.seed);
        let places = places(&self.targets, target);
        let bring = |session: &DiffusionSession, folder: &Path, watch: &mut dyn Watch| {
            material(session, (set, settings), &task, target, folder, watch)
        };
        erase(&mut self.session, run, (&self.pipeline.method, &task, &places), bring, device, watch)
    }
}
