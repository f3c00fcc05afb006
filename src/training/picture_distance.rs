//! How far drawn pictures are from others: at their size and from afar, and with the grain that
//! comes of noise.

use crate::torch::{Kind, Tensor};

/// The mean absolute difference of pictures `[n, 3, size, size]` at their size and at halves of it
/// down to `coarsest`: each view counts as much as the finest, whose grain no latent tells.
pub fn picture_distance(drawn: &Tensor, pictures: &Tensor, coarsest: i64) -> Tensor {
    let mut apart = drawn - pictures;
    let mut views = vec![apart.abs().mean(Kind::Float)];
    while apart.size()[2] > coarsest {
        apart = apart.avg_pool2d([2; 2], [2; 2], [0; 2], false, true, None);
        views.push(apart.abs().mean(Kind::Float));
    }
    Tensor::stack(&views, 0).mean(Kind::Float)
}

/// How far two drawings of the same latents are from their pictures, less how far they are from
/// each other times half of `noise_energy`; all `[n, 3, size, size]`. With a `noise_energy` of 1 it
/// is the energy score (Gneiting and Raftery, JASA 2007, section 4.3) of each number of each view.
pub fn energy_score(
    drawn: &Tensor,
    again: &Tensor,
    pictures: &Tensor,
    coarsest: i64,
    noise_energy: f64,
) -> Tensor {
    let missed =
        picture_distance(drawn, pictures, coarsest) + picture_distance(again, pictures, coarsest);
    (missed - picture_distance(drawn, again, coarsest) * noise_energy) * 0.5
}

/// Pixels on a side from which on a picture shows no grain.
const NO_GRAIN: i64 = 16;

/// Pictures `[n, 3, size, size]` without their grain, at most 16 pixels on a side.
pub(super) fn from_afar(pictures: &Tensor) -> Tensor {
    let shrink = (pictures.size()[2] / NO_GRAIN).max(1);
    pictures.avg_pool2d([shrink; 2], [shrink; 2], [0; 2], false, true, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Rng;

    #[test]
    fn the_energy_score_wants_as_much_grain_as_there_is() {
        let noise = |seed: u64| Rng::new(seed).normal(&[16, 3, 16, 16]);
        let pictures = noise(1) + 0.3;
        let best = |noise_energy: f64| {
            let score = |&grain: &f64| {
                let [drawn, again] = [2, 3].map(|seed| noise(seed) * grain + 0.3);
                energy_score(&drawn, &again, &pictures, 16, noise_energy).double_value(&[])
            };
            let grains = [0.0, 0.4, 0.7, 1.0, 1.3, 1.6];
            grains.into_iter().min_by(|a, b| score(a).total_cmp(&score(b)))
        };
        assert_eq!(best(1.0), Some(1.0));
        assert_eq!(best(0.0), Some(0.0));
    }
}
