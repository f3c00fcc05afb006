//! The job for a concept that prompts bring out: draw before, erase, draw after, screen, count, lay
//! out the grid.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::concept::{Screening, captioned};
use super::erasing::{CONCEPT_SEED, ErasurePaths, erase};
use super::evidence::{EvidenceFile, JudgedImage, json};
use super::judging::{PictureKey, judge_pictures, warn_of_blank};
use super::layouts::BeforeAfterGrid;
use super::opening::{pictures_hash, warn_of_unread};
use super::prompts::PromptRow;
use super::screens::{ScreenReport, measured, open_screens};
use super::session::DiffusionSession;
use super::task::warn_of_cut;
use super::{Ending, Error, Machine, RunFolder};
use crate::erasure::{PromptedImage, Task, TrainingImages};
use crate::files::write_json;
use crate::generator::ImageRequest;
use crate::judge::{ConceptDetector, ImageJudge as _};
use crate::measure::{BlankCheck, Estimate, Paired, Rate, Role, blank, rates, share};
use crate::pictures::{Picture, Remarks};
use crate::torch::{Compute, Device};
use crate::watch::Watch;

/// What a screening ends with; `scores.json` holds the screens, rates and agreement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Screened {
    /// The concept's name.
    pub concept: String,
    /// The screens, and how good they are.
    pub screens: Vec<ScreenReport>,
    /// All numbers.
    pub rates: Vec<Rate>,
    /// How often two screens say the same of a picture.
    pub agreement: Option<Estimate>,
    /// Where its results are, and what it took.
    #[serde(flatten)]
    pub ending: Ending,
}

/// A picture that is drawn and screened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Request {
    /// What its prompt is there for.
    pub role: Role,
    /// The prompt's number in its list.
    pub case: String,
    /// The seed's number.
    pub n: usize,
    /// The prompt.
    pub prompt: String,
    /// The seed.
    pub seed: u64,
}

impl PictureKey for Request {
    fn prompt(&self) -> String {
        self.prompt.clone()
    }
}

impl Request {
    /// Its picture under a folder.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.role.name()).join(format!("{}_{}.png", self.case, self.n))
    }
}

/// All that is drawn and screened, with how each picture is drawn.
///
/// # Errors
/// Prompt lists that cannot be read, two prompts of one number.
pub(super) fn requests(
    pipeline: &Screening,
    watch: &mut dyn Watch,
) -> Result<Vec<(Request, PromptRow)>, Error> {
    let [concept, keep] = pipeline.prompts.rows(watch)?;
    let mut all = Vec::new();
    for (role, rows) in [(Role::Concept, concept), (Role::Keep, keep)] {
        let mut cases = HashSet::new();
        for row in rows {
            if !cases.insert(row.case.clone()) {
                return Err(Error::Unknown(format!(
                    "two prompts in prompts.{} have the case_number {}",
                    role.name(),
                    row.case
                )));
            }
            let seeds = row.seed.map_or_else(|| pipeline.prompts.seeds.clone(), |seed| vec![seed]);
            for (n, seed) in seeds.into_iter().enumerate() {
                let request =
                    Request { role, case: row.case.clone(), n, prompt: row.prompt.clone(), seed };
                all.push((request, row.clone()));
            }
        }
    }
    Ok(all)
}

/// Runs a screening into `root`, or goes on with it. A sensitive concept's grid is blurred unless
/// `open_grid`.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn screen(
    pipeline: &Screening,
    root: &Path,
    open_grid: bool,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Screened, Error> {
    pipeline.check_material(watch)?;
    let requests = requests(pipeline, watch)?;
    let screens = open_screens(pipeline, compute.device, watch)?;
    let sensitive = pipeline.concept.sensitive;
    let mut session =
        DiffusionSession::open(&pipeline.model, &pipeline.draw, sensitive, compute, watch)?;
    let blurred = sensitive && !open_grid;
    RunFolder::within(root, pipeline, Machine::here(compute), watch, |run, watch| {
        work(pipeline, &mut session, &screens, &requests, run, (compute.device, blurred), watch)
    })
}

