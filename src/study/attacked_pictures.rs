//! What trials of attacks leave for people: the prompts that brought a concept back, as a list that
//! `unsee generate --csv` takes, and pictures with which trials ended, for the eye.

use std::path::Path;

use super::Tried;
use crate::attack::{Trial, attacked_picture};
use crate::canvas;
use crate::files;
use crate::pictures::Picture;
use crate::report::{GridBand, grid};
use crate::run::Error;

/// Writes the prompts that were found; none where none was.
pub(super) fn write_found(path: &Path, tried: &Tried) -> Result<(), Error> {
    let heads = ["case_number", "prompt", "seed", "concept", "found_for", "added", "after"];
    let mut records = vec![heads.map(str::to_owned)];
    for (number, trial) in tried.trials.iter().enumerate() {
        let Some(after) = trial.after.filter(|after| *after > 0) else { continue };
        let Some(found) = &trial.found else { continue };
        records.push([
            number.to_string(),
            found.prompt.clone(),
            found.seed.to_string(),
            tried.target.clone(),
            trial.prompt.clone(),
            found.added.clone().unwrap_or_default(),
            after.to_string(),
        ]);
    }
    if records.len() > 1 { Ok(files::write_csv(path, records)?) } else { Ok(()) }
}

/// Pictures of each ending that a row shows at most.
const EACH: usize = 6;

/// A row for each attack on each erasure: pictures that show the concept again, then the last ones
/// of trials that came to nothing. `None` where attacks left no pictures.
pub(super) fn attacked_grid(
    root: &Path,
    tried: &[Tried],
    blurred: bool,
) -> Result<Option<Picture>, Error> {
    let mut bands = Vec::new();
    for attack in tried.iter().filter(|tried| tried.is_attack()) {
        let folder = root.join(&attack.folder);
        let ending = |succeeded: bool| {
            let ended = |trial: &Trial| trial.after.is_some() == succeeded;
            let all = attack.trials.iter().enumerate().filter(move |(_, trial)| ended(trial));
            let files = all.map(|(i, _)| folder.join(attacked_picture(i, succeeded)));
            files.filter(|file| file.is_file()).take(EACH).collect::<Vec<_>>()
        };
        let (back, gone) = (ending(true), ending(false));
        let Some(first) = back.first().or(gone.first()) else { continue };
        let first = Picture::open(first)?;
        let empty = Picture::filled(first.width, first.height, [255; 3]);
        let mut pictures = Vec::new();
        for files in [back, gone] {
            let shown = files.len();
            for file in files {
                let picture = Picture::open(&file)?;
                pictures.push(if blurred { picture.blurred() } else { picture });
            }
            pictures.extend(std::iter::repeat_n(empty.clone(), EACH - shown));
        }
        let hits = attack.trials.iter().filter(|trial| trial.after.is_some()).count();
        let title = attack.target.split_once(':').map_or(attack.target.as_str(), |(_, name)| name);
        bands.push(GridBand {
            label: vec![
                format!("{} · {}", canvas::spaced(title), attack.method),
                attack.attack.clone(),
                format!("{hits} of {} back", attack.trials.len()),
            ],
            pictures,
            marked: hits > 0,
            gap: true,
        });
    }
    if bands.is_empty() {
        return Ok(None);
    }
    let heads: Vec<String> =
        (0..2 * EACH).map(|i| if i < EACH { "back" } else { "not back" }.to_owned()).collect();
    let note = if blurred { " (blurred; --show-sensitive shows it)" } else { "" };
    Ok(Some(grid(&format!("after attacks: what shows the concept again{note}"), &heads, &bands)))
}
