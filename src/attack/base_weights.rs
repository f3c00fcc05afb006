//! Weights that are lent for a while to a model that has an edit on it: as a rule the base's own,
//! of a component or all of them.

use std::path::Path;

use super::Error;
use crate::generator::{Adapter, Component, Denoiser, Generator};
use crate::torch::Tensor;
use crate::training::LentWeights;
use crate::weights::EmaChoice;

/// What a model, a part of one or an edit at a path has otherwise than the base, by full name.
///
/// # Errors
/// It cannot be laid over this model.
pub(super) fn tensors_at(
    model: &dyn Generator,
    path: &Path,
) -> Result<Vec<(String, Tensor)>, Error> {
    let adapter = Adapter { path: path.to_owned(), strength: 1.0 };
    Ok(model.lay(&[adapter], EmaChoice::default())?.edit.tensors)
}

/// Those of one component.
#[derive(Debug)]
pub(super) struct BaseWeights {
    parameters: Vec<Tensor>,
    originals: Vec<Tensor>,
}

impl BaseWeights {
    /// What the edit changed of a component.
    ///
    /// # Errors
    /// None that was seen: every parameter has a base.
    pub(super) fn of(model: &dyn Denoiser, component: Component) -> Result<Self, Error> {
        Self::with(model, component, &[])
    }

    /// The same with other tensors, by full name, in the place of the base's.
    ///
    /// # Errors
    /// None that was seen: every parameter has a base.
    pub(super) fn with(
        model: &dyn Denoiser,
        component: Component,
        others: &[(String, Tensor)],
    ) -> Result<Self, Error> {
        let (mut parameters, mut originals) = (Vec::new(), Vec::new());
        for (name, parameter) in model.parameters(component) {
            let original = match others.iter().find(|(other, _)| *other == name) {
                Some((_, tensor)) => tensor.to_device(parameter.device()).to_kind(parameter.kind()),
                None => model.base_tensor(&name)?,
            };
            // What no edit replaced is its own base.
            if original.data_ptr() != parameter.data_ptr() {
                parameters.push(parameter);
                originals.push(original);
            }
        }
        Ok(Self { parameters, originals })
    }

    /// Whether there is nothing to lend: the component is so already.
    pub(super) fn is_whole(&self) -> bool {
        self.parameters.is_empty()
    }

    /// The component has these weights as long as what is returned lives.
    pub(super) fn lend(&self) -> LentWeights {
        LentWeights::pointing(&self.parameters, &self.originals)
    }
}

/// Those of text encoder and UNet.
#[derive(Debug)]
pub(super) struct BaseModel {
    text: BaseWeights,
    unet: BaseWeights,
}

impl BaseModel {
    /// What the edit changed.
    ///
    /// # Errors
    /// None that was seen.
    pub(super) fn of(model: &dyn Denoiser) -> Result<Self, Error> {
        Self::with(model, &[])
    }

    /// The same with other tensors, by full name, in the place of the base's.
    ///
    /// # Errors
    /// None that was seen.
    pub(super) fn with(model: &dyn Denoiser, others: &[(String, Tensor)]) -> Result<Self, Error> {
        Ok(Self {
            text: BaseWeights::with(model, Component::TextEncoder, others)?,
            unet: BaseWeights::with(model, Component::Unet, others)?,
        })
    }

    /// The model has these weights while this runs; its base's, as a rule.
    pub(super) fn lent<T>(&self, work: impl FnOnce() -> T) -> T {
        let _both = (self.text.lend(), self.unet.lend());
        work()
    }
}
