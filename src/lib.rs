//! unsee: takes a concept out of an image generator and proves that it is gone.

pub mod attack;
pub mod canvas;
pub mod cli;
pub mod command;
pub mod erasure;
pub mod fields;
pub mod files;
pub mod generator;
pub mod hub;
pub mod judge;
pub mod measure;
pub mod miniature;
pub mod model;
pub mod pictures;
pub mod pipeline;
pub mod prompt_search;
pub mod report;
pub mod run;
pub mod sampler;
pub mod settings;
pub mod study;
pub mod text;
pub mod torch;
pub mod training;
pub mod watch;
pub mod weights;
