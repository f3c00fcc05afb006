//! Where a network gets its tensors from: a file, or a random initialisation.

use std::cell::RefCell;
use std::rc::Rc;

use super::Error;
use crate::torch::{Device, Kind, Rng, Tensor, no_grad};
use crate::weights::Weights;

/// The named parameters of a network, in the order of its construction; `f32` leaves.
#[derive(Debug, Default)]
pub struct Parameters(Vec<(String, Tensor)>);

impl Parameters {
    /// Name and tensor of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// One by name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor)
    }

    /// The tensors alone.
    pub fn tensors(&self) -> Vec<&Tensor> {
        self.0.iter().map(|(_, tensor)| tensor).collect()
    }

    /// How many numbers.
    pub fn count(&self) -> usize {
        self.0.iter().map(|(_, tensor)| tensor.numel()).sum()
    }

    /// Lets gradients flow to all of them, or to none.
    pub fn train(&self, on: bool) {
        for (_, tensor) in &self.0 {
            let _ = tensor.set_requires_grad(on);
        }
    }

    /// Overwrites the values in place.
    pub fn assign(&self, values: &[Tensor]) {
        no_grad(|| {
            for ((_, tensor), value) in self.0.iter().zip(values) {
                tensor.detach().copy_(value);
            }
        });
    }

    /// Names and the parameters themselves.
    pub fn named_leaves(&self) -> Vec<(String, Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Names and values, sharing memory.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect()
    }
}

enum ParameterSource<'a> {
    File(&'a Weights),
    Random(RefCell<Rng>),
}

/// How a parameter begins when nothing is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    Zeros,
    Ones,
    /// Uniform in ± 1 / √n, PyTorch's default for linear layers and convolutions with n inputs.
    Fan(i64),
    /// Normal with this deviation.
    Normal(f64),
    /// This value.
    Value(f64),
}

/// Hands a network its parameters under a prefix, and remembers them.
pub struct Builder<'a> {
    source: Rc<ParameterSource<'a>>,
    device: Device,
    prefix: String,
    taken: Rc<RefCell<Parameters>>,
}

impl<'a> Builder<'a> {
    /// Parameters from a file.
    pub fn load(weights: &'a Weights, device: Device) -> Self {
        Self::new(ParameterSource::File(weights), device)
    }

    /// Fresh parameters; the same seed gives the same network.
    pub fn fresh(seed: u64, device: Device) -> Self {
        Self::new(ParameterSource::Random(RefCell::new(Rng::new(seed))), device)
    }

    fn new(source: ParameterSource<'a>, device: Device) -> Self {
        Self { source: Rc::new(source), device, prefix: String::new(), taken: Rc::default() }
    }

    /// The builder for a child.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Self {
        let prefix = self.full(&name.to_string());
        Self { source: self.source.clone(), device: self.device, prefix, taken: self.taken.clone() }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Whether a child of this name is in the file (always, where parameters are fresh).
    pub(crate) fn has(&self, name: &str) -> bool {
        match &*self.source {
            ParameterSource::File(weights) => weights.contains(&self.full(name)),
            ParameterSource::Random(_) => true,
        }
    }

    pub(crate) fn get(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor, Error> {
        let (name, tensor) = self.find(name, shape, init)?;
        self.taken.borrow_mut().0.push((name, tensor.shallow_clone()));
        Ok(tensor)
    }

    fn find(&self, name: &str, shape: &[i64], init: Init) -> Result<(String, Tensor), Error> {
        let name = self.full(name);
        let tensor = match &*self.source {
            ParameterSource::File(weights) => {
                if let Some(info) = weights.info(&name)
                    && info.shape != shape
                {
                    return Err(Error::Shape {
                        path: weights.path(&name).to_path_buf(),
                        name,
                        found: info.shape,
                        wanted: shape.to_vec(),
                    });
                }
                weights.floats(&name)?.to_kind(Kind::Float)
            }
            ParameterSource::Random(rng) => {
                let mut rng = rng.borrow_mut();
                let constant = |v: f64| Tensor::full(shape, v, (Kind::Float, tch::Device::Cpu));
                match init {
                    Init::Zeros => constant(0.0),
                    Init::Ones => constant(1.0),
                    Init::Value(v) => constant(v),
                    Init::Normal(deviation) => rng.normal(shape) * deviation,
                    Init::Fan(n) => (rng.uniform(shape) * 2.0 - 1.0) / (n as f64).sqrt(),
                }
            }
        };
        Ok((name, tensor.to_device(self.device.tch())))
    }

    /// Numbers that are no parameter and never learn; zeros where the file does not have them.
    pub(crate) fn buffer(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        if matches!(*self.source, ParameterSource::Random(_)) || !self.has(name) {
            return Ok(Tensor::zeros(shape, (Kind::Float, self.device.tch())));
        }
        self.find(name, shape, Init::Zeros).map(|(_, tensor)| tensor)
    }

    /// Where the parameters go.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// How many parameters were handed out so far.
    pub(crate) fn count(&self) -> usize {
        self.taken.borrow().0.len()
    }

    /// The parameters that were handed out after the first `n`.
    pub(crate) fn since(&self, n: usize) -> Vec<Tensor> {
        self.taken.borrow().0[n..].iter().map(|(_, tensor)| tensor.shallow_clone()).collect()
    }

    /// Everything that was handed out.
    pub(crate) fn finish(self) -> Parameters {
        self.taken.take()
    }
}
