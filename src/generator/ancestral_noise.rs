//! Fresh noise in each step of a sampler that adds some.

use super::ImageRequest;
use crate::torch::{Rng, Tensor};

/// The noise that an ancestral sampler adds: each picture's generator goes on where its latent
/// ended.
#[derive(Debug)]
pub struct AncestralNoise(Vec<Rng>);

impl AncestralNoise {
    /// Behind latents `[n, c, h, w]` of these requests; none where none is wanted.
    pub fn after_latents(wanted: bool, requests: &[ImageRequest], latents: &Tensor) -> Self {
        let shape = shape_of_one(latents);
        let generator = |request: &ImageRequest| {
            let mut rng = Rng::new(request.seed);
            drop(rng.normal(&shape));
            rng
        };
        Self(if wanted { requests.iter().map(generator).collect() } else { Vec::new() })
    }

    /// For a step of latents of the same shape.
    pub fn draw(&mut self, latents: &Tensor) -> Option<Tensor> {
        let shape = shape_of_one(latents);
        let each: Vec<Tensor> = self.0.iter_mut().map(|rng| rng.normal(&shape)).collect();
        (!each.is_empty()).then(|| Tensor::cat(&each, 0).to_device(latents.device()))
    }
}

/// The shape of one picture's latents.
fn shape_of_one(latents: &Tensor) -> Vec<i64> {
    let mut shape = latents.size();
    shape[0] = 1;
    shape
}
