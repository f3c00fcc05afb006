//! Which kinds of generators there are, for methods that edit one of them.

use super::{Denoiser, Generator, Synthesizer};

/// A kind of generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// Draws prompts, by denoising.
    Diffusion,
    /// Draws latents in one pass.
    Gan,
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Diffusion => "a Stable Diffusion",
            Self::Gan => "a StyleGAN2",
        })
    }
}

/// A generator that is edited or attacked.
pub enum Model<'a> {
    /// A diffusion model.
    Diffusion(&'a mut dyn Denoiser),
    /// A GAN.
    Gan(&'a mut dyn Synthesizer),
}

impl<'a> Model<'a> {
    /// Which kind it is.
    pub fn kind(&self) -> ModelKind {
        match self {
            Self::Diffusion(_) => ModelKind::Diffusion,
            Self::Gan(_) => ModelKind::Gan,
        }
    }

    /// What draws.
    pub fn generator(&self) -> &dyn Generator {
        match self {
            Self::Diffusion(model) => &**model,
            Self::Gan(model) => &**model,
        }
    }

    /// As a diffusion model; `None` where it is none.
    pub fn denoiser(self) -> Option<&'a mut dyn Denoiser> {
        match self {
            Self::Diffusion(model) => Some(model),
            Self::Gan(_) => None,
        }
    }

    /// As a GAN; `None` where it is none.
    pub fn synthesizer(self) -> Option<&'a mut dyn Synthesizer> {
        match self {
            Self::Gan(model) => Some(model),
            Self::Diffusion(_) => None,
        }
    }
}
