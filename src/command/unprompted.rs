//! What a judge sees in pictures that no prompt asked for: how sure it is, what occurs how often,
//! and how far all of them are from the canvas.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::judge::{BATCH, Evidence, FeatureCard, Features};
use crate::measure::{Answer, Domain, Estimate, Moments, frechet};
use crate::pictures::{Picture, Remarks};
use crate::pipeline::{AnswerSettings, JudgeSettings};
use crate::run::Error;
use crate::run::evidence::{EvidenceFile, named};
use crate::run::opening::pictures_in;
use crate::study::{JudgeReport, ReferenceJudge, pose_of};
use crate::torch::{Device, Tensor};
use crate::watch::Watch;

/// What was seen.
#[derive(Debug, Clone, Serialize)]
pub struct UnpromptedReport {
    /// Pictures.
    pub n: usize,
    /// The least probability at which a name counts.
    pub confidence: f64,
    /// Share of the pictures of which style and object were both named so surely.
    pub named: Estimate,
    /// How often each style was named, surely or not.
    pub styles: Vec<(String, usize)>,
    /// How often each object was named.
    pub objects: Vec<(String, usize)>,
    /// Styles × objects that occur among the surely named, and how many there are.
    pub cells: [usize; 2],
    /// Fréchet distance to pictures of the canvas.
    pub to_canvas: Option<Estimate>,
    /// That distance of other pictures of the canvas.
    pub of_canvas: Option<Estimate>,
    /// Whose features the distances are by.
    pub features: FeatureCard,
    /// The judge, and how good it is.
    pub judge: JudgeReport,
}

/// Canvas pictures of each style × object that others are compared to.
const PER_CELL: u32 = 8;

/// What to look at, and by whom.
#[derive(Debug)]
pub struct UnpromptedRequest {
    /// The folder of the pictures.
    pub pictures: PathBuf,
    /// The judge.
    pub judge: JudgeSettings,
    /// The names that it knows.
    pub answers: AnswerSettings,
    /// The least probability at which a name counts.
    pub confidence: f64,
    /// Inception-v3's weights, where pictures are compared by its features and not by the judge's.
    pub inception: Option<PathBuf>,
}

/// Looks at all pictures of a folder.
///
/// # Errors
/// A folder without pictures, a judge that cannot be opened.
pub fn unprompted(
    request: &UnpromptedRequest,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<UnpromptedReport, Error> {
    let UnpromptedRequest { judge: settings, inception, .. } = request;
    let set = request.answers.set()?;
    let files = pictures_in(&request.pictures, watch)?;
    let judge = ReferenceJudge::open(settings, &set, device, watch)?;
    // Nobody asks for these again: what is seen is not kept.
    let scratch = tempfile::tempdir()?;
    let mut evidence_of_reference =
        EvidenceFile::open(&scratch.path().join("reference.jsonl"), watch)?;
    let features = judge.features(inception.as_deref(), device)?;
    let is_canvas = settings.reference().and_then(pose_of).is_some();
    if inception.is_some() && !is_canvas {
        return Err(Error::Unknown(
            "--inception compares pictures to the canvas, which is not the reference here; leave \
             it out, or give --reference canvas"
                .to_owned(),
        ));
    }
    let reference = judge.check(&mut evidence_of_reference, watch)?;
    let n = files.len();
    let compared = (is_canvas && n > 1).then_some(&features);
    let (evidence, seen) = look(&files, &judge, compared, watch)?;
    let questions = judge.questions();
    let count = |domain: Domain| {
        let classes = set.classes(domain);
        let mut counts: Vec<(String, usize)> =
            classes.iter().map(|name| (name.clone(), 0)).collect();
        for seen in &evidence {
            counts[named(seen, &questions, domain).class].1 += 1;
        }
        counts
    };
    let mut cells = BTreeSet::new();
    let mut sure = 0;
    for seen in &evidence {
        let [style, object] =
            [Domain::Style, Domain::Object].map(|domain| named(seen, &questions, domain));
        if style.probability >= request.confidence && object.probability >= request.confidence {
            sure += 1;
            cells.insert((style.class, object.class));
        }
    }
    let distances = match compared {
        Some(features) => Some(distances(&Tensor::cat(&seen, 0), &judge, features, watch)?),
        None => None,
    };
    Ok(UnpromptedReport {
        n,
        confidence: request.confidence,
        named: Estimate::of_share(sure, n),
        styles: count(Domain::Style),
        objects: count(Domain::Object),
        cells: [cells.len(), set.styles.len() * set.objects.len()],
        to_canvas: distances.map(|[to_canvas, _]| to_canvas),
        of_canvas: distances.map(|[_, of_canvas]| of_canvas),
        features: features.card().clone(),
        judge: judge.report(reference.as_ref(), &[])?,
    })
}

/// What the judge says of each picture, and all features by which they are compared.
fn look(
    files: &[PathBuf],
    judge: &ReferenceJudge,
    compared: Option<&Features>,
    watch: &mut dyn Watch,
) -> Result<(Vec<Evidence>, Vec<Tensor>), Error> {
    let (mut evidence, mut seen) = (Vec::new(), Vec::new());
    let mut remarks = Remarks::default();
    watch.begin("looking at pictures", files.len() as u64);
    for group in files.chunks(BATCH) {
        let pictures = group
            .iter()
            .map(|file| Picture::open_noting(file, &mut remarks))
            .collect::<Result<Vec<_>, _>>()?;
        match compared {
            Some(features) => {
                let (features, said) = features.and_evidence(&judge.judge, &pictures)?;
                seen.push(features);
                evidence.extend(said);
            }
            None => evidence.extend(judge.judge.see(&pictures, None)?),
        }
        watch.at(evidence.len() as u64, "");
        if watch.interrupted() && evidence.len() < files.len() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    remarks.sentences().iter().for_each(|remark| watch.note(remark));
    Ok((evidence, seen))
}

/// How far pictures are from the canvas, and how far other pictures of the canvas are.
fn distances(
    seen: &Tensor,
    judge: &ReferenceJudge,
    features: &Features,
    watch: &mut dyn Watch,
) -> Result<[Estimate; 2], Error> {
    let n = seen.size()[0] as usize;
    let mut known = |first: u32| Ok::<_, Error>(in_rounds(judge.known(first, PER_CELL, watch)?));
    let canvas = Moments::of(&features.of(&known(0)?)?);
    let to_canvas = frechet(seen, &canvas);
    // As many as there are of the others: distances shrink with the number of pictures.
    let mut others = known(PER_CELL)?;
    if others.len() < n {
        watch.note(&format!(
            "the canvas' own distance is of {} pictures, there are no more; that of these is of \
             {n}",
            others.len()
        ));
    }
    others.truncate(n.max(2));
    let width = canvas.width();
    if n <= width {
        watch.warn(&format!(
            "FID of {n} pictures in {width} dimensions says little: more pictures than dimensions \
             are needed"
        ));
    }
    Ok([to_canvas, frechet(&features.of(&others)?, &canvas)])
}

/// One of each cell, then another one of each, and so on, so that the first n are of all cells.
fn in_rounds(mut known: Vec<(Answer, Picture)>) -> Vec<Picture> {
    known.sort_by_key(|(answer, _)| answer.seed);
    known.into_iter().map(|(_, picture)| picture).collect()
}
