//! The grid of a study: the same pictures before and after each method.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::prompt_key::PromptKey;
use super::protocol::Cell;
use crate::canvas;
use crate::measure::{Answer, AnswerSet, Domain, Subject, TargetClass};
use crate::pictures::Picture;
use crate::report::{GridBand, grid};
use crate::run::Error;

/// Other classes that are shown beside an erased one.
const NEIGHBOURS: usize = 3;

/// Rows of pictures before and after each method, for each target and for some neighbours.
pub(super) fn of_classes(
    set: &AnswerSet,
    targets: &[TargetClass],
    base: &Path,
    cells: &[Cell],
    file: &dyn Fn(&Path, &Answer) -> PathBuf,
) -> Result<Picture, Error> {
    let seed = set.seeds[0];
    let mut bands = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        let classes = set.classes(target.domain);
        let at = classes.iter().position(|name| *name == target.name).unwrap_or(0);
        let others = classes.iter().cycle().skip(at + 1).take(NEIGHBOURS.min(classes.len() - 1));
        let after: Vec<&Cell> = cells.iter().filter(|cell| cell.target == i).collect();
        for (n, name) in std::iter::once(&target.name).chain(others).enumerate() {
            let before = std::iter::once(("before", base));
            let rows = before.chain(after.iter().map(|cell| (label(cell, &after), &*cell.folder)));
            for (row, (when, folder)) in rows.enumerate() {
                let pictures = set
                    .classes(target.domain.other())
                    .iter()
                    .map(|other| {
                        let (style, object) = match target.domain {
                            Domain::Style => (name.clone(), other.clone()),
                            Domain::Object => (other.clone(), name.clone()),
                        };
                        Ok(Picture::open(&file(folder, &Answer { style, object, seed }))?)
                    })
                    .collect::<Result<Vec<_>, Error>>()?;
                bands.push(GridBand {
                    label: vec![canvas::spaced(name), when.to_owned()],
                    pictures,
                    marked: n == 0 && row > 0,
                    gap: row == 0,
                });
            }
        }
    }
    let columns = targets.first().map(|target| set.classes(target.domain.other()));
    let columns: Vec<String> =
        columns.unwrap_or_default().iter().map(|name| canvas::spaced(name)).collect();
    let names: Vec<String> = targets.iter().map(|target| canvas::spaced(&target.name)).collect();
    Ok(grid(&format!("{} erased, seed {seed}", names.join(", ")), &columns, &bands))
}

/// What a row after a method is called: by the method where there are several.
fn label<'c>(cell: &'c Cell, all: &[&Cell]) -> &'c str {
    if all.len() > 1 { &cell.method } else { "after" }
}

/// What there is to lay out of a study by prompts.
pub(super) struct PromptGrid<'a> {
    pub concept: &'a str,
    pub keys: &'a [&'a PromptKey],
    /// Which pictures of the base show the concept.
    pub shown_before: &'a [bool],
    /// Which do after the first method.
    pub shown_after: Option<Vec<bool>>,
    pub blurred: bool,
}

impl PromptGrid<'_> {
    /// Before over after, for the concept's prompts and for those to keep: failures first, then
    /// successes.
    pub(super) fn draw(&self, base: &Path, cells: &[Cell]) -> Result<Picture, Error> {
        let blurred = self.blurred;
        let note = if blurred { " (blurred; --show-sensitive shows it)" } else { "" };
        let title = format!("{} erased{note}", canvas::spaced(self.concept));
        let part = |title: &str, role: Subject| {
            let chosen = self.chosen(role);
            let after: Vec<&Cell> = cells.iter().collect();
            let before = std::iter::once(("before", base));
            let rows = before.chain(after.iter().map(|cell| (label(cell, &after), &*cell.folder)));
            let bands = rows
                .enumerate()
                .map(|(row, (when, folder))| {
                    let open = |key: &&PromptKey| -> Result<Picture, Error> {
                        let picture = Picture::open(&key.path(folder))?;
                        Ok(if blurred { picture.blurred() } else { picture })
                    };
                    let pictures = chosen.iter().map(open).collect::<Result<_, _>>()?;
                    let marked = role == Subject::Concept && row > 0;
                    Ok(GridBand { label: vec![when.to_owned()], pictures, marked, gap: false })
                })
                .collect::<Result<Vec<_>, Error>>()?;
            let heads: Vec<String> = chosen.iter().map(|key| key.prompt.clone()).collect();
            Ok::<_, Error>(grid(title, &heads, &bands))
        };
        let concept = part(&title, Subject::Concept)?;
        let keep = part("what was to stay", Subject::Keep)?;
        let (width, height) = (concept.width.max(keep.width), concept.height + keep.height);
        let mut sheet = Picture::filled(width, height, [255; 3]);
        sheet.paste(&concept, 0, 0);
        sheet.paste(&keep, 0, concept.height);
        Ok(sheet)
    }

    /// The pictures that it shows.
    fn chosen(&self, role: Subject) -> Vec<&PromptKey> {
        const COLUMNS: usize = 8;
        /// Pictures of one prompt at most.
        const EACH: usize = 2;
        let mut of_role: Vec<(usize, &PromptKey)> =
            self.keys.iter().copied().enumerate().filter(|(_, key)| key.role == role).collect();
        of_role.sort_by_key(|(i, _)| {
            match (self.shown_before[*i], self.shown_after.as_ref().is_some_and(|after| after[*i]))
            {
                (_, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
            }
        });
        let mut taken = HashMap::new();
        of_role.retain(|(_, key)| {
            let count: &mut usize = taken.entry(&key.case).or_default();
            *count += 1;
            *count <= EACH
        });
        of_role.into_iter().take(COLUMNS).map(|(_, key)| key).collect()
    }
}

/// The same latents before and after each method: some that showed the target, and some that did
/// not.
pub(super) fn of_latents(
    targets: &[TargetClass],
    seeds: &[u64],
    shown: &[Vec<bool>],
    base: &Path,
    cells: &[Cell],
) -> Result<Picture, Error> {
    const SHOWED: usize = 8;
    const OTHERS: usize = 6;
    let mut bands = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        let of = |showed: bool| {
            let latents = seeds.iter().zip(&shown[i]);
            latents.filter(move |(_, shown)| **shown == showed).map(|(seed, _)| *seed)
        };
        let latents: Vec<u64> = of(true).take(SHOWED).chain(of(false).take(OTHERS)).collect();
        let after = cells.iter().filter(|cell| cell.target == i);
        let rows = std::iter::once(("before", base))
            .chain(after.map(|cell| (cell.method.as_str(), cell.folder.as_path())));
        for (row, (name, folder)) in rows.enumerate() {
            let pictures = latents
                .iter()
                .map(|seed| Picture::open(&folder.join(format!("{seed}.png"))))
                .collect::<Result<Vec<_>, _>>()?;
            let label = vec![canvas::spaced(&target.name), name.to_owned()];
            bands.push(GridBand { label, pictures, marked: row == 1, gap: row == 0 });
        }
    }
    let names: Vec<String> = targets.iter().map(|target| canvas::spaced(&target.name)).collect();
    let title = format!("{} unlearned: latents that showed it, and others", names.join(", "));
    Ok(grid(&title, &[], &bands))
}
