//! What the generator draws a batch of a GAN training from: latents and noise.

use super::{GanTraining, LatentImages};
use crate::model::stylegan2::{GeneratorNetwork, Noise};
use crate::torch::{Device, Rng, Tensor};

/// What a batch is drawn from, under one latent each or under two (style mixing).
pub(super) struct GanLatents {
    /// `[n, style_dim]`; one, or two where the batch is mixed.
    z: Vec<Tensor>,
    /// The first layer that is drawn under the second.
    crossing: i64,
    /// One `[n, 1, side, side]` for each layer.
    noises: Vec<Tensor>,
}

impl GanLatents {
    /// Of chance, for a batch of `n`; some of the latents are those that are oversampled.
    pub(super) fn random(
        training: &GanTraining<'_>,
        n: i64,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let config = training.generator.config();
        let mixed = rng.uniform(&[1]).double_value(&[0]) < training.config.style_mixing;
        let mut draw = || {
            let z = rng.normal(&[n, config.style_dim]).to_device(device.tch());
            match training.oversampled {
                Some(oversampled) => oversampled.among(&z, rng),
                None => z,
            }
        };
        let z = if mixed { vec![draw(), draw()] } else { vec![draw()] };
        let crossing = 1 + rng.below(config.styles() - 1, &[1]).int64_value(&[0]);
        Self { z, crossing, noises: config.noises(n, rng, device) }
    }

    /// The same under one latent each, these.
    pub(super) fn with_latents(self, z: Tensor) -> Self {
        Self { z: vec![z], ..self }
    }

    /// The same under other noise.
    pub(super) fn with_noises(self, noises: Vec<Tensor>) -> Self {
        Self { noises, ..self }
    }

    /// The latents, where there is one for each picture.
    pub(super) fn unmixed(&self) -> Option<&Tensor> {
        match self.z.as_slice() {
            [z] => Some(z),
            _ => None,
        }
    }

    /// Puts these in the last ones' place; they are drawn under one latent each.
    pub(super) fn end_with(&mut self, known: &LatentImages) {
        let put = |batch: &mut Tensor, known: &Tensor| {
            let rest = batch.size()[0] - known.size()[0];
            *batch = Tensor::cat(&[&batch.narrow(0, 0, rest), known], 0);
        };
        self.z.iter_mut().for_each(|z| put(z, &known.z));
        self.noises.iter_mut().zip(&known.noises).for_each(|(noise, known)| put(noise, known));
    }

    /// Styles `w+` `[n, styles, style_dim]`.
    pub(super) fn styles(&self, generator: &GeneratorNetwork) -> Tensor {
        let w: Vec<Tensor> =
            self.z.iter().map(|z| generator.broadcast(&generator.map(z))).collect();
        match w.as_slice() {
            [coarse, fine] => {
                let rest = fine.size()[1] - self.crossing;
                let parts =
                    [coarse.narrow(1, 0, self.crossing), fine.narrow(1, self.crossing, rest)];
                Tensor::cat(&parts, 1)
            }
            _ => w[0].shallow_clone(),
        }
    }

    /// Pictures `[n, 3, size, size]` under these styles and the batch's noise.
    pub(super) fn synthesize(&self, generator: &GeneratorNetwork, styles: &Tensor) -> Tensor {
        generator.synthesize(styles, Noise::Given(&self.noises))
    }

    /// Pictures `[n, 3, size, size]`.
    pub(super) fn draw(&self, generator: &GeneratorNetwork) -> Tensor {
        self.synthesize(generator, &self.styles(generator))
    }
}
