//! What a GAN method needs of a generator.

use super::{Error, Generator};
use crate::model::stylegan2::{Discriminator, GeneratorNetwork, Noise};
use crate::torch::{Kind, Tensor, no_grad, stage};

/// Samples of `side` × `side` pixels that are drawn at once: fewer of large ones, whose layers take
/// gigabytes.
pub fn sample_batch(side: i64) -> usize {
    const BATCH: i64 = 64;
    const LARGE: i64 = 256;
    (BATCH * LARGE * LARGE / (side * side)).clamp(4, BATCH) as usize
}

/// What a GAN method needs of a generator.
pub trait Synthesizer: Generator {
    /// The network that maps latents to styles and draws under styles.
    fn network(&self) -> &GeneratorNetwork;

    /// The network that it learned against; its weights are the base's.
    ///
    /// # Errors
    /// A file that has none.
    fn discriminator(&self) -> Result<&Discriminator, Error>;

    /// Latents `[n, style_dim]` and each layer's noise `[n, 1, side, side]` of pictures: a seed
    /// gives the same, whichever others are in the batch.
    fn latents_and_noises(&self, seeds: &[u64]) -> (Tensor, Vec<Tensor>);

    /// Latents `[n, style_dim]` alone.
    fn latents(&self, seeds: &[u64]) -> Tensor {
        // Beside their noises they are small.
        let group = sample_batch(self.network().config().size);
        let each: Vec<Tensor> =
            seeds.chunks(group).map(|seeds| self.latents_and_noises(seeds).0).collect();
        Tensor::cat(&each, 0)
    }

    /// Samples as the network draws them, `[n, 3, size, size]` on the CPU: about -1 to 1, and not
    /// clamped.
    ///
    /// # Errors
    /// libtorch's.
    fn sample(&self, seeds: &[u64]) -> Result<Tensor, Error> {
        stage("drawing samples", || {
            let side = self.network().config().size;
            let group = sample_batch(side);
            // Filled piece by piece: of large pictures there is no room for all of them twice.
            let all =
                Tensor::empty([seeds.len() as i64, 3, side, side], (Kind::Float, tch::Device::Cpu));
            no_grad(|| {
                for (first, seeds) in (0..).step_by(group).zip(seeds.chunks(group)) {
                    let (z, noises) = self.latents_and_noises(seeds);
                    let styles = self.network().broadcast(&self.network().map(&z));
                    let drawn = self.network().synthesize(&styles, Noise::Given(&noises));
                    all.narrow(0, first, seeds.len() as i64).copy_(&drawn);
                }
            });
            Ok(all)
        })
    }

    /// The network's parameters by full name, `g.…`; leaves in `f32`.
    fn parameters(&self) -> Vec<(String, Tensor)>;
}
