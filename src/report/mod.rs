//! Results for people: labelled grids.

mod grid;
mod lettering;
mod sheet;

pub use grid::{GridBand, grid};
pub use sheet::contact_sheet;
