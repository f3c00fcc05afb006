//! `CompVis`' names: one file with UNet, autoencoder and text encoder, as the published Stable
//! Diffusion checkpoints are and as A1111 and `ComfyUI` read it.
//!
//! Facts: `ldm/modules/diffusionmodules/{openaimodel,model}.py` of `CompVis/stable-diffusion`, and
//! which of their modules diffusers calls what
//! (`scripts/convert_original_stable_diffusion_to_diffusers.py`).

use std::collections::{HashMap, HashSet};

use super::modules::Modules;
use super::{Shaping, openclip};
use crate::torch::{Kind, Tensor, no_grad};
use crate::weights::{Error, View, Weights};

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const CLIP: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";

/// Which of the two sets of UNet weights that a checkpoint may carry: those of the training's end,
/// and their average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmaChoice {
    /// The last ones, as diffusers takes, with a warning where there are averaged ones that differ.
    #[default]
    Auto,
    /// The averaged ones, or an error.
    Yes,
    /// The last ones of the training.
    No,
}

impl std::str::FromStr for EmaChoice {
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

/// The second set of a UNet's weights.
#[derive(Debug, Clone, Copy)]
pub struct Averages {
    /// Whether it was taken.
    taken: bool,
    /// How far it lies from the first, relative to that one's length: of every eighth tensor.
    distance: f64,
    /// Whether the user said which is to be taken.
    asked: bool,
}

impl Averages {
    /// What the user must know: that there are two, how far apart, and which was taken. `None`
    /// where both are equal.
    pub fn warning(&self, path: &std::path::Path) -> Option<String> {
        let taken = if self.taken { "averaged" } else { "last" };
        let other = if self.taken {
            "--ema no takes the last ones"
        } else {
            "--ema yes takes the averaged ones"
        };
        let how = if self.asked { "as was asked for" } else { "as diffusers takes them" };
        (self.distance > 0.0).then(|| {
            format!(
                "{} holds two UNets, which differ by {:.3} % of their length: the {taken} weights \
                 were taken, {how}; {other}",
                path.display(),
                100.0 * self.distance
            )
        })
    }
}

/// Whether a file's names are `CompVis`'.
pub fn is_compvis(weights: &Weights) -> bool {
    weights.names().any(|name| name.starts_with(UNET))
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
    // The averaged copies are named by their module without its dots.
    let averaged = |name: &str| {
        let rest = name.strip_prefix("model.")?;
        let spellings =
            [format!("model_ema.{}", rest.replace('.', "")), format!("model_ema.{rest}")];
        spellings.into_iter().find(|name| file.contains(name))
    };
    let pairs: Vec<(&str, String)> = (file.names())
        .filter(|name| name.starts_with(UNET))
        .filter_map(|name| Some((name, averaged(name)?)))
        .collect();
    if ema == EmaChoice::Yes && pairs.is_empty() {
        return Err(Error::unfit(
            file.path(""),
            "it has no averaged weights (model_ema.…) besides those of the training's end; leave \
             ema out",
        ));
    }
    let all = file.names().filter(|name| name.starts_with(UNET)).count();
    if ema == EmaChoice::Yes && pairs.len() < all {
        return Err(Error::unfit(
            file.path(""),
            format!(
                "it has averaged weights of {} of {all} tensors only, which are no model; leave \
                 ema out",
                pairs.len()
            ),
        ));
    }
    let taken = ema == EmaChoice::Yes;
    let averages = if pairs.is_empty() {
        None
    } else {
        Some(Averages { taken, distance: distance(file, &pairs)?, asked: ema != EmaChoice::Auto })
    };
    let names: Vec<&str> = file.names().filter_map(|name| name.strip_prefix(UNET)).collect();
    let modules = unet_modules(&Blocks::of_compvis(&names));
    // Which tensor of the file stands for each of the UNet's.
    let sources: HashMap<String, &str> = file
        .names()
        .filter(|name| name.starts_with(UNET))
        .map(|name| (averaged(name).filter(|_| taken).unwrap_or_else(|| name.to_owned()), name))
        .collect();
    let rename = inward(&modules, UNET);
    let unet = file.renamed(|name| sources.get(name).map(|own| rename(own)).unwrap_or_default())?;
    if unet.is_empty() {
        return Err(Error::unfit(file.path(""), "it has no UNet under CompVis' names"));
    }
    let vae_modules = vae_modules_in(file, VAE);
    let vae_name = inward(&vae_modules, VAE);
    let vae = file.renamed(&vae_name)?;
    let open_clip = file.names().any(|name| name.starts_with(OPEN_CLIP));
    let clip_name = |name: &str| {
        let rest = name.strip_prefix(CLIP).map(|rest| match rest.strip_prefix("text_model.") {
            Some(_) => rest.to_owned(),
            // Some programs save the encoder without its outer module.
            None => format!("text_model.{rest}"),
        });
        rest.map(|name| (name, View::Whole)).into_iter().collect::<Vec<_>>()
    };
    let text_encoder = if open_clip {
        openclip::from_openclip(file, OPEN_CLIP)?
    } else {
        file.renamed(clip_name)?
    };
    let taken_up = |name: &str| {
        !rename(name).is_empty()
            || !vae_name(name).is_empty()
            || if open_clip { name.starts_with(OPEN_CLIP) } else { !clip_name(name).is_empty() }
    };
    let known: HashSet<&str> = pairs.iter().map(|(_, averaged)| averaged.as_str()).collect();
    let left = file
        .names()
        .filter(|name| !known.contains(name) && !is_bookkeeping(name) && !taken_up(name))
        .map(str::to_owned);
    Ok(SingleFile { text_encoder, unet, vae, averages, left: left.collect() })
}

/// How far the averaged weights lie from the last ones, relative to these.
fn distance(file: &Weights, pairs: &[(&str, String)]) -> Result<f64, Error> {
    let (mut apart, mut whole) = (0.0, 0.0);
    for (name, averaged) in pairs {
        let [own, other] =
            [file.tensor(name)?, file.tensor(averaged)?].map(|own| own.to_kind(Kind::Float));
        if own.size() != other.size() {
            return Err(Error::unfit(
                file.path(name),
                format!(
                    "`{averaged}` is {:?}, `{name}` is {:?}; they should be alike",
                    other.size(),
                    own.size()
                ),
            ));
        }
        let square = |x: &Tensor| no_grad(|| x.square().sum(Kind::Double).double_value(&[]));
        apart += square(&(&own - other));
        whole += square(&own);
    }
    Ok((apart / whole.max(f64::MIN_POSITIVE)).sqrt())
}

/// The autoencoder of a file that holds it alone, under `CompVis`' names, with its prefix or
/// without. `None` for any other file.
///
/// # Errors
/// Tensors of shapes that cannot be theirs.
pub fn vae_of_compvis(file: &Weights) -> Result<Option<Weights>, Error> {
    let mark = "decoder.mid.block_1.conv1.weight";
    let Some(prefix) =
        [VAE, ""].into_iter().find(|prefix| file.contains(&format!("{prefix}{mark}")))
    else {
        return Ok(None);
    };
    if is_compvis(file) {
        return Ok(None);
    }
    Ok(Some(file.renamed(inward(&vae_modules_in(file, prefix), prefix))?))
}

/// The modules of the autoencoder in a file, whose names begin with `prefix` there.
fn vae_modules_in(file: &Weights, prefix: &str) -> Modules {
    let names: Vec<&str> = file.names().filter_map(|name| name.strip_prefix(prefix)).collect();
    vae_modules(count(&names, "encoder.down."), count(&names, "encoder.down.0.block."))
}

/// An autoencoder's attention under the names and in the shapes that diffusers has now: files from
/// before its version 0.18 have other names, and some converters leave 1×1 convolutions.
///
/// # Errors
/// A tensor that cannot be a linear layer's.
pub fn spelt_anew(vae: &Weights) -> Result<Weights, Error> {
    vae.renamed(|name| {
        let Some((block, rest)) = name.split_once(".attentions.0.") else {
            return vec![(name.to_owned(), View::Whole)];
        };
        let (module, kind) = rest.rsplit_once('.').unwrap_or((rest, ""));
        let new = match module {
            "query" => "to_q",
            "key" => "to_k",
            "value" => "to_v",
            "proj_attn" => "to_out.0",
            other => other,
        };
        let view =
            if kind == "weight" && new.starts_with("to_") { View::Flat } else { View::Whole };
        vec![(format!("{block}.attentions.0.{new}.{kind}"), view)]
    })
}

/// How a UNet's tensor is called in diffusers that `CompVis` calls so, in a UNet of which these are
/// diffusers' names.
pub fn unet_names_of_compvis<'a>(
    names: impl Iterator<Item = &'a str>,
) -> impl Fn(&str) -> Option<String> {
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
pub fn to_compvis(
    component: &str,
    tensors: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, Error> {
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let (modules, prefix) = match component {
        "unet" => (unet_modules(&Blocks::of_diffusers(&names)), UNET),
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
            let (new, shaping) = modules.outward(name).ok_or_else(|| Error::Unnamed {
                name: format!("{component}.{name}"),
                dialect: "CompVis",
            })?;
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
        let attends =
            (0..levels).map(|i| begins(names, &format!("up_blocks.{i}.attentions."))).collect();
        Self { levels, layers: count(names, "down_blocks.0.resnets."), attends }
    }

    fn of_compvis(names: &[&str]) -> Self {
        let inputs = count(names, "input_blocks.");
        // The first change of size ends the first level; without one there is one level.
        let change = |i: &usize| begins(names, &format!("input_blocks.{i}.0.op."));
        let row = (1..inputs).find(change).unwrap_or(inputs).max(1);
        let levels = inputs.div_ceil(row);
        let attends = (0..levels)
            .map(|i| begins(names, &format!("output_blocks.{}.1.norm.", i * row)))
            .collect();
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
            resnet(
                format!("down_blocks.{i}.resnets.{j}"),
                format!("input_blocks.{}.0", 1 + i * row + j),
            );
        }
        for j in 0..row {
            resnet(
                format!("up_blocks.{i}.resnets.{j}"),
                format!("output_blocks.{}.0", i * row + j),
            );
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
                modules.add(
                    format!("up_blocks.{i}.attentions.{j}"),
                    format!("output_blocks.{}.1", i * row + j),
                );
            }
        }
        // Its number counts what stands before it.
        let position = usize::from(attends) + 1;
        modules.add(
            format!("up_blocks.{i}.upsamplers.0.conv"),
            format!("output_blocks.{}.{position}.conv", i * row + blocks.layers),
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
        let (ours, theirs) =
            (format!("{half}.mid_block.attentions.0"), format!("{half}.mid.attn_1"));
        // Some programs leave diffusers' names of these, today's or those from before 0.18, in a
        // single file. The published name comes last: it is the one that is written.
        for other in ["group_norm", "norm"] {
            modules.add(format!("{ours}.group_norm"), format!("{theirs}.{other}"));
        }
        for (new, others) in [
            ("to_q", ["query", "to_q", "q"]),
            ("to_k", ["key", "to_k", "k"]),
            ("to_v", ["value", "to_v", "v"]),
            ("to_out.0", ["proj_attn", "to_out.0", "proj_out"]),
        ] {
            for other in others {
                modules.add_convolution(format!("{ours}.{new}"), format!("{theirs}.{other}"));
            }
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
