//! Precision and recall of pictures against reference pictures (Kynkäänniemi et al. 2019, section
//! 3): how many lie where the others are, and how much of where the others are they reach.

use super::Estimate;
use crate::torch::{Kind, Tensor};

/// Neighbours whose distance is a picture's reach (the paper's).
const NEIGHBOURS: i64 = 3;

/// Precision and recall of features `[n, width]` against `[m, width]`.
pub fn precision_recall(features: &Tensor, reference: &Tensor) -> [Estimate; 2] {
    [covered(features, reference), covered(reference, features)]
}

/// Share of `features` that lie within the reach of some picture of `manifold`.
fn covered(features: &Tensor, manifold: &Tensor) -> Estimate {
    let (n, m) = (features.size()[0], manifold.size()[0]);
    // The nearest is the picture itself.
    let k = (NEIGHBOURS + 1).min(m);
    let reach = distances(manifold, manifold).kthvalue(k, 1, false).0;
    let inside = distances(features, manifold).le_tensor(&reach.unsqueeze(0)).any_dim(1, false);
    let hits = inside.sum(Kind::Int64).int64_value(&[]) as usize;
    Estimate::of_share(hits, n as usize)
}

fn distances(a: &Tensor, b: &Tensor) -> Tensor {
    let wide = |x: &Tensor| x.to_kind(Kind::Float).unsqueeze(0);
    // 2: by differences, not by products, which lose what is near.
    Tensor::cdist(&wide(a), &wide(b), 2.0, 2).squeeze_dim(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Rng;

    #[test]
    fn half_of_a_world_is_precise_and_recalls_half() {
        let mut rng = Rng::new(1);
        let reference = rng.normal(&[400, 2]) * 0.1 + (rng.below(2, &[400, 1]) * 10);
        let features = rng.normal(&[400, 2]) * 0.1;
        let [precision, recall] = precision_recall(&features, &reference);
        assert!(precision.value > 0.9, "{precision:?}");
        assert!((recall.value - 0.5).abs() < 0.1, "{recall:?}");
        let [far, _] = precision_recall(&(features + 5.0), &reference);
        assert!(far.hits == 0);
    }

    /// A picture's reach is the distance to its third neighbour. Of the reference: 3, 2, 2, 3 at 0,
    /// 1, 2, 3 (to 3; 3; 0; 0), 8 at 10 (to 2) and 9 at 11 (to 2): it covers -3 to 20, that is all
    /// of the features but -4: precision 4/5. Of the features: 6 at -4 (to 2) and 3, 2, 2, 3 at 0,
    /// 1, 2, 3: they cover -10 to 6, that is all of the reference but 10 and 11: recall 4/6.
    #[test]
    fn on_a_line_they_are_counted_by_hand() {
        let line = |places: &[f32]| Tensor::from_slice(places).view([-1, 1]);
        let reference = line(&[0.0, 1.0, 2.0, 3.0, 10.0, 11.0]);
        let features = line(&[-4.0, 0.0, 1.0, 2.0, 3.0]);
        let [precision, recall] = precision_recall(&features, &reference);
        assert_eq!((precision.hits, precision.n), (4, 5), "{precision:?}");
        assert_eq!((recall.hits, recall.n), (4, 6), "{recall:?}");
        assert!((precision.value - 0.8).abs() < 1e-12, "{precision:?}");
        assert!((recall.value - 2.0 / 3.0).abs() < 1e-12, "{recall:?}");
    }
}
