//! What an autoencoder makes of pictures.

use crate::torch::Tensor;

/// A normal distribution over latents, scaled as the UNet wants them.
#[derive(Debug)]
pub struct LatentDistribution {
    /// `[n, c, h, w]`, f32.
    pub mean: Tensor,
    /// `[n, c, h, w]`, f32.
    pub deviation: Tensor,
}
