//! A file mapped into memory, and tensors copied out of it. Every length is checked before it is
//! used.
#![expect(unsafe_code, reason = "maps a file and copies out of the map")]

use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::Error;
use crate::torch::{Kind, Tensor};

/// A file that stays open.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

/// How numbers lie in a range of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) kind: Kind,
    pub(super) shape: Vec<i64>,
    /// Elements from one index to the next, for each dimension; none is negative.
    pub(super) strides: Vec<i64>,
}

impl Layout {
    /// Row after row.
    pub(super) fn contiguous(kind: Kind, shape: Vec<i64>) -> Self {
        let mut strides = vec![1_i64; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
        }
        Self { kind, shape, strides }
    }

    pub(super) fn is_contiguous(&self) -> bool {
        let dense = Self::contiguous(self.kind, self.shape.clone());
        self.shape
            .iter()
            .zip(&self.strides)
            .zip(&dense.strides)
            .all(|((&n, a), b)| n <= 1 || a == b)
    }

    /// Whether such a tensor lies within so many bytes, and is no larger than they are: strides
    /// of 0 would make many numbers of few bytes.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let number = |n: usize, &size: &i64| n.checked_mul(usize::try_from(size).ok()?);
        let numbers = self.shape.iter().try_fold(1, number);
        let whole = numbers.and_then(|n| n.checked_mul(self.kind.elt_size_in_bytes()));
        [whole, self.span()].into_iter().all(|length| length.is_some_and(|length| length <= bytes))
    }

    /// Bytes from the first number to the end of the last; `None` where that is no number.
    pub(super) fn span(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let mut last: i64 = 0;
        for (&n, &stride) in self.shape.iter().zip(&self.strides) {
            if n < 0 || stride < 0 {
                return None;
            }
            last = last.checked_add((n - 1).checked_mul(stride)?)?;
        }
        usize::try_from(last).ok()?.checked_add(1)?.checked_mul(self.kind.elt_size_in_bytes())
    }
}

impl MappedFile {
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = fs_err::File::open(path)?;
        let kind = file.metadata()?;
        if !kind.is_file() {
            return Err(Error::damaged(path, "it is no regular file"));
        }
        // SAFETY: the usual condition of a map: nobody truncates the file while it is open. Model
        // files are replaced by renaming, never written in place (see `save`).
        let map = unsafe { Mmap::map(file.file()) }?;
        Ok(Self { path: path.to_path_buf(), map })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// A tensor of its own memory from numbers that begin at `range.start` and end before
    /// `range.end`.
    ///
    /// # Errors
    /// A layout that does not fit the range, or a range that does not fit the file.
    pub(super) fn tensor(&self, range: Range<usize>, layout: &Layout) -> Result<Tensor, Error> {
        let Some(bytes) = self.map.get(range.clone()).filter(|bytes| layout.fits(bytes.len()))
        else {
            let (Range { start, end }, shape) = (range, &layout.shape);
            let why = format!("a tensor of {shape:?} does not lie in its bytes {start} to {end}");
            return Err(Error::damaged(&self.path, why));
        };
        // A pickle's numbers may begin anywhere; libtorch wants them where the processor does.
        let aligned;
        let start = if bytes.as_ptr().align_offset(layout.kind.elt_size_in_bytes()) == 0 {
            bytes.as_ptr()
        } else {
            aligned = words(&bytes[..layout.span().unwrap_or(0)]);
            aligned.as_ptr().cast()
        };
        let Layout { kind, shape, strides } = layout;
        // SAFETY: the highest index that shape and strides reach lies inside `bytes`, checked
        // above; the view does not outlive this function, `copy` takes memory of its own.
        let view = unsafe { Tensor::f_from_blob(start, shape, strides, *kind, tch::Device::Cpu) }
            .map_err(crate::torch::Error::from)?;
        let tensor =
            Tensor::f_empty(shape, (*kind, tch::Device::Cpu)).map_err(crate::torch::Error::from)?;
        crate::torch::no_grad(|| tensor.shallow_clone().copy_(&view));
        Ok(tensor)
    }
}

/// The same bytes, where a number of any kind may begin.
fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(eight)
    };
    bytes.chunks(8).map(word).collect()
}
