//! The modules of a UNet.

use super::{UNET, count};
use crate::weights::names::modules::Modules;

/// How a UNet's tensor is called in diffusers that `CompVis` calls so, in a UNet of which these are
/// diffusers' names.
pub fn unet_names_of_compvis<'a>(
    names: impl Iterator<Item = &'a str>,
) -> impl Fn(&str) -> Option<String> {
    let modules = unet_modules(&UnetBlocks::of_diffusers(&names.collect::<Vec<_>>()));
    move |name| {
        let inside = name.strip_prefix(UNET).or_else(|| name.strip_prefix("diffusion_model."))?;
        modules.ours(inside).map(|(name, _)| name)
    }
}

/// How a UNet's blocks are counted: `CompVis` numbers them from the first to the last, diffusers by
/// level.
#[derive(Debug)]
pub(super) struct UnetBlocks {
    levels: usize,
    /// Residual blocks on a level on the way down.
    layers: usize,
    /// Levels on the way up that have attention.
    attends: Vec<bool>,
}

impl UnetBlocks {
    pub(super) fn of_diffusers(names: &[&str]) -> Self {
        let levels = count(names, "down_blocks.");
        let attends =
            (0..levels).map(|i| begins(names, &format!("up_blocks.{i}.attentions."))).collect();
        Self { levels, layers: count(names, "down_blocks.0.resnets."), attends }
    }

    pub(super) fn of_compvis(names: &[&str]) -> Self {
        let inputs = count(names, "input_blocks.");
        // The first change of size ends the first level; without one there is one level.
        let change = |i: &usize| begins(names, &format!("input_blocks.{i}.0.op."));
        let per_level = (1..inputs).find(change).unwrap_or(inputs).max(1);
        let levels = inputs.div_ceil(per_level);
        let attends = (0..levels)
            .map(|i| begins(names, &format!("output_blocks.{}.1.norm.", i * per_level)))
            .collect();
        Self { levels, layers: per_level - 1, attends }
    }
}

fn begins(names: &[&str], prefix: &str) -> bool {
    names.iter().any(|name| name.starts_with(prefix))
}

/// A UNet's modules as diffusers and `CompVis` call them.
pub(super) fn unet_modules(blocks: &UnetBlocks) -> Modules {
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
    let per_level = blocks.layers + 1;
    for i in 0..blocks.levels {
        for j in 0..blocks.layers {
            resnet(
                format!("down_blocks.{i}.resnets.{j}"),
                format!("input_blocks.{}.0", 1 + i * per_level + j),
            );
        }
        for j in 0..per_level {
            resnet(
                format!("up_blocks.{i}.resnets.{j}"),
                format!("output_blocks.{}.0", i * per_level + j),
            );
        }
    }
    for i in 0..blocks.levels {
        for j in 0..blocks.layers {
            modules.add(
                format!("down_blocks.{i}.attentions.{j}"),
                format!("input_blocks.{}.1", 1 + i * per_level + j),
            );
        }
        modules.add(
            format!("down_blocks.{i}.downsamplers.0.conv"),
            format!("input_blocks.{}.0.op", (i + 1) * per_level),
        );
        let attends = blocks.attends.get(i).copied().unwrap_or(false);
        if attends {
            for j in 0..per_level {
                modules.add(
                    format!("up_blocks.{i}.attentions.{j}"),
                    format!("output_blocks.{}.1", i * per_level + j),
                );
            }
        }
        // Its number counts what stands before it.
        let position = usize::from(attends) + 1;
        modules.add(
            format!("up_blocks.{i}.upsamplers.0.conv"),
            format!("output_blocks.{}.{position}.conv", i * per_level + blocks.layers),
        );
    }
    modules
}
