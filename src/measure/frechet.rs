//! The Fréchet distance between two sets of features (Heusel et al. 2017):
//! `‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)`.
//!
//! It grows with the width of the features and shrinks with the number of pictures: only distances
//! with the same features and equally many pictures can be compared.

use std::cell::OnceCell;

use crate::torch::{Kind, Rng, Tensor};

use super::Estimate;

/// Mean and covariance of features.
#[derive(Debug)]
pub struct Moments {
    mean: Tensor,
    covariance: Tensor,
    /// The covariance's square root, once it is needed.
    root: OnceCell<Tensor>,
}

impl Moments {
    /// Numbers of a feature.
    pub fn width(&self) -> usize {
        self.mean.size()[0] as usize
    }

    /// Of features `[n, width]`; n is at least 2.
    pub fn of(features: &Tensor) -> Self {
        let x = features.to_kind(Kind::Double).to_device(tch::Device::Cpu);
        let mean = x.mean_dim([0_i64].as_slice(), false, Kind::Double);
        let apart = &x - &mean;
        let covariance = apart.tr().matmul(&apart) / (x.size()[0] - 1) as f64;
        Self { mean, covariance, root: OnceCell::new() }
    }

    /// The distance to another set, which remembers what it was at pains to find: it is to be the
    /// one that many are compared to.
    pub fn distance(&self, other: &Self) -> f64 {
        // tr (Σ₁ Σ₂)^½ is the sum of the square roots of the eigenvalues of the symmetric Σ₂^½ Σ₁
        // Σ₂^½.
        let root = other.root.get_or_init(|| square_root(&other.covariance));
        let product = root.matmul(&self.covariance).matmul(root);
        let mixed =
            symmetric(&product).linalg_eigvalsh("L").clamp_min(0.0).sqrt().sum(Kind::Double);
        let means = (&self.mean - &other.mean).square().sum(Kind::Double);
        // Of equal sets rounding may leave less than nothing.
        (means + self.covariance.trace() + other.covariance.trace() - mixed * 2.0)
            .double_value(&[])
            .max(0.0)
    }
}

fn symmetric(x: &Tensor) -> Tensor {
    (x + x.tr()) / 2.0
}

fn square_root(x: &Tensor) -> Tensor {
    let (values, vectors) = symmetric(x).linalg_eigh("L");
    (&vectors * values.clamp_min(0.0).sqrt()).matmul(&vectors.tr())
}

/// The distance of features `[n, width]` from a fixed reference, with an interval from drawing them
/// again.
pub fn frechet(features: &Tensor, reference: &Moments) -> Estimate {
    /// Of features as wide as this a draw takes seconds.
    const WIDE: i64 = 1024;
    let n = features.size()[0];
    let draws = if features.size()[1] < WIDE { 50 } else { 20 };
    let value = Moments::of(features).distance(reference);
    let mut rng = Rng::new(0x5EED);
    let drawn: Vec<f64> = (0..draws)
        .map(|_| {
            let rows = rng.below(n, &[n]).to_device(features.device());
            Moments::of(&features.index_select(0, &rows)).distance(reference)
        })
        .collect();
    let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
    let deviation = (drawn.iter().map(|distance| (distance - mean).powi(2)).sum::<f64>()
        / (drawn.len() - 1) as f64)
        .sqrt();
    // Sets that are drawn again hold some pictures twice and lie farther away: only their spread is
    // used.
    let half = 1.96 * deviation;
    Estimate { value, low: (value - half).max(0.0), high: value + half, hits: 0, n: n as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_normal_distributions_it_is_known() {
        let mut rng = Rng::new(1);
        let n = 20_000;
        let x = rng.normal(&[n, 3]);
        let y = rng.normal(&[n, 3]) * Tensor::from_slice(&[2.0_f32, 1.0, 0.5]) + 1.0;
        // Σ (σ - 1)² + ‖1‖² = 1 + 0 + 0.25 + 3.
        let found = Moments::of(&x).distance(&Moments::of(&y));
        assert!((found - 4.25).abs() < 0.1, "{found}");
        assert!(Moments::of(&x).distance(&Moments::of(&x)).abs() < 1e-9);
    }

    #[test]
    fn the_interval_holds_the_value() {
        let mut rng = Rng::new(2);
        let reference = Moments::of(&rng.normal(&[500, 4]));
        let estimate = frechet(&(rng.normal(&[300, 4]) + 0.5), &reference);
        assert!(
            estimate.low < estimate.value && estimate.value < estimate.high && estimate.n == 300
        );
        assert!((estimate.value - 1.0).abs() < 0.4, "{estimate:?}");
    }
}
