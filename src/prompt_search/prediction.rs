//! What a network is to predict under a prompt that is looked for.

use super::{Error, Frames};
use crate::generator::{Conditioning, Denoiser};
use crate::torch::{Kind, Tensor, grad, stage};

/// Noisy latents, and what the network is to predict of them: the noise that is in them, or what
/// another network predicts under a prompt that names the concept.
#[derive(Debug)]
pub struct PredictionTarget {
    /// `[m, c, h, w]`.
    pub noisy: Tensor,
    /// `[m]`.
    pub timesteps: Tensor,
    /// `[m, c, h, w]`.
    pub target: Tensor,
}

impl PredictionTarget {
    /// Of clean latents and noise `[m, c, h, w]` at timesteps `[m]`: what was added.
    pub fn of_noise(
        model: &dyn Denoiser,
        clean: &Tensor,
        noise: &Tensor,
        timesteps: &Tensor,
    ) -> Self {
        let schedule = model.schedule();
        Self {
            noisy: schedule.add_noise(clean, noise, timesteps),
            target: schedule.target(clean, noise, timesteps),
            timesteps: timesteps.shallow_clone(),
        }
    }

    /// Some of them, by their index.
    #[must_use]
    pub fn select(&self, rows: &Tensor) -> Self {
        let of = |all: &Tensor| all.index_select(0, rows);
        Self { noisy: of(&self.noisy), timesteps: of(&self.timesteps), target: of(&self.target) }
    }

    /// The squared error of each, a mean over its numbers, `[m]`. Records a graph where the
    /// conditioning or parameters require gradients.
    pub fn errors(&self, model: &dyn Denoiser, conditioning: &Conditioning) -> Tensor {
        let output = model.predict(&self.noisy, &self.timesteps, conditioning);
        let dims = [1_i64, 2, 3];
        (output - &self.target).square().mean_dim(dims.as_slice(), false, Kind::Float)
    }

    /// The gradient of the errors' sum by the free tokens' vectors `[m, k, width]`; that of `batch`
    /// of them is found at once.
    ///
    /// # Errors
    /// libtorch's.
    pub fn gradient(
        &self,
        model: &dyn Denoiser,
        frames: &Frames,
        vectors: &Tensor,
        batch: usize,
    ) -> Result<Tensor, Error> {
        let (m, batch) = (vectors.size()[0], batch.max(1) as i64);
        let parts = (0..m).step_by(batch as usize).map(|first| {
            let last = (first + batch).min(m);
            let rows = Tensor::arange_start(first, last, (Kind::Int64, vectors.device()));
            let free = vectors.index_select(0, &rows).detach().set_requires_grad(true);
            stage("searching", || {
                let _scope = model.compute().scope();
                let conditioning = model.encode(&frames.select(&rows).fill(model, &free));
                let loss = self.select(&rows).errors(model, &conditioning).sum(Kind::Float);
                let found = grad(&loss, &[&free])?.remove(0);
                Ok(found.unwrap_or_else(|| free.zeros_like()))
            })
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>, Error>>()?, 0))
    }
}
