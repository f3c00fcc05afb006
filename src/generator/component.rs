//! The networks that a diffusion model is made of.

/// A network of a diffusion model, by its folder's name in diffusers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Predicts noise or velocity.
    Unet,
    /// Reads prompts.
    TextEncoder,
    /// Encodes and decodes pictures.
    Vae,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unet, Self::TextEncoder, Self::Vae];

    /// What its tensors' full names begin with, before the dot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
            Self::Vae => "vae",
        }
    }
}
