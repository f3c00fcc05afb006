//! Hands a `StyleGAN2` over: from whichever file it lies in to rosinality's checkpoint, or to
//! safetensors.

use std::path::Path;

use super::{Error, Format};
use crate::model::stylegan2::{PREFIX, StyleGan2Config, is_mapping, kernels};
use crate::torch::{Kind, Tensor, no_grad, not_finite};
use crate::weights::{
    Edit, Gan, MEAN_STYLE, Weights, is_stylegan, read_stylegan, save, save_torch,
};

/// Whether a path is a file with a `StyleGAN2` in it.
pub fn is_gan(path: &Path) -> bool {
    path.is_file() && Weights::open(path).is_ok_and(|file| is_stylegan(&file))
}

/// A network's tensors by name.
type Tensors = Vec<(String, Tensor)>;

/// Writes the networks in `from` to `to`, whole or not at all: the averaged generator as `g_ema`,
/// and `g` and `d` where the file has them. With an edit the edited generator is written alone: the
/// others were never edited, and the concept is in them still. Tensors have the number type `kind`,
/// or each its own. Returns what the format has no place for, in sentences.
///
/// # Errors
/// A file that is no `StyleGAN2`, a format of another kind of model, something at `to`, a full
/// disk.
pub fn export_gan(
    from: &Path,
    edit: &Edit,
    to: &Path,
    format: Format,
    kind: Option<Kind>,
) -> Result<Vec<String>, Error> {
    if fs_err::symlink_metadata(to).is_ok() {
        return Err(Error::Occupied(to.to_path_buf()));
    }
    let gan = read_stylegan(&Weights::open(from)?)?;
    let config = StyleGan2Config::of_file(&gan)?;
    let mut networks: Vec<(&str, Tensors)> = vec![("g_ema", edited(&gan.generator, edit, kind)?)];
    let mut notes = Vec::new();
    if !edit.is_empty() && (gan.trained.is_some() || gan.discriminator.is_some()) {
        notes.push(
            "the edited generator is written alone: the file's other networks were never edited, \
             and the concept is in them still"
                .to_owned(),
        );
    }
    for (name, weights) in [("g", &gan.trained), ("d", &gan.discriminator)] {
        if let Some(weights) = weights.as_ref().filter(|_| edit.is_empty()) {
            networks.push((name, edited(weights, edit, kind)?));
        }
    }
    // An edited mapping has another mean, which readers of the file compute themselves.
    let mapping = edit.tensors.iter().any(|(name, _)| is_mapping(name));
    let mean: Tensors = if gan.generator.contains(MEAN_STYLE) && !mapping {
        vec![(MEAN_STYLE.to_owned(), gan.generator.tensor(MEAN_STYLE)?)]
    } else {
        Vec::new()
    };
    match format {
        Format::Rosinality => {
            // Its networks hold their filters too, and want to find them.
            for (name, tensors) in &mut networks {
                tensors.extend(kernels(&config, *name == "d"));
            }
            save_torch(to, &networks, &mean)?;
            let discriminator = networks.iter().any(|(name, _)| *name == "d");
            notes.extend(lost(&config, discriminator));
        }
        Format::Safetensors => save_safetensors(to, &gan, &config, &networks, mean)?,
        _ => {
            return Err(Error::Request(
                "a StyleGAN2 is written with --as rosinality (.pt) or --as safetensors; the others \
                 are for Stable Diffusion"
                    .to_owned(),
            ));
        }
    }
    Ok(notes)
}

/// A network's tensors with an edit in their place, in the number type to be written.
fn edited(weights: &Weights, edit: &Edit, kind: Option<Kind>) -> Result<Tensors, Error> {
    let tensor = |name: &str| {
        let full = format!("{PREFIX}{name}");
        let tensor = match edit.tensors.iter().find(|(known, _)| *known == full) {
            Some((_, new)) => new.to_device(tch::Device::Cpu),
            None => weights.tensor(name)?,
        };
        let kind = kind.unwrap_or(tensor.kind());
        let tensor = no_grad(|| tensor.to_kind(kind));
        let lost = not_finite(&tensor);
        if lost > 0 {
            return Err(Error::Request(format!(
                "{lost} numbers of `{name}` would be NaN or infinite as {kind:?}; write it with \
                 --dtype f32, or take another copy of the model"
            )));
        }
        Ok((name.to_owned(), tensor))
    };
    weights.names().filter(|name| *name != MEAN_STYLE).map(tensor).collect()
}

/// Writes networks, each under its name, and the mean style.
fn save_safetensors(
    to: &Path,
    gan: &Gan,
    config: &StyleGan2Config,
    networks: &[(&str, Tensors)],
    mean: Tensors,
) -> Result<(), Error> {
    let full_names = |(network, tensors): &(&str, Tensors)| {
        let full = |(name, tensor): &(String, Tensor)| {
            (format!("{network}.{name}"), tensor.shallow_clone())
        };
        tensors.iter().map(full).collect::<Tensors>()
    };
    let all: Tensors = networks.iter().flat_map(full_names).chain(mean).collect();
    let config = serde_json::to_string(config).map_err(std::io::Error::other)?;
    let mut about = vec![("unsee.stylegan2", config)];
    // Under the names by which NVIDIA's files say it.
    about.extend(gan.clamp.map(|clamp| ("stylegan2.conv_clamp", clamp.to_string())));
    about.extend(gan.group.map(|group| ("stylegan2.group_size", group.to_string())));
    Ok(save(to, &all, &about)?)
}

/// What rosinality's program does not take over: it builds its networks from a size and a whole
/// multiplier of channels alone, with 512 numbers to a style and 8 layers in the mapping.
fn lost(config: &StyleGan2Config, discriminator: bool) -> Vec<String> {
    let mut lost = Vec::new();
    let multiplier = config.channels.get(4).map_or(1, |&at_64| (at_64 / 256).max(1));
    let published = StyleGan2Config::published(config.size, 512, 8, multiplier as f64);
    for (what, ours, theirs) in [
        ("channels", &config.channels[..], &published.channels[..]),
        ("numbers in a style", &[config.style_dim], &[published.style_dim]),
        ("layers in its mapping", &[config.mapping_layers], &[published.mapping_layers]),
    ] {
        if ours != theirs {
            lost.push(format!(
                "rosinality's program expects {theirs:?} {what} and does not load {ours:?} as it \
                 is; unsee does"
            ));
        }
    }
    if let Some(clamp) = config.clamp {
        lost.push(format!(
            "rosinality's networks do not clamp; activations beyond {clamp} come out other than \
             here"
        ));
    }
    if discriminator && config.group != published.group {
        lost.push(format!(
            "rosinality's discriminator compares {} pictures, this one compared {}",
            published.group, config.group
        ));
    }
    lost
}
