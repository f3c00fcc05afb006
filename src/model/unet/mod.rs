//! The conditional UNet of Stable Diffusion 1.x and 2.x (`UNet2DConditionModel` in diffusers).
//!
//! Rombach et al. 2022, section 3.3. Sizes and block types come from `unet/config.json`; names and
//! shapes of parameters are diffusers'.

mod blocks;
mod config;

use std::rc::Rc;

pub use config::{OneOrMany, UnetConfig};

use self::blocks::{Stage, UnetResnet};
use self::config::{CROSS_ATTN_DOWN, CROSS_ATTN_UP, DOWN, UP};
use super::Error;
use super::layers::{Conv2d, GroupNorm, Linear};
use super::parameters::{Builder, Parameters};
use crate::torch::{Kind, Tensor, channels_last, upsample_twice};

/// One level, down or up: its stages, then a change of size.
#[derive(Debug)]
struct UnetLevel {
    stages: Vec<Rc<Stage>>,
    resize: Option<Conv2d>,
}

/// The network.
#[derive(Debug)]
pub struct UNet {
    config: UnetConfig,
    conv_in: Conv2d,
    time1: Linear,
    time2: Linear,
    down: Vec<UnetLevel>,
    middle: (Rc<Stage>, UnetResnet),
    up: Vec<UnetLevel>,
    norm: GroupNorm,
    conv_out: Conv2d,
    parameters: Parameters,
    gradient_checkpointing: bool,
}

impl UNet {
    /// Builds the network that `config` describes.
    ///
    /// # Errors
    /// A block type or activation that is not built here, sizes that do not fit each other, weights
    /// that are missing or of another shape.
    pub fn new(config: &UnetConfig, b: Builder) -> Result<Self, Error> {
        let c = config;
        let channels = &c.block_out_channels;
        let levels = channels.len();
        if levels == 0 || c.down_block_types.len() != levels || c.up_block_types.len() != levels {
            return Err(Error::Config(format!(
                "the UNet's config has {levels} block_out_channels, {} down_block_types and {} \
                 up_block_types; they must be as many",
                c.down_block_types.len(),
                c.up_block_types.len()
            )));
        }
        let embedding = channels[0] * 4;
        let conv_in = Conv2d::new(&b.at("conv_in"), c.in_channels, channels[0], 3)?;
        let time1 = Linear::new(&b.at("time_embedding.linear_1"), channels[0], embedding)?;
        let time2 = Linear::new(&b.at("time_embedding.linear_2"), embedding, embedding)?;
        let (down, skips) = down_levels(&b.at("down_blocks"), c)?;
        let deepest = channels[levels - 1];
        let b_mid = b.at("mid_block");
        let middle = (
            Stage::new(&b_mid, c, 0, deepest, deepest, Some(head_count(c, levels - 1)?))?,
            UnetResnet::new(&b_mid.at("resnets.1"), c, deepest, deepest)?,
        );
        let up = up_levels(&b.at("up_blocks"), c, skips)?;
        Ok(Self {
            conv_in,
            time1,
            time2,
            down,
            middle,
            up,
            norm: GroupNorm::new(
                &b.at("conv_norm_out"),
                c.norm_num_groups,
                channels[0],
                c.norm_eps,
            )?,
            conv_out: Conv2d::zero_init(&b.at("conv_out"), channels[0], c.out_channels, 3)?,
            config: config.clone(),
            parameters: b.finish(),
            gradient_checkpointing: false,
        })
    }

    /// Predicts noise (or velocity, as the scheduler says).
    ///
    /// `latents` `[n, in_channels, h, w]`, `timesteps` `[n]`, `text` `[n, tokens,
    /// cross_attention_dim]` → `[n, out_channels, h, w]`.
    ///
    /// # Panics
    /// Where the shapes are others; see [`crate::model`].
    pub fn forward(&self, latents: &Tensor, timesteps: &Tensor, text: &Tensor) -> Tensor {
        let time = self.embed(timesteps);
        let time = self.time2.forward(&self.time1.forward(&time).silu()).silu();

        let mut x = self.conv_in.forward(&channels_last(latents));
        // Without a graph there is nothing to save.
        let checkpointed =
            self.gradient_checkpointing && (x.requires_grad() || text.requires_grad());
        let run = |stage: &Rc<Stage>, x: &Tensor| {
            if checkpointed {
                stage.forward_checkpointed(x, &time, text)
            } else {
                stage.forward(x, &time, text)
            }
        };
        let mut skips = vec![x.shallow_clone()];
        for level in &self.down {
            for stage in &level.stages {
                x = run(stage, &x);
                skips.push(x.shallow_clone());
            }
            if let Some(halve) = &level.resize {
                x = halve.forward(&x);
                skips.push(x.shallow_clone());
            }
        }
        x = run(&self.middle.0, &x);
        x = self.middle.1.forward(&x, &time);
        for level in &self.up {
            for stage in &level.stages {
                let skip = skips.pop().expect("as many skips as stages");
                x = run(stage, &Tensor::cat(&[x, skip], 1));
            }
            if let Some(conv) = &level.resize {
                let twice = upsample_twice(&x).expect("[n, c, h, w]");
                // Sides that are no multiple of the coarsest level would come back a pixel too
                // large; what is cut off must not reach the convolution either.
                let finer = skips.last().expect("as many skips as stages").size();
                x = conv.forward(&twice.narrow(2, 0, finer[2]).narrow(3, 0, finer[3]));
            }
        }
        self.conv_out.forward(&self.norm.forward_silu(&x))
    }

