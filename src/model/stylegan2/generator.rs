//! The generator: a mapping from noise to styles, and a synthesis that draws under them.

use super::filter::Filter;
use super::layers::{
    ConvSizes, EqualLinear, GAIN, ModulatedColour, ModulatedConv, activate, clamped,
};
use super::{StyleGan2Config, levels};
use crate::model::Error;
use crate::model::parameters::{Builder, Init, Parameters};
use crate::torch::{Device, Kind, Tensor};

/// The mapping's multiplier of the learning rate (`lr_mul`): its parameters are stored a hundred
/// times as large as those of other layers, and so move a hundred times as slowly under Adam.
const MAPPING_LR_MUL: f64 = 0.01;

/// What stands before a parameter's name where there are other networks beside the generator, as in
/// an edit.
pub const PREFIX: &str = "g.";

/// A parameter's name in its generator.
pub fn unprefixed(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Whether the parameter of this name is the mapping's.
pub fn is_mapping(name: &str) -> bool {
    unprefixed(name).starts_with("style.")
}

/// The multiplier of the learning rate of the parameter of this name, by which the number that is
/// stored is multiplied when it is used.
pub fn lr_mul(name: &str) -> f64 {
    if is_mapping(name) { MAPPING_LR_MUL } else { 1.0 }
}

/// The noise that the layers add, one `[n or 1, 1, side, side]` each.
#[derive(Debug, Clone, Copy)]
pub enum Noise<'a> {
    /// What the network was saved with: the same for every picture.
    Own,
    /// This.
    Given(&'a [Tensor]),
}

/// A convolution under a style, noise, bias and activation.
#[derive(Debug)]
struct StyledConv {
    conv: ModulatedConv,
    noise: Tensor,
    bias: Tensor,
}

impl StyledConv {
    fn new(b: &Builder, sizes: ConvSizes, device: Device) -> Result<Self, Error> {
        Ok(Self {
            conv: ModulatedConv::new(&b.at("conv"), sizes, device)?,
            noise: b.at("noise").get("weight", &[1], Init::Zeros)?,
            bias: b.at("activate").get("bias", &[sizes.outputs], Init::Zeros)?,
        })
    }

    fn forward(&self, x: &Tensor, w: &Tensor, noise: &Tensor, clamp: Option<f64>) -> Tensor {
        let added = noise * (&self.noise * GAIN) + self.bias.view([1, -1, 1, 1]) * GAIN;
        clamped(activate(&self.conv.forward(x, w, &added, GAIN)), clamp)
    }
}

/// The colours that a level adds to the picture.
#[derive(Debug)]
struct ToRgb {
    bias: Tensor,
    conv: ModulatedColour,
}

impl ToRgb {
    fn new(b: &Builder, inputs: i64, style_dim: i64) -> Result<Self, Error> {
        Ok(Self {
            bias: b.get("bias", &[1, 3, 1, 1], Init::Zeros)?,
            conv: ModulatedColour::new(&b.at("conv"), inputs, style_dim)?,
        })
    }

    fn forward(&self, x: &Tensor, w: &Tensor, clamp: Option<f64>) -> Tensor {
        clamped(self.conv.forward(x, w) + &self.bias, clamp)
    }
}

/// Noise to pictures.
#[derive(Debug)]
pub struct GeneratorNetwork {
    config: StyleGan2Config,
    mapping: Vec<EqualLinear>,
    input: Tensor,
    first: StyledConv,
    first_colour: ToRgb,
    convs: Vec<StyledConv>,
    colours: Vec<ToRgb>,
    double: Filter,
    noises: Vec<Tensor>,
    parameters: Parameters,
}

impl GeneratorNetwork {
    /// Builds it under rosinality's names. Noises that the file does not have are zero.
    ///
    /// # Errors
    /// Sizes that make no network, weights that are missing or of another shape.
    pub fn new(config: &StyleGan2Config, b: Builder) -> Result<Self, Error> {
        config.check()?;
        let (dim, device) = (config.style_dim, b.device());
        let mapping = (1..=config.mapping_layers)
            .map(|i| EqualLinear::new(&b.at("style").at(i), dim, dim, MAPPING_LR_MUL, 0.0))
            .collect::<Result<_, _>>()?;
        let at4 = config.channels_at(2);
        let input = b.get("input.input", &[1, at4, 4, 4], Init::Normal(1.0))?;
        let sizes = |inputs, outputs| ConvSizes { inputs, outputs, style_dim: dim, doubles: false };
        let first = StyledConv::new(&b.at("conv1"), sizes(at4, at4), device)?;
        let first_colour = ToRgb::new(&b.at("to_rgb1"), at4, dim)?;
        let (mut convs, mut colours) = (Vec::new(), Vec::new());
        for level in 3..=levels(config.size) {
            let (before, here) = (config.channels_at(level - 1), config.channels_at(level));
            let k = level as usize - 3;
            let doubling = ConvSizes { doubles: true, ..sizes(before, here) };
            convs.push(StyledConv::new(&b.at("convs").at(2 * k), doubling, device)?);
            convs.push(StyledConv::new(&b.at("convs").at(2 * k + 1), sizes(here, here), device)?);
            colours.push(ToRgb::new(&b.at("to_rgbs").at(k), here, dim)?);
        }
        let noises = config
            .noise_sides()
            .into_iter()
            .enumerate()
            .map(|(i, side)| b.buffer(&format!("noises.noise_{i}"), &[1, 1, side, side]))
            .collect::<Result<_, _>>()?;
        let mut generator = Self {
            config: config.clone(),
            mapping,
            input,
            first,
            first_colour,
            convs,
            colours,
            double: Filter::new(4.0, device),
            noises,
            parameters: Parameters::default(),
        };
        generator.parameters = b.finish();
        Ok(generator)
    }

    /// Its sizes.
    pub fn config(&self) -> &StyleGan2Config {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The noise that it was saved with, one `[1, 1, side, side]` for each layer.
    pub fn noises(&self) -> &[Tensor] {
        &self.noises
    }

    /// `z` `[n, style_dim]` to `w` `[n, style_dim]`.
    pub fn map(&self, z: &Tensor) -> Tensor {
        let energy = z.square().mean_dim([1_i64].as_slice(), true, Kind::Float);
        let x = z * (energy + 1e-8).rsqrt();
        self.mapping.iter().fold(x, |x, layer| layer.activated(&x))
    }

    /// `w` `[n, style_dim]` for every layer: `w+` `[n, styles, style_dim]`.
    pub fn broadcast(&self, w: &Tensor) -> Tensor {
        w.unsqueeze(1).expand([-1, self.config.styles(), -1], false)
    }

    /// `w+` `[n, styles, style_dim]` to pictures `[n, 3, size, size]`.
    ///
    /// # Panics
    /// Noise that is not there for every layer.
    pub fn synthesize(&self, styles: &Tensor, noise: Noise) -> Tensor {
        self.synthesize_with_hook(styles, noise, &mut |_, _| ())
    }

    /// As [`Self::synthesize`]; `hook` is given the features `[n, c, side, side]` of each level,
    /// the 0th of 4 pixels.
    ///
    /// # Panics
    /// Noise that is not there for every layer.
    pub fn synthesize_with_hook(
        &self,
        styles: &Tensor,
        noise: Noise,
        hook: &mut dyn FnMut(usize, &Tensor),
    ) -> Tensor {
        let noises = match noise {
            Noise::Own => &self.noises,
            Noise::Given(noises) => noises,
        };
        assert_eq!(noises.len(), self.noises.len(), "one noise for each layer");
        let clamp = self.config.clamp;
        let n = styles.size()[0];
        let style = |i: usize| styles.select(1, i as i64);
        let x = self.input.expand([n, -1, -1, -1], false);
        let mut x = self.first.forward(&x, &style(0), &noises[0], clamp);
        hook(0, &x);
        let mut picture = self.first_colour.forward(&x, &style(1), clamp);
        for (k, colour) in self.colours.iter().enumerate() {
            // A level's colours share their style with the next level's first convolution.
            for i in [2 * k, 2 * k + 1] {
                x = self.convs[i].forward(&x, &style(i + 1), &noises[i + 1], clamp);
            }
            hook(k + 1, &x);
            picture = self.double.double(&picture) + colour.forward(&x, &style(2 * k + 3), clamp);
        }
        picture
    }
}
