//! What a method that trains a denoiser needs of its pictures again and again, computed once: the
//! autoencoder's moments of the pictures and the embeddings of the prompts.

use super::{Error, PromptedImage, Task};
use crate::generator::{Conditioning, Denoiser, LatentDistribution};
use crate::pictures::Picture;
use crate::torch::{Rng, Tensor, seed_from};

/// A set of pictures with everything computed that does not change.
pub(super) struct EncodedImages {
    latents: LatentDistribution,
    /// Row of each picture's prompt in the texts.
    pub prompts: Tensor,
}

impl EncodedImages {
    pub(super) fn new(
        model: &dyn Denoiser,
        examples: &[PromptedImage],
    ) -> Result<Option<Self>, Error> {
        if examples.is_empty() {
            return Ok(None);
        }
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        for batch in examples.chunks(32) {
            let pictures: Vec<Picture> =
                batch.iter().map(|example| example.picture.clone()).collect();
            let latents = model.encode_pictures(&pictures)?;
            means.push(latents.mean);
            deviations.push(latents.deviation);
        }
        let latents = LatentDistribution {
            mean: Tensor::cat(&means, 0),
            deviation: Tensor::cat(&deviations, 0),
        };
        let prompts: Vec<i64> = examples.iter().map(|example| example.prompt as i64).collect();
        let prompts = Tensor::from_slice(&prompts).to_device(latents.mean.device());
        Ok(Some(Self { latents, prompts }))
    }

    pub(super) fn len(&self) -> i64 {
        self.prompts.size()[0]
    }

    /// Samples of the autoencoder for these rows.
    pub(super) fn sample(&self, rows: &Tensor, rng: &mut Rng) -> Tensor {
        let mean = self.latents.mean.index_select(0, rows);
        let noise = rng.normal(&mean.size()).to_device(mean.device());
        mean + self.latents.deviation.index_select(0, rows) * noise
    }
}

/// The prompts of the task, a row each.
pub(super) struct EncodedPrompts {
    pub forget: Conditioning,
    pub anchor: Conditioning,
    pub remain: Option<Conditioning>,
    pub empty: Conditioning,
}

impl EncodedPrompts {
    pub(super) fn new(model: &dyn Denoiser, task: &Task) -> Result<Self, Error> {
        let forget: Vec<&str> = task.pairs.iter().map(|pair| pair.forget.as_str()).collect();
        let anchor: Vec<&str> = task.pairs.iter().map(|pair| pair.anchor.as_str()).collect();
        let remain: Vec<&str> = task.keep.iter().map(String::as_str).collect();
        Ok(Self {
            forget: model.condition(&forget)?,
            anchor: model.condition(&anchor)?,
            remain: (!remain.is_empty()).then(|| model.condition(&remain)).transpose()?,
            empty: model.condition(&[""])?,
        })
    }
}

/// The `n` rows of a step out of `len`: every picture once before any comes again, in a new order
/// each time.
pub(super) fn rows_of_step(seed: u64, set: &str, step: u64, n: i64, len: i64) -> Tensor {
    let (first, last) = (step as i64 * n, (step as i64 + 1) * n);
    let rounds: Vec<Tensor> = (first / len..=(last - 1) / len)
        .map(|round| {
            let seed = seed_from(&[&seed.to_le_bytes(), set.as_bytes(), &round.to_le_bytes()]);
            let order = Rng::new(seed).permutation(len);
            let (from, to) = ((first - round * len).max(0), (last - round * len).min(len));
            order.narrow(0, from, to - from)
        })
        .collect();
    Tensor::cat(&rounds, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_once_before_any_comes_again() {
        let rows = |step| Vec::<i64>::try_from(rows_of_step(7, "keep", step, 4, 6)).unwrap();
        let three: Vec<i64> = (0..3).flat_map(rows).collect();
        for round in three.chunks(6) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3, 4, 5]);
        }
        assert_ne!(three[..6], three[6..]);
    }
}
