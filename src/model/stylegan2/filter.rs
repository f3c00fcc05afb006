//! The low-pass filter `[1, 3, 3, 1] ⊗ [1, 3, 3, 1] / 64` that stands beside every change of size.

use crate::torch::{Device, Kind, Tensor};

/// The filter, times a gain.
#[derive(Debug)]
pub(super) struct Filter(Tensor);

impl Filter {
    /// A gain of 4 goes with doubling the size, 1 with halving it.
    pub(super) fn new(gain: f64, device: Device) -> Self {
        let row = Tensor::from_slice(&[1.0_f32, 3.0, 3.0, 1.0]) / 8.0;
        let square = row.outer(&row) * gain;
        Self(square.view([1, 1, 4, 4]).to_kind(Kind::Float).to_device(device.tch()))
    }

    /// Filters `[n, c, h, w]` with `padding` zeros around it, at every `stride`-th position.
    pub(super) fn apply(&self, x: &Tensor, padding: i64, stride: i64) -> Tensor {
        let c = x.size()[1];
        x.conv2d::<Tensor>(&self.like(x, c), None, [stride; 2], [padding; 2], [1, 1], c)
    }

    /// Doubles the size of `[n, c, h, w]`: zeros between its pixels, then the filter.
    pub(super) fn double(&self, x: &Tensor) -> Tensor {
        let c = x.size()[1];
        // The filter is symmetric: correlating and convolving are the same.
        x.conv_transpose2d::<Tensor>(&self.like(x, c), None, [2, 2], [1, 1], [0, 0], c, [1, 1])
    }

    /// Its numbers, `[4, 4]`.
    pub(super) fn kernel(&self) -> Tensor {
        self.0.view([4, 4])
    }

    /// One for each channel. libtorch has kernels for convolutions that leave channels apart; with
    /// channels as a batch of pictures the same was measured 30 times slower.
    fn like(&self, x: &Tensor, channels: i64) -> Tensor {
        self.0.to_kind(x.kind()).expand([channels, 1, 4, 4], false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Rng;

    /// What `upfirdn2d` is given beside its kernel.
    struct UpFirDn {
        up: usize,
        down: usize,
        padding: [usize; 2],
        gain: f64,
    }

    impl UpFirDn {
        /// As it is defined: zeros after each sample, padding, correlation with the flipped kernel,
        /// every `down`-th result.
        fn apply(&self, x: &[f64], side: usize) -> Vec<f64> {
            let Self { up, down, padding: [p0, p1], gain } = *self;
            let taps = [1.0, 3.0, 3.0, 1.0];
            let padded = side * up + p0 + p1;
            let at = |row: usize, column: usize| {
                let inside = |i: usize| {
                    i.checked_sub(p0).filter(|i| i % up == 0 && i / up < side).map(|i| i / up)
                };
                inside(row).zip(inside(column)).map_or(0.0, |(r, c)| x[r * side + c])
            };
            let out = (padded - 4) / down + 1;
            let mut result = Vec::new();
            for row in 0..out {
                for column in 0..out {
                    let mut sum = 0.0;
                    for (i, a) in taps.iter().enumerate() {
                        for (j, b) in taps.iter().enumerate() {
                            sum += a * b / 64.0 * gain * at(row * down + i, column * down + j);
                        }
                    }
                    result.push(sum);
                }
            }
            result
        }
    }

    #[test]
    fn every_use_is_upfirdn_as_it_is_defined() {
        let side = 6;
        let x = Rng::new(3).normal(&[2, 3, side, side]);
        let last =
            Vec::<f64>::try_from(x.select(0, 1).select(0, 2).flatten(0, -1).to_kind(Kind::Double))
                .unwrap();
        for (up, down, padding, gain) in
            [(1, 1, [1, 1], 4.0), (2, 1, [2, 1], 4.0), (1, 1, [2, 2], 1.0), (1, 2, [1, 1], 1.0)]
        {
            let filter = Filter::new(gain, Device::CPU);
            let found = if up == 2 {
                filter.double(&x)
            } else {
                filter.apply(&x, padding[0] as i64, down as i64)
            };
            let wanted = UpFirDn { up, down, padding, gain }.apply(&last, side as usize);
            let found = found.select(0, 1).select(0, 2).flatten(0, -1).to_kind(Kind::Double);
            let found = Vec::<f64>::try_from(found).unwrap();
            assert_eq!(found.len(), wanted.len(), "{up} {down} {padding:?}");
            for (a, b) in found.iter().zip(&wanted) {
                assert!((a - b).abs() < 1e-5, "{up} {down} {padding:?}: {a} {b}");
            }
        }
    }
}
