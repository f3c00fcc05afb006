//! What can be trained, whatever it is.

use super::Error;
use crate::torch::Tensor;
use crate::watch::Watch;

/// What [`train_loop`](super::train_loop) drives: it goes forward a step at a time, and can be
/// written down between two.
///
/// One network that learns by one loss needs no implementation of its own: it is an
/// [`Objective`](super::Objective), and [`train`](super::train) drives it. Whatever else learns
/// implements this trait:
///
/// - One network: `step` makes the gradients of its loss and lets its optimizer move the
///   parameters; `tensors` gives the parameters, the optimizer's moments and, where there is one,
///   the average of the weights.
/// - Two networks in turns, as in a GAN: `step` lets one move and then the other, each by its own
///   loss and with its own optimizer, and gives the sum of both losses; `tensors` gives both
///   networks' parameters and both optimizers' moments, under names that tell them apart;
///   `loss_falls` says `false`, because one's gain is the other's loss.
///
/// A step takes its random numbers from [`Rng::for_step`](crate::torch::Rng::for_step) with the
/// plan's seed, its own name and the number of the step, and from nowhere else. Then, and if
/// `tensors` and `scalars` leave nothing out that a step changes, a training that was interrupted
/// ends with the same bytes as one that was not.
pub trait Trainable {
    /// A short name; part of the seed of every step.
    fn name(&self) -> &'static str;

    /// What its steps depend on beside the plan; a state of other facts is another training's.
    /// Names and shapes of the parameters belong to it.
    fn fingerprint(&self) -> String;

    /// Does a step at a learning rate, and gives its loss.
    ///
    /// # Errors
    /// Whatever goes wrong in the step; the training ends with it. A loss that is no number is not
    /// an error here: the loop sees to it.
    fn step(&mut self, step: u64, lr: f64, watch: &mut dyn Watch) -> Result<f64, Error>;

    /// Every tensor that a step changes, named: the tensors themselves, not copies, because a saved
    /// state is copied into them.
    fn tensors(&self) -> Vec<(String, Tensor)>;

    /// Every number that a step changes, named.
    fn scalars(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Takes a saved number back, under the name that `scalars` gives it.
    fn load_scalar(&mut self, _name: &str, _value: f64) {}

    /// Whether its loss falls while all goes well; if so, one that rises ends the training. The
    /// losses of two networks that learn in turns do not.
    fn loss_falls(&self) -> bool {
        true
    }

    /// Whether it has learned enough before the plan's end (early stopping).
    fn done(&self) -> bool {
        false
    }
}
