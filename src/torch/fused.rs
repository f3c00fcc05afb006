//! Operations that libtorch does in two slow passes on a CPU and `fused.cpp` in one. On other
//! devices, and for other layouts and types, they are libtorch's own. They differentiate once, not
//! twice. And one that tch does not hand over whole: it differentiates as often as wanted.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use super::{Error, ffi};

/// Group norm over `x` `[n, c, h, w]`, and `SiLU` behind it where `silu` is set. `weight` and
/// `bias` are `[c]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn group_norm(
    x: &Tensor,
    groups: i64,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    silu: bool,
) -> Result<Tensor, Error> {
    let [x, weight, bias] = [x, weight, bias].map(|t| t.as_ptr().cast_mut());
    // SAFETY: three tensors that outlive the call; the shim makes the fourth.
    ffi::make(|out| unsafe { ffi::unsee_group_norm(x, weight, bias, groups, eps, silu, out) })
}

/// Layer norm over the last dimension of `x`, `[…, w]`, in the number type of `x` also where
/// autocast would have f32; `weight` and `bias` are `[w]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor, Error> {
    let [x, weight, bias] = [x, weight, bias].map(|t| t.as_ptr().cast_mut());
    // SAFETY: three tensors that outlive the call; the shim makes the fourth.
    ffi::make(|out| unsafe { ffi::unsee_layer_norm(x, weight, bias, eps, out) })
}

/// `x` `[n, c, h, w]` with each pixel four times, `[n, c, 2h, 2w]`, in its own number type also
/// where autocast would have f32.
///
/// # Errors
/// Another number of dimensions.
pub fn upsample_twice(x: &Tensor) -> Result<Tensor, Error> {
    if x.dim() != 4 {
        return Err(Error::Misuse(format!("[n, c, h, w] is upsampled, not {:?}", x.size())));
    }
    let x = x.as_ptr().cast_mut();
    // SAFETY: a tensor that outlives the call; the shim makes the other.
    ffi::make(|out| unsafe { ffi::unsee_upsample_twice(x, out) })
}

/// `a · gelu(b)`, `[…, w]`, for `x` `[…, 2w]` that holds `a` and `b` one behind the other.
///
/// # Errors
/// An odd last dimension.
pub fn gated_gelu(x: &Tensor) -> Result<Tensor, Error> {
    if x.size().last().is_none_or(|width| width % 2 != 0) {
        return Err(Error::Misuse(format!(
            "a gate needs two halves, the last of {:?} has none",
            x.size()
        )));
    }
    let x = x.as_ptr().cast_mut();
    // SAFETY: a tensor that outlives the call; the shim makes the other.
    ffi::make(|out| unsafe { ffi::unsee_gated_gelu(x, out) })
}

/// `x` where it is positive, `slope · x` where it is not; in one pass, which tch's own function
/// allows for a slope of 0.01 alone. Composed of tch's operators it was measured 7 to 18 times
/// slower, gradients included.
///
/// # Panics
/// Where libtorch cannot allocate the result.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Tensor {
    let x = x.as_ptr().cast_mut();
    // SAFETY: a tensor that outlives the call; the shim makes the other.
    ffi::make(|out| unsafe { ffi::unsee_leaky_relu(x, slope, out) }).expect("room for the result")
}

