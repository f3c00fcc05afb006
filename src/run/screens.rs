//! The screens of a study: opened as the pipeline says, and measured on pictures whose truth is known.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::concept::{NONE, Screening};
use super::jury::eye;
use super::{Error, shipped_or_path};
use crate::judge::{BATCH, JudgeCard, Look as _, Screen};
use crate::measure::{Estimate, share};
use crate::pictures::{Picture, is_picture};
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
    /// Of known pictures that show the concept, the share that it finds; missing where there are none.
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
) -> Result<Vec<(&'static str, Screen)>, Error> {
    let settings = &pipeline.screen;
    let mut screens = Vec::new();
    if let Some([folder, features]) = settings.checker_folders(&pipeline.model)? {
        screens.push(("checker", Screen::checker(&folder, &features, settings.adjustment, device)?));
    }
    if settings.clip != NONE {
        let folder = shipped_or_path(&settings.clip)?;
        let eye = eye(&folder, &settings.engine, device)?;
        let screen = Screen::by_text(&folder, eye, &settings.shows, &settings.clear)?;
        screens.push(("clip", screen));
    }
    Ok(screens)
}

/// Measures a screen on the pictures in `shows/` and `clear/`, and in the folders inside them.
///
/// # Errors
/// Folders that are missing or empty, pictures that cannot be read.
pub(super) fn measured(
    name: &str,
    screen: &Screen,
    reference: Option<&Path>,
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
        let files = pictures_in(&reference.join(truth))?;
        watch.begin(&format!("checking {name} on {truth}"), files.len() as u64);
        let mut verdicts = Vec::new();
        for batch in files.chunks(BATCH) {
            let pictures = batch.iter().map(|file| Picture::open(file)).collect::<Result<Vec<_>, _>>()?;
            let evidence = screen.look(&pictures, &vec![String::new(); batch.len()])?;
            verdicts.extend(evidence.iter().map(|evidence| (screen.margin(evidence) > 0.0) == shown));
            watch.at(verdicts.len() as u64, "");
            if watch.interrupted() {
                return Err(Error::Interrupted);
            }
        }
        watch.end();
        Ok(share(verdicts.into_iter().enumerate()))
    };
    report.sensitivity = right("shows", true)?;
    report.specificity = right("clear", false)?;
    Ok(report)
}

/// The pictures in a folder and the folders in it, sorted.
///
/// # Errors
/// A folder that is missing or holds none.
pub(super) fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if is_picture(&path) {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        return Err(Error::Unknown(format!("{} holds no picture (.png, .jpg)", folder.display())));
    }
    files.sort();
    Ok(files)
}
