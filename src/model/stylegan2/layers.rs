//! The layers of both networks. Weights are stored at unit variance and scaled when they are used (equalised learning
//! rates, Karras et al. 2018, section 4.1).

use super::filter::Filter;
use crate::model::Error;
use crate::model::parameters::{Builder, Init};
use crate::torch::{Device, Kind, Tensor};

/// `√2 · lrelu(x, 0.2)`: the gain keeps the variance.
pub(super) fn activate(x: &Tensor) -> Tensor {
    x.maximum(&(x * 0.2)) * std::f64::consts::SQRT_2
}

/// A linear layer whose weight and bias learn at `rate` times the others' speed.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
    scale: f64,
    rate: f64,
}

impl Linear {
    /// `bias` is its first value.
    pub(super) fn new(b: &Builder, inputs: i64, outputs: i64, rate: f64, bias: f64) -> Result<Self, Error> {
        Ok(Self {
            weight: b.get("weight", &[outputs, inputs], Init::Normal(1.0 / rate))?,
            bias: b.get("bias", &[outputs], Init::Value(bias))?,
            scale: rate / (inputs as f64).sqrt(),
            rate,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&(&self.weight * self.scale), Some(&(&self.bias * self.rate)))
    }
}

/// A plain convolution `[o, i, k, k]` without a bias.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    scale: f64,
}

impl Conv {
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

    pub(super) fn forward(&self, x: &Tensor, stride: i64, padding: i64) -> Tensor {
        let weight = &self.weight * self.scale;
        x.conv2d::<Tensor>(&weight, None, [stride; 2], [padding; 2], [1, 1], 1)
    }
}

/// A bias `[c]` of a picture's channels.
pub(super) fn biased(x: &Tensor, bias: &Tensor) -> Tensor {
    x + bias.view([1, -1, 1, 1])
}

/// A convolution whose input channels are scaled by a style, and whose outputs are brought back to unit variance
/// ("demodulated"; section 2.2, equations 1 to 3).
///
/// Scaling the weights would need a copy of them for each picture, and a grouped convolution. Scaling the input by the
/// style and the output by the demodulation is the same function with one shared weight.
#[derive(Debug)]
pub(super) struct ModulatedConv {
    /// `[1, o, i, k, k]`
    weight: Tensor,
    style: Linear,
    scale: f64,
    kernel: i64,
    demodulates: bool,
    /// Where the size doubles.
    blur: Option<Filter>,
}

impl ModulatedConv {
    pub(super) fn new(
        b: &Builder,
        (inputs, outputs, kernel): (i64, i64, i64),
        style_dim: i64,
        (demodulates, doubles): (bool, bool),
        device: Device,
    ) -> Result<Self, Error> {
        Ok(Self {
            weight: b.get("weight", &[1, outputs, inputs, kernel, kernel], Init::Normal(1.0))?,
            style: Linear::new(&b.at("modulation"), style_dim, inputs, 1.0, 1.0)?,
            scale: 1.0 / ((inputs * kernel * kernel) as f64).sqrt(),
            kernel,
            demodulates,
            blur: doubles.then(|| Filter::new(4.0, device)),
        })
    }

    /// `x` `[n, i, h, w]` under styles `w` `[n, style_dim]`, to `[n, o, h, w]` or twice that size.
    pub(super) fn forward(&self, x: &Tensor, w: &Tensor) -> Tensor {
        let styles = self.style.forward(w);
        let weight = self.weight.squeeze_dim(0) * self.scale;
        let x = x * styles.unsqueeze(-1).unsqueeze(-1);
        let y = match &self.blur {
            Some(blur) => {
                let y = x.conv_transpose2d::<Tensor>(
                    &weight.transpose(0, 1),
                    None,
                    [2, 2],
                    [0, 0],
                    [0, 0],
                    1,
                    [1, 1],
                );
                blur.apply(&y, (1, 1), 1)
            }
            None => x.conv2d::<Tensor>(&weight, None, [1, 1], [self.kernel / 2; 2], [1, 1], 1),
        };
        if !self.demodulates {
            return y;
        }
        // Σ (weight · style)² over the inputs and the kernel, `[n, o]`.
        let squares = weight.square().sum_dim_intlist([2_i64, 3].as_slice(), false, Kind::Float);
        let energy = styles.square().matmul(&squares.tr());
        y * (energy + 1e-8).rsqrt().unsqueeze(-1).unsqueeze(-1)
    }
}
