//! Judges folders of pictures that were drawn anywhere, with no generator loaded.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::measure::{
    Answer, AnswerSet, BLANK, Became, JudgeAccuracy, JudgedAnswer, Reference, Score, TargetClass,
    became, score_base, score_target,
};
use crate::pictures::{self, list};
use crate::pipeline::{AnswerSettings, JudgeSettings, known_class, rows, whole_number};
use crate::run::Error;
use crate::run::evidence::{EvidenceFile, JudgedImage};
use crate::run::judging::judge_pictures;
use crate::run::opening::listed;
use crate::study::{JudgeReport, ReferenceJudge};
use crate::torch::Device;
use crate::watch::Watch;

/// What to judge.
#[derive(Debug, Clone)]
pub struct EvaluateRequest {
    /// Pictures, of the model after the erasure (or of any model, where nothing was erased).
    pub pictures: PathBuf,
    /// Pictures of the model before.
    pub base: Option<PathBuf>,
    /// What was erased; without it only the judge's agreement with the prompts is measured.
    pub forget: Option<TargetClass>,
    /// CSV that maps files to prompts: columns `file` and `prompt`, or `file`, `style`, `object`,
    /// `seed`.
    pub csv: Option<PathBuf>,
    /// Names of styles and objects; seeds are those of the files.
    pub answers: AnswerSettings,
    /// Who judges.
    pub judge: JudgeSettings,
    /// Where the evidence goes; beside the pictures' folder when missing.
    pub evidence: Option<PathBuf>,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluateReport {
    /// The judge, and how good it is.
    pub judge: JudgeReport,
    /// Where nothing was erased: the share of the pictures that the judge names as they were asked
    /// for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<JudgeAccuracy>,
    /// UA, IRA, CRA where something was erased.
    pub scores: Vec<Score>,
    /// What the erased prompts became.
    pub became: Option<Became>,
    /// The evidence's file.
    pub evidence: PathBuf,
}

/// Judges and scores.
///
/// # Errors
/// A picture that is missing, doubled or of an unknown name.
pub fn evaluate(
    request: &EvaluateRequest,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<EvaluateReport, Error> {
    let mut set = request.answers.set()?;
    let found = find(request, &set, watch)?;
    set.seeds = found
        .iter()
        .map(|(answer, _)| answer.seed)
        .collect::<BTreeSet<u64>>()
        .into_iter()
        .collect();
    set.check(found.iter().map(|(answer, _)| answer))?;
    if let Some(target) = &request.forget {
        known_class(&set, target.domain, &target.name)?;
        set.tells_apart(target.domain)?;
    }
    let judge = ReferenceJudge::open(&request.judge, &set, device, watch)?;
    let folder = &request.pictures;
    let evidence = request.evidence.clone().unwrap_or_else(|| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        folder.with_file_name(format!("{name}-evidence.jsonl"))
    });
    let mut evidence = EvidenceFile::open(&evidence, watch)?;
    let reference = judge.check(&mut evidence, watch)?;
    let questions = judge.questions();
    let seen = |judged: &[JudgedImage<Answer>]| {
        judged.iter().map(|l| l.seen(&questions)).collect::<Vec<JudgedAnswer>>()
    };
    let after = judge_pictures(&judge.judge, &mut evidence, "pictures", &found, watch)?;
    let before = request
        .base
        .as_ref()
        .map(|base| {
            let found =
                find(&EvaluateRequest { pictures: base.clone(), ..request.clone() }, &set, watch)?;
            set.check(found.iter().map(|(answer, _)| answer))?;
            judge_pictures(&judge.judge, &mut evidence, "base", &found, watch)
        })
        .transpose()?;
    let (mut scores, mut turned) = (Vec::new(), None);
    if let Some(target) = &request.forget {
        set.unmeasured(target).iter().for_each(|why| watch.note(why));
        let after = seen(&after);
        let before = before.as_deref().map(seen);
        let reference: Option<&Reference> = reference.as_ref();
        if let Some(before) = &before {
            scores.extend(score_base(&set, target, before, reference)?);
        } else {
            watch.note(
                "measures that compare with the base's pictures (UA_clean, UA_rel) are left out; \
                 --base DIR names those",
            );
        }
        let of_pictures = score_target(&set, target, &after, before.as_deref(), reference)?;
        warn_of_blank(&scores, &of_pictures, watch);
        scores.extend(of_pictures.into_iter().map(|score| score.after(ERASED)));
        turned = Some(became(target, ERASED, &after));
    }
    let report = judge.report(reference.as_ref(), before.as_deref().unwrap_or_default())?;
    // Without an erasure all that can be said of the pictures is how often the judge names them as
    // their prompts do.
    let agreement =
        request.forget.is_none().then(|| judge.agreement(&after)).transpose()?.unwrap_or_default();
    Ok(EvaluateReport {
        judge: report,
        agreement,
        scores,
        became: turned,
        evidence: evidence.path().to_path_buf(),
    })
}

/// What the model after is called, whatever was done to it.
const ERASED: &str = "erased";

/// Says where what counts as forgotten shows nothing at all.
fn warn_of_blank(before: &[Score], after_scores: &[Score], watch: &mut dyn Watch) {
    let of = |scores: &[Score]| {
        scores
            .iter()
            .find(|score| score.measure == BLANK.name)
            .map_or((0, 0), |score| (score.estimate.hits, score.estimate.n))
    };
    let ((before, _), (after, n)) = (of(before), of(after_scores));
    if after > before {
        watch.warn(&format!(
            "{after} of {n} pictures of {} show nothing: they are of one colour or all the same, \
             and count as forgotten whatever was erased; look at them",
            after_scores.first().map_or("the target", |score| score.target.as_str())
        ));
    }
}

/// The pictures of a folder with what was asked for.
fn find(
    request: &EvaluateRequest,
    set: &AnswerSet,
    watch: &mut dyn Watch,
) -> Result<Vec<(Answer, PathBuf)>, Error> {
    let mut found = match &request.csv {
        Some(csv) => mapped(csv, &request.pictures, set, watch)?,
        None => named(&request.pictures, set, watch)?,
    };
    found.sort_by(|a, b| a.1.cmp(&b.1));
    let mut files: HashMap<&Answer, &Path> = HashMap::new();
    for (answer, file) in &found {
        if let Some(first) = files.insert(answer, file) {
            return Err(pictures::Error::Twice {
                first: first.to_path_buf(),
                second: file.clone(),
            }
            .into());
        }
    }
    if found.is_empty() {
        return Err(Error::Unknown(format!(
            "{} holds no picture that is named {{style}}_{{object}}_seed{{n}}.png, .jpg or .webp; \
             --csv maps other names to prompts",
            request.pictures.display()
        )));
    }
    Ok(found)
}

fn named(
    folder: &Path,
    set: &AnswerSet,
    watch: &mut dyn Watch,
) -> Result<Vec<(Answer, PathBuf)>, Error> {
    let asked = |path: PathBuf| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let answer = set.parse(&stem).ok_or_else(|| {
            Error::Unknown(format!(
                "{}: the judge knows no such style and object; name both with --styles and \
                 --objects, or map the file with --csv",
                path.display()
            ))
        })?;
        Ok((answer, path))
    };
    listed(folder, list(folder)?, watch).into_iter().map(asked).collect()
}

