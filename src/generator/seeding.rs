//! What a GAN's seed means: the numbers that latents are made of.

use std::str::FromStr;

use rand_mt::Mt;
use serde::{Deserialize, Serialize};

/// Whose picture a seed is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seeding {
    /// Latent and noise come from the seed, by `PyTorch`'s generator.
    #[default]
    Torch,
    /// As NVIDIA's `gen_images.py` and `generate.py`: the latent comes from numpy's `RandomState`,
    /// and the noise is the network's own, which is constant.
    Nvidia,
}

impl Seeding {
    /// Whether it is what is meant where nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Seeding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "torch" => Ok(Self::Torch),
            "nvidia" => Ok(Self::Nvidia),
            other => Err(format!("`{other}` is no seeding; write torch or nvidia")),
        }
    }
}

/// Normal numbers of numpy's `RandomState(seed).randn`, as `f32`: Marsaglia's polar method on a
/// Mersenne Twister.
pub(super) fn numpy_normal(seed: u32, count: usize) -> Vec<f32> {
    let mut twister = Mt::new(seed);
    // 53 random bits, to a number of -1 to 1.
    let mut uniform = || {
        let (high, low) = (twister.next_u32() >> 5, twister.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0 * 2.0 - 1.0
    };
    let mut pair = || loop {
        let (a, b) = (uniform(), uniform());
        let square = a * a + b * b;
        if square < 1.0 && square > 0.0 {
            let scale = (-2.0 * libm::log(square) / square).sqrt();
            return [scale * b, scale * a];
        }
    };
    (0..count.div_ceil(2)).flat_map(|_| pair()).take(count).map(|number| number as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.RandomState(seed).randn(1, 512).astype(numpy.float32)`.
    #[test]
    fn latents_are_numpy_s() {
        for (seed, first, last, sum) in [
            (
                0,
                [1.764_052_4_f32, 0.400_157_2, 0.978_738, 2.240_893_1],
                1.374_964_1_f32,
                -13.203_225_093_195_215,
            ),
            (
                42,
                [0.496_714_14, -0.138_264_3, 0.647_688_57, 1.523_029_8],
                -0.050_238_11,
                2.262_630_985_118_448_7,
            ),
            (
                u32::MAX,
                [0.648_408_65, 0.669_323_5, -1.080_543_8, 0.284_501_05],
                -0.163_345_05,
                12.683_985_859_388_486,
            ),
        ] {
            let drawn = numpy_normal(seed, 512);
            assert_eq!((&drawn[..4], drawn[511]), (&first[..], last), "{seed}");
            let all: f64 = drawn.iter().copied().map(f64::from).sum();
            assert!((all - sum).abs() < 1e-9, "{seed}: {all}");
        }
        assert_eq!(numpy_normal(0, 3), numpy_normal(0, 4)[..3]);
    }
}
