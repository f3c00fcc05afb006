//! Labels of samples as a CSV: which seeds show what is to be forgotten.

use std::path::Path;

use super::Error;

/// Reads a CSV with the columns `seed` and `shows` (1 or 0). Seeds whose pictures are measured are none to learn from: their
/// 32 bits that libtorch's generator reads must lie below `measured`.
///
/// # Errors
/// A file that is no such CSV, a seed that is there twice or is a measured one's.
pub(super) fn read_labels(path: &Path, measured: u64) -> Result<Vec<(u64, bool)>, Error> {
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
        if number & u64::from(u32::MAX) >= measured {
            return Err(wrong(format!(
                "line {line}: the seed {number} is one of those that measure what was unlearned; label seeds below {measured}"
            )));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_not_learned_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.csv");
        let labels = |rows: &str| {
            fs_err::write(&file, format!("seed,shows\n{rows}")).unwrap();
            read_labels(&file, 1000)
        };
        assert_eq!(labels("999,1\n7,0\n").unwrap(), [(999, true), (7, false)]);
        // The second is the first for a generator that reads 32 bits.
        for seed in [1000_u64, (1 << 32) + 1000] {
            let error = labels(&format!("1,0\n{seed},1\n")).unwrap_err().to_string();
            assert!(error.contains("line 3") && error.contains("below 1000"), "{error}");
        }
        assert!(labels("1,0\n1,1\n").unwrap_err().to_string().contains("twice"));
    }
}
