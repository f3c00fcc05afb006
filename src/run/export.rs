//! Hands a model, edited or not, to other programs; says how far two models are apart.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::pipeline::ModelSettings;
use super::{Error, located};
use crate::generator::{Adapter, Checkpoint, Edited, Format, Kept};
use crate::torch::Kind;
use crate::watch::Watch;
use crate::weights::Edit;

/// Writes `model` with `edits` on it to `to`. For a low-rank adapter: what each module keeps.
///
/// # Errors
/// A model or edit that cannot be read, something at `to`, a full disk.
pub fn export(
    model: &ModelSettings,
    edits: &[Adapter],
    to: &Path,
    (format, kind): (Format, Option<Kind>),
    watch: &mut dyn Watch,
) -> Result<Vec<Kept>, Error> {
    let base = Checkpoint::open(&located(model)?)?;
    if let Some(note) = base.note() {
        watch.note(note);
    }
    let edit = if edits.is_empty() { Edit::default() } else { lay(&base, edits, watch)? };
    Ok(Edited { base: &base, edit: &edit, kind }.export(to, format, watch)?)
}

/// Lays files onto a base and says what fitted.
pub(super) fn lay(base: &Checkpoint, edits: &[Adapter], watch: &mut dyn Watch) -> Result<Edit, Error> {
    let laid = base.lay(edits)?;
    laid.notes.iter().for_each(|note| watch.note(note));
    Ok(laid.edit)
}

/// How far a block of two models is apart.
#[derive(Debug, Clone, Serialize)]
pub struct Apart {
    /// The block: `unet.down_blocks.0`, …
    pub block: String,
    /// Tensors in it.
    pub tensors: usize,
    /// Tensors that differ.
    pub changed: usize,
    /// Numbers that differ, as a share of the block's.
    pub share: f64,
    /// The length of the difference over that of the first model's tensors.
    pub relative: f64,
    /// The largest difference.
    pub largest: f64,
    /// Tensors that one of the two lacks, or has in another shape.
    pub alone: usize,
}

/// Compares two models block by block; the last row is the whole.
///
/// # Errors
/// A model or edit that cannot be read.
pub fn diff(
    (model, edits): (&ModelSettings, &[Adapter]),
    (other, other_edits): (&ModelSettings, &[Adapter]),
    watch: &mut dyn Watch,
) -> Result<Vec<Apart>, Error> {
    let open =
        |model: &ModelSettings| -> Result<Checkpoint, Error> { Ok(Checkpoint::open(&located(model)?)?) };
    let (a, b) = (open(model)?, open(other)?);
    let edit_of = |base: &Checkpoint, edits: &[Adapter], watch: &mut dyn Watch| {
        if edits.is_empty() { Ok(Edit::default()) } else { lay(base, edits, watch) }
    };
    let (a_edit, b_edit) = (edit_of(&a, edits, watch)?, edit_of(&b, other_edits, watch)?);
    let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
    let names: Vec<String> = a.names();
    let theirs: std::collections::BTreeSet<String> = b.names().into_iter().collect();
    watch.begin("comparing", names.len() as u64);
    for (name, n) in names.iter().zip(1..) {
        for block in [block(name), "zz whole".to_owned()] {
            let sums = sums.entry(block).or_default();
            sums.tensors += 1;
            if !theirs.contains(name) {
                sums.alone += 1;
                continue;
            }
            let (left, right) = (a.edited_tensor(&a_edit, name)?, b.edited_tensor(&b_edit, name)?);
            if left.size() == right.size() {
                sums.add(&left.to_kind(Kind::Double), &right.to_kind(Kind::Double));
            } else {
                sums.alone += 1;
            }
        }
        watch.at(n, "");
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    for name in &theirs {
        if names.binary_search(name).is_err() && !names.contains(name) {
            for block in [block(name), "zz whole".to_owned()] {
                sums.entry(block).or_default().alone += 1;
            }
        }
    }
    Ok(sums.into_iter().map(|(block, sums)| sums.row(block)).collect())
}

#[derive(Debug, Default)]
struct Sums {
    tensors: usize,
    changed: usize,
    alone: usize,
    numbers: f64,
    moved: f64,
    difference: f64,
    length: f64,
    largest: f64,
}

impl Sums {
    fn add(&mut self, left: &crate::torch::Tensor, right: &crate::torch::Tensor) {
        let total = |tensor: &crate::torch::Tensor| tensor.sum(Kind::Double).double_value(&[]);
        let change = right - left;
        let moved = total(&change.ne(0.0));
        self.numbers += left.numel() as f64;
        self.length += total(&left.square());
        if moved > 0.0 {
            self.changed += 1;
            self.moved += moved;
            self.difference += total(&change.square());
            self.largest = self.largest.max(change.abs().max().double_value(&[]));
        }
    }

    fn row(self, block: String) -> Apart {
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        Apart {
            block: if block == "zz whole" { "in all".to_owned() } else { block },
            tensors: self.tensors,
            changed: self.changed,
            share: ratio(self.moved, self.numbers),
            relative: ratio(self.difference, self.length).sqrt(),
            largest: self.largest,
            alone: self.alone,
        }
    }
}

/// The block that a tensor belongs to: its component and what stands before the first number, with it.
fn block(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let end = parts.iter().position(|part| part.parse::<usize>().is_ok()).map_or(2, |at| at + 1);
    parts[..end.min(parts.len() - 1)].join(".")
}
