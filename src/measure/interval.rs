//! Intervals at 95 %.

/// A lower and an upper bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Wilson's interval (1927) for `hits` of `n`.
pub fn wilson(hits: usize, n: usize) -> Interval {
    wilson_of(hits as f64 / n.max(1) as f64, n)
}

/// Wilson's interval for a share `p` of `n` trials.
pub(super) fn wilson_of(p: f64, n: usize) -> Interval {
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = n as f64;
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
    Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// Percentile interval of a statistic over clusters that are drawn again with replacement: pictures
/// of one prompt and seed hang together, so single pictures must not be drawn alone.
///
/// `statistic` gets indices of clusters and may be `None` for a draw that leaves nothing to
/// average.
pub fn bootstrap(clusters: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Interval {
    const DRAWS: u64 = 2000;
    let mut state = 0x5EED_u64;
    let mut below = |n: usize| {
        // SplitMix64: fixed, so that the same evidence always gives the same interval.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    };
    let mut values: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let draw: Vec<usize> = (0..clusters).map(|_| below(clusters)).collect();
            statistic(&draw)
        })
        .collect();
    if values.is_empty() {
        return Interval { low: 0.0, high: 1.0 };
    }
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
    Interval { low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the benchmark's card: n = 100 and 255.
    #[test]
    fn wilson_s_numbers() {
        let near = |a: f64, b: f64| (a - b).abs() < 5e-4;
        let i = wilson(98, 100);
        assert!(near(i.low, 0.930) && near(i.high, 0.9945), "{i:?}");
        let i = wilson(50, 100);
        assert!(near(i.low, 0.404) && near(i.high, 0.596), "{i:?}");
        let i = wilson(242, 255);
        assert!(near(i.low, 0.9146) && near(i.high, 0.970), "{i:?}");
        assert_eq!(wilson(0, 10).low, 0.0);
    }

    #[test]
    fn bootstrap_of_a_mean() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let i = bootstrap(400, |draw| Some(draw.iter().map(|&k| values[k]).sum::<f64>() / 400.0));
        assert!((i.low - 0.451).abs() < 0.01 && (i.high - 0.549).abs() < 0.01, "{i:?}");
    }
}
