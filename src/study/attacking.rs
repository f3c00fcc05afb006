//! Attacks the model with an edit on it, and says how the concept came back.

use serde::{Deserialize, Serialize};

use super::Study;
use super::protocol::{Cell, Protocol, Run};
use super::session::{Session, drawn};
use crate::attack::{Arm, Evaluation, Exposure};
use crate::files::write_json;
use crate::generator::{ImageRequest, Model};
use crate::measure::{CurvePoint, Estimate, Score, above_control, area, half, relearning};
use crate::pipeline::AttackSetting;
use crate::run::Error;

/// How a concept came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relearned {
    /// The concept.
    pub target: String,
    /// The method that took it out.
    pub method: String,
    /// The attack.
    pub attack: String,
    /// What it was shown: the concept, or unrelated pictures.
    pub arm: String,
    /// The share of pictures that showed it and show it again: steps, and the share after them.
    pub curve: Vec<CurvePoint>,
    /// The first step that was looked at after which half was back.
    pub half: Option<u64>,
    /// Steps at most.
    pub steps: u64,
    /// The area under the curve, 0 to 1.
    pub area: f64,
}

impl Relearned {
    /// What is to be said of it in numbers.
    pub(super) fn scores(&self) -> Vec<Score> {
        let label = format!("{} ({})", self.attack, self.arm);
        let all = relearning(&self.target, &self.curve, self.steps).into_iter();
        all.map(|score| score.after(&self.method).under(&label)).collect()
    }
}

/// What an earlier session saw, and of what.
#[derive(Serialize, Deserialize)]
struct SavedAttack {
    /// The edit's hash.
    edit: String,
    /// The attack's settings.
    settings: serde_json::Value,
    arms: Vec<Arm>,
}

/// How much more of the concept came back than the model learns of what it never knew, where both
/// were tried.
pub(super) fn concept_above_control(arms: &[Relearned]) -> Option<Score> {
    let named = |name| arms.iter().find(|arm| arm.arm == name);
    let (concept, control) = (named(Arm::CONCEPT)?, named(Arm::CONTROL)?);
    let above = above_control(&concept.target, concept.area, control.area);
    Some(above.after(&concept.method).under(&concept.attack))
}

impl<P: Protocol> Study<'_, P> {
    /// What each attack is shown, of the base.
    pub(super) fn exposures(
        &self,
        target: usize,
        base: &P::Seen,
        session: &Session,
        run: &mut Run,
    ) -> Result<Vec<Exposure>, Error> {
        let requests = self.protocol.requests(session);
        let of_target = self.protocol.of_target(target).into_iter();
        let showing = of_target.filter(|i| self.protocol.shows(target, base, *i));
        let shown: Vec<ImageRequest> = showing.map(|i| requests[i].1.clone()).collect();
        if shown.is_empty() {
            return Ok(self.pipeline.attack.iter().map(|_| Exposure::default()).collect());
        }
        let attacks = self.pipeline.attack.iter();
        attacks
            .map(|attack| {
                let pictures = attack.value.pictures();
                self.protocol.exposure(target, shown.clone(), session, pictures, run)
            })
            .collect()
    }

    /// Attacks, or reads what an earlier session saw of the same edit.
    pub(super) fn attack(
        &self,
        cell: &Cell,
        attack: &AttackSetting,
        exposure: &Exposure,
        edit: &str,
        session: &mut Session,
        run: &mut Run,
    ) -> Result<Vec<Relearned>, Error> {
        let about = &self.protocol.targets()[cell.target];
        if exposure.requests.is_empty() {
            run.watch.note(&format!(
                "{} of {} is left out: none of the base's pictures shows it, so nothing can come \
                 back",
                attack.label, about.concept
            ));
            return Ok(Vec::new());
        }
        let name = format!("{}-{}-{}", about.stem(), cell.method, attack.label);
        let file = run.folder.path(format!("attacks/{name}.json"));
        let edit = edit.to_owned();
        let settings = attack.value.settings();
        let steps = attack.value.steps();
        let known = fs_err::read_to_string(&file)
            .ok()
            .and_then(|text| serde_json::from_str::<SavedAttack>(&text).ok())
            .filter(|seen| seen.edit == edit && seen.settings == settings);
        let seen = if let Some(seen) = known {
            seen
        } else {
            let arms = self.attacked(cell, attack, exposure, session, run)?;
            let seen = SavedAttack { edit, settings, arms };
            write_json(&file, &seen)?;
            seen
        };
        let point = |evaluation: &Evaluation| CurvePoint {
            step: evaluation.step,
            share: Estimate::of_share(evaluation.hits, evaluation.n),
        };
        let relearned = |arm: &Arm| {
            let curve: Vec<CurvePoint> = arm.curve.iter().map(point).collect();
            Relearned {
                target: about.concept.clone(),
                method: cell.method.clone(),
                attack: attack.label.clone(),
                arm: arm.name.clone(),
                half: half(&curve),
                steps,
                area: area(&curve, steps),
                curve,
            }
        };
        Ok(seen.arms.iter().map(relearned).collect())
    }

    fn attacked(
        &self,
        cell: &Cell,
        attack: &AttackSetting,
        exposure: &Exposure,
        session: &mut Session,
        run: &mut Run,
    ) -> Result<Vec<Arm>, Error> {
        let about = &self.protocol.targets()[cell.target];
        let (at_once, sampling) = (session.at_once(), session.sampling());
        let count = |model: &Model<'_>, requests: &[ImageRequest]| {
            let count = || -> Result<(usize, usize), Error> {
                let requests: Vec<ImageRequest> =
                    requests.iter().cloned().map(|request| request.sampled(sampling)).collect();
                let pictures = drawn(model.generator(), &requests, at_once)?;
                Ok((self.protocol.shown(cell.target, &pictures)?, pictures.len()))
            };
            count().map_err(|error| error.to_string())
        };
        let what = format!("{} {} after {}", attack.label, about.concept, cell.method);
        let (seed, watch) = (self.pipeline.seed, &mut *run.watch);
        run.folder.phase(&what, self.compute.device, |_| {
            Ok(attack.value.attack(session.model(), exposure, &count, seed, watch)?)
        })
    }
}
