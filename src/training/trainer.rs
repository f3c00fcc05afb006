//! The loop that every training runs in: checkpoints, interruption, progress, and a stop when it
//! goes wrong.
//!
//! Every step's random numbers come from a generator that is seeded with (seed, purpose, step), so
//! a training that was killed and resumed ends with the same bytes as one that ran through.

use std::io::Write as _;
use std::path::Path;

use super::state::{LoopState, fingerprint, load, open_scalars, save};
use super::{Error, TrainConfig, Trainable};
use crate::checkpoint_timer::CheckpointTimer;
use crate::torch::{Compute, not_finite};
use crate::watch::Watch;

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
        crate::files::create_folder(folder)?;
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
