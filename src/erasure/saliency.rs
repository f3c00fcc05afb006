//! Which weights a loss is most sensitive to: the largest of many numbers, found without sorting them.

use crate::torch::{Kind, Tensor, no_grad};

/// Marks the share `density` of all weights whose summed gradient is largest, under one threshold.
pub(super) fn threshold(sums: &[Tensor], density: f64) -> Vec<Tensor> {
    no_grad(|| {
        let n: i64 = sums.iter().map(|sum| sum.numel() as i64).sum();
        let kept = ((density * n as f64) as i64).clamp(1, n);
        let least = smallest(sums, n - kept);
        sums.iter().map(|sum| bits(sum).ge(least).to_kind(Kind::Uint8)).collect()
    })
}

/// A magnitude as an integer that is ordered in the same way: an f32 without its sign.
fn bits(sum: &Tensor) -> Tensor {
    sum.abs().view_dtype(Kind::Int)
}

/// The `k`-th smallest magnitude, counted from nought, as [`bits`]. It is found by counting, first its upper
/// half and then the lower: sorting a whole UNet's gradients would take six times their memory.
fn smallest(sums: &[Tensor], mut k: i64) -> i64 {
    const HALF: i64 = 1 << 16;
    let mut found = 0;
    for upper in [true, false] {
        let mut counts = vec![0_i64; HALF as usize];
        for sum in sums {
            let all = bits(sum).flatten(0, -1);
            let all = if upper {
                all.bitwise_right_shift_tensor_scalar(16)
            } else {
                let low = &all - found;
                low.masked_select(&low.ge(0).logical_and(&low.lt(HALF)))
            };
            let here = all.bincount::<Tensor>(None, HALF).to_device(tch::Device::Cpu);
            for (count, more) in counts.iter_mut().zip(Vec::<i64>::try_from(here).unwrap_or_default()) {
                *count += more;
            }
        }
        let mut digit = 0;
        while digit + 1 < HALF && counts[digit as usize] <= k {
            k -= counts[digit as usize];
            digit += 1;
        }
        found += if upper { digit * HALF } else { digit };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_global_and_exact() {
        let sums = [Tensor::from_slice(&[1.0_f32, -5.0, 0.5]), Tensor::from_slice(&[0.1_f32, -2.0, 3.0])];
        let marks = |density| {
            threshold(&sums, density)
                .iter()
                .flat_map(|m| Vec::<u8>::try_from(m).unwrap())
                .collect::<Vec<u8>>()
        };
        assert_eq!(marks(0.5), [0, 1, 0, 0, 1, 1]);
        assert_eq!(marks(1.0), [1; 6]);
        assert_eq!(marks(0.17), [0, 1, 0, 0, 0, 0]);
    }
}
