//! `StyleGAN2`'s networks in the files that people have, under rosinality's names: rosinality's
//! checkpoints (`g_ema`, `g` and `d` in one file, or a network alone) and NVIDIA's pickles
//! (`G_ema`, `G`, `D`).
//!
//! Facts: `convert_weight.py` of `rosinality/stylegan2-pytorch`, `training/networks.py` of
//! `NVlabs/stylegan2-ada-pytorch`.

use crate::fields::{Class, Rule};
use crate::torch::{Kind, Tensor};
use crate::weights::{Edit, Error, View, Weights};

/// The mean of all styles, which stands beside the averaged generator and is no part of a network.
pub const MEAN_STYLE: &str = "latent_avg";

const ONLY: &str = "only networks of StyleGAN2's own kind can be read";
const LABELS: Rule = Rule::Harmless("of networks that draw under labels, which are refused");
const SHAPES: Rule = Rule::Harmless("the tensors' shapes say it");
const SPEED: Rule = Rule::Harmless("how it is computed, not what");

/// What NVIDIA's networks say of themselves beside their tensors, by the names of their modules'
/// attributes.
pub const STYLEGAN2: Class = Class {
    name: "StyleGAN2 (NVIDIA)",
    fields: &[&[
        ("conv_clamp", Rule::Honoured),
        ("group_size", Rule::Honoured),
        (
            "c_dim",
            Rule::Only(
                &["0"],
                "it draws under labels (a class-conditional network), which unsee does not do",
            ),
        ),
        ("img_channels", Rule::Only(&["3"], "pictures of three channels (RGB) are drawn")),
        ("activation", Rule::Only(&["\"lrelu\"", "\"linear\""], ONLY)),
        ("architecture", Rule::Only(&["\"skip\"", "\"resnet\""], ONLY)),
        ("use_noise", Rule::Only(&["true"], ONLY)),
        (
            "bias_gain",
            Rule::Only(
                &["1", "0.01"],
                "learning rates of the mapping other than 0.01 are not built",
            ),
        ),
        ("num_channels", Rule::Only(&["1"], "one channel of deviations is built")),
        ("resample_filter", Rule::Honoured),
        ("z_dim", SHAPES),
        ("w_dim", SHAPES),
        ("num_ws", SHAPES),
        ("img_resolution", SHAPES),
        ("resolution", SHAPES),
        ("num_layers", SHAPES),
        ("in_channels", SHAPES),
        ("out_channels", SHAPES),
        ("channel_base", SHAPES),
        ("channel_max", SHAPES),
        ("embed_features", LABELS),
        ("cmap_dim", LABELS),
        ("num_fp16_res", SPEED),
        ("use_fp16", SPEED),
        ("channels_last", SPEED),
        ("fused_modconv_default", SPEED),
        ("w_avg_beta", Rule::Harmless("of training alone")),
        ("freeze_layers", Rule::Harmless("of training alone")),
    ]],
};

/// What is said of a file without a generator.
const ALONE: &str = "it is a discriminator alone; a file with a generator is needed";

/// The networks of a file.
#[derive(Debug)]
pub struct Gan {
    /// The generator whose weights are averaged; the last one where a file has no average.
    pub generator: Weights,
    /// The generator as the training left it, where the file has both.
    pub trained: Option<Weights>,
    /// The discriminator.
    pub discriminator: Option<Weights>,
    /// Largest magnitude of an activation, where NVIDIA's file says so.
    pub clamp: Option<f64>,
    /// Pictures that the discriminator compares, where NVIDIA's file says so.
    pub group: Option<i64>,
}

/// Whether a file has a `StyleGAN2` in it. An edit has a generator's tensors, and is none.
pub fn is_stylegan(file: &Weights) -> bool {
    !Edit::is_in(file)
        && file.names().any(|name| {
            name.ends_with("to_rgb1.conv.weight") || name.ends_with("synthesis.b4.const")
        })
}

/// What a file is that holds a generator of another kind, from its tensors' names.
pub fn foreign_gan(file: &Weights) -> Option<&'static str> {
    let any = |mark: &str| file.names().any(|name| name.contains(mark));
    if any("synthesis.L0_") || any("synthesis.input.freqs") {
        return Some("a StyleGAN3");
    }
    if (any("se_64") && any("feat_")) || any("init.init") || any("feature_networks.") {
        return Some("a projected GAN or FastGAN");
    }
    if any("generator.gen_z") || any("gen_z.") {
        return Some("a BigGAN");
    }
    if any("g_synthesis.blocks") || any("progression.0.") {
        return Some("a StyleGAN of the first version or a progressive GAN");
    }
    None
}