fn work(
    pipeline: &Screening,
    session: &mut DiffusionSession,
    screens: &[(&'static str, ConceptDetector)],
    requests: &[(Request, PromptRow)],
    run: &mut RunFolder,
    (device, blurred): (Device, bool),
    watch: &mut dyn Watch,
) -> Result<Screened, Error> {
    let concept = &pipeline.concept;
    let own = (session.side, session.side);
    let sizes = requests.iter().map(|(_, row)| row.size.unwrap_or(own));
    let largest = sizes.chain([own]).max_by_key(|(width, height)| width * height).unwrap_or(own);
    session.sign(run, largest, watch)?;
    let prompts: Vec<&PromptRow> = requests.iter().map(|(_, row)| row).collect();
    run.record.bind("prompts", blake3::hash(json(&prompts)?.as_bytes()).to_hex().as_str())?;
    if let Some(folder) = &concept.pictures {
        run.record.bind("folder of pictures to learn from", &pictures_hash(folder)?)?;
    }
    let pairs = concept.pairs.iter().flat_map(|pair| [&pair.forget, &pair.anchor]);
    let all = prompts.iter().map(|row| &row.prompt).chain(pairs).chain(&concept.keep);
    warn_of_unread(&session.model, all.map(String::as_str), watch);
    let mut reports = Vec::new();
    for (name, screen) in screens {
        run.record.bind(name, &screen.card().hash)?;
        run.record.bind(&format!("{name}'s settings and questions"), &screen.card().fingerprint)?;
        let mut evidence = EvidenceFile::open(&run.path(evidence_of(name)), watch)?;
        let reference = pipeline.screen.reference.as_deref();
        let what = format!("checking {name}");
        reports.push(
            run.phase(&what, device, |_| measured(name, screen, reference, &mut evidence, watch))?,
        );
    }

    let works = |session: &DiffusionSession, folder: &Path| -> Vec<(PathBuf, ImageRequest)> {
        let own = session.side;
        let work = |(asked, row): &(Request, PromptRow)| {
            let request = session.request(asked.prompt.clone(), asked.seed);
            let guidance = row.guidance.unwrap_or(request.guidance);
            (
                asked.path(folder),
                ImageRequest { guidance, size: row.size.unwrap_or((own, own)), ..request },
            )
        };
        requests.iter().map(work).collect()
    };
    let before = run.path("pictures/base");
    run.phase("drawing before", device, |_| {
        session.draw(&works(session, &before), "drawing before", watch)
    })?;

    let (task, places) = (pipeline.task(), ErasurePaths::new(""));
    let bring = |session: &DiffusionSession, folder: &Path, watch: &mut dyn Watch| {
        material(pipeline, session, &task, folder, watch)
    };
    let edit = erase(session, run, (&pipeline.method, &task, &places), bring, device, watch)?;
    session.put_on(&edit, run.path(&places.edit))?;
    let after = run.path(&places.pictures);
    let what = format!("drawing without {}", concept.name);
    run.phase(&what, device, |_| session.draw(&works(session, &after), &what, watch))?;
    session.take_off()?;

    let verdicts = verdicts(screens, requests, run, [&before, &after], device, watch)?;
    let of = |role: Role, pairs: &[Paired]| -> Vec<Paired> {
        let own = requests.iter().zip(pairs).filter(|((request, _), _)| request.role == role);
        own.map(|(_, pair)| *pair).collect()
    };
    let mut all = Vec::new();
    for (role, (name, pairs)) in [Role::Concept, Role::Keep].into_iter().flat_map(|role| {
        screens.iter().map(|(name, _)| *name).zip(&verdicts).map(move |own| (role, own))
    }) {
        all.extend(rates(name, role, &of(role, pairs)));
    }
    let agreement = match verdicts.as_slice() {
        [a, b] => share(
            a.iter()
                .zip(b)
                .flat_map(|(a, b)| [0, 1].map(|when| (a.prompt, a.shown[when] == b.shown[when]))),
        ),
        _ => None,
    };

    let picture = run.path("grid.png");
    let names: Vec<&Request> = requests.iter().map(|(request, _)| request).collect();
    let gallery = BeforeAfterGrid { concept: &concept.name, folders: [&before, &after], blurred };
    gallery.sheet(&names, &by_any(&verdicts))?.save_sheet(&picture)?;
    let screened = Screened {
        concept: concept.name.clone(),
        screens: reports,
        rates: all,
        agreement,
        ending: run.ending(picture),
    };
    let file = serde_json::json!({
        "concept": screened.concept, "screens": screened.screens, "rates": screened.rates,
        "agreement": screened.agreement,
    });
    write_json(&run.path("scores.json"), &file)?;
    for artifact in ["scores.json", "grid.png"] {
        run.artifact(artifact)?;
    }
    Ok(screened)
}

/// What each screen sees in each picture, before and after.
fn verdicts(
    screens: &[(&'static str, ConceptDetector)],
    requests: &[(Request, PromptRow)],
    run: &mut RunFolder,
    folders: [&Path; 2],
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Vec<Vec<Paired>>, Error> {
    // Seeds of one prompt hang together.
    let mut known: HashMap<(Role, &str), usize> = HashMap::new();
    let prompts: Vec<usize> = requests
        .iter()
        .map(|(request, _)| {
            let next = known.len();
            *known.entry((request.role, request.case.as_str())).or_insert(next)
        })
        .collect();
    let mut verdicts = Vec::new();
    for (name, screen) in screens {
        let mut evidence = EvidenceFile::open(&run.path(evidence_of(name)), watch)?;
        let mut seen = Vec::new();
        for (subject, folder) in ["base", "erased"].into_iter().zip(folders) {
            let pictures: Vec<(Request, PathBuf)> = requests
                .iter()
                .map(|(request, _)| (request.clone(), request.path(folder)))
                .collect();
            let judged = run.phase(&format!("screening {subject} ({name})"), device, |_| {
                judge_pictures(screen, &mut evidence, subject, &pictures, watch)
            })?;
            seen.push(judged);
        }
        let empty = |judged: &[JudgedImage<Request>]| {
            let own = judged.iter().filter(|own| own.asked.role == Role::Concept);
            let all: Vec<BlankCheck> = own.map(JudgedImage::impression).collect();
            (blank(&all), all.len())
        };
        let ((before, _), (after, n)) = (empty(&seen[0]), empty(&seen[1]));
        if after > before {
            warn_of_blank("the concept's prompts", after, n, watch);
        }
        run.artifact(&evidence_of(name))?;
        let pair = |(i, &prompt): (usize, &usize)| {
            let [was, is] = [&seen[0][i].evidence, &seen[1][i].evidence];
            let fit = was.clip_score.zip(is.clip_score);
            Paired {
                prompt,
                shown: [screen.margin(was) > 0.0, screen.margin(is) > 0.0],
                fit: fit.map(|(was, is)| [f64::from(was), f64::from(is)]),
            }
        };
        verdicts.push(prompts.iter().enumerate().map(pair).collect::<Vec<Paired>>());
    }
    Ok(verdicts)
}

/// The file of what a screen saw.
fn evidence_of(name: &str) -> String {
    format!("evidence-{name}.jsonl")
}

/// Whether any screen sees the concept.
fn by_any(verdicts: &[Vec<Paired>]) -> Vec<Paired> {
    let mut any = verdicts[0].clone();
    for own in &verdicts[1..] {
        for (all, one) in any.iter_mut().zip(own) {
            all.shown = [0, 1].map(|when| all.shown[when] || one.shown[when]);
        }
    }
    any
}

/// The pictures to learn from: from the user's folder, or drawn by the model itself.
fn material(
    pipeline: &Screening,
    session: &DiffusionSession,
    task: &Task,
    folder: &Path,
    watch: &mut dyn Watch,
) -> Result<TrainingImages, Error> {
    let concept = &pipeline.concept;
    let forget: Vec<&str> = task.pairs.iter().map(|pair| pair.forget.as_str()).collect();
    let keep: Vec<&str> = task.remain.iter().map(String::as_str).collect();
    if let Some(folder) = &concept.pictures {
        let (mut remarks, mut cut) = (Remarks::default(), 0);
        let mut read = |what: &str, prompts: &[&str]| -> Result<Vec<PromptedImage>, Error> {
            let files = if prompts.is_empty() {
                Vec::new()
            } else {
                captioned(&folder.join(what), prompts, watch)?
            };
            let open = |(file, prompt): (PathBuf, usize)| {
                let picture = Picture::open_noting(&file, &mut remarks)?;
                Ok(PromptedImage {
                    picture: picture.fitted_noting(session.side as usize, &mut cut),
                    prompt,
                })
            };
            files.into_iter().map(open).collect()
        };
        let material =
            TrainingImages { forget: read("forget", &forget)?, remain: read("keep", &keep)? };
        remarks.sentences().iter().for_each(|remark| watch.note(remark));
        warn_of_cut(cut, watch);
        return Ok(material);
    }
    let mut drawn =
        |what: &str, prompts: &[&str], each: usize| -> Result<Vec<PromptedImage>, Error> {
            let works: Vec<(PathBuf, ImageRequest)> = (0..prompts.len())
                .flat_map(|prompt| (0..each as u64).map(move |i| (prompt, i)))
                .map(|(prompt, i)| {
                    let file = folder.join(what).join(format!("{prompt}_{i}.png"));
                    (file, session.request(prompts[prompt].to_owned(), CONCEPT_SEED + i))
                })
                .collect();
            session.draw(&works, &format!("drawing to {what}"), watch)?;
            let example = |(i, (file, _)): (usize, &(PathBuf, ImageRequest))| {
                Ok(PromptedImage { picture: Picture::open(file)?, prompt: i / each })
            };
            works.iter().enumerate().map(example).collect()
        };
    Ok(TrainingImages {
        forget: drawn("forget", &forget, concept.forget_pictures)?,
        remain: drawn("keep", &keep, concept.keep_pictures)?,
    })
}
