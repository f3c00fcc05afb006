//! Draws pictures into files, batch by batch, and goes on where it stopped.

use std::path::{Path, PathBuf};

use super::Error;
use crate::generator::{Generator, Shot};
use crate::measure::Answer;
use crate::watch::Watch;

/// The file of an answer's picture.
pub(super) fn picture_path(folder: &Path, answer: &Answer) -> PathBuf {
    folder.join(format!("{}.png", answer.stem()))
}

/// Draws the shots whose files are not there. Batches are cut the same way each time, and one with a gap is
/// drawn as a whole: with 16-bit numbers a picture's last bits may depend on its company. `model` is the
/// hash that each picture carries.
///
/// # Errors
/// The generator's; a disk that is full; interruption, after the pictures that are done were written.
pub(super) fn draw_missing(
    generator: &dyn Generator,
    works: &[(PathBuf, Shot)],
    (model, batch): (&str, usize),
    what: &str,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    watch.begin(what, works.len() as u64);
    let mut done = 0;
    for group in works.chunks(batch.max(1)) {
        if group.iter().any(|(file, _)| !file.exists()) {
            let shots: Vec<Shot> = group.iter().map(|(_, shot)| shot.clone()).collect();
            for (picture, (file, shot)) in generator.draw(&shots, watch)?.iter().zip(group) {
                picture.save(file, &texts(shot, model))?;
            }
        }
        done += group.len();
        watch.at(done as u64, "");
        if watch.interrupted() && done < works.len() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    Ok(())
}

/// What a PNG says about itself: A1111's line for other programs, JSON for this one.
fn texts(shot: &Shot, model: &str) -> [(&'static str, String); 2] {
    let json = serde_json::json!({"shot": shot, "model": model});
    [("parameters", shot.parameters(model)), ("unsee", json.to_string())]
}