/// `x` `[n, c, h, w]` with the channels of a pixel side by side in memory: the layout of a CPU's
/// fastest convolutions, and of tensor cores.
pub fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Device, Kind, Precision, Rng, grad};

    fn close(a: &Tensor, b: &Tensor, tolerance: f64) {
        let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
        let apart =
            (&a - &b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]).max(1e-3);
        assert!(apart < tolerance, "{apart:e} apart");
    }

    /// Value and gradients of `ours` and `theirs` for the same inputs.
    fn same(
        inputs: &[Tensor],
        tolerance: f64,
        ours: impl Fn(&[Tensor]) -> Tensor,
        theirs: impl Fn(&[Tensor]) -> Tensor,
    ) {
        let [ours, theirs]: [Vec<Tensor>; 2] = [&ours as &dyn Fn(&[Tensor]) -> Tensor, &theirs]
            .map(|f| {
                let inputs: Vec<Tensor> =
                    inputs.iter().map(|t| t.detach().set_requires_grad(true)).collect();
                let y = f(&inputs);
                let weight = Rng::new(9).normal(&y.size());
                let loss = (y.to_kind(Kind::Float) * weight).sum(Kind::Float);
                let all: Vec<&Tensor> = inputs.iter().collect();
                let gradients = grad(&loss, &all).unwrap().into_iter().map(Option::unwrap);
                std::iter::once(y.detach()).chain(gradients).collect()
            });
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!((a.size(), a.kind()), (b.size(), b.kind()));
            close(a, b, tolerance);
        }
    }

    #[test]
    fn group_norm_is_libtorch_s() {
        for (shape, groups) in [([3, 64, 5, 7], 32), ([1, 6, 2, 2], 2), ([2, 320, 8, 8], 32)] {
            for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 2e-2)] {
                for silu in [false, true] {
                    let mut rng = Rng::new(1);
                    let x = channels_last(&(rng.normal(&shape) * 3.0 + 1.0)).to_kind(kind);
                    let (w, b) = (rng.normal(&[shape[1]]), rng.normal(&[shape[1]]));
                    same(
                        &[x, w, b],
                        tolerance,
                        |i| group_norm(&i[0], groups, &i[1], &i[2], 1e-5, silu).unwrap(),
                        |i| {
                            // In f32 all the way, rounded at the end.
                            let x = i[0].to_kind(Kind::Float).contiguous();
                            let y = x.group_norm(groups, Some(&i[1]), Some(&i[2]), 1e-5, true);
                            (if silu { y.silu() } else { y }).to_kind(kind)
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn libtorch_s_own_keeps_the_layout_too() {
        // f64 is not done here.
        let rows = Rng::new(1).normal(&[2, 8, 3, 5]).to_kind(Kind::Double);
        let affine =
            [Rng::new(2).normal(&[8]), Rng::new(3).normal(&[8])].map(|t| t.to_kind(Kind::Double));
        let norm = |x: &Tensor| group_norm(x, 4, &affine[0], &affine[1], 1e-5, true).unwrap();
        let (plain, last) = (norm(&rows), norm(&channels_last(&rows)));
        assert_eq!(last.stride(), channels_last(&rows).stride());
        assert!((plain - last).abs().max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn norms_and_upsampling_keep_the_number_type() {
        let _scope = Precision::Bf16.scope(Device::CPU);
        let x = channels_last(&Rng::new(1).normal(&[2, 8, 3, 5])).to_kind(Kind::BFloat16);
        let [weight, bias] = [2, 3].map(|seed| Rng::new(seed).normal(&[5]));
        let normed = layer_norm(&x, &weight, &bias, 1e-5).unwrap();
        assert_eq!(normed.kind(), Kind::BFloat16);
        let exact = x.to_kind(Kind::Float);
        close(&normed, &exact.layer_norm([5], Some(&weight), Some(&bias), 1e-5, true), 1e-2);
        let twice = upsample_twice(&x).unwrap();
        assert_eq!(twice.kind(), Kind::BFloat16);
        assert!(twice.to_kind(Kind::Float) == exact.upsample_nearest2d([6, 10], None, None));
        assert!(upsample_twice(&weight).is_err());
    }

    #[test]
    fn gated_gelu_is_libtorch_s() {
        for (kind, tolerance) in [(Kind::Float, 1e-6), (Kind::BFloat16, 1e-2)] {
            let x = (Rng::new(2).normal(&[2, 5, 34]) * 3.0).to_kind(kind);
            same(
                &[x],
                tolerance,
                |i| gated_gelu(&i[0]).unwrap(),
                |i| {
                    let both = i[0].to_kind(Kind::Float).chunk(2, -1);
                    (&both[0] * both[1].gelu("none")).to_kind(kind)
                },
            );
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let x = channels_last(&Tensor::full(
            [1, 4, 2, 2],
            f64::NAN,
            (Kind::BFloat16, tch::Device::Cpu),
        ));
        let one = Tensor::ones([4], (Kind::Float, tch::Device::Cpu));
        let y = group_norm(&x, 2, &one, &one, 1e-5, true).unwrap();
        assert!(y.isnan().all().int64_value(&[]) == 1);
        assert!(gated_gelu(&Tensor::from_slice(&[1.0_f32, 2.0, 3.0])).is_err());
    }
}
