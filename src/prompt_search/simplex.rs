//! The nearest point of the simplex.

use crate::torch::{Kind, Tensor};

/// Each row `[…, v]` becomes the nearest one, by squared distance, whose numbers are not negative
/// and add up to 1 (Duchi et al. 2008, figure 1).
pub fn project(rows: &Tensor) -> Tensor {
    let v = rows.size()[rows.dim() - 1];
    let (sorted, _) = rows.sort(-1, true);
    let above = sorted.cumsum(-1, Kind::Float) - 1.0;
    let counts = Tensor::arange_start(1, v + 1, (Kind::Float, rows.device()));
    let kept = (&sorted - &above / counts).gt(0.0).sum_dim_intlist(-1, true, Kind::Int64);
    let threshold = above.gather(-1, &(&kept - 1), false) / kept;
    (rows - threshold).clamp_min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Rng;

    #[test]
    fn it_is_the_nearest() {
        let rows = Rng::new(5).normal(&[4, 3, 50]);
        let found = project(&rows);
        assert!(found.ge(0.0).all().int64_value(&[]) == 1);
        let sums = found.sum_dim_intlist(-1, false, Kind::Float);
        assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5);
        // What is on the simplex stays; what is nearer by a step along it is none.
        assert!((project(&found) - &found).abs().max().double_value(&[]) < 1e-6);
        let distance = |x: &Tensor| (x - &rows).square().sum(Kind::Float).double_value(&[]);
        for seed in 0..20 {
            let other = project(&(&found + Rng::new(seed).normal(&[4, 3, 50]) * 0.05));
            assert!(distance(&other) > distance(&found));
        }
    }
}
