//! Keeps gradients in f16 from vanishing: the loss is multiplied before they are computed and they
//! are divided after (Micikevicius et al. 2018, section 3.2). The factor grows until a gradient
//! overflows, and falls then.

use crate::torch::{Kind, Tensor, no_grad};

/// The factor, and how long it has gone well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GradScaler {
    pub(super) factor: f64,
    /// Steps since the factor changed.
    pub(super) good: u64,
}

/// Steps without an overflow after which the factor is doubled (PyTorch's).
const PATIENCE: u64 = 2000;

impl GradScaler {
    /// With PyTorch's first factor.
    pub(super) fn new() -> Self {
        Self { factor: 65536.0, good: 0 }
    }

    /// Divides the gradients; whether all of their numbers are finite.
    pub(super) fn unscale<'a>(&self, gradients: impl Iterator<Item = &'a mut Tensor>) -> bool {
        no_grad(|| {
            let sums: Vec<Tensor> = gradients
                .map(|gradient| {
                    let _ = gradient.g_mul_scalar_(1.0 / self.factor);
                    gradient.sum(Kind::Float)
                })
                .collect();
            // A sum is finite only where all of its parts are; asking once, not for each tensor,
            // waits once.
            sums.is_empty() || Tensor::stack(&sums, 0).isfinite().all().int64_value(&[]) != 0
        })
    }

    /// Changes the factor by how a step went; `None` where it has fallen so far that no step can go
    /// well.
    pub(super) fn after(self, finite: bool) -> Option<Self> {
        match (finite, self.good + 1 >= PATIENCE) {
            (true, true) => Some(Self { factor: self.factor * 2.0, good: 0 }),
            (true, false) => Some(Self { good: self.good + 1, ..self }),
            (false, _) => {
                (self.factor > 1.0).then_some(Self { factor: self.factor / 2.0, good: 0 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_divides_notices_and_learns() {
        let mut fine = [Tensor::from_slice(&[65536.0_f32, -131_072.0])];
        let scaler = GradScaler::new();
        assert!(scaler.unscale(fine.iter_mut()));
        assert_eq!(Vec::<f32>::try_from(&fine[0]).unwrap(), [1.0, -2.0]);
        for wrong in [f32::INFINITY, f32::NAN] {
            let mut gradients = [fine[0].copy(), Tensor::from_slice(&[1.0, wrong])];
            assert!(!scaler.unscale(gradients.iter_mut()));
        }
        let fallen = scaler.after(false).unwrap();
        assert!((fallen.factor - 32768.0).abs() < 1e-9);
        let grown = (0..PATIENCE).fold(fallen, |scaler, _| scaler.after(true).unwrap());
        assert_eq!(grown, scaler);
        let lowest = (0..16).fold(scaler, |scaler, _| scaler.after(false).unwrap());
        assert_eq!(lowest.after(false), None);
    }
}
