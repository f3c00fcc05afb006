//! `CompVis`' names: one file with UNet, autoencoder and text encoder, as the published Stable Diffusion
//! checkpoints are and as A1111 and `ComfyUI` read it.
//!
//! Facts: `ldm/modules/diffusionmodules/{openaimodel,model}.py` of `CompVis/stable-diffusion`, and which of their
//! modules diffusers calls what (`scripts/convert_original_stable_diffusion_to_diffusers.py`).

use std::collections::HashMap;

use super::modules::Modules;
use super::{Shaping, openclip};
use crate::torch::Tensor;
use crate::weights::{Error, View, Weights};

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const CLIP: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";

/// Which of the two sets of UNet weights that a checkpoint may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ema {
    /// The averaged ones where they are there.
    #[default]
    Auto,
    /// The averaged ones, or an error.
    Yes,
    /// The last ones of the training.
    No,
}

impl std::str::FromStr for Ema {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "yes" => Ok(Self::Yes),
            "no" => Ok(Self::No),
            other => Err(format!("ema is auto, yes or no; found `{other}`")),
        }
    }
}

/// A `CompVis` checkpoint's components under diffusers' names.
#[derive(Debug)]
pub struct SingleFile {
    /// The text encoder.
    pub text_encoder: Weights,
    /// The denoiser.
    pub unet: Weights,
    /// The autoencoder.
    pub vae: Weights,
    /// Whether the UNet's weights are the averaged ones.
    pub averaged: bool,
}

/// Whether a file's names are `CompVis`'.
pub fn is_compvis(weights: &Weights) -> bool {
    weights.names().any(|name| name.starts_with(UNET))
}

/// Takes a checkpoint apart. What belongs to no component (the training's schedule, losses) is left out.
///
/// # Errors
/// A component that is not there, tensors of shapes that cannot be theirs, averaged weights that are asked
/// for and missing.
pub fn from_compvis(file: &Weights, ema: Ema) -> Result<SingleFile, Error> {
    let component = |what: &str, found: Weights| {
        if found.is_empty() {
            return Err(Error::damaged(file.path(""), format!("it has no {what} under `CompVis`' names")));
        }
        Ok(found)
    };
    // The averaged copies are named by their module without its dots.
    let averaged = |name: &str| {
        let rest = name.strip_prefix("model.")?;
        Some(format!("model_ema.{}", rest.replace('.', ""))).filter(|name| file.contains(name))
    };
    let there = file.names().any(|name| name.starts_with(UNET) && averaged(name).is_some());
    if ema == Ema::Yes && !there {
        return Err(Error::damaged(
            file.path(""),
            "it has no averaged weights (model_ema.…); use ema = \"no\"",
        ));
    }
    let averages = there && ema != Ema::No;
    let names: Vec<&str> = file.names().filter_map(|name| name.strip_prefix(UNET)).collect();
    let modules = unet_modules(&Blocks::of_compvis(&names));
    // Which tensor of the file stands for each of the UNet's.
    let sources: HashMap<String, &str> = file
        .names()
        .filter(|name| name.starts_with(UNET))
        .map(|name| (averaged(name).filter(|_| averages).unwrap_or_else(|| name.to_owned()), name))
        .collect();
    let rename = inward(&modules, UNET);
    let unet = file.renamed(|name| sources.get(name).map(|own| rename(own)).unwrap_or_default())?;
    let names: Vec<&str> = file.names().filter_map(|name| name.strip_prefix(VAE)).collect();
    let modules = vae_modules(count(&names, "encoder.down."), count(&names, "encoder.down.0.block."));
    let vae = file.renamed(inward(&modules, VAE))?;
    let text_encoder = if file.names().any(|name| name.starts_with(OPEN_CLIP)) {
        openclip::from_openclip(file, OPEN_CLIP)?
    } else {
        file.renamed(|name| {
            let rest = name.strip_prefix(CLIP).map(|rest| match rest.strip_prefix("text_model.") {
                Some(_) => rest.to_owned(),
                // Some programs save the encoder without its outer module.
                None => format!("text_model.{rest}"),
            });
            rest.map(|name| (name, View::Whole)).into_iter().collect()
        })?
    };
    Ok(SingleFile {
        text_encoder: component("text encoder", text_encoder)?,
        unet: component("UNet", unet)?,
        vae: component("autoencoder", vae)?,
        averaged: averages,
    })
}

