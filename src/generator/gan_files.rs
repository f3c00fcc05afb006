//! Hands a `StyleGAN2` over: from whichever file it lies in to rosinality's checkpoint, or to
//! safetensors.

use std::path::Path;

use super::{Error, Format};
use crate::model::stylegan2::{Config, PREFIX, is_mapping, kernels};
use crate::torch::{Kind, Tensor, no_grad, not_finite};
use crate::weights::{
    Edit, Gan, MEAN_STYLE, Weights, is_stylegan, read_stylegan, save, save_torch,
};

/// Whether a path is a file with a `StyleGAN2` in it.
pub fn is_gan(path: &Path) -> bool {
    path.is_file() && Weights::open(path).is_ok_and(|file| is_stylegan(&file))
}

/// A network's tensors in the number type to be written.
type Tensors = Vec<(String, Tensor)>;

/// Writes the networks in `from` to `to`, whole or not at all: the averaged generator as `g_ema`,
/// and `g` and `d` where the file has them. With an edit the edited generator is written alone: the
/// others were never edited, and the concept is in them still. Returns what the format has no place
/// for, in sentences.
///
/// # Errors
/// A file that is no `StyleGAN2`, a format of another kind of model, something at `to`, a full
/// disk.
pub fn export_gan(
    from: &Path,
    edit: &Edit,
    to: &Path,
    (format, kind): (Format, Option<Kind>),
) -> Result<Vec<String>, Error> {
    if fs_err::symlink_metadata(to).is_ok() {
        return Err(Error::Occupied(to.to_path_buf()));
    }
    let gan = read_stylegan(&Weights::open(from)?)?;
    let config = Config::of_file(&gan)?;
    let Gan { generator, trained, discriminator, clamp, group } = gan;
    let read = |weights: &Weights| -> Result<Tensors, Error> {
        let tensor = |name: &str| {
            let full = format!("{PREFIX}{name}");
            let own = match edit.tensors.iter().find(|(own, _)| *own == full) {
                Some((_, own)) => own.to_device(tch::Device::Cpu),
                None => weights.tensor(name)?,
            };
            let kind = kind.unwrap_or(own.kind());
            let tensor = no_grad(|| own.to_kind(kind));
            let lost = not_finite(&tensor);
            if lost > 0 {
                return Err(Error::Request(format!(
                    "{lost} numbers of `{name}` would be NaN or infinite as {kind:?}; write it \
                     with --dtype f32, or take another copy of the model"
                )));
            }
            Ok((name.to_owned(), tensor))
        };
        weights.names().filter(|name| *name != MEAN_STYLE).map(tensor).collect()
    };
    let mut networks: Vec<(&str, Tensors)> = vec![("g_ema", read(&generator)?)];
    let mut said = Vec::new();
    if !edit.is_empty() && (trained.is_some() || discriminator.is_some()) {
        said.push(
            "the edited generator is written alone: the file's other networks were never edited, \
             and the concept is in them still"
                .to_owned(),
        );
    }
    for (name, weights) in [("g", trained), ("d", discriminator)] {
        if let Some(weights) = weights.filter(|_| edit.is_empty()) {
            networks.push((name, read(&weights)?));
        }
    }
    // An edited mapping has another mean, which whoever reads the file finds by himself.
    let mapping = edit.tensors.iter().any(|(name, _)| is_mapping(name));
    let mean: Tensors = if generator.contains(MEAN_STYLE) && !mapping {
        vec![(MEAN_STYLE.to_owned(), generator.tensor(MEAN_STYLE)?)]
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
            said.extend(lost(&config, discriminator));
            Ok(said)
        }
        Format::Safetensors => {
            let whole = networks
                .iter()
                .flat_map(|(network, tensors)| {
                    let named = |(name, tensor): &(String, Tensor)| {
                        (format!("{network}.{name}"), tensor.shallow_clone())
                    };
                    tensors.iter().map(named).collect::<Vec<_>>()
                })
                .chain(mean)
                .collect::<Tensors>();
            let mut about =
                vec![("unsee.stylegan2", serde_json::to_string(&config).map_err(std::io::Error::other)?)];
            // Under the names by which NVIDIA's files say it.
            about.extend(clamp.map(|clamp| ("stylegan2.conv_clamp", clamp.to_string())));
            about.extend(group.map(|group| ("stylegan2.group_size", group.to_string())));
            save(to, &whole, &about)?;
            Ok(said)
        }
        _ => Err(Error::Request(
            "a StyleGAN2 is written with --as rosinality (.pt) or --as safetensors; the others are \
             for Stable Diffusion"
                .to_owned(),
        )),
    }
}

/// What rosinality's program does not take over: it builds its networks from a size and a whole
/// multiplier of channels alone, with 512 numbers to a style and 8 layers in the mapping.
fn lost(config: &Config, discriminator: bool) -> Vec<String> {
    let mut lost = Vec::new();
    let multiplier = config.channels.get(4).map_or(1, |&at_64| (at_64 / 256).max(1));
    let published = Config::published(config.size, 512, 8, multiplier as f64);
    for (what, own, theirs) in [
        ("channels", &config.channels[..], &published.channels[..]),
        ("numbers in a style", &[config.style_dim], &[published.style_dim]),
        ("layers in its mapping", &[config.mapping_layers], &[published.mapping_layers]),
    ] {
        if own != theirs {
            lost.push(format!(
                "rosinality's program expects {theirs:?} {what} and does not load {own:?} as it \
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
