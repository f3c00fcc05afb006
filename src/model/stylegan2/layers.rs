//! The layers of both networks. Weights are stored at unit variance and scaled when they are used
//! (equalised learning rates, Karras et al. 2018, section 4.1).

use super::filter::Filter;
use crate::model::Error;
use crate::model::parameters::{Builder, Init};
use crate::torch::{Device, Kind, Tensor, leaky_relu};

/// The gain after an activation that keeps the variance. `lrelu(g · x) = g · lrelu(x)`: it is put
/// into what is small, the weights and biases before the activation, rather than into a pass over
/// the picture.
pub(super) const GAIN: f64 = std::f64::consts::SQRT_2;

/// `lrelu(x, 0.2)`.
pub(super) fn activate(x: &Tensor) -> Tensor {
    leaky_relu(x, 0.2)
}

/// Of no larger magnitude than `clamp`, where there is one.
pub(super) fn clamped(x: Tensor, clamp: Option<f64>) -> Tensor {
    match clamp {
        Some(largest) => x.clamp(-largest, largest),
        None => x,
    }
}

/// A linear layer whose weight and bias learn at `lr_mul` times the others' speed.
#[derive(Debug)]
pub(super) struct EqualLinear {
    weight: Tensor,
    bias: Tensor,
    scale: f64,
    lr_mul: f64,
}

impl EqualLinear {
    /// `bias` is its first value.
    pub(super) fn new(
        b: &Builder,
        inputs: i64,
        outputs: i64,
        lr_mul: f64,
        bias: f64,
    ) -> Result<Self, Error> {
        Ok(Self {
            weight: b.get("weight", &[outputs, inputs], Init::Normal(1.0 / lr_mul))?,
            bias: b.get("bias", &[outputs], Init::Value(bias))?,
            scale: lr_mul / (inputs as f64).sqrt(),
            lr_mul,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.scaled(x, 1.0)
    }

    /// With the activation behind it.
    pub(super) fn activated(&self, x: &Tensor) -> Tensor {
        activate(&self.scaled(x, GAIN))
    }

    fn scaled(&self, x: &Tensor, gain: f64) -> Tensor {
        x.linear(&(&self.weight * (self.scale * gain)), Some(&(&self.bias * (self.lr_mul * gain))))
    }
}

/// A plain convolution `[o, i, k, k]` without a bias.
#[derive(Debug)]
pub(super) struct EqualConv {
    weight: Tensor,
    scale: f64,
}

impl EqualConv {
    pub(super) fn new(
        b: &Builder,
        name: &str,
        inputs: i64,
        outputs: i64,
        kernel: i64,
    ) -> Result<Self, Error> {
        let weight = b.get(name, &[outputs, inputs, kernel, kernel], Init::Normal(1.0))?;
        Ok(Self { weight, scale: 1.0 / ((inputs * kernel * kernel) as f64).sqrt() })
    }

    /// The convolution times `gain`, plus a bias `[o]`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        stride: i64,
        padding: i64,
        gain: f64,
    ) -> Tensor {
        let weight = &self.weight * (self.scale * gain);
        x.conv2d::<&Tensor>(&weight, bias, [stride; 2], [padding; 2], [1, 1], 1)
    }
}

/// The sizes of a [`ModulatedConv`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvSizes {
    /// Channels.
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) style_dim: i64,
    /// Whether its pictures are twice as large on a side.
    pub(super) doubles: bool,
}

/// A convolution whose input channels are scaled by a style, and whose outputs are brought back to
/// unit variance ("demodulated"; section 2.2, equations 1 to 3).
///
/// Scaling the weights would need a copy of them for each picture, and a grouped convolution.
/// Scaling the input by the style and the output by the demodulation is the same function with one
/// shared weight.
#[derive(Debug)]
pub(super) struct ModulatedConv {
    /// `[1, o, i, 3, 3]`
    weight: Tensor,
    style: EqualLinear,
    scale: f64,
    /// Where the size doubles.
    blur: Option<Filter>,
}

impl ModulatedConv {
    pub(super) fn new(b: &Builder, sizes: ConvSizes, device: Device) -> Result<Self, Error> {
        let ConvSizes { inputs, outputs, style_dim, doubles } = sizes;
        Ok(Self {
            weight: b.get("weight", &[1, outputs, inputs, 3, 3], Init::Normal(1.0))?,
            style: EqualLinear::new(&b.at("modulation"), style_dim, inputs, 1.0, 1.0)?,
            scale: 1.0 / ((inputs * 9) as f64).sqrt(),
            blur: doubles.then(|| Filter::new(4.0, device)),
        })
    }

    /// `gain` times the convolution of `x` `[n, i, h, w]` under styles `w` `[n, style_dim]`, plus
    /// `added` (whatever broadcasts to the result), to `[n, o, h, w]` or twice that size.
    pub(super) fn forward(&self, x: &Tensor, w: &Tensor, added: &Tensor, gain: f64) -> Tensor {
        let styles = self.style.forward(w);
        let weight = self.weight.squeeze_dim(0) * self.scale;
        let x = x * styles.unsqueeze(-1).unsqueeze(-1);
        let y = match &self.blur {
            Some(blur) => {
                let turned = weight.transpose(0, 1);
                let y =
                    x.conv_transpose2d::<Tensor>(&turned, None, [2, 2], [0, 0], [0, 0], 1, [1, 1]);
                blur.apply(&y, 1, 1)
            }
            None => x.conv2d::<Tensor>(&weight, None, [1, 1], [1, 1], [1, 1], 1),
        };
        // Σ (weight · style)² over the inputs and the kernel, `[n, o]`.
        let squares = weight.square().sum_dim_intlist([2_i64, 3].as_slice(), false, Kind::Float);
        let energy = styles.square().matmul(&squares.tr());
        let demodulation = (energy + 1e-8).rsqrt() * gain;
        added.addcmul(&y, &demodulation.unsqueeze(-1).unsqueeze(-1))
    }
}

/// A 1×1 convolution under a style to the three colours, without demodulation. Its weights are so
/// few that each picture has its own copy, and the picture is not scaled.
#[derive(Debug)]
pub(super) struct ModulatedColour {
    /// `[1, 3, i, 1, 1]`
    weight: Tensor,
    style: EqualLinear,
    scale: f64,
}

impl ModulatedColour {
    pub(super) fn new(b: &Builder, inputs: i64, style_dim: i64) -> Result<Self, Error> {
        Ok(Self {
            weight: b.get("weight", &[1, 3, inputs, 1, 1], Init::Normal(1.0))?,
            style: EqualLinear::new(&b.at("modulation"), style_dim, inputs, 1.0, 1.0)?,
            scale: 1.0 / (inputs as f64).sqrt(),
        })
    }

    /// `x` `[n, i, h, w]` under styles `w` `[n, style_dim]`, to `[n, 3, h, w]`.
    pub(super) fn forward(&self, x: &Tensor, w: &Tensor) -> Tensor {
        let (n, c, height, width) = x.size4().expect("[n, c, h, w]");
        let styles = (self.style.forward(w) * self.scale).unsqueeze(1);
        let weight = self.weight.view([1, 3, c]) * styles;
        weight.matmul(&x.reshape([n, c, height * width])).view([n, 3, height, width])
    }
}
