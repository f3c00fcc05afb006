//! unsee: takes a concept out of an image generator and proves that it is gone.

pub mod canvas;
pub mod torch;