fn mapped(
    csv: &Path,
    folder: &Path,
    set: &AnswerSet,
    watch: &mut dyn Watch,
) -> Result<Vec<(Answer, PathBuf)>, Error> {
    let wrong = |why: String| Error::Unknown(format!("{}: {why}", csv.display()));
    let rows = rows(csv, watch)?;
    let one_seed = AnswerSet { seeds: vec![0], ..set.clone() }.answers();
    let mut files = HashMap::new();
    for (i, row) in (2..).zip(&rows) {
        let file = row.iter().find(|(head, _)| head == "file").map(|(_, file)| file.trim());
        if let Some(file) = file
            && let Some(first) = files.insert(file, i)
        {
            return Err(wrong(format!(
                "rows {first} and {i} are of the same file, {file}; it would count twice"
            )));
        }
    }
    let named: HashSet<PathBuf> = files.keys().map(|file| folder.join(file)).collect();
    let others: Vec<PathBuf> =
        list(folder)?.files.into_iter().filter(|path| !named.contains(path)).collect();
    if let Some(first) = others.first() {
        watch.note(&format!(
            "{}: {} pictures in the folder are in no row and left out, {} for one",
            csv.display(),
            others.len(),
            first.display()
        ));
    }
    rows.into_iter()
        .enumerate()
        .map(|(i, row)| {
            let cell =
                |name: &str| row.iter().find(|(head, _)| head == name).map(|(_, v)| v.trim());
            let file = cell("file").ok_or_else(|| wrong("there is no column `file`".to_owned()))?;
            let seed = cell("seed").or_else(|| cell("evaluation_seed")).unwrap_or("0");
            let seed = whole_number(seed).ok_or_else(|| {
                wrong(format!(
                    "row {}: seed is `{seed}`, expected a whole \
                    number",
                    i + 1
                ))
            })?;
            let asked = one_seed.iter().find(|answer| match (cell("style"), cell("object")) {
                (Some(style), Some(object)) => {
                    answer.style == style.replace(' ', "_")
                        && answer.object == object.replace(' ', "_")
                }
                _ => cell("prompt").is_some_and(|prompt| {
                    prompt
                        .trim_end_matches('.')
                        .eq_ignore_ascii_case(answer.prompt().trim_end_matches('.'))
                }),
            });
            let asked = asked.ok_or_else(|| {
                wrong(format!(
                    "row {}: no style and object of the judge's in it; give columns `style` and \
                     `object`, or prompts like «{}»",
                    i + 1,
                    one_seed[0].prompt()
                ))
            })?;
            Ok((Answer { seed, ..asked.clone() }, folder.join(file)))
        })
        .collect()
}
