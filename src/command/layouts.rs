//! Grids of pictures that lie in folders, and the canvas as files.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::canvas::{self, Object, SIDE, Style};
use crate::pictures::{Picture, list};
use crate::report::{GridBand, grid};
use crate::run::Error;
use crate::run::drawing::is_sensitive;
use crate::run::opening::listed;
use crate::watch::Watch;

/// What to lay out.
#[derive(Debug, Clone)]
pub struct GridRequest {
    /// Folders of pictures.
    pub folders: Vec<PathBuf>,
    /// Only files whose stem contains one of these; all where there is none.
    pub only: Vec<String>,
    /// What is a row of a single folder.
    pub rows: Rows,
    /// Columns at most.
    pub columns: usize,
    /// Whether pictures that a study called sensitive are shown as they are.
    pub show_sensitive: bool,
}

/// What is a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Each seed; columns are prompts.
    Seed,
    /// Each prompt; columns are seeds.
    Prompt,
}

impl FromStr for Rows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "seed" => Ok(Self::Seed),
            "prompt" => Ok(Self::Prompt),
            _ => Err(format!("`{text}` is no row; use seed or prompt")),
        }
    }
}

/// Lays out one folder by seeds or prompts, or several folders below each other.
///
/// # Errors
/// A folder without pictures, folders that have no picture in common, a picture that is not there.
pub fn compare(request: &GridRequest, watch: &mut dyn Watch) -> Result<Picture, Error> {
    let stems = request
        .folders
        .iter()
        .map(|folder| pictures_of(folder, &request.only, watch))
        .collect::<Result<Vec<_>, _>>()?;
    if let [folder] = request.folders.as_slice() {
        return one(folder, &stems[0], request, watch);
    }
    let others: Vec<HashSet<String>> =
        stems[1..].iter().map(|stems| stems.iter().map(Stem::name).collect()).collect();
    let mut common: Vec<String> = stems[0]
        .iter()
        .map(Stem::name)
        .filter(|name| others.iter().all(|names| names.contains(name)))
        .collect();
    if common.is_empty() {
        return Err(Error::Unknown("the folders have no picture of the same name".to_owned()));
    }
    for (folder, found) in request.folders.iter().zip(&stems) {
        if let Some(stem) = found.iter().find(|stem| !common.contains(&stem.name())) {
            watch.note(&format!(
                "{}: {} of {} pictures are in not all of the folders and left out, {} for one",
                folder.display(),
                found.len() - common.len(),
                found.len(),
                stem.name()
            ));
        }
    }
    first_columns(&mut common, request.columns, watch);
    let bands = request
        .folders
        .iter()
        .zip(&stems)
        .map(|(folder, found)| {
            let pictures = common
                .iter()
                .map(|name| open(folder, found, name, request.show_sensitive))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(GridBand { label: label(folder), pictures, marked: false, gap: false })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let heads: Vec<String> = common.iter().map(|stem| canvas::spaced(stem)).collect();
    Ok(grid("", &heads, &bands))
}

/// Keeps as many columns as were asked for, and says how many are left out.
fn first_columns<T>(columns: &mut Vec<T>, most: usize, watch: &mut dyn Watch) {
    if columns.len() > most {
        watch
            .note(&format!("{most} of {} columns are shown (--columns shows more)", columns.len()));
        columns.truncate(most);
    }
}

fn one(
    folder: &Path,
    stems: &[Stem],
    request: &GridRequest,
    watch: &mut dyn Watch,
) -> Result<Picture, Error> {
    let in_order = |part: fn(&Stem) -> &String| {
        let mut parts: Vec<&String> = stems.iter().map(part).collect();
        parts.sort_by(|a, b| by_number(a, b));
        parts.dedup();
        parts
    };
    let head = |part: &str| canvas::spaced(part.trim_end_matches('_'));
    let (prompts, seeds) = (in_order(|stem| &stem.prompt), in_order(|stem| &stem.seed));
    let (rows, mut columns) =
        if request.rows == Rows::Seed { (seeds, prompts) } else { (prompts, seeds) };
    first_columns(&mut columns, request.columns, watch);
    let bands = rows
        .into_iter()
        .map(|row| {
            let pictures = columns
                .iter()
                .map(|&column| {
                    let (prompt, seed) =
                        if request.rows == Rows::Seed { (column, row) } else { (row, column) };
                    open(folder, stems, &format!("{prompt}{seed}"), request.show_sensitive)
                })
                .collect::<Result<Vec<_>, _>>()?;
            Ok(GridBand { label: vec![head(row)], pictures, marked: false, gap: false })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let heads: Vec<String> = columns.into_iter().map(|column| head(column)).collect();
    Ok(grid(&label(folder).join(" "), &heads, &bands))
}

/// The name of a picture's file: `{style}_{object}_seed{n}`, `{case}_{n}` or `{n}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stem {
    /// All up to the last underscore, and with it.
    prompt: String,
    seed: String,
    file: PathBuf,
}

impl Stem {
    fn of(file: &Path) -> Self {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (prompt, seed) = name.split_at(name.rfind('_').map_or(0, |at| at + 1));
        Self { prompt: prompt.to_owned(), seed: seed.to_owned(), file: file.to_path_buf() }
    }

    fn in_order(&self, other: &Self) -> Ordering {
        by_number(&self.prompt, &other.prompt).then_with(|| by_number(&self.seed, &other.seed))
    }

    fn name(&self) -> String {
        format!("{}{}", self.prompt, self.seed)
    }
}

/// By what stands before the number at the end, then by the number: `seed9` comes before `seed10`,
/// and `truncation 0.25` before `truncation 0.5`.
fn by_number(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let text = text.trim_end_matches('_');
        let digits = text.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let start = if text[..digits].ends_with(" -") { digits - 1 } else { digits };
        (text[..start].to_owned(), text[start..].parse::<f64>().unwrap_or_default())
    };
    let ((text, number), (other, than)) = (parts(a), parts(b));
    text.cmp(&other).then(number.total_cmp(&than)).then(a.cmp(b))
}

/// The pictures of a folder that were asked for, in order.
fn pictures_of(folder: &Path, only: &[String], watch: &mut dyn Watch) -> Result<Vec<Stem>, Error> {
    let asked = |stem: &Stem| {
        only.is_empty() || only.iter().any(|part| stem.name().contains(part.as_str()))
    };
    let files = listed(folder, list(folder)?, watch);
    let mut stems: Vec<Stem> = files.iter().map(|file| Stem::of(file)).filter(asked).collect();
    if stems.is_empty() {
        return Err(Error::Unknown(format!(
            "{} holds no picture that was asked for",
            folder.display()
        )));
    }
    stems.sort_by(Stem::in_order);
    if let Some(pair) = stems.windows(2).find(|pair| pair[0].name() == pair[1].name()) {
        return Err(crate::pictures::Error::Twice {
            first: pair[0].file.clone(),
            second: pair[1].file.clone(),
        }
        .into());
    }
    Ok(stems)
}

/// The picture of this name among a folder's.
fn open(folder: &Path, stems: &[Stem], name: &str, show_sensitive: bool) -> Result<Picture, Error> {
    let found = stems.iter().find(|stem| stem.name() == name);
    let missing = || crate::pictures::Error::Missing(folder.join(name));
    shown(&found.ok_or_else(missing)?.file, show_sensitive)
}

/// A picture as it may be shown: blurred where a study called it sensitive.
pub(super) fn shown(path: &Path, show_sensitive: bool) -> Result<Picture, Error> {
    let picture = Picture::open(path)?;
    Ok(if !show_sensitive && is_sensitive(path) { picture.blurred() } else { picture })
}

/// The last two parts of a path: `demo/pictures/base` is the run's name and the folder's.
fn label(folder: &Path) -> Vec<String> {
    let parts: Vec<String> = folder
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .filter(|part| part != "pictures" && part != "/" && part != "..")
        .collect();
    parts[parts.len().saturating_sub(2)..].to_vec()
}

/// One picture of each style × object, with labels.
pub fn canvas_sheet(canvas_seed: u64) -> Picture {
    let heads: Vec<String> =
        Object::ALL.iter().map(|object| canvas::spaced(object.name())).collect();
    let bands: Vec<GridBand> = Style::ALL
        .iter()
        .map(|&style| GridBand {
            label: vec![canvas::spaced(style.name())],
            pictures: Object::ALL
                .iter()
                .map(|&object| picture(canvas_seed, style, object, 0))
                .collect(),
            marked: false,
            gap: false,
        })
        .collect();
    grid(&format!("canvas, seed {canvas_seed}"), &heads, &bands)
}

fn picture(canvas_seed: u64, style: Style, object: Object, index: u32) -> Picture {
    Picture { width: SIDE, height: SIDE, rgb: canvas::draw(canvas_seed, style, object, index) }
}

/// By which the canvas' pictures say which they are.
const CANVAS: &str = "unsee canvas";

/// Writes `STYLE/OBJECT/1.png` to `STYLE/OBJECT/{per_cell}.png`.
///
/// # Errors
/// The folder cannot be written; interruption.
pub fn canvas_folder(
    out: &Path,
    canvas_seed: u64,
    per_cell: u32,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    let cells =
        Style::ALL.iter().flat_map(|&style| Object::ALL.iter().map(move |&object| (style, object)));
    watch.begin("drawing the canvas", (Style::ALL.len() * Object::ALL.len()) as u64);
    for (done, (style, object)) in cells.enumerate() {
        for index in 0..per_cell {
            let file =
                out.join(style.name()).join(object.name()).join(format!("{}.png", index + 1));
            // An earlier session may have drawn it, by this seed (`world` to older versions too).
            let about =
                format!("world {canvas_seed}, {} × {}, {index}", style.name(), object.name());
            let is_it = |(key, text): &(String, String)| key == CANVAS && *text == about;
            if Picture::texts(&file).is_ok_and(|texts| texts.iter().any(is_it)) {
                continue;
            }
            Picture::may_be_written(&file)?;
            picture(canvas_seed, style, object, index).save(&file, &[(CANVAS, about)])?;
        }
        watch.at(done as u64 + 1, "");
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_in_the_order_of_their_numbers() {
        let mut names = [
            "10_2",
            "10_10",
            "2_0",
            "truncation 1_0",
            "truncation 0.25_0",
            "truncation 0.5_0",
            "7",
        ];
        let stem = |name: &str| Stem::of(Path::new(&format!("{name}.png")));
        names.sort_by(|a, b| stem(a).in_order(&stem(b)));
        let ordered = [
            "7",
            "2_0",
            "10_2",
            "10_10",
            "truncation 0.25_0",
            "truncation 0.5_0",
            "truncation 1_0",
        ];
        assert_eq!(names, ordered);
        let mut signed =
            ["truncation 0.7", "truncation -0.7", "truncation -1", "page-002", "page-001"];
        signed.sort_by(|a, b| by_number(a, b));
        assert_eq!(
            signed,
            ["page-001", "page-002", "truncation -1", "truncation -0.7", "truncation 0.7"]
        );
        for name in ["7", "_7", "Mosaic_Cat_seed188", "0_3"] {
            assert_eq!(stem(name).name(), name);
        }
    }
}
