//! What a training has come to, on the disk: its state, and the log of its steps.

use std::path::Path;

use super::{Error, TrainConfig, Trainable};
use crate::torch::{Compute, no_grad};
use crate::weights::{self, Weights};

/// How far a training is.
#[derive(Debug, Clone, Copy)]
pub struct LoopState {
    /// Steps that were done.
    pub step: u64,
    /// The running mean of the loss.
    pub mean: f64,
    /// The best that it was.
    pub best: f64,
}

/// Writes everything that the next step needs, whole or not at all.
///
/// # Errors
/// A disk that is full.
pub(super) fn save(
    path: &Path,
    trainable: &dyn Trainable,
    now: &LoopState,
    plan: &TrainConfig,
    fingerprint: &str,
) -> Result<(), Error> {
    let mut about = vec![
        ("fingerprint", fingerprint.to_owned()),
        ("step", now.step.to_string()),
        ("constant_until", plan.constant_until().to_string()),
        ("steps", plan.steps.to_string()),
        ("mean", now.mean.to_string()),
        ("best", now.best.to_string()),
    ];
    about.extend(trainable.scalars().into_iter().map(|(name, value)| (name, value.to_string())));
    Ok(weights::save(path, &trainable.tensors(), &about)?)
}

/// Goes on from a file, where there is one.
///
/// # Errors
/// A state of another training, a file that cannot be read.
pub(super) fn load(
    path: &Path,
    trainable: &mut dyn Trainable,
    now: &mut LoopState,
    plan: &TrainConfig,
    fingerprint: &str,
) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let file = Weights::open_own(path, "remove it, and the training begins anew")?;
    let about = file.metadata();
    let text = |key: &str| about.get(key).cloned().unwrap_or_default();
    let number = |key: &str, or: f64| text(key).parse().unwrap_or(or);
    let step = number("step", 0.0) as u64;
    let longer = step <= (number("constant_until", 0.0) as u64).min(plan.constant_until());
    let tensors = trainable.tensors();
    // The shapes of what moves are in the fingerprint; the optimizer's follow from the settings.
    let whole = tensors
        .iter()
        .all(|(name, tensor)| file.info(name).is_some_and(|info| info.shape == tensor.size()));
    if text("fingerprint") != fingerprint
        || !whole
        || !(longer || text("steps") == plan.steps.to_string())
    {
        return Err(Error::OtherState {
            path: path.to_path_buf(),
            found: text("fingerprint"),
            wanted: fingerprint.to_owned(),
        });
    }
    for (name, tensor) in tensors {
        let saved = file.tensor(&name)?;
        no_grad(|| tensor.detach().copy_(&saved));
    }
    for (name, value) in trainable.scalars() {
        trainable.load_scalar(name, number(name, value));
    }
    *now = LoopState { step, mean: number("mean", f64::NAN), best: number("best", f64::INFINITY) };
    Ok(())
}

/// What must be the same for a state to be gone on from, beside the number of steps.
pub(super) fn fingerprint(
    trainable: &dyn Trainable,
    plan: &TrainConfig,
    compute: Compute,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let plan = TrainConfig { steps: 0, ..plan.clone() };
    hasher.update(
        format!("{} {plan:?} {} {:?}", trainable.name(), compute.precision, compute.memory)
            .as_bytes(),
    );
    hasher.update(trainable.fingerprint().as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Opens the log for appending, without the lines of steps that will be done again.
pub(super) fn open_scalars(
    path: &Path,
    step: u64,
) -> Result<std::io::BufWriter<fs_err::File>, Error> {
    let kept: String = fs_err::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .take(step as usize)
        .flat_map(|line| [line, "\n"])
        .collect();
    // Whole or not at all: whoever is killed next must not have lost what was kept.
    crate::files::write(path, kept.as_bytes())?;
    Ok(std::io::BufWriter::new(fs_err::OpenOptions::new().append(true).open(path)?))
}
