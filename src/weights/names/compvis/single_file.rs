//! A checkpoint in one file, taken apart into the components that diffusers keeps in folders.

use std::collections::{HashMap, HashSet};

use super::averages::{Averages, EmaChoice, averaged_name, averaged_pairs};
use super::unet::{UnetBlocks, unet_modules};
use super::vae::vae_modules_in;
use super::{CLIP, OPEN_CLIP, UNET, VAE, renaming};
use crate::weights::names::openclip;
use crate::weights::{Error, View, Weights};

/// A `CompVis` checkpoint's components under diffusers' names.
#[derive(Debug)]
pub struct SingleFile {
    /// The text encoder; empty where there is none.
    pub text_encoder: Weights,
    /// The denoiser.
    pub unet: Weights,
    /// The autoencoder; empty where there is none.
    pub vae: Weights,
    /// The averaged weights of the UNet, where there are some.
    pub averages: Option<Averages>,
    /// Tensors that belong to nothing that is known.
    pub left: Vec<String>,
}

/// What a single file is that no Stable Diffusion 1.x or 2.x is, from its tensors' names.
pub fn foreign_single_file(file: &Weights) -> Option<&'static str> {
    [
        ("conditioner.embedders.", "a Stable Diffusion XL"),
        (
            "model.diffusion_model.label_emb.",
            "a Stable Diffusion XL or another model that reads classes",
        ),
        ("model.diffusion_model.joint_blocks.", "a Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.", "a FLUX"),
        ("double_blocks.", "a FLUX"),
        ("model.diffusion_model.time_embed.cond_proj", "a distilled model (LCM)"),
        ("control_model.", "a ControlNet"),
        ("model.control_model.", "a ControlNet"),
    ]
    .into_iter()
    .find(|(mark, _)| file.names().any(|name| name.starts_with(mark)))
    .map(|(_, kind)| kind)
}

/// What a training leaves in a checkpoint beside its networks. What of it says something is looked
/// at elsewhere.
fn is_bookkeeping(name: &str) -> bool {
    const EXACT: [&str; 14] = [
        "betas",
        "logvar",
        "scale_factor",
        "global_step",
        "epoch",
        "v_pred",
        "ztsnr",
        "lvlb_weights",
        "model_ema.decay",
        "model_ema.num_updates",
        "denoiser.sigmas",
        "cond_stage_model.logit_scale",
        "cond_stage_model.model.logit_scale",
        "cond_stage_model.model.text_projection",
    ];
    EXACT.contains(&name)
        || ["alphas_cumprod", "sqrt_", "log_one_minus_", "posterior_", "loss."]
            .iter()
            .any(|start| name.starts_with(start))
        || name.starts_with("first_stage_model.loss.")
        || name.ends_with("position_ids")
        // The last of OpenCLIP's 24 layers, which Stable Diffusion 2 does not read.
        || name.starts_with("cond_stage_model.model.transformer.resblocks.23.")
        || name == "cond_stage_model.model.attn_mask"
}

/// Takes a checkpoint apart. Components that are not there are empty.
///
/// # Errors
/// No UNet, tensors of shapes that cannot be theirs, averaged weights that are asked for and
/// missing.
pub fn from_compvis(file: &Weights, ema: EmaChoice) -> Result<SingleFile, Error> {
    let pairs = averaged_pairs(file);
    let averages = Averages::find(file, &pairs, ema)?;
    let names: Vec<&str> = file.names().filter_map(|name| name.strip_prefix(UNET)).collect();
    let unet_modules = unet_modules(&UnetBlocks::of_compvis(&names));
    let unet_name = renaming(&unet_modules, UNET);
    let unet = unet_in(file, &unet_name, ema == EmaChoice::Yes)?;
    let vae_modules = vae_modules_in(file, VAE);
    let vae_name = renaming(&vae_modules, VAE);
    let vae = file.renamed(&vae_name)?;
    let open_clip = file.names().any(|name| name.starts_with(OPEN_CLIP));
    let text_encoder = if open_clip {
        openclip::from_openclip(file, OPEN_CLIP)?
    } else {
        file.renamed(clip_name)?
    };
    let is_read = |name: &str| {
        !unet_name(name).is_empty()
            || !vae_name(name).is_empty()
            || if open_clip { name.starts_with(OPEN_CLIP) } else { !clip_name(name).is_empty() }
    };
    let averaged: HashSet<&str> = pairs.iter().map(|(_, averaged)| averaged.as_str()).collect();
    let left = file
        .names()
        .filter(|name| !averaged.contains(name) && !is_bookkeeping(name) && !is_read(name))
        .map(str::to_owned);
    Ok(SingleFile { text_encoder, unet, vae, averages, left: left.collect() })
}

/// The UNet under the names that `rename` gives, from the averaged copies of its tensors where
/// `averaged` is set.
fn unet_in(
    file: &Weights,
    rename: impl Fn(&str) -> Vec<(String, View)>,
    averaged: bool,
) -> Result<Weights, Error> {
    // Of each tensor that is read: the one that it stands for.
    let sources: HashMap<String, &str> = file
        .names()
        .filter(|name| name.starts_with(UNET))
        .map(|name| {
            let copy = averaged_name(file, name).filter(|_| averaged);
            (copy.unwrap_or_else(|| name.to_owned()), name)
        })
        .collect();
    let unet =
        file.renamed(|name| sources.get(name).map(|source| rename(source)).unwrap_or_default())?;
    if unet.is_empty() {
        return Err(Error::unfit(file.path(""), "it has no UNet under CompVis' names"));
    }
    Ok(unet)
}

/// What transformers calls a tensor of the checkpoint's CLIP; nothing where it is none.
fn clip_name(name: &str) -> Vec<(String, View)> {
    let rest = name.strip_prefix(CLIP).map(|rest| match rest.strip_prefix("text_model.") {
        Some(_) => rest.to_owned(),
        // Some programs save the encoder without its outer module.
        None => format!("text_model.{rest}"),
    });
    rest.map(|name| (name, View::Whole)).into_iter().collect()
}
