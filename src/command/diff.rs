//! Says how far two models are apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::generator::{Adapter, Checkpoint, Generator as _, Synthesizer as _, is_gan};
use crate::pipeline::{ModelSettings, located};
use crate::run::Error;
use crate::run::opening::{opened_gan, opened_with, said};
use crate::torch::{Kind, Tensor};
use crate::watch::Watch;
use crate::weights::Edit;

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

/// A model, and what goes onto it.
#[derive(Debug)]
pub struct ModelWithEdits {
    /// The model.
    pub model: ModelSettings,
    /// Its edits.
    pub edits: Vec<Adapter>,
}

/// Compares two models block by block; the last row is the whole.
///
/// # Errors
/// A model or edit that cannot be read.
pub fn diff(
    a: &ModelWithEdits,
    b: &ModelWithEdits,
    watch: &mut dyn Watch,
) -> Result<Vec<Apart>, Error> {
    let (a, b) = (OpenModel::open(a, watch)?, OpenModel::open(b, watch)?);
    let mut blocks: BTreeMap<String, DifferenceSums> = BTreeMap::new();
    let names: BTreeSet<String> = a.names().into_iter().collect();
    let theirs: BTreeSet<String> = b.names().into_iter().collect();
    watch.begin("comparing", names.len() as u64);
    for (name, n) in names.iter().zip(1..) {
        let sums = blocks.entry(block(name)).or_default();
        sums.tensors += 1;
        let right = theirs.contains(name).then(|| b.tensor(name)).transpose()?;
        let left = a.tensor(name)?;
        match right {
            Some(right) if left.size() == right.size() => {
                sums.compare(&left.to_kind(Kind::Double), &right.to_kind(Kind::Double));
            }
            _ => sums.alone += 1,
        }
        watch.at(n, "");
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    for name in theirs.difference(&names) {
        blocks.entry(block(name)).or_default().alone += 1;
    }
    let whole = blocks.values().fold(DifferenceSums::default(), DifferenceSums::with);
    let mut rows: Vec<Apart> = blocks.into_iter().map(|(block, sums)| sums.row(block)).collect();
    rows.push(whole.row("in all".to_owned()));
    Ok(rows)
}

/// One of the two.
enum OpenModel {
    /// Read tensor by tensor.
    Diffusion(Box<Checkpoint>, Edit),
    Gan(BTreeMap<String, Tensor>),
}

impl OpenModel {
    fn open(of: &ModelWithEdits, watch: &mut dyn Watch) -> Result<Self, Error> {
        let ModelWithEdits { model, edits } = of;
        let location = located(model)?;
        if is_gan(&location.path) {
            let mut model = opened_gan(&location.path)?;
            let edit = said(model.merge(edits)?, watch);
            model.apply(&edit)?;
            return Ok(Self::Gan(model.parameters().into_iter().collect()));
        }
        let (base, edit) = opened_with(&location, edits, watch)?;
        Ok(Self::Diffusion(Box::new(base), edit))
    }

    /// Full names.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Diffusion(base, _) => base.names(),
            Self::Gan(all) => all.keys().cloned().collect(),
        }
    }

    fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        Ok(match self {
            Self::Diffusion(base, edit) => base.edited_tensor(edit, name)?,
            Self::Gan(all) => all[name].detach(),
        })
    }
}

#[derive(Debug, Default)]
struct DifferenceSums {
    tensors: usize,
    changed: usize,
    alone: usize,
    numbers: f64,
    moved: f64,
    difference: f64,
    length: f64,
    largest: f64,
}

impl DifferenceSums {
    /// Counts a tensor that both have, in doubles.
    fn compare(&mut self, left: &Tensor, right: &Tensor) {
        let total = |tensor: &Tensor| tensor.sum(Kind::Double).double_value(&[]);
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

    fn with(self, other: &Self) -> Self {
        Self {
            tensors: self.tensors + other.tensors,
            changed: self.changed + other.changed,
            alone: self.alone + other.alone,
            numbers: self.numbers + other.numbers,
            moved: self.moved + other.moved,
            difference: self.difference + other.difference,
            length: self.length + other.length,
            largest: self.largest.max(other.largest),
        }
    }

    fn row(self, block: String) -> Apart {
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        Apart {
            block,
            tensors: self.tensors,
            changed: self.changed,
            share: ratio(self.moved, self.numbers),
            relative: ratio(self.difference, self.length).sqrt(),
            largest: self.largest,
            alone: self.alone,
        }
    }
}

/// The block that a tensor belongs to: its component and what stands before the first number, with
/// it.
fn block(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let end = parts.iter().position(|part| part.parse::<usize>().is_ok()).map_or(2, |at| at + 1);
    parts[..end.min(parts.len() - 1)].join(".")
}
