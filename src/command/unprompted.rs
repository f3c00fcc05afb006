//! What a judge sees in pictures that no prompt asked for: how sure it is, what occurs how often,
//! and how far all of them are from the canvas.

use std::path::Path;

use serde::Serialize;

use crate::judge::{BATCH, FeatureCard};
use crate::measure::{Answer, Domain, Estimate, Moments, frechet};
use crate::pictures::{Picture, Remarks};
use crate::pipeline::{AnswerSettings, JudgeSettings};
use crate::run::Error;
use crate::run::evidence::{EvidenceFile, named};
use crate::run::opening::pictures_in;
use crate::study::{JudgeReport, ReferenceJudge, features, pose_of};
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

/// Looks at all pictures of a folder. They are compared by the judge's features, or by
/// Inception-v3's where its weights are given.
///
/// # Errors
/// A folder without pictures, a judge that cannot be opened.
pub fn unprompted(
    folder: &Path,
    settings: &JudgeSettings,
    classes: &AnswerSettings,
    confidence: f64,
    inception: Option<&Path>,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<UnpromptedReport, Error> {
    let set = classes.set()?;
    let files = pictures_in(folder, watch)?;
    let jury = ReferenceJudge::open(settings, &set, device, watch)?;
    // Nobody asks for these again: what is seen is not kept.
    let scratch = tempfile::tempdir()?;
    let mut evidence_of_reference =
        EvidenceFile::open(&scratch.path().join("reference.jsonl"), watch)?;
    let features = features(settings.path(), inception, device)?;
    let is_canvas = settings.reference().and_then(pose_of).is_some();
    if inception.is_some() && !is_canvas {
        return Err(Error::Unknown(
            "--inception compares pictures to the canvas, which is not the reference here; leave \
             it out, or give --reference canvas"
                .to_owned(),
        ));
    }
    let reference = jury.check(&mut evidence_of_reference, watch)?;
    let n = files.len();
    let compared = is_canvas && n > 1;
    let (mut evidence, mut own) = (Vec::new(), Vec::new());
    let mut remarks = Remarks::default();
    watch.begin("looking at pictures", n as u64);
    for group in files.chunks(BATCH) {
        let pictures = group
            .iter()
            .map(|file| Picture::open_noting(file, &mut remarks))
            .collect::<Result<Vec<_>, _>>()?;
        evidence.extend(jury.judge.see(&pictures, None)?);
        if compared {
            own.push(features.of(&pictures)?);
        }
        watch.at(evidence.len() as u64, "");
        if watch.interrupted() && evidence.len() < n {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    remarks.sentences().iter().for_each(|remark| watch.note(remark));
    let questions = jury.questions();
    let count = |domain: Domain| {
        let classes = set.classes(domain);
        let mut counts: Vec<(String, usize)> =
            classes.iter().map(|name| (name.clone(), 0)).collect();
        for own in &evidence {
            counts[named(own, &questions, domain).class].1 += 1;
        }
        counts
    };
    let mut cells = std::collections::BTreeSet::new();
    let mut sure = 0;
    for own in &evidence {
        let [style, object] =
            [Domain::Style, Domain::Object].map(|domain| named(own, &questions, domain));
        if style.probability >= confidence && object.probability >= confidence {
            sure += 1;
            cells.insert((style.class, object.class));
        }
    }
    let (mut to_canvas, mut of_canvas) = (None, None);
    if compared {
        let mut known = |first: u32| Ok::<_, Error>(in_rounds(jury.known(first, PER_CELL, watch)?));
        let canvas = Moments::of(&features.of(&known(0)?)?);
        to_canvas = Some(frechet(&Tensor::cat(&own, 0), &canvas));
        // As many as there are of the others: distances shrink with the number of pictures.
        let mut others = known(PER_CELL)?;
        if others.len() < n {
            watch.note(&format!(
                "the canvas' own distance is of {} pictures, there are no more; that of these is \
                 of {n}",
                others.len()
            ));
        }
        others.truncate(n.max(2));
        let width = canvas.width();
        if n <= width {
            watch.warn(&format!(
                "FID of {n} pictures in {width} dimensions says little: more pictures than \
                 dimensions are needed"
            ));
        }
        of_canvas = Some(frechet(&features.of(&others)?, &canvas));
    }
    Ok(UnpromptedReport {
        n,
        confidence,
        named: Estimate::of_share(sure, n),
        styles: count(Domain::Style),
        objects: count(Domain::Object),
        cells: [cells.len(), set.styles.len() * set.objects.len()],
        to_canvas,
        of_canvas,
        features: features.card().clone(),
        judge: jury.report(reference.as_ref(), &[])?,
    })
}

/// One of each cell, then another one of each, and so on, so that the first n are of all cells.
fn in_rounds(mut known: Vec<(Answer, Picture)>) -> Vec<Picture> {
    known.sort_by_key(|(answer, _)| answer.seed);
    known.into_iter().map(|(_, picture)| picture).collect()
}
