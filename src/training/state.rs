//! What a training has come to, on the disk: its state, and the log of its steps.

use std::path::Path;

use super::Error;
use super::scaler::Scaler;
use super::schooling::Plan;
use crate::torch::{Adam, Ema, Place, Tensor, no_grad};
use crate::weights::{self, Weights};

/// Everything that a step changes.
pub(super) struct State {
    pub(super) step: u64,
    pub(super) adam: Adam,
    pub(super) ema: Option<Ema>,
    /// The running mean of the loss.
    pub(super) mean: f64,
    /// The best that it was.
    pub(super) best: f64,
    pub(super) seconds: f64,
    /// For f16 alone.
    pub(super) scaler: Option<Scaler>,
}

impl State {
    pub(super) fn save(
        &self,
        path: &Path,
        named: &[(String, Tensor)],
        plan: &Plan,
        fingerprint: &str,
    ) -> Result<(), Error> {
        let mut tensors: Vec<(String, Tensor)> =
            named.iter().map(|(name, tensor)| (format!("weight.{name}"), tensor.shallow_clone())).collect();
        if let Some(ema) = &self.ema {
            for ((name, _), average) in named.iter().zip(ema.average()) {
                tensors.push((format!("average.{name}"), average.shallow_clone()));
            }
        }
        tensors.extend(self.adam.state().into_iter().map(|(name, tensor)| (format!("adam.{name}"), tensor)));
        let mut about = vec![
            ("fingerprint", fingerprint.to_owned()),
            ("step", self.step.to_string()),
            ("constant_until", plan.constant_until().to_string()),
            ("steps", plan.steps.to_string()),
            ("mean", self.mean.to_string()),
            ("best", self.best.to_string()),
            ("seconds", self.seconds.to_string()),
        ];
        if let Some(Scaler { factor, good }) = self.scaler {
            about.extend([("scale", factor.to_string()), ("scale_good", good.to_string())]);
        }
        Ok(weights::save(path, &tensors, &about)?)
    }

    /// Goes on from a file, where there is one.
    ///
    /// # Errors
    /// A state of another training, a file that cannot be read.
    pub(super) fn load(
        &mut self,
        path: &Path,
        named: &[(String, Tensor)],
        plan: &Plan,
        fingerprint: &str,
    ) -> Result<(), Error> {
        if !path.exists() {
            return Ok(());
        }
        let file = Weights::open(path)?;
        let about = file.metadata();
        let text = |key: &str| about.get(key).cloned().unwrap_or_default();
        let number = |key: &str, or: f64| text(key).parse().unwrap_or(or);
        let step = number("step", 0.0) as u64;
        let longer = step <= (number("constant_until", 0.0) as u64).min(plan.constant_until());
        if text("fingerprint") != fingerprint || !(longer || text("steps") == plan.steps.to_string()) {
            return Err(Error::OtherState {
                path: path.to_path_buf(),
                found: text("fingerprint"),
                wanted: fingerprint.to_owned(),
            });
        }
        for (name, tensor) in named {
            let saved = file.tensor(&format!("weight.{name}"))?;
            no_grad(|| tensor.detach().copy_(&saved));
        }
        if let Some(ema) = &mut self.ema {
            let averages = named
                .iter()
                .map(|(name, _)| file.tensor(&format!("average.{name}")))
                .collect::<Result<Vec<_>, _>>()?;
            ema.restore(&averages);
        }
        self.adam.restore(|name| file.tensor(&format!("adam.{name}")).ok())?;
        if let Some(Scaler { factor, good }) = &mut self.scaler {
            *factor = number("scale", *factor);
            *good = number("scale_good", 0.0) as u64;
        }
        self.step = step;
        self.mean = number("mean", f64::NAN);
        self.best = number("best", f64::INFINITY);
        self.seconds = number("seconds", 0.0);
        Ok(())
    }
}

/// What must be the same for a state to be gone on from, beside the number of steps.
pub(super) fn fingerprint(name: &str, plan: &Plan, named: &[(String, Tensor)], place: Place) -> String {
    let mut hasher = blake3::Hasher::new();
    let plan = Plan { steps: 0, ..plan.clone() };
    hasher.update(format!("{name} {plan:?} {} {:?}", place.precision, place.memory).as_bytes());
    for (name, tensor) in named {
        hasher.update(format!("{name} {:?}", tensor.size()).as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Opens the log for appending, without the lines of steps that will be done again.
pub(super) fn open_scalars(path: &Path, step: u64) -> Result<std::io::BufWriter<fs_err::File>, Error> {
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
