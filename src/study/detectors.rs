//! Who says whether a concept is in a picture: opened as the pipeline says, and measured on
//! pictures whose truth is known.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reference_judge::clip_encoder;
use crate::judge::{ConceptDetector, ImageJudge as _, JudgeCard};
use crate::measure::{Estimate, share};
use crate::pipeline::{Pipeline, shipped_or_path};
use crate::run::Error;
use crate::run::evidence::EvidenceFile;
use crate::run::judging::{PictureKey, judge_pictures};
use crate::run::opening::{pictures_in, say_commit};
use crate::torch::Device;
use crate::watch::Watch;

/// A detector, and how good it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DetectorReport {
    /// Its name in tables.
    pub name: String,
    /// Which it is.
    #[serde(flatten)]
    pub card: JudgeCard,
    /// Of known pictures that show the concept, the share that it finds; missing where there are
    /// none.
    pub sensitivity: Option<Estimate>,
    /// Of known pictures that do not, the share that it lets pass.
    pub specificity: Option<Estimate>,
}

/// Opens every detector that the pipeline names; each has a name for tables and files.
///
/// # Errors
/// A folder that holds none.
pub(super) fn detectors(
    pipeline: &Pipeline,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Vec<(&'static str, ConceptDetector)>, Error> {
    let settings = &pipeline.judge;
    let mut detectors = Vec::new();
    if let Some([folder, features]) = settings.checker_folders(&pipeline.model)? {
        let adjustment = settings.adjustment();
        let checker = ConceptDetector::checker(&folder, &features, adjustment, device)?;
        detectors.push(("checker", checker));
    }
    if settings.compares_texts() {
        let folder = shipped_or_path(settings.path())?;
        say_commit(&folder, watch);
        let encoder = clip_encoder(&folder, settings.engine(), device)?;
        let clip = ConceptDetector::by_text(encoder, &settings.shows, &settings.clear)?;
        detectors.push(("clip", clip));
    }
    for (_, detector) in &detectors {
        detector.notes().iter().for_each(|note| watch.note(note));
    }
    Ok(detectors)
}

/// Measures a detector on the pictures in `shows/` and `clear/`, and in the folders inside them.
///
/// # Errors
/// Folders that are missing or empty, pictures that cannot be read.
pub(super) fn measured(
    name: &str,
    detector: &ConceptDetector,
    reference: Option<&Path>,
    evidence: &mut EvidenceFile,
    watch: &mut dyn Watch,
) -> Result<DetectorReport, Error> {
    let mut report = DetectorReport {
        name: name.to_owned(),
        card: detector.card().clone(),
        sensitivity: None,
        specificity: None,
    };
    let Some(reference) = reference else { return Ok(report) };
    let mut right = |truth: &str, shown: bool| -> Result<Option<Estimate>, Error> {
        let folder = reference.join(truth);
        let known: Vec<(LabelledFile, PathBuf)> = pictures_in(&folder, watch)?
            .into_iter()
            .map(|file| {
                let inside = file.strip_prefix(&folder).unwrap_or(&file);
                (LabelledFile { file: inside.to_string_lossy().into_owned() }, file)
            })
            .collect();
        let subject = format!("reference {truth}");
        let judged = judge_pictures(detector, evidence, &subject, &known, watch)?;
        let verdicts =
            judged.iter().map(|judged| (detector.margin(&judged.evidence) > 0.0) == shown);
        Ok(share(verdicts.enumerate()))
    };
    report.sensitivity = right("shows", true)?;
    report.specificity = right("clear", false)?;
    Ok(report)
}

/// A picture whose truth is known, by its place in the folder.
#[derive(Clone, Serialize, Deserialize)]
struct LabelledFile {
    file: String,
}

impl PictureKey for LabelledFile {
    fn prompt(&self) -> String {
        String::new()
    }
}
