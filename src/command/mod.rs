//! What each verb of the command line does, beside `run` and `erase`, which are studies.

pub mod benchmark_grid;
pub mod checkup;
pub mod configurations;
pub mod diff;
pub mod evaluate;
pub mod export;
pub mod generate;
pub mod inspect;
pub mod label;
pub mod layouts;
#[cfg(feature = "hub")]
pub mod pull;
pub mod train;
pub mod unprompted;
