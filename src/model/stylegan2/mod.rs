//! StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): the skip generator, config E and F and
//! smaller, and the residual discriminator.
//!
//! Names and semantics are those of `rosinality/stylegan2-pytorch`; pictures are `[n, 3, size,
//! size]`, about -1 to 1, and not clamped.

mod discriminator;
mod filter;
mod generator;
mod layers;

use serde::{Deserialize, Serialize};

pub use discriminator::Discriminator;
pub use generator::{GeneratorNetwork, Noise, PREFIX, is_mapping, lr_mul, unprefixed};

use self::filter::Filter;
use super::Error;
use crate::torch::{Device, Rng, Tensor};
use crate::weights::{Gan, Weights};

/// The sizes of a generator and its discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StyleGan2Config {
    /// Pixels on a side, a power of two from 8.
    pub size: i64,
    /// Width of `z` and `w`.
    pub style_dim: i64,
    /// Layers from `z` to `w`.
    pub mapping_layers: i64,
    /// Channels at 4, 8, … `size` pixels.
    pub channels: Vec<i64>,
    /// Pictures whose deviation the discriminator looks at together.
    #[serde(default = "four")]
    pub group: i64,
    /// Largest magnitude of an activation, which some of NVIDIA's networks have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamp: Option<f64>,
}

/// More doublings than the largest network has.
const LARGEST: usize = 12;

fn four() -> i64 {
    4
}

impl StyleGan2Config {
    /// rosinality's sizes: 512 channels up to 32 pixels, then `256 · multiplier` at 64, half of it
    /// at 128, and so on. A multiplier of 2 is the paper's config F, 1 its config E.
    pub fn published(size: i64, style_dim: i64, mapping_layers: i64, multiplier: f64) -> Self {
        let channels = (2..=levels(size))
            .map(|level| {
                if level <= 5 { 512 } else { (multiplier * 16384.0 / f64::from(1 << level)) as i64 }
            })
            .collect();
        Self { size, style_dim, mapping_layers, channels, group: 4, clamp: None }
    }

    /// The sizes of a generator under rosinality's names, from its tensors' shapes.
    ///
    /// # Errors
    /// A file that is no such generator.
    pub fn of(generator: &Weights) -> Result<Self, Error> {
        let shape = |name: &str| -> Result<Vec<i64>, Error> {
            let info = generator.info(name);
            info.map(|info| info.shape).ok_or_else(|| {
                Error::Config(format!(
                    "no StyleGAN2 is so: `{name}` is missing{}",
                    generator.hint(name)
                ))
            })
        };
        let count = |prefix: &str, end: &str| {
            (0..LARGEST).take_while(|i| generator.contains(&format!("{prefix}.{i}.{end}"))).count()
        };
        // [1, colours, channels, 1, 1]
        if let Some(&colours) = shape("to_rgb1.conv.weight")?.get(1)
            && colours != 3
        {
            return Err(Error::Config(format!(
                "{} draws pictures of {colours} channel{}; StyleGAN2 networks of three (RGB) can \
                 be read",
                generator.path("to_rgb1.conv.weight").display(),
                if colours == 1 { "" } else { "s" }
            )));
        }
        let doublings = count("to_rgbs", "conv.weight");
        let mut channels = vec![shape("input.input")?.get(1).copied().unwrap_or(0)];
        for k in 0..doublings {
            channels.push(
                shape(&format!("convs.{}.activate.bias", 2 * k))?.first().copied().unwrap_or(0),
            );
        }
        let style_dim = shape("style.1.weight")?.get(1).copied().unwrap_or(0);
        // The first child of the mapping normalises and has no weights.
        let mapping_layers =
            (1..64).take_while(|i| generator.contains(&format!("style.{i}.weight"))).count();
        let config = Self {
            size: 4 << doublings,
            style_dim,
            mapping_layers: mapping_layers as i64,
            channels,
            group: four(),
            clamp: None,
        };
        config.check()?;
        Ok(config)
    }

    /// The sizes of a file's networks, with what NVIDIA's files say of them beside their shapes.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_file(gan: &Gan) -> Result<Self, Error> {
        let config = Self::of(&gan.generator)?;
        let config = Self { clamp: gan.clamp, group: gan.group.unwrap_or(config.group), ..config };
        config.check()?;
        Ok(config)
    }

    /// Rows of `w+`: one style for each convolution and each output of colour.
    pub fn styles(&self) -> i64 {
        2 * i64::from(levels(self.size)) - 2
    }

    /// Sides of the noise that each layer adds: 4, 8, 8, 16, 16, …
    pub fn noise_sides(&self) -> Vec<i64> {
        (0..self.styles() as u32 - 1).map(|i| 4 << i.div_ceil(2)).collect()
    }

    /// White noise for `n` pictures, `[n, 1, side, side]` for each layer that adds it.
    pub fn noises(&self, n: i64, rng: &mut Rng, device: Device) -> Vec<Tensor> {
        let each = self.noise_sides().into_iter();
        each.map(|side| rng.normal(&[n, 1, side, side]).to_device(device.tch())).collect()
    }

    /// Says what cannot be built.
    ///
    /// # Errors
    /// Sizes that make no network.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::Config(format!("no StyleGAN2 is so: {why}")));
        if !(8..=4096).contains(&self.size) || self.size.count_ones() != 1 {
            return wrong(format!(
                "its size is {}, expected a power of two from 8 to 4096",
                self.size
            ));
        }
        let wanted = levels(self.size) as usize - 1;
        if self.channels.len() != wanted {
            return wrong(format!(
                "it has channels for {} sizes, {} pixels need {wanted}",
                self.channels.len(),
                self.size
            ));
        }
        let counts = [self.style_dim, self.mapping_layers, self.group];
        if counts.iter().chain(&self.channels).any(|&n| !(1..=1 << 14).contains(&n)) {
            return wrong("every width and count is from 1 to 16384".to_owned());
        }
        if let Some(clamp) = self.clamp.filter(|clamp| !clamp.is_finite() || *clamp <= 0.0) {
            return wrong(format!(
                "its activations are at most {clamp} in magnitude, which leaves none"
            ));
        }
        Ok(())
    }

    /// Channels at `1 << level` pixels.
    fn channels_at(&self, level: u32) -> i64 {
        self.channels[level as usize - 2]
    }
}

/// log₂ of the size.
fn levels(size: i64) -> u32 {
    size.ilog2()
}

/// The filters that rosinality's networks hold among their weights, of a generator or of its
/// discriminator; here they are built anew.
pub fn kernels(config: &StyleGan2Config, of_discriminator: bool) -> Vec<(String, Tensor)> {
    let kernel = |gain: f64| Filter::new(gain, Device::CPU).kernel();
    if of_discriminator {
        let blocks = 1..levels(config.size) - 1;
        let pair = |i: u32| {
            ["conv2", "skip"].map(|part| (format!("convs.{i}.{part}.0.kernel"), kernel(1.0)))
        };
        return blocks.flat_map(pair).collect();
    }
    let doublings = 0..levels(config.size) - 2;
    let pair = |k: u32| {
        [
            (format!("convs.{}.conv.blur.kernel", 2 * k), kernel(4.0)),
            (format!("to_rgbs.{k}.upsample.kernel"), kernel(4.0)),
        ]
    };
    doublings.flat_map(pair).collect()
}
