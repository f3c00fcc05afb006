//! What a concept adds to the text encoder's hidden states, and how far words are from what is
//! wanted of them (Ring-A-Bell, Tsai et al. 2024, arXiv 2310.10012, section 3.1).

use crate::generator::{Denoiser, Error};
use crate::torch::{Kind, Tensor};

/// The mean of what the first prompt of each pair has and the second has not, `[tokens, width]`.
/// There is at least one pair.
///
/// # Errors
/// libtorch's.
pub fn concept_vector(model: &dyn Denoiser, pairs: &[[String; 2]]) -> Result<Tensor, Error> {
    let states = |k: usize| {
        let prompts: Vec<&str> = pairs.iter().map(|pair| pair[k].as_str()).collect();
        model.condition(&prompts)
    };
    let difference = states(0)?.states - states(1)?.states;
    Ok(difference.mean_dim([0_i64].as_slice(), false, Kind::Float))
}

/// How far hidden states `[m, tokens, width]` are from `target` `[tokens, width]`: the squared
/// distance, `[m]`.
pub fn squared_distances(states: &Tensor, target: &Tensor) -> Tensor {
    (states - target).square().sum_dim_intlist([1_i64, 2].as_slice(), false, Kind::Float)
}
