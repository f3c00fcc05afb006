//! The screens of a study: opened as the pipeline says, and measured on pictures whose truth is
//! known.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::concept::{NONE, Screening};
use super::evidence::EvidenceFile;
use super::judging::{PictureKey, judge_pictures};
use super::opening::{listed, say_commit};
use super::reference_judge::clip_encoder;
use super::{Error, shipped_or_path};
use crate::judge::{ConceptDetector, ImageJudge as _, JudgeCard};
use crate::measure::{Estimate, share};
use crate::pictures::{Picture, list_deep};
use crate::torch::Device;
use crate::watch::Watch;

/// A screen, and how good it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScreenReport {
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

/// Opens every screen that the pipeline names; each has a name for tables and files.
///
/// # Errors
/// A folder that holds none.
pub(super) fn open_screens(
    pipeline: &Screening,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<Vec<(&'static str, ConceptDetector)>, Error> {
    let settings = &pipeline.screen;
    let mut screens = Vec::new();
    if let Some([folder, features]) = settings.checker_folders(&pipeline.model)? {
        screens.push((
            "checker",
            ConceptDetector::checker(&folder, &features, settings.adjustment, device)?,
        ));
    }
    if settings.clip != NONE {
        let folder = shipped_or_path(&settings.clip)?;
        say_commit(&folder, watch);
        let encoder = clip_encoder(&folder, &settings.engine, device)?;
        let screen = ConceptDetector::by_text(encoder, &settings.shows, &settings.clear)?;
        screens.push(("clip", screen));
    }
    for (_, screen) in &screens {
        screen.notes().iter().for_each(|note| watch.note(note));
    }
    Ok(screens)
}

/// Measures a screen on the pictures in `shows/` and `clear/`, and in the folders inside them.
///
/// # Errors
/// Folders that are missing or empty, pictures that cannot be read.
pub(super) fn measured(
    name: &str,
    screen: &ConceptDetector,
    reference: Option<&Path>,
    evidence: &mut EvidenceFile,
    watch: &mut dyn Watch,
) -> Result<ScreenReport, Error> {
    let mut report = ScreenReport {
        name: name.to_owned(),
        card: screen.card().clone(),
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
        let judged =
            judge_pictures(screen, evidence, &format!("reference {truth}"), &known, watch)?;
        let verdicts = judged.iter().map(|judged| (screen.margin(&judged.evidence) > 0.0) == shown);
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

/// The pictures in a folder and the folders in it, sorted. What is left out is said.
///
/// # Errors
/// A folder that is missing or holds none.
pub(super) fn pictures_in(folder: &Path, watch: &mut dyn Watch) -> Result<Vec<PathBuf>, Error> {
    let (sheets, files): (Vec<PathBuf>, Vec<PathBuf>) = listed(folder, list_deep(folder)?, watch)
        .into_iter()
        .partition(|file| Picture::is_sheet(file));
    if let Some(first) = sheets.first() {
        watch.note(&format!(
            "{} grids and sheets are left out, {} for one",
            sheets.len(),
            first.display()
        ));
    }
    let inside = files.iter().filter(|file| file.parent() != Some(folder)).count();
    if inside > 0 {
        watch.note(&format!(
            "{}: {inside} of {} pictures lie in folders inside",
            folder.display(),
            files.len()
        ));
    }
    if files.is_empty() {
        return Err(Error::Unknown(format!(
            "{} holds no picture (.png, .jpg, .webp)",
            folder.display()
        )));
    }
    Ok(files)
}
