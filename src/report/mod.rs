//! Results for people: labelled grids.

mod grid;
mod lettering;

pub use grid::{Band, grid};
