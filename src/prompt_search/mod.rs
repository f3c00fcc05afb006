//! Searches over prompts in the space of tokens: what attacks find and what methods train against.
//!
//! Some tokens of a prompt are free ([`Frames`] says which). They are looked for as vectors
//! ([`SoftSearch`]), as a choice from the vocabulary that is relaxed to the simplex
//! ([`SimplexSearch`]), or by vectors that count as the nearest word
//! ([`NearestSearch`]). Without gradients word lists are mixed and changed by chance
//! ([`GeneticSearch`]), by how far their hidden states are from those that are wanted.

mod allowed_tokens;
mod frames;
mod genetic_search;
mod hidden_states;
mod nearest_search;
mod prediction;
mod search_settings;
mod simplex;
mod simplex_search;
mod soft_search;

pub use allowed_tokens::{AllowedTokens, is_unspaced, names, names_in_part};
pub use frames::{Frames, Placement};
pub use genetic_search::{GeneticSearch, GeneticSettings};
pub use hidden_states::{concept_vector, squared_distances};
pub use nearest_search::NearestSearch;
pub use prediction::PredictionTarget;
pub use search_settings::SearchSettings;
pub use simplex::project;
pub use simplex_search::SimplexSearch;
pub use soft_search::{Ball, SoftSearch, Update};

/// Why a search cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is asked for.
    #[error("{0}")]
    Search(String),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}
