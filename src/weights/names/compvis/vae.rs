//! The modules of an autoencoder.

use super::{VAE, count, is_compvis, renaming};
use crate::weights::names::modules::Modules;
use crate::weights::{Error, View, Weights};

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
    Ok(Some(file.renamed(renaming(&vae_modules_in(file, prefix), prefix))?))
}

/// The modules of the autoencoder in a file, whose names begin with `prefix` there.
pub(super) fn vae_modules_in(file: &Weights, prefix: &str) -> Modules {
    let names: Vec<&str> = file.names().filter_map(|name| name.strip_prefix(prefix)).collect();
    vae_modules(count(&names, "encoder.down."), count(&names, "encoder.down.0.block."))
}

/// An autoencoder's attention under the names and in the shapes that diffusers has now: files from
/// before its version 0.18 have other names, and some converters leave 1×1 convolutions.
///
/// # Errors
/// A tensor that cannot be a linear layer's.
pub fn current_vae_names(vae: &Weights) -> Result<Weights, Error> {
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

/// An autoencoder's modules as diffusers and `CompVis` call them: so many levels, and residual
/// blocks on a level of the encoder.
pub(super) fn vae_modules(levels: usize, layers: usize) -> Modules {
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