/// Whether a filter is the outer product of [1, 3, 3, 1] with itself, whatever its sum.
fn is_usual_filter(filter: &Tensor) -> bool {
    let row = Tensor::from_slice(&[1.0_f32, 3.0, 3.0, 1.0]);
    let usual = row.outer(&row) / 64.0;
    let filter = filter.to_kind(Kind::Float);
    let sum = filter.sum(Kind::Float);
    filter.size() == [4, 4] && (filter / sum).allclose(&usual, 1e-3, 1e-5, false)
}

/// Takes a file's networks apart.
///
/// # Errors
/// A file without a generator, one of another architecture, tensors of shapes that cannot be
/// theirs.
pub fn read_stylegan(file: &Weights) -> Result<Gan, Error> {
    refuse_other_networks(file)?;
    let wrong = |why: &str| Error::no_stylegan(file.path(""), why);
    let nvidia = file.names().any(|name| name.ends_with("synthesis.b4.const"));
    let prefixes = if nvidia { ["G_ema.", "G.", "D."] } else { ["g_ema.", "g.", "d."] };
    let [averaged, trained, discriminator] = prefixes.map(|prefix| network(file, nvidia, prefix));
    let (averaged, trained, discriminator) = (averaged?, trained?, discriminator?);
    let (generator, trained) = match (averaged, trained) {
        (Some(averaged), Some(trained)) => {
            // The mean of all styles belongs to the averaged one.
            let weight = |name: &str| (name != MEAN_STYLE).then(|| (name.to_owned(), View::Whole));
            (averaged, Some(trained.renamed(|name| weight(name).into_iter().collect())?))
        }
        (Some(averaged), None) => (averaged, None),
        (None, Some(trained)) => (trained, None),
        // A network by itself.
        (None, None) if discriminator.is_some() => return Err(wrong(ALONE)),
        (None, None) => match network(file, nvidia, "")? {
            Some(alone) if alone.contains("input.input") => (alone, None),
            Some(alone) if alone.contains("final_conv.0.weight") => return Err(wrong(ALONE)),
            _ => {
                let why = "it has no StyleGAN2 generator under rosinality's or NVIDIA's names";
                return Err(wrong(why));
            }
        },
    };
    Ok(Gan {
        generator,
        trained,
        discriminator,
        clamp: largest(file, "conv_clamp"),
        group: largest(file, "group_size").map(|n| n as i64),
    })
}

/// Refuses networks that are not built here.
///
/// # Errors
/// One of another architecture, with labels, or with another filter.
fn refuse_other_networks(file: &Weights) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::no_stylegan(file.path(""), why));
    if let Some(kind) = foreign_gan(file) {
        return wrong(&format!("it is {kind}; StyleGAN2 networks can be read"));
    }
    for (name, value) in file.metadata() {
        let fact = name.rsplit('.').next().unwrap_or_default();
        let value = serde_json::from_str(&value).unwrap_or_default();
        if let Some(rule @ Rule::Only(_, advice)) = STYLEGAN2.rule(fact)
            && name.contains('.')
            && !rule.allows(&value)
        {
            return wrong(&format!("its {name} is {value}: {advice}"));
        }
    }
    if file.names().any(|name| name.ends_with("mapping.embed.weight")) {
        return wrong(
            "it draws under labels (a class-conditional network), which unsee does not do",
        );
    }
    for name in
        file.names().filter(|name| name.ends_with("resample_filter") || name.ends_with(".kernel"))
    {
        if !is_usual_filter(&file.tensor(name)?) {
            return wrong(&format!(
                "`{name}` is another filter than StyleGAN2's [1, 3, 3, 1], which alone is built"
            ));
        }
    }
    Ok(())
}

/// The network whose tensors' names begin with `prefix`, in a file under NVIDIA's names or
/// rosinality's; `None` where the file does not have it.
fn network(file: &Weights, nvidia: bool, prefix: &str) -> Result<Option<Weights>, Error> {
    let found = if nvidia {
        let side = top(file, prefix);
        file.renamed(|name| {
            name.strip_prefix(prefix).and_then(|rest| from_nvidia(rest, side)).into_iter().collect()
        })?
    } else {
        file.renamed(|name| {
            // The mean of all styles stands beside the networks.
            let beside = name == MEAN_STYLE && prefix == "g_ema.";
            let name = if beside { Some(name) } else { name.strip_prefix(prefix) };
            name.and_then(from_rosinality).into_iter().collect()
        })?
    };
    Ok(Some(found).filter(|found| !found.is_empty()))
}

/// The largest value that modules have of a setting.
fn largest(file: &Weights, setting: &str) -> Option<f64> {
    file.metadata()
        .iter()
        .filter(|(name, _)| name.rsplit('.').next() == Some(setting))
        // The discriminator's clamp is not the generator's.
        .filter(|(name, _)| setting != "conv_clamp" || !name.starts_with("D."))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .reduce(f64::max)
}

