//! The generator's penalty on unequal path lengths (Karras et al. 2020, section 3.2).

use super::Error;
use crate::torch::{Kind, Rng, Tensor, grad_of_grad};

/// How fast the mean path length follows.
const PACE: f64 = 0.01;

/// Path lengths, and their running mean.
pub(super) struct PathLengths {
    /// The mean path length, once one was seen. rosinality's begins at 0, which drives the lengths
    /// of a generator that has learned before to nothing until the mean has caught up, after
    /// hundreds of penalties.
    pub(super) mean: Option<f64>,
}

impl PathLengths {
    /// The mean square distance of the lengths from their running mean, which moves on. `pictures`
    /// `[n, 3, size, size]` were drawn under `styles` `[n, styles, style_dim]`.
    ///
    /// # Errors
    /// Styles that do not reach the pictures.
    pub(super) fn penalty(
        &mut self,
        styles: &Tensor,
        pictures: &Tensor,
        rng: &mut Rng,
    ) -> Result<Tensor, Error> {
        let pixels = (pictures.size()[2] * pictures.size()[3]) as f64;
        let direction = rng.normal(&pictures.size()).to_device(pictures.device()) / pixels.sqrt();
        let slope = grad_of_grad(&(pictures * direction).sum(Kind::Float), &[styles])?.remove(0);
        let slope = slope.ok_or_else(|| Error::unreached("the styles"))?;
        let lengths = slope.square().sum_dim_intlist([2_i64].as_slice(), false, Kind::Float);
        let lengths = lengths.mean_dim([1_i64].as_slice(), false, Kind::Float).sqrt();
        let here = lengths.mean(Kind::Float);
        let before = self.mean.unwrap_or_else(|| here.double_value(&[]));
        let mean = (here - before) * PACE + before;
        self.mean = Some(mean.double_value(&[]));
        Ok((lengths - mean).square().mean(Kind::Float))
    }
}
