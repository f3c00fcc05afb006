//! A guard that lets some of a model's parameters alone require gradients, whatever happens
//! meanwhile: what does not train needs none, and the memory for them is saved.

use crate::torch::Tensor;

/// While it lives, some parameters require gradients and all others do not. Then it is as before.
#[derive(Debug)]
#[must_use = "dropped at once, it changes nothing"]
pub struct GradientsFor {
    /// Each parameter, and whether it required gradients.
    before: Vec<(Tensor, bool)>,
}

impl GradientsFor {
    /// Of these parameters, by full name, those that are wanted.
    pub fn only(parameters: Vec<(String, Tensor)>, wanted: impl Fn(&str) -> bool) -> Self {
        let before = parameters.into_iter().map(|(name, tensor)| {
            let required = tensor.requires_grad();
            let _ = tensor.set_requires_grad(wanted(&name));
            (tensor, required)
        });
        Self { before: before.collect() }
    }
}

impl Drop for GradientsFor {
    fn drop(&mut self) {
        for (tensor, required) in &self.before {
            let _ = tensor.set_requires_grad(*required);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_as_before_afterwards() {
        let all = || vec![("a".to_owned(), true), ("b".to_owned(), false)];
        let tensors: Vec<(String, Tensor)> = all()
            .into_iter()
            .map(|(name, on)| (name, Tensor::from_slice(&[1.0_f32]).set_requires_grad(on)))
            .collect();
        let copies = || tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        let guard = GradientsFor::only(copies(), |name| name == "b");
        assert!(!tensors[0].1.requires_grad() && tensors[1].1.requires_grad());
        drop(guard);
        assert!(tensors[0].1.requires_grad() && !tensors[1].1.requires_grad());
    }
}
