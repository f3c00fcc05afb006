//! What a concept adds to the hidden states of a text: the mean difference between prompts that
//! have it and the same prompts without it (Ring-A-Bell, Tsai et al. 2024, 2310.10012, equation 3),
//! or a file's.

use std::path::Path;

use super::Error;
use crate::generator::Denoiser;
use crate::prompt_search::concept_vector;
use crate::torch::{Kind, Tensor};
use crate::weights::Weights;

/// The mean over pairs of prompts, with the concept and without, `[tokens, width]`.
///
/// # Errors
/// No pairs, libtorch's.
pub(super) fn of_pairs(model: &dyn Denoiser, pairs: &[[String; 2]]) -> Result<Tensor, Error> {
    if pairs.is_empty() {
        return Err(Error::Task(
            "there are no prompts with and without the concept; give its vector in a file"
                .to_owned(),
        ));
    }
    Ok(concept_vector(model, pairs)?)
}

/// A file's: numpy's `.npy`, or `.safetensors` of one tensor; `[tokens, width]`, or one of these.
///
/// # Errors
/// A file that is neither, one of another size than this text encoder's states.
pub(super) fn of_file(model: &dyn Denoiser, file: &Path) -> Result<Tensor, Error> {
    let wrong = |why: String| Error::Task(format!("{}: {why}", file.display()));
    let vector = if file.extension().is_some_and(|end| end == "npy") {
        Tensor::read_npy(file).map_err(|error| wrong(format!("it is no .npy file: {error}")))?
    } else {
        let weights = Weights::open(file)?;
        let names: Vec<&str> = weights.names().collect();
        let [name] = names[..] else {
            return Err(wrong(format!(
                "it holds {} tensors; a concept's vector is one",
                names.len()
            )));
        };
        weights.floats(name)?
    };
    let wanted = model.condition(&[""])?.states.size()[1..].to_vec();
    let size = vector.size();
    let vector = if size.len() == 3 && size[0] == 1 { vector.squeeze_dim(0) } else { vector };
    if vector.size() != wanted {
        return Err(wrong(format!(
            "it is {size:?}, and the hidden states of this text encoder are {wanted:?}; was it \
             made with another Stable Diffusion?"
        )));
    }
    Ok(vector.to_kind(Kind::Float).to_device(model.compute().device.tch()))
}
