//! The base's own weights of a model that has an edit on it, to be lent for a while: those of a
//! component, or all of them.

use super::Error;
use crate::generator::{Component, Denoiser};
use crate::torch::Tensor;
use crate::training::LentWeights;

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
        let (mut parameters, mut originals) = (Vec::new(), Vec::new());
        for (name, parameter) in model.parameters(component) {
            let original = model.base_tensor(&name)?;
            // What no edit replaced is its own base.
            if original.data_ptr() != parameter.data_ptr() {
                parameters.push(parameter);
                originals.push(original);
            }
        }
        Ok(Self { parameters, originals })
    }

    /// Whether the edit leaves the component as it is.
    pub(super) fn is_whole(&self) -> bool {
        self.parameters.is_empty()
    }

    /// The component is the base's as long as what is returned lives.
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
        Ok(Self {
            text: BaseWeights::of(model, Component::TextEncoder)?,
            unet: BaseWeights::of(model, Component::Unet)?,
        })
    }

    /// The model is its base while this runs.
    pub(super) fn lent<T>(&self, work: impl FnOnce() -> T) -> T {
        let _both = (self.text.lend(), self.unet.lend());
        work()
    }
}
