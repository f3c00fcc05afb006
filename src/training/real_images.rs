//! What is to pass for real, and a set of it that does not change.

use crate::torch::{Device, Kind, Rng, Tensor};

/// Pictures that are to pass for real.
pub trait RealImages {
    /// `n` of them at random, `[n, 3, size, size]` from -1 to 1 on the networks' device, and where
    /// a class conditioning needs them their classes, `[n, questions]`.
    fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>);

    /// `n` of them and the latents `[n, dim]` that stand for them, where a generator has learned to
    /// reconstruct them.
    fn some_with_latents(&self, _n: i64, _dim: i64, _rng: &mut Rng) -> Option<(Tensor, Tensor)> {
        None
    }
}

/// Pictures that are kept on the host, and drawn from at random.
#[derive(Debug)]
pub struct FixedImages {
    /// `[n, 3, size, size]`, about -1 to 1.
    pictures: Tensor,
    device: Device,
}

impl FixedImages {
    /// Of pictures `[n, 3, size, size]`; batches go to `device`.
    pub fn new(pictures: &Tensor, device: Device) -> Self {
        Self { pictures: pictures.to_device(tch::Device::Cpu), device }
    }

    /// These, on their device.
    pub fn at(&self, rows: &Tensor) -> Tensor {
        self.pictures.index_select(0, rows).to_device(self.device.tch()).to_kind(Kind::Float)
    }

    /// `n` of them without repetition.
    #[must_use]
    pub fn some_of(&self, n: i64, rng: &mut Rng) -> Self {
        let all = self.pictures.size()[0];
        let rows = rng.permutation(all).narrow(0, 0, n.min(all));
        Self { pictures: self.pictures.index_select(0, &rows), device: self.device }
    }
}

impl RealImages for FixedImages {
    fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
        (self.at(&rng.below(self.pictures.size()[0], &[n])), None)
    }
}
