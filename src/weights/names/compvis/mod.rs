//! `CompVis`' names: one file with UNet, autoencoder and text encoder, as the published Stable
//! Diffusion checkpoints are and as A1111 and `ComfyUI` read it.
//!
//! Facts: `ldm/modules/diffusionmodules/{openaimodel,model}.py` of `CompVis/stable-diffusion`, and
//! which of their modules diffusers calls what
//! (`scripts/convert_original_stable_diffusion_to_diffusers.py`).

mod averages;
mod single_file;
mod unet;
mod vae;

pub use averages::{Averages, EmaChoice};
pub use single_file::{SingleFile, foreign_single_file, from_compvis};
pub use unet::unet_names_of_compvis;
pub use vae::{current_vae_names, vae_of_compvis};

use self::unet::{UnetBlocks, unet_modules};
use self::vae::vae_modules;
use super::modules::Modules;
use super::{Shaping, openclip};
use crate::torch::Tensor;
use crate::weights::{Error, View, Weights};

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const CLIP: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";

/// Whether a file's names are `CompVis`'.
pub fn is_compvis(weights: &Weights) -> bool {
    weights.names().any(|name| name.starts_with(UNET))
}

/// A component's tensors under `CompVis`' names: `text_encoder`, `unet` or `vae`.
///
/// # Errors
/// A tensor that has no name there.
pub fn to_compvis(
    component: &str,
    tensors: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, Error> {
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let (modules, prefix) = match component {
        "unet" => (unet_modules(&UnetBlocks::of_diffusers(&names)), UNET),
        "vae" => {
            let levels = count(&names, "encoder.down_blocks.");
            (vae_modules(levels, count(&names, "encoder.down_blocks.0.resnets.")), VAE)
        }
        _ if openclip::is_openclip(tensors) => return openclip::to_openclip(tensors, OPEN_CLIP),
        _ => {
            let renamed = |(name, tensor): &(String, Tensor)| {
                (format!("{CLIP}{name}"), tensor.shallow_clone())
            };
            return Ok(tensors.iter().map(renamed).collect());
        }
    };
    tensors
        .iter()
        .map(|(name, tensor)| {
            let (new, shaping) = modules.theirs(name).ok_or_else(|| Error::Unnamed {
                name: format!("{component}.{name}"),
                dialect: "CompVis",
            })?;
            Ok((format!("{prefix}{new}"), shaping.apply(tensor)))
        })
        .collect()
}

/// Renames what begins with `prefix`, leaves out the rest.
fn renaming<'a>(
    modules: &'a Modules,
    prefix: &'a str,
) -> impl Fn(&str) -> Vec<(String, View)> + 'a {
    move |name| {
        let found = name.strip_prefix(prefix).and_then(|rest| modules.ours(rest));
        let shaped = |(new, shaping): (String, Shaping)| {
            // Norms and biases of what is a convolution there have nothing to be flattened.
            let view = if new.ends_with(".weight") { shaping.view() } else { View::Whole };
            (new, view)
        };
        found.map(shaped).into_iter().collect()
    }
}

/// How many numbered children there are behind a prefix.
fn count(names: &[&str], prefix: &str) -> usize {
    let number = |name: &&str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    // No autoencoder and no UNet has a hundred levels; a file that says so is not believed.
    names.iter().filter_map(number).filter(|&n| n < 100).max().map_or(0, |last| last + 1)
}
