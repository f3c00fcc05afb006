//! Labels of samples as a CSV: which seeds show what is to be forgotten.

use std::path::Path;

use super::Error;

/// Reads a CSV with the columns `seed` and `shows` (1 or 0).
///
/// # Errors
/// A file that is no such CSV, a seed that is there twice.
pub(super) fn read_labels(path: &Path) -> Result<Vec<(u64, bool)>, Error> {
    let wrong = |why: String| Error::Unknown(format!("{}: {why}", path.display()));
    let bytes = fs_err::read(path)?;
    let mut table = csv::Reader::from_reader(bytes.as_slice());
    let heads = table.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let place = |name: &str| heads.iter().position(|head| head.trim() == name);
    let (Some(seed), Some(shows)) = (place("seed"), place("shows")) else {
        return Err(wrong(format!(
            "its columns are {}; expected seed and shows",
            heads.iter().collect::<Vec<_>>().join(", ")
        )));
    };
    let mut labels: Vec<(u64, bool)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (line, row) in (2..).zip(table.records()) {
        let row = row.map_err(|error| wrong(error.to_string()))?;
        let own = row.get(seed).unwrap_or("").trim();
        let number: u64 =
            own.parse().map_err(|_| wrong(format!("line {line}: `{own}` is no seed, expected a number")))?;
        let label = match row.get(shows).unwrap_or("").trim() {
            "1" | "true" | "yes" => true,
            "0" | "false" | "no" => false,
            other => return Err(wrong(format!("line {line}: shows is `{other}`, expected 1 or 0"))),
        };
        if !seen.insert(number) {
            return Err(wrong(format!("line {line}: the seed {number} is there twice")));
        }
        labels.push((number, label));
    }
    if labels.is_empty() {
        return Err(wrong("it has no line but its head".to_owned()));
    }
    Ok(labels)
}
