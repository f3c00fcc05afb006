//! Teaches an erased concept again, and says how it came back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::measured::Measured;
use super::opening::content_hash;
use super::samples::drawn;
use super::{Error, RunFolder};
use crate::attack::{RelearnCurve, RelearnPoint, Relearning};
use crate::files::write_json;
use crate::generator::{StyleGan2, Synthesizer};
use crate::judge::{Judge, in_batches};
use crate::measure::{Estimate, Target};
use crate::torch::Tensor;
use crate::watch::Watch;

/// How a concept came back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Relearned {
    /// The concept.
    pub target: String,
    /// The method that took it out.
    pub method: String,
    /// The share of latents that showed it and show it again: steps of relearning, and the share
    /// after them.
    pub curve: Vec<CurvePoint>,
    /// The first step that was looked at after which half was back.
    pub half: Option<u64>,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Steps.
    pub step: u64,
    /// The share.
    #[serde(flatten)]
    pub share: Estimate,
}

/// Latents that are looked at, at most.
const LOOKED: usize = 100;

/// What an erased concept is taught with.
pub(super) struct Again<'a> {
    pub settings: &'a Relearning,
    /// Of the base, `[n, 3, size, size]`.
    pub pictures: Tensor,
    pub seed: u64,
    pub judge: &'a Judge,
}

/// What an earlier session saw, and of which edit.
#[derive(Serialize, Deserialize)]
struct SavedCurve {
    edit: String,
    back: RelearnCurve,
}

impl Again<'_> {
    /// Teaches what a method took out of a model, and lets a judge look at latents that showed it.
    /// What an earlier session saw is read.
    pub(super) fn teach(
        &self,
        model: &StyleGan2,
        (target, measured): (&Target, &Measured),
        (method, edit): (&str, &Path),
        run: &mut RunFolder,
        watch: &mut dyn Watch,
    ) -> Result<Relearned, Error> {
        let stem = target.to_string().replace(':', "-");
        let file = run.path(format!("state/{stem}/relearned-{method}.json"));
        let edit = content_hash(edit)?.to_hex().to_string();
        let known = fs_err::read_to_string(&file)
            .ok()
            .and_then(|text| serde_json::from_str::<SavedCurve>(&text).ok());
        let back = if let Some(known) = known.filter(|known| known.edit == edit) {
            known.back
        } else {
            let own: Vec<u64> = measured.latents(true).map(|own| own.seed).take(LOOKED).collect();
            let shown = |model: &dyn Synthesizer| -> Result<(usize, usize), Error> {
                let evidence =
                    in_batches(&drawn(model, &own)?, |batch| self.judge.see(batch, None))?;
                Ok((evidence.iter().filter(|own| measured.shows(own)).count(), own.len()))
            };
            let look = |model: &dyn Synthesizer| shown(model).map_err(|error| error.to_string());
            let what = format!("relearning {target} after {method}");
            let back = run.phase(&what, model.compute().device, |_| {
                Ok(self.settings.run(model, &self.pictures, &look, self.seed, watch)?)
            })?;
            let kept = SavedCurve { edit, back };
            write_json(&file, &kept)?;
            kept.back
        };
        let point = |own: &RelearnPoint| CurvePoint {
            step: own.step,
            share: Estimate::of_share(own.hits, own.n),
        };
        Ok(Relearned {
            target: target.to_string(),
            method: method.to_owned(),
            curve: back.curve.iter().map(point).collect(),
            half: back.half,
        })
    }
}
