//! Labels of samples: which seeds show what is to be forgotten. They come as a CSV, or as pictures
//! that were sorted into two folders.

use std::path::{Path, PathBuf};

use crate::pipeline::{numbered, whole_number};
use crate::run::Error;
use crate::run::drawing::seed_of;
use crate::run::opening::pictures_in;
use crate::watch::Watch;

/// The folders of pictures that show it, and of those that do not.
const FOLDERS: [(&str, bool); 2] = [("shows", true), ("others", false)];

/// A label, and where it was found.
struct Label {
    position: String,
    seed: u64,
    shows: bool,
    /// Hash of the model whose sample it is, where that is said.
    model: Option<String>,
}

/// Reads labels of samples of the model with this hash: a CSV with the columns `seed`, `shows` (1
/// or 0) and perhaps `model`, or a folder with the folders `shows` and `others` of pictures that
/// this program drew. Seeds whose pictures are measured are none to learn from: their 32 bits that
/// libtorch's generator reads must lie below `measured`.
///
/// # Errors
/// A file that is no such CSV, a picture that does not say its seed, a sample of another model, a
/// seed that is there twice or is a measured one's.
pub(super) fn read_labels(
    path: &Path,
    model: &str,
    measured: u64,
    watch: &mut dyn Watch,
) -> Result<Vec<(u64, bool)>, Error> {
    let mut labels = if path.is_dir() { of_folder(path, watch)? } else { of_csv(path, watch)? };
    let wrong = |position: &str, why: String| {
        Error::Unknown(format!("{}: {position}: {why}", path.display()))
    };
    let mut seen = std::collections::HashSet::new();
    for Label { position, seed, model: of, .. } in &labels {
        if of.as_ref().is_some_and(|hash| hash != model) {
            let why = "it is a sample of another model, whose seeds show other things; label \
                samples of this one";
            return Err(wrong(position, why.to_owned()));
        }
        // What libtorch's generator reads of it: seeds that share it draw the same.
        let drawn = seed & u64::from(u32::MAX);
        if drawn >= measured {
            return Err(wrong(
                position,
                format!(
                    "the seed {seed} is one of those that measure what was unlearned; label seeds \
                     below {measured}"
                ),
            ));
        }
        if !seen.insert(drawn) {
            let as_another = if drawn == *seed {
                String::new()
            } else {
                format!(", as {drawn}, which draws the same")
            };
            return Err(wrong(position, format!("the seed {seed} is there twice{as_another}")));
        }
    }
    // However they were sorted, the first of them are held out, and are to be any.
    labels.sort_by_key(|label| label.seed);
    Ok(labels.into_iter().map(|label| (label.seed, label.shows)).collect())
}

fn of_folder(folder: &Path, watch: &mut dyn Watch) -> Result<Vec<Label>, Error> {
    let mut labels = Vec::new();
    for (name, shows) in FOLDERS {
        let sorted = folder.join(name);
        if !sorted.is_dir() {
            return Err(Error::Unknown(format!(
                "{} has no folder `{name}`; sort samples into `shows` and `others`, or give a CSV \
                 with seed and shows",
                folder.display()
            )));
        }
        for picture in pictures_in(&sorted, watch)? {
            let (seed, model) = seed_of(&picture).ok_or_else(|| {
                Error::Unknown(format!(
                    "{} does not say its seed; sort pictures that unsee drew of this generator, \
                     one seed each and no truncation",
                    picture.display()
                ))
            })?;
            let position = picture
                .strip_prefix(folder)
                .map_or_else(|_| PathBuf::from(name), Path::to_path_buf);
            labels.push(Label {
                position: position.display().to_string(),
                seed,
                shows,
                model: Some(model),
            });
        }
    }
    Ok(labels)
}

fn of_csv(path: &Path, watch: &mut dyn Watch) -> Result<Vec<Label>, Error> {
    let wrong = |why: String| Error::Unknown(format!("{}: {why}", path.display()));
    let (heads, rows) = numbered(path, watch)?;
    if !["seed", "shows"].iter().all(|wanted| heads.iter().any(|head| head == wanted)) {
        return Err(wrong(format!(
            "its columns are {}; expected seed and shows",
            heads.join(", ")
        )));
    }
    let mut labels = Vec::new();
    for (line, row) in rows {
        let cell = |name: &str| {
            row.iter().find(|(head, _)| head == name).map_or("", |(_, value)| value.trim())
        };
        let text = cell("seed");
        let seed = whole_number(text)
            .ok_or_else(|| wrong(format!("line {line}: `{text}` is no seed, expected a number")))?;
        let shows = match cell("shows") {
            "1" | "true" | "yes" => true,
            "0" | "false" | "no" => false,
            other => {
                return Err(wrong(format!("line {line}: shows is `{other}`, expected 1 or 0")));
            }
        };
        let model = Some(cell("model").to_owned()).filter(|hash| !hash.is_empty());
        labels.push(Label { position: format!("line {line}"), seed, shows, model });
    }
    if labels.is_empty() {
        return Err(wrong("it has no line but its head".to_owned()));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Quiet;

    #[test]
    fn what_is_measured_is_not_learned_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.csv");
        let labels = |rows: &str| {
            fs_err::write(&file, format!("seed,shows\n{rows}")).unwrap();
            read_labels(&file, "abc", 1000, &mut Quiet)
        };
        assert_eq!(labels("999,1\n7,0\n").unwrap(), [(7, false), (999, true)]);
        // The second is the first for a generator that reads 32 bits.
        for seed in [1000_u64, (1 << 32) + 1000] {
            let error = labels(&format!("1,0\n{seed},1\n")).unwrap_err().to_string();
            assert!(error.contains("line 3") && error.contains("below 1000"), "{error}");
        }
        for again in [1_u64, (1 << 32) + 1] {
            let error = labels(&format!("1,0\n{again},1\n")).unwrap_err().to_string();
            assert!(error.contains("twice"), "{error}");
        }
    }

    #[test]
    fn labels_of_another_model_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.csv");
        fs_err::write(&file, "seed,shows,model\n1,1,abc\n2,0,\n").unwrap();
        assert_eq!(read_labels(&file, "abc", 1000, &mut Quiet).unwrap(), [(1, true), (2, false)]);
        let error = read_labels(&file, "def", 1000, &mut Quiet).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("another model"), "{error}");
    }
}
