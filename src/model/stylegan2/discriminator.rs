//! The discriminator: residual blocks that halve the size, and a look at how much the pictures of a
//! batch differ.

use super::filter::Filter;
use super::layers::{EqualConv, EqualLinear, GAIN, activate, clamped};
use super::{StyleGan2Config, levels};
use crate::model::Error;
use crate::model::parameters::{Builder, Init, Parameters};
use crate::torch::{Device, Kind, Tensor};

/// A convolution with bias and activation.
#[derive(Debug)]
struct Activated {
    conv: EqualConv,
    bias: Tensor,
    padding: i64,
}

impl Activated {
    fn new(b: &Builder, inputs: i64, outputs: i64, kernel: i64) -> Result<Self, Error> {
        Ok(Self {
            conv: EqualConv::new(b, "0.weight", inputs, outputs, kernel)?,
            bias: b.get("1.bias", &[outputs], Init::Zeros)?,
            padding: kernel / 2,
        })
    }

    fn forward(&self, x: &Tensor, clamp: Option<f64>) -> Tensor {
        let bias = &self.bias * GAIN;
        clamped(activate(&self.conv.forward(x, Some(&bias), 1, self.padding, GAIN)), clamp)
    }
}

/// Two convolutions beside a shortcut; half the size comes out.
#[derive(Debug)]
struct DiscriminatorBlock {
    first: Activated,
    second: EqualConv,
    bias: Tensor,
    skip: EqualConv,
    blur: Filter,
}

impl DiscriminatorBlock {
    fn new(b: &Builder, inputs: i64, outputs: i64, device: Device) -> Result<Self, Error> {
        // Where the size changes the filter is child 0.
        Ok(Self {
            first: Activated::new(&b.at("conv1"), inputs, inputs, 3)?,
            second: EqualConv::new(&b.at("conv2"), "1.weight", inputs, outputs, 3)?,
            bias: b.at("conv2").get("2.bias", &[outputs], Init::Zeros)?,
            skip: EqualConv::new(&b.at("skip"), "1.weight", inputs, outputs, 1)?,
            blur: Filter::new(1.0, device),
        })
    }

    fn forward(&self, x: &Tensor, clamp: Option<f64>) -> Tensor {
        // The sum of both branches is divided by √2, which the activation's gain makes up for on
        // one of them; what is clamped there is divided already, and the shortcut is not clamped.
        let y = self.blur.apply(&self.first.forward(x, clamp), 2, 1);
        let y = activate(&self.second.forward(&y, Some(&self.bias), 2, 0, 1.0));
        let y = clamped(y, clamp.map(|largest| largest / GAIN));
        // A 1×1 convolution of stride 2 reads only every second position of what the filter gives.
        // The filter itself goes to all of them: the backward pass of one that skips some, with
        // channels apart, took a quarter of a step's time in bf16 on a CPU, and this takes next to
        // none.
        let halved = self.blur.apply(x, 1, 1).slice(2, 0, None, 2).slice(3, 0, None, 2);
        y + self.skip.forward(&halved, None, 1, 0, 1.0 / GAIN)
    }
}

/// Pictures to one number each: how real they look.
#[derive(Debug)]
pub struct Discriminator {
    from_rgb: Activated,
    blocks: Vec<DiscriminatorBlock>,
    last: Activated,
    hidden: EqualLinear,
    logit: EqualLinear,
    group: i64,
    clamp: Option<f64>,
    parameters: Parameters,
}

impl Discriminator {
    /// Builds it under rosinality's names.
    ///
    /// # Errors
    /// Sizes that make no network, weights that are missing or of another shape.
    pub fn new(config: &StyleGan2Config, b: Builder) -> Result<Self, Error> {
        config.check()?;
        let (top, device) = (levels(config.size), b.device());
        let from_rgb = Activated::new(&b.at("convs.0"), 3, config.channels_at(top), 1)?;
        let blocks = (1..=top - 2)
            .map(|i| {
                let (inputs, outputs) =
                    (config.channels_at(top + 1 - i), config.channels_at(top - i));
                DiscriminatorBlock::new(&b.at("convs").at(i), inputs, outputs, device)
            })
            .collect::<Result<_, _>>()?;
        let at4 = config.channels_at(2);
        let last = Activated::new(&b.at("final_conv"), at4 + 1, at4, 3)?;
        let hidden = EqualLinear::new(&b.at("final_linear.0"), at4 * 16, at4, 1.0, 0.0)?;
        let logit = EqualLinear::new(&b.at("final_linear.1"), at4, 1, 1.0, 0.0)?;
        let mut discriminator = Self {
            from_rgb,
            blocks,
            last,
            hidden,
            logit,
            group: config.group,
            clamp: config.clamp,
            parameters: Parameters::default(),
        };
        discriminator.parameters = b.finish();
        Ok(discriminator)
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Pictures `[n, 3, size, size]` to logits `[n]`. A picture's logit depends on the others in
    /// its group: more than `group` pictures must be a multiple of it.
    pub fn forward(&self, pictures: &Tensor) -> Tensor {
        self.logits(&self.features(pictures))
    }

    /// What its last layer makes the logits of: `[n, channels at 4 pixels]`.
    pub fn features(&self, pictures: &Tensor) -> Tensor {
        let first = self.from_rgb.forward(pictures, self.clamp);
        let x = self.blocks.iter().fold(first, |x, block| block.forward(&x, self.clamp));
        let x = self.last.forward(&Tensor::cat(&[&x, &self.deviation(&x)], 1), self.clamp);
        self.hidden.activated(&x.flatten(1, -1))
    }

    /// Features to logits `[n]`.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        self.logit.forward(features).squeeze_dim(1)
    }

    /// How much the pictures of a group differ, `[n, 1, 4, 4]`: the deviation of each number over
    /// the group, averaged (Karras et al. 2018, section 3). Pictures of a group do not lie beside
    /// each other.
    fn deviation(&self, x: &Tensor) -> Tensor {
        let (n, c, h, w) = x.size4().expect("[n, c, 4, 4]");
        let group = n.min(self.group);
        let groups = x.view([group, n / group, 1, c, h, w]);
        let apart = &groups - groups.mean_dim([0_i64].as_slice(), true, groups.kind());
        let deviation =
            (apart.square().mean_dim([0_i64].as_slice(), false, Kind::Float) + 1e-8).sqrt();
        let each = deviation.mean_dim([2_i64, 3, 4].as_slice(), true, Kind::Float).squeeze_dim(2);
        each.repeat([group, 1, h, w])
    }
}
