//! The tensors that an edit replaced in a model, and what stood there before.

use std::collections::BTreeMap;

use super::Error;
use crate::torch::{Tensor, no_grad};
use crate::weights::Edit;

/// The base's tensors in place of which an edit's are, by full name.
#[derive(Debug, Default)]
pub(super) struct EditedTensors(BTreeMap<String, Tensor>);

impl EditedTensors {
    /// Gives back what was replaced, then puts the edit's tensors in. `base` is the model's hash.
    ///
    /// # Errors
    /// Another base's edit; a tensor that the model lacks or has in another shape. Nothing is
    /// changed then.
    pub(super) fn replace<'m>(
        &mut self,
        edit: &Edit,
        base: &str,
        find: impl Fn(&str) -> Option<&'m Tensor>,
    ) -> Result<(), Error> {
        if !edit.is_empty() && edit.base != base {
            return Err(crate::weights::Error::other_base(&edit.base, base).into());
        }
        for (name, tensor) in &edit.tensors {
            let shape = find(name).map(Tensor::size);
            if shape.as_ref() != Some(&tensor.size()) {
                return Err(Error::EditShape {
                    name: name.clone(),
                    found: tensor.size(),
                    wanted: shape.unwrap_or_default(),
                });
            }
        }
        edit.check()?;
        no_grad(|| {
            for (name, original) in std::mem::take(&mut self.0) {
                if let Some(parameter) = find(&name) {
                    parameter.detach().copy_(&original);
                }
            }
            for (name, tensor) in &edit.tensors {
                if let Some(parameter) = find(name) {
                    self.0.insert(name.clone(), parameter.detach().copy());
                    parameter.detach().copy_(tensor);
                }
            }
        });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their full names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What stood there before.
    pub(super) fn original(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }
}