/// rosinality's own name of a tensor; `None` for what is no weight. Filters are rebuilt, `module.`
/// stands before every name in files of several GPUs, and names with `__` are what
/// Adapt-then-Unlearn's code keeps beside the weights.
fn from_rosinality(name: &str) -> Option<(String, View)> {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let network = [
        "style.",
        "input.",
        "conv1.",
        "to_rgb1.",
        "convs.",
        "to_rgbs.",
        "noises.",
        "final_conv.",
        "final_linear.",
        MEAN_STYLE,
    ];
    let weight = network.iter().any(|start| name.starts_with(start));
    (weight && !name.ends_with(".kernel") && !name.contains("__"))
        .then(|| (name.to_owned(), View::Whole))
}

/// The largest block that a network of NVIDIA's has, in pixels.
fn top(file: &Weights, prefix: &str) -> u32 {
    let side = |name: &str| {
        let rest = name.strip_prefix(prefix)?;
        let block = rest.strip_prefix("synthesis.").unwrap_or(rest).strip_prefix('b')?;
        block.split('.').next()?.parse::<u32>().ok()
    };
    file.names().filter_map(side).max().unwrap_or(4)
}

/// What rosinality calls a tensor of NVIDIA's in a network of `size` pixels; `None` for what it
/// does not have.
fn from_nvidia(name: &str, size: u32) -> Option<(String, View)> {
    let whole = |name: String| Some((name, View::Whole));
    if name == "mapping.w_avg" {
        return whole(MEAN_STYLE.to_owned());
    }
    if let Some(rest) = name.strip_prefix("mapping.fc") {
        let (i, kind) = rest.split_once('.')?;
        return whole(format!("style.{}.{kind}", i.parse::<u32>().ok()?.checked_add(1)?));
    }
    let (drawn, rest) = match name.strip_prefix("synthesis.b") {
        Some(rest) => (true, rest),
        None => (false, name.strip_prefix('b')?),
    };
    let (side, rest) = rest.split_once('.')?;
    let side: u32 = side
        .parse()
        .ok()
        .filter(|side: &u32| side.is_power_of_two() && (4..=size).contains(side))?;
    // Doublings since 4 pixels.
    let level = side.ilog2() - 2;
    if !drawn {
        let i = size.ilog2() - side.ilog2() + 1;
        return whole(match (level, rest.split_once('.')?) {
            (_, ("fromrgb", "weight")) if side == size => "convs.0.0.weight".to_owned(),
            (_, ("fromrgb", "bias")) if side == size => "convs.0.1.bias".to_owned(),
            (0, ("conv", "weight")) => "final_conv.0.weight".to_owned(),
            (0, ("conv", "bias")) => "final_conv.1.bias".to_owned(),
            (0, ("fc", kind @ ("weight" | "bias"))) => format!("final_linear.0.{kind}"),
            (0, ("out", kind @ ("weight" | "bias"))) => format!("final_linear.1.{kind}"),
            (_, ("conv0", "weight")) => format!("convs.{i}.conv1.0.weight"),
            (_, ("conv0", "bias")) => format!("convs.{i}.conv1.1.bias"),
            (_, ("conv1", "weight")) => format!("convs.{i}.conv2.1.weight"),
            (_, ("conv1", "bias")) => format!("convs.{i}.conv2.2.bias"),
            (_, ("skip", "weight")) => format!("convs.{i}.skip.1.weight"),
            _ => return None,
        });
    }
    if (level, rest) == (0, "const") {
        return Some(("input.input".to_owned(), View::Ahead(1)));
    }
    let (layer, kind) = rest.split_once('.')?;
    let (module, noise) = match (layer, level) {
        ("conv1", 0) => ("conv1".to_owned(), 0),
        ("torgb", 0) => ("to_rgb1".to_owned(), 0),
        ("conv0", 1..) => (format!("convs.{}", 2 * level - 2), 2 * level - 1),
        ("conv1", 1..) => (format!("convs.{}", 2 * level - 1), 2 * level),
        ("torgb", 1..) => (format!("to_rgbs.{}", level - 1), 0),
        _ => return None,
    };
    match (layer, kind) {
        (_, "weight") => Some((format!("{module}.conv.weight"), View::Ahead(1))),
        (_, "affine.weight") => whole(format!("{module}.conv.modulation.weight")),
        (_, "affine.bias") => whole(format!("{module}.conv.modulation.bias")),
        ("torgb", "bias") => Some((format!("{module}.bias"), View::Channels)),
        (_, "bias") => whole(format!("{module}.activate.bias")),
        (_, "noise_strength") => Some((format!("{module}.noise.weight"), View::Ahead(1))),
        (_, "noise_const") => Some((format!("noises.noise_{noise}"), View::Ahead(2))),
        _ => None,
    }
}
