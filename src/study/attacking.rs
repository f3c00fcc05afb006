//! Attacks the model with an edit on it, and says how the concept came back.

use serde::{Deserialize, Serialize};

use super::Study;
use super::protocol::{Cell, Protocol, Run};
use super::session::{Session, drawn};
use crate::attack::{Arm, Exposure, Sighting};
use crate::files::write_json;
use crate::generator::{ImageRequest, Model};
use crate::measure::{Better, Estimate, Measure, Score, Subject, Unit};
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

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Steps.
    pub step: u64,
    /// The share.
    #[serde(flatten)]
    pub share: Estimate,
}

const BACK: Measure = Measure::share("back", Subject::Concept, Better::Lower);
const AREA: Measure = Measure::share("area", Subject::Concept, Better::Lower);
const ABOVE: Measure = Measure::share("area above control", Subject::Concept, Better::Lower);
const STEPS: Measure = Measure {
    name: "steps to half",
    subject: Subject::Concept,
    unit: Unit::Steps,
    better: Better::Higher,
};

impl Relearned {
    /// What was back at the last look, the steps until half was (all of them where it never was),
    /// and the area.
    pub(super) fn scores(&self) -> Vec<Score> {
        let label = format!("{} ({})", self.attack, self.arm);
        let half = self.half.unwrap_or(self.steps) as f64;
        let last = self.curve.last().map(|point| BACK.of(&self.target, point.share));
        let all = last.into_iter().chain([
            STEPS.of(&self.target, Estimate::exact(half)),
            AREA.of(&self.target, Estimate::exact(self.area)),
        ]);
        all.map(|score| score.after(&self.method).under(&label)).collect()
    }
}

/// What an earlier session saw, and of what.
#[derive(Serialize, Deserialize)]
struct Seen {
    /// The edit's hash.
    edit: String,
    /// The attack's settings.
    settings: serde_json::Value,
    arms: Vec<Arm>,
}

/// How much more of the concept came back than the model learns of what it never knew: 0 and less
/// is an erasure that holds.
pub(super) fn above_control(arms: &[Relearned]) -> Option<Score> {
    let concept = arms.first()?;
    let control = arms.iter().find(|arm| arm.arm == Arm::CONTROL)?;
    let above = Estimate::exact(concept.area - control.area);
    Some(ABOVE.of(&concept.target, above).after(&concept.method).under(&concept.attack))
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
        let own = self.protocol.of_target(target).into_iter();
        let showing = own.filter(|i| self.protocol.shows(target, base, *i));
        let looks: Vec<ImageRequest> = showing.map(|i| requests[i].1.clone()).collect();
        let attacks = self.pipeline.attack.iter();
        attacks
            .map(|attack| {
                let pictures = attack.value.pictures();
                self.protocol.exposure(target, looks.clone(), session, pictures, run)
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
        let name = format!("{}-{}-{}", about.stem(), cell.method, attack.label);
        let file = run.folder.path(format!("attacks/{name}.json"));
        let edit = edit.to_owned();
        let settings = attack.value.settings();
        let steps = attack.value.steps(self.pipeline.kind());
        let known = fs_err::read_to_string(&file)
            .ok()
            .and_then(|text| serde_json::from_str::<Seen>(&text).ok())
            .filter(|seen| seen.edit == edit && seen.settings == settings);
        let seen = if let Some(seen) = known {
            seen
        } else {
            let arms = self.attacked(cell, attack, exposure, session, run)?;
            let seen = Seen { edit, settings, arms };
            write_json(&file, &seen)?;
            seen
        };
        let point = |sighting: &Sighting| CurvePoint {
            step: sighting.step,
            share: Estimate::of_share(sighting.hits, sighting.n),
        };
        let relearned = |arm: &Arm| Relearned {
            target: about.concept.clone(),
            method: cell.method.clone(),
            attack: attack.label.clone(),
            arm: arm.name.clone(),
            curve: arm.curve.iter().map(point).collect(),
            half: arm.half(),
            steps,
            area: arm.area(steps),
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
        let look = |model: &Model<'_>, requests: &[ImageRequest]| {
            let count = || -> Result<(usize, usize), Error> {
                let requests: Vec<ImageRequest> =
                    requests.iter().cloned().map(|own| own.sampled(sampling)).collect();
                let pictures = drawn(model.generator(), &requests, at_once)?;
                Ok((self.protocol.shown(cell.target, &pictures)?, pictures.len()))
            };
            count().map_err(|error| error.to_string())
        };
        let what = format!("{} {} after {}", attack.label, about.concept, cell.method);
        let (seed, watch) = (self.pipeline.seed, &mut *run.watch);
        run.folder.phase(&what, self.compute.device, |_| {
            Ok(attack.value.attack(session.model(), exposure, &look, seed, watch)?)
        })
    }
}