    /// Sines and cosines of the timesteps (Vaswani et al. 2017), `[n, channels₀]`.
    fn embed(&self, timesteps: &Tensor) -> Tensor {
        let half = self.config.block_out_channels[0] / 2;
        let position = Tensor::arange(half, (Kind::Float, timesteps.device()));
        let exponent = position * (-(10_000_f64.ln()) / (half as f64 - self.config.freq_shift));
        let angles = timesteps.to_kind(Kind::Float).unsqueeze(-1) * exponent.exp().unsqueeze(0);
        if self.config.flip_sin_to_cos {
            Tensor::cat(&[angles.cos(), angles.sin()], -1)
        } else {
            Tensor::cat(&[angles.sin(), angles.cos()], -1)
        }
    }

    /// Whether a training step computes what lies inside a stage again for its gradient, rather
    /// than keep it.
    pub fn set_gradient_checkpointing(&mut self, on: bool) {
        self.gradient_checkpointing = on;
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// The levels on the way down, and the channels of each skip that they leave; the last is used
/// first.
fn down_levels(b: &Builder, c: &UnetConfig) -> Result<(Vec<UnetLevel>, Vec<i64>), Error> {
    let channels = &c.block_out_channels;
    let mut skips = vec![channels[0]];
    let mut down = Vec::new();
    for (level, kind) in c.down_block_types.iter().enumerate() {
        let b = b.at(level);
        let with_text = reads_text(kind, DOWN, CROSS_ATTN_DOWN)?;
        let heads = with_text.then(|| head_count(c, level)).transpose()?;
        let outputs = channels[level];
        let mut stages = Vec::new();
        for j in 0..c.layers_per_block {
            let inputs = if j == 0 { channels[level.saturating_sub(1)] } else { outputs };
            stages.push(Stage::new(&b, c, j, inputs, outputs, heads)?);
            skips.push(outputs);
        }
        let resize = (level + 1 < channels.len())
            .then(|| Conv2d::halving(&b.at("downsamplers.0.conv"), outputs, 1))
            .transpose()?;
        if resize.is_some() {
            skips.push(outputs);
        }
        down.push(UnetLevel { stages, resize });
    }
    Ok((down, skips))
}

/// The levels on the way up, which take the skips.
fn up_levels(b: &Builder, c: &UnetConfig, mut skips: Vec<i64>) -> Result<Vec<UnetLevel>, Error> {
    let channels = &c.block_out_channels;
    let levels = channels.len();
    let mut up = Vec::new();
    let mut inputs = channels[levels - 1];
    for (i, kind) in c.up_block_types.iter().enumerate() {
        let b = b.at(i);
        let level = levels - 1 - i;
        let with_text = reads_text(kind, UP, CROSS_ATTN_UP)?;
        let heads = with_text.then(|| head_count(c, level)).transpose()?;
        let outputs = channels[level];
        let mut stages = Vec::new();
        for j in 0..=c.layers_per_block {
            let skip = skips.pop().unwrap_or(channels[0]);
            stages.push(Stage::new(&b, c, j, inputs + skip, outputs, heads)?);
            inputs = outputs;
        }
        let resize = (level > 0)
            .then(|| Conv2d::new(&b.at("upsamplers.0.conv"), outputs, outputs, 3))
            .transpose()?;
        up.push(UnetLevel { stages, resize });
    }
    Ok(up)
}

/// Whether blocks of a type have cross-attention to the text.
fn reads_text(kind: &str, plain: &str, cross_attn: &str) -> Result<bool, Error> {
    match kind {
        kind if kind == plain => Ok(false),
        kind if kind == cross_attn => Ok(true),
        other => Err(Error::Config(format!(
            "block type `{other}` in the UNet's config is not known; `{plain}` and `{cross_attn}` \
             are (Stable Diffusion 1.x and 2.x)"
        ))),
    }
}

/// Heads of the attention on a level.
fn head_count(c: &UnetConfig, level: usize) -> Result<i64, Error> {
    c.attention_head_dim
        .at(level)
        .ok_or_else(|| Error::Config(format!("attention_head_dim has no entry for level {level}")))
}
