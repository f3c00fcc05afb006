//! A grid of finished runs: for each target the base's pictures over those after each method of
//! each run, with the numbers beside them.

use std::path::{Path, PathBuf};

use super::layouts::{GridRequest, shown};
use crate::canvas;
use crate::measure::{BASE, Score, Unit};
use crate::pictures::Picture;
use crate::report::{GridBand, grid};
use crate::run::Error;
use crate::study::{PictureFolder, Results, TargetPictures, spread};
use crate::watch::Watch;

/// Numbers in one line of a row's label.
const IN_A_LINE: usize = 2;

/// A finished run.
struct FinishedRun<'a> {
    root: &'a Path,
    results: Results,
}

/// Whether what is to be laid out are runs that are finished.
pub fn are_runs(folders: &[PathBuf]) -> bool {
    folders.iter().all(|folder| Results::are_in(folder))
}

/// Lays out runs: targets × methods are rows, prompts × seeds are columns.
///
/// # Errors
/// A run that cannot be read or lists no pictures, runs that share none of a target's pictures, a
/// picture that is not there.
pub fn benchmark(request: &GridRequest, watch: &mut dyn Watch) -> Result<Picture, Error> {
    let read = |root| Ok(FinishedRun { root, results: Results::read(root)? });
    let runs = request.folders.iter().map(|root| read(root)).collect::<Result<Vec<_>, Error>>()?;
    let mut targets: Vec<&str> = Vec::new();
    for run in &runs {
        if run.results.pictures.is_empty() {
            return Err(Error::Unknown(format!(
                "{} does not say which pictures are of its targets; run its pipeline again: what \
                 is drawn stays, and its scores are written anew",
                run.root.display()
            )));
        }
        for pictures in &run.results.pictures {
            if !targets.contains(&pictures.target.as_str()) {
                targets.push(&pictures.target);
            }
        }
    }
    let mut bands = Vec::new();
    for target in targets {
        bands.extend(of_target(target, &runs, request, watch)?);
    }
    Ok(grid("", &[], &bands))
}

/// The rows of one target.
fn of_target(
    target: &str,
    runs: &[FinishedRun],
    request: &GridRequest,
    watch: &mut dyn Watch,
) -> Result<Vec<GridBand>, Error> {
    let with: Vec<(&FinishedRun, &TargetPictures)> = runs
        .iter()
        .filter_map(|run| {
            let found = run.results.pictures.iter().find(|pictures| pictures.target == target);
            Some((run, found?))
        })
        .collect();
    let (first, _) = with[0];
    let files = common(target, &with, request, watch)?;
    let mut bands: Vec<GridBand> = Vec::new();
    for (run, pictures) in &with {
        for PictureFolder { method, folder } in &pictures.folders {
            let of_base = method == BASE;
            // Pictures of one base are drawn once.
            if of_base && !std::ptr::eq(*run, first) && same(first, run, folder, &files) {
                continue;
            }
            let row = files
                .iter()
                .map(|file| shown(&run.root.join(folder).join(file), request.show_sensitive))
                .collect::<Result<Vec<_>, _>>()?;
            let mut label = vec![name(target, method)];
            if with.len() > 1 {
                label.push(run_name(run.root));
            }
            label.extend(numbers(&run.results.scores, target, method));
            bands.push(GridBand { label, pictures: row, marked: !of_base, gap: bands.is_empty() });
        }
    }
    Ok(bands)
}

/// The files of a target that every run has, some of them from all over the list.
fn common<'r>(
    target: &str,
    with: &[(&'r FinishedRun, &'r TargetPictures)],
    request: &GridRequest,
    watch: &mut dyn Watch,
) -> Result<Vec<&'r PathBuf>, Error> {
    let (_, first) = with[0];
    let asked = |file: &&PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        request.only.is_empty() || request.only.iter().any(|part| stem.contains(part.as_str()))
    };
    let files: Vec<&PathBuf> = first
        .files
        .iter()
        .filter(|file| with.iter().all(|(_, pictures)| pictures.files.contains(file)))
        .filter(asked)
        .collect();
    if files.is_empty() {
        return Err(Error::Unknown(format!(
            "of {target} there is no picture that all runs have and that was asked for"
        )));
    }
    let columns = spread(&files, request.columns);
    if columns.len() < files.len() {
        watch.note(&format!(
            "{target}: {} of {} pictures are shown (--columns shows more)",
            columns.len(),
            files.len()
        ));
    }
    Ok(columns)
}

/// Whether two runs have the same base's pictures.
fn same(first: &FinishedRun, run: &FinishedRun, folder: &Path, files: &[&PathBuf]) -> bool {
    let bytes =
        |run: &FinishedRun, file: &PathBuf| fs_err::read(run.root.join(folder).join(file)).ok();
    files.iter().all(|file| bytes(first, file) == bytes(run, file))
}

fn name(target: &str, method: &str) -> String {
    let target = target.rsplit_once(':').map_or(target, |(_, name)| name);
    if method == BASE { format!("{}, base", canvas::spaced(target)) } else { method.to_owned() }
}

fn run_name(root: &Path) -> String {
    let name = std::path::absolute(root).ok();
    let name = name.as_deref().and_then(Path::file_name).unwrap_or(root.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The shares of a method on a target, in lines of two: `UA 98.1  UA_clean 96.2`.
fn numbers(scores: &[Score], target: &str, method: &str) -> Vec<String> {
    let of = |score: &&Score| {
        score.target == target
            && score.method == method
            && score.attack.is_none()
            && !score.detail
            && score.unit == Unit::Share
    };
    let all: Vec<String> = scores
        .iter()
        .filter(of)
        .map(|score| format!("{} {}", score.title(), score.shown()))
        .collect();
    all.chunks(IN_A_LINE).map(|line| line.join("  ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_from_all_over() {
        assert_eq!(spread(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 3), [0, 3, 6]);
        assert_eq!(spread(&[0, 1], 12), [0, 1]);
    }
}
