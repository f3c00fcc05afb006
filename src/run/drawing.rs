//! Draws an answer set into a folder, batch by batch, and goes on where it stopped.

use std::path::{Path, PathBuf};

use super::Error;
use crate::generator::{Generator, Shot};
use crate::measure::Answer;
use crate::watch::Watch;

/// The file of a picture.
pub(super) fn picture_path(folder: &Path, answer: &Answer) -> PathBuf {
    folder.join(format!("{}.png", answer.stem()))
}

/// How many pictures of the set are not there yet.
fn pictures_missing(folder: &Path, answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| !picture_path(folder, answer).exists()).count()
}

/// Draws what is missing. Batches are cut the same way each time, and one with a gap is drawn as a
/// whole: with 16-bit numbers a picture's last bits may depend on its company.
///
/// # Errors
/// The generator's; a disk that is full; interruption, after the pictures that are done were written.
pub fn draw_answers(
    generator: &dyn Generator,
    folder: &Path,
    answers: &[Answer],
    shot: &dyn Fn(&Answer) -> Shot,
    batch: usize,
    what: &str,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    watch.begin(what, answers.len() as u64);
    let mut done = 0;
    for group in answers.chunks(batch.max(1)) {
        if pictures_missing(folder, group) > 0 {
            let shots: Vec<Shot> = group.iter().map(shot).collect();
            let pictures = generator.draw(&shots, watch)?;
            for ((picture, shot), answer) in pictures.iter().zip(&shots).zip(group) {
                picture.save(&picture_path(folder, answer), &texts(shot, &generator.card().hash))?;
            }
        }
        done += group.len() as u64;
        watch.at(done, "");
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    Ok(())
}

/// What a PNG says about itself: A1111's line for other programs, JSON for this one.
pub fn texts(shot: &Shot, model: &str) -> [(&'static str, String); 2] {
    let json = serde_json::json!({"shot": shot, "model": model});
    [("parameters", shot.parameters(model)), ("unsee", json.to_string())]
}
