//! A guard that lends a model other weights and gives its own back, whatever happens meanwhile.

use crate::torch::{Tensor, no_grad};

/// While it lives, parameters have other values. They have their own again when it is dropped, also
/// where what was done with the others failed or panicked.
#[derive(Debug)]
#[must_use = "dropped at once, it gives the weights back at once"]
pub struct LentWeights {
    parameters: Vec<Tensor>,
    before: Before,
}

#[derive(Debug)]
enum Before {
    /// The parameters' own memory, to point at again.
    Memory(Vec<Tensor>),
    /// Their values, to be copied back.
    Values(Vec<Tensor>),
}

impl LentWeights {
    /// Points parameters at the memory of `values`, in their order and of their shapes. Nothing is
    /// copied: for values that are only read.
    pub fn pointing<'t>(
        parameters: impl IntoIterator<Item = &'t Tensor>,
        values: &[Tensor],
    ) -> Self {
        let parameters: Vec<Tensor> = parameters.into_iter().map(Tensor::shallow_clone).collect();
        let memory = parameters.iter().map(Tensor::detach).collect();
        point(&parameters, values);
        Self { parameters, before: Before::Memory(memory) }
    }

    /// Keeps the parameters' values, and copies them back in the end: for parameters that are
    /// trained or overwritten meanwhile. It takes their memory once more.
    pub fn restoring<'t>(parameters: impl IntoIterator<Item = &'t Tensor>) -> Self {
        let parameters: Vec<Tensor> = parameters.into_iter().map(Tensor::shallow_clone).collect();
        let values = no_grad(|| parameters.iter().map(|tensor| tensor.detach().copy()).collect());
        Self { parameters, before: Before::Values(values) }
    }

    /// The values that the parameters had.
    pub fn originals(&self) -> &[Tensor] {
        match &self.before {
            Before::Memory(tensors) | Before::Values(tensors) => tensors,
        }
    }
}

fn point(parameters: &[Tensor], values: &[Tensor]) {
    // A stretch without gradients ends with autocast's casts forgotten, which are of other values.
    no_grad(|| {
        for (parameter, value) in parameters.iter().zip(values) {
            parameter.shallow_clone().set_data(value);
        }
    });
}

fn assign(parameters: &[Tensor], values: &[Tensor]) {
    no_grad(|| {
        for (parameter, value) in parameters.iter().zip(values) {
            parameter.detach().copy_(value);
        }
    });
}

impl Drop for LentWeights {
    fn drop(&mut self) {
        match &self.before {
            Before::Memory(memory) => point(&self.parameters, memory),
            Before::Values(values) => assign(&self.parameters, values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_back_also_after_a_panic() {
        let parameter = Tensor::from_slice(&[1.0_f32, 2.0]).set_requires_grad(true);
        let values = [Tensor::from_slice(&[5.0_f32, 6.0])];
        let first = |tensor: &Tensor| tensor.detach().double_value(&[0]);
        for points in [true, false] {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let lent = if points {
                    LentWeights::pointing([&parameter], &values)
                } else {
                    let lent = LentWeights::restoring([&parameter]);
                    assign(std::slice::from_ref(&parameter), &values);
                    lent
                };
                assert_eq!((first(&parameter), first(&lent.originals()[0])), (5.0, 1.0));
                panic!("while they are lent");
            }));
            assert!(ended.is_err() && first(&parameter) == 1.0 && parameter.requires_grad());
        }
    }
}
