//! The loop that every training runs in: checkpoints, interruption, progress, and a stop when it
//! goes wrong.
//!
//! Every step's random numbers come from a generator that is seeded with (seed, purpose, step), so
//! a training that was killed and resumed ends with the same bytes as one that ran through.

use std::io::Write as _;
use std::path::Path;

use super::state::{LoopState, fingerprint, load, open_scalars, save};
use super::{CheckpointTimer, Error, TrainConfig};
use crate::torch::{Compute, Tensor, not_finite};
use crate::watch::Watch;

/// What [`train_loop`] drives: it goes forward a step at a time, and can be written down between
/// two.
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

/// Weight of one step in the running mean of the loss.
const SMOOTHING: f64 = 0.02;

/// Drives a trainable to the plan's end, from a checkpoint in `folder` where there is one, and says
/// how far it came.
///
/// `folder` gets `state.safetensors` and, one line a step, `scalars.jsonl`.
///
/// # Errors
/// Interruption (the state is saved), a loss that is no number or diverges, a state of another
/// training, a disk that is full.
pub fn train_loop(
    trainable: &mut dyn Trainable,
    plan: &TrainConfig,
    compute: Compute,
    folder: Option<&Path>,
    watch: &mut dyn Watch,
) -> Result<LoopState, Error> {
    let mut now = LoopState { step: 0, mean: f64::NAN, best: f64::INFINITY };
    let fingerprint = fingerprint(trainable, plan, compute);
    let mut scalars = None;
    if let Some(folder) = folder {
        fs_err::create_dir_all(folder)?;
        load(&folder.join("state.safetensors"), trainable, &mut now, plan, &fingerprint)?;
        scalars = Some(open_scalars(&folder.join("scalars.jsonl"), now.step)?);
    }

    watch.begin(trainable.name(), plan.steps);
    watch.at(now.step, "");
    let (mut timer, began_at) = (CheckpointTimer::default(), now.step);
    while now.step < plan.steps && !trainable.done() {
        let lr = plan.rate(now.step);
        let loss = trainable.step(now.step, lr, watch)?;
        if !loss.is_finite() {
            let origin = origin(trainable, now.step == began_at && now.step == 0);
            return Err(Error::NotANumber { step: now.step, loss, lr, origin });
        }
        now.mean = if now.mean.is_nan() { loss } else { now.mean + SMOOTHING * (loss - now.mean) };
        if let Some(file) = &mut scalars {
            writeln!(file, "{}", serde_json::json!({"step": now.step, "loss": loss, "lr": lr}))?;
        }
        // After the first hundred steps a mean of ten times the best is no fluctuation.
        if now.step > 100 && trainable.loss_falls() {
            if now.mean > 10.0 * now.best {
                return Err(Error::Diverged { step: now.step, mean: now.mean, best: now.best });
            }
            now.best = now.best.min(now.mean);
        }
        now.step += 1;
        watch.at(now.step, &format!("loss {:.4}", now.mean));

        let last = now.step == plan.steps || trainable.done();
        let stop = watch.interrupted() && !last;
        if let Some(folder) = folder
            && (stop || timer.is_over() || (plan.extends && last))
        {
            timer.after(|| {
                if let Some(file) = &mut scalars {
                    file.flush()?;
                }
                save(&folder.join("state.safetensors"), trainable, &now, plan, &fingerprint)
            })?;
        }
        if stop {
            return Err(Error::Interrupted(now.step));
        }
    }
    watch.end();
    if let Some(file) = &mut scalars {
        file.flush()?;
    }
    Ok(now)
}

/// Where a loss that is no number began. What is learned from was found to be numbers before.
fn origin(trainable: &dyn Trainable, first: bool) -> &'static str {
    let spoiled = trainable.tensors().iter().any(|(_, tensor)| not_finite(tensor) > 0);
    match (first, spoiled) {
        (true, true) => {
            "the weights had NaN or infinity in them before the first step; take another copy of \
             the model"
        }
        (true, false) => {
            "the weights and what is learned from are numbers, so the networks overflow in this \
             precision; use --precision f32"
        }
        (false, true) => {
            "a step spoiled the weights; lower the learning rate, or use --precision f32"
        }
        (false, false) => {
            "the weights are numbers still, but the networks overflow; lower the learning rate, or \
             use --precision f32"
        }
    }
}