/// How a UNet's tensor is called in diffusers that `CompVis` calls so, in a UNet of which these are diffusers'
/// names.
pub fn unet_names_of_compvis<'a>(names: impl Iterator<Item = &'a str>) -> impl Fn(&str) -> Option<String> {
    let modules = unet_modules(&Blocks::of_diffusers(&names.collect::<Vec<_>>()));
    move |name| {
        let inside = name.strip_prefix(UNET).or_else(|| name.strip_prefix("diffusion_model."))?;
        modules.inward(inside).map(|(name, _)| name)
    }
}

/// Renames what begins with `prefix`, leaves out the rest.
fn inward<'a>(modules: &'a Modules, prefix: &'a str) -> impl Fn(&str) -> Vec<(String, View)> + 'a {
    move |name| {
        let found = name.strip_prefix(prefix).and_then(|rest| modules.inward(rest));
        let shaped = |(new, shaping): (String, Shaping)| {
            // Norms and biases of what is a convolution there have nothing to be flattened.
            let view = if new.ends_with(".weight") { shaping.view() } else { View::Whole };
            (new, view)
        };
        found.map(shaped).into_iter().collect()
    }
}

/// A component's tensors under `CompVis`' names: `text_encoder`, `unet` or `vae`.
///
/// # Errors
/// A tensor that has no name there.
pub fn to_compvis(component: &str, tensors: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Error> {
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let (modules, prefix) = match component {
        "unet" => (unet_modules(&Blocks::of_diffusers(&names)), UNET),
        "vae" => {
            let levels = count(&names, "encoder.down_blocks.");
            (vae_modules(levels, count(&names, "encoder.down_blocks.0.resnets.")), VAE)
        }
        _ if openclip::is_openclip(tensors) => return openclip::to_openclip(tensors, OPEN_CLIP),
        _ => {
            let renamed =
                |(name, tensor): &(String, Tensor)| (format!("{CLIP}{name}"), tensor.shallow_clone());
            return Ok(tensors.iter().map(renamed).collect());
        }
    };
    tensors
        .iter()
        .map(|(name, tensor)| {
            let (new, shaping) = modules
                .outward(name)
                .ok_or_else(|| Error::Unnamed { name: format!("{component}.{name}"), dialect: "CompVis" })?;
            Ok((format!("{prefix}{new}"), shaping.apply(tensor)))
        })
        .collect()
}

/// How many numbered children there are behind a prefix.
fn count(names: &[&str], prefix: &str) -> usize {
    let number = |name: &&str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    // No autoencoder and no UNet has a hundred levels; a file that says so is not believed.
    names.iter().filter_map(number).filter(|&n| n < 100).max().map_or(0, |last| last + 1)
}

/// How a UNet's blocks are counted: `CompVis` numbers them in one row, diffusers by level.
#[derive(Debug)]
struct Blocks {
    levels: usize,
    /// Residual blocks on a level on the way down.
    layers: usize,
    /// Levels on the way up that have attention.
    attends: Vec<bool>,
}

impl Blocks {
    fn of_diffusers(names: &[&str]) -> Self {
        let levels = count(names, "down_blocks.");
        let attends = (0..levels).map(|i| begins(names, &format!("up_blocks.{i}.attentions."))).collect();
        Self { levels, layers: count(names, "down_blocks.0.resnets."), attends }
    }

    fn of_compvis(names: &[&str]) -> Self {
        let inputs = count(names, "input_blocks.");
        // The first change of size ends the first level; without one there is one level.
        let change = |i: &usize| begins(names, &format!("input_blocks.{i}.0.op."));
        let row = (1..inputs).find(change).unwrap_or(inputs).max(1);
        let levels = inputs.div_ceil(row);
        let attends =
            (0..levels).map(|i| begins(names, &format!("output_blocks.{}.1.norm.", i * row))).collect();
        Self { levels, layers: row - 1, attends }
    }
}

fn begins(names: &[&str], prefix: &str) -> bool {
    names.iter().any(|name| name.starts_with(prefix))
}

fn unet_modules(blocks: &Blocks) -> Modules {
    let mut modules = Modules::default();
    for (ours, theirs) in [
        ("conv_in", "input_blocks.0.0"),
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
    ] {
        modules.add(ours, theirs);
    }
    let mut resnet = |ours: String, theirs: String| {
        for (inside, outside) in [
            ("norm1", "in_layers.0"),
            ("conv1", "in_layers.2"),
            ("time_emb_proj", "emb_layers.1"),
            ("norm2", "out_layers.0"),
            ("conv2", "out_layers.3"),
            ("conv_shortcut", "skip_connection"),
        ] {
            modules.add(format!("{ours}.{inside}"), format!("{theirs}.{outside}"));
        }
    };
    resnet("mid_block.resnets.0".to_owned(), "middle_block.0".to_owned());
    resnet("mid_block.resnets.1".to_owned(), "middle_block.2".to_owned());
    let row = blocks.layers + 1;
    for i in 0..blocks.levels {
        for j in 0..blocks.layers {
            resnet(format!("down_blocks.{i}.resnets.{j}"), format!("input_blocks.{}.0", 1 + i * row + j));
        }
        for j in 0..row {
            resnet(format!("up_blocks.{i}.resnets.{j}"), format!("output_blocks.{}.0", i * row + j));
        }
    }
    for i in 0..blocks.levels {
        for j in 0..blocks.layers {
            modules.add(
                format!("down_blocks.{i}.attentions.{j}"),
                format!("input_blocks.{}.1", 1 + i * row + j),
            );
        }
        modules.add(
            format!("down_blocks.{i}.downsamplers.0.conv"),
            format!("input_blocks.{}.0.op", (i + 1) * row),
        );
        let attends = blocks.attends.get(i).copied().unwrap_or(false);
        if attends {
            for j in 0..row {
                modules
                    .add(format!("up_blocks.{i}.attentions.{j}"), format!("output_blocks.{}.1", i * row + j));
            }
        }
        // Its number counts what stands before it.
        let place = usize::from(attends) + 1;
        modules.add(
            format!("up_blocks.{i}.upsamplers.0.conv"),
            format!("output_blocks.{}.{place}.conv", i * row + blocks.layers),
        );
    }
    modules
}

fn vae_modules(levels: usize, layers: usize) -> Modules {
    let mut modules = Modules::default();
    for name in ["quant_conv", "post_quant_conv"] {
        modules.add(name, name);
    }
    let resnet = |modules: &mut Modules, ours: &str, theirs: &str| {
        for name in ["norm1", "conv1", "norm2", "conv2"] {
            modules.add(format!("{ours}.{name}"), format!("{theirs}.{name}"));
        }
        modules.add(format!("{ours}.conv_shortcut"), format!("{theirs}.nin_shortcut"));
    };
    for half in ["encoder", "decoder"] {
        for (ours, theirs) in
            [("conv_in", "conv_in"), ("conv_norm_out", "norm_out"), ("conv_out", "conv_out")]
        {
            modules.add(format!("{half}.{ours}"), format!("{half}.{theirs}"));
        }
        for n in [0, 1] {
            let (ours, theirs) =
                (format!("{half}.mid_block.resnets.{n}"), format!("{half}.mid.block_{}", n + 1));
            resnet(&mut modules, &ours, &theirs);
        }
        let (ours, theirs) = (format!("{half}.mid_block.attentions.0"), format!("{half}.mid.attn_1"));
        modules.add(format!("{ours}.group_norm"), format!("{theirs}.norm"));
        // diffusers before 0.18 had names of its own for these.
        for [new, old, other] in [
            ["to_q", "query", "q"],
            ["to_k", "key", "k"],
            ["to_v", "value", "v"],
            ["to_out.0", "proj_attn", "proj_out"],
        ] {
            modules.add_convolution(format!("{ours}.{old}"), format!("{theirs}.{other}"));
            modules.add_convolution(format!("{ours}.{new}"), format!("{theirs}.{other}"));
        }
    }
    for i in 0..levels {
        // The decoder's levels are counted from the finest there, from the coarsest here.
        let up = levels - 1 - i;
        for j in 0..layers {
            resnet(
                &mut modules,
                &format!("encoder.down_blocks.{i}.resnets.{j}"),
                &format!("encoder.down.{i}.block.{j}"),
            );
        }
        for j in 0..=layers {
            resnet(
                &mut modules,
                &format!("decoder.up_blocks.{i}.resnets.{j}"),
                &format!("decoder.up.{up}.block.{j}"),
            );
        }
        modules.add(
            format!("encoder.down_blocks.{i}.downsamplers.0.conv"),
            format!("encoder.down.{i}.downsample.conv"),
        );
        modules.add(
            format!("decoder.up_blocks.{i}.upsamplers.0.conv"),
            format!("decoder.up.{up}.upsample.conv"),
        );
    }
    modules
}
