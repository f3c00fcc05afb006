//! Numbers that are none.

use super::{Kind, Tensor, no_grad};

/// How many of a tensor's numbers are NaN or infinite.
pub fn not_finite(tensor: &Tensor) -> i64 {
    no_grad(|| {
        // A sum is no number where one of them is not; the other way round it may have grown too
        // large.
        if !tensor.is_floating_point() || tensor.sum(Kind::Float).double_value(&[]).is_finite() {
            return 0;
        }
        tensor.isfinite().logical_not().sum(Kind::Int64).int64_value(&[])
    })
}

/// For each picture of a batch `[n, …]` whether all of its numbers are finite, `[n]`, on the
/// tensor's device.
pub fn finite_each(batch: &Tensor) -> Tensor {
    batch.flatten(1, -1).isfinite().all_dim(1, false)
}
