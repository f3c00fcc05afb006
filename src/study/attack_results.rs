//! What attacks found, as `scores.json` has it, and the numbers that it comes to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::attack::{Access, Arm, AttackNeeds, Evaluation, Findings, Found, Trial, TrialArm};
use crate::measure::{
    AboveControl, CurvePoint, Estimate, Score, SuccessPoint, above_control, area, attack_success,
    confirmed, half, on_new_seeds, relearning, success_curve, without_name,
};

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

    pub(super) fn of(about: &Attacked, arm: &Arm, steps: u64) -> Self {
        let point = |evaluation: &Evaluation| CurvePoint {
            step: evaluation.step,
            share: Estimate::of_share(evaluation.hits, evaluation.n),
        };
        let curve: Vec<CurvePoint> = arm.curve.iter().map(point).collect();
        Self {
            target: about.target.clone(),
            method: about.method.clone(),
            attack: about.attack.clone(),
            arm: arm.name.clone(),
            half: half(&curve),
            steps,
            area: area(&curve, steps),
            curve,
        }
    }
}

/// Who attacked what.
pub(super) struct Attacked {
    pub target: String,
    pub method: String,
    pub attack: String,
    /// Where what it left lies, inside the run.
    pub folder: PathBuf,
    /// Hash of the model with the edit on it.
    pub model: String,
    /// Components that the edit changed.
    pub edited: Vec<String>,
    /// What the attack wants.
    pub needs: AttackNeeds,
    /// Whether each trial was drawn without the attack first.
    pub before: bool,
    /// Whether a second judge looks at what is found.
    pub second: bool,
}

/// Which prompts and seeds brought a concept back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The concept.
    pub target: String,
    /// The method that took it out.
    pub method: String,
    /// The attack.
    pub attack: String,
    /// The attack itself, or its floor: the same search for something else.
    pub arm: String,
    /// Hash of the model that was attacked, with its edit.
    pub model: String,
    /// What of it the edit changed; all else is the base's.
    pub edited: Vec<String>,
    /// What whoever attacks so must be able to do.
    pub access: Access,
    /// Whether it adapts to this model.
    pub adaptive: bool,
    /// Whether each trial was drawn without the attack first; prompts of a list were not.
    pub before: bool,
    /// Where pictures with which trials ended lie, inside the run.
    #[serde(default)]
    pub folder: PathBuf,
    /// Whether a second judge looked at what was found.
    #[serde(default)]
    pub second: bool,
    /// Judged pictures of each trial at most, beside the one without an attack.
    pub images: u64,
    /// Steps of the search for each of them.
    pub steps: u64,
    /// Success after so many judged pictures.
    pub curve: Vec<SuccessPoint>,
    /// How it compares with its controls on the same prompts and seeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<AboveControl>,
    /// Each prompt and seed.
    pub trials: Vec<Trial>,
}

impl Tried {
    pub(super) fn of(about: &Attacked, arm: &TrialArm) -> Self {
        Self {
            target: about.target.clone(),
            method: about.method.clone(),
            attack: about.attack.clone(),
            arm: arm.name.clone(),
            model: about.model.clone(),
            edited: about.edited.clone(),
            access: about.needs.access,
            adaptive: about.needs.adaptive,
            before: about.before,
            folder: about.folder.clone(),
            second: about.second,
            images: arm.images,
            steps: arm.steps,
            curve: success_curve(&successes(&arm.trials), arm.images),
            above: Vec::new(),
            trials: arm.trials.clone(),
        }
    }

    pub(super) fn is_attack(&self) -> bool {
        self.arm == TrialArm::ATTACK
    }

    /// Compares with a control at equal numbers of judged pictures: trial by trial of those that
    /// both have; with a floor that has none in common, all with all.
    fn compare(&mut self, control: &Self) {
        let name = if control.is_attack() { &control.attack } else { &control.arm };
        let images = self.images.min(control.images);
        let of = |trial: &Trial| {
            let mut same = control.trials.iter();
            same.find(|other| other.prompt == trial.prompt && other.seed == trial.seed)
        };
        let pairs: Vec<[Option<u64>; 2]> =
            self.trials.iter().filter_map(|trial| Some([trial.after, of(trial)?.after])).collect();
        if !pairs.is_empty() {
            self.above.push(AboveControl::paired(name, images, &pairs));
        } else if !control.is_attack() && !self.trials.is_empty() && !control.trials.is_empty() {
            let (own, others) = (successes(&self.trials), successes(&control.trials));
            self.above.push(AboveControl::unpaired(name, images, &own, &others));
        }
    }

    /// What is to be said of it in numbers.
    pub(super) fn scores(&self) -> Vec<Score> {
        let mut scores = attack_success(&self.target, &successes(&self.trials));
        if !self.before {
            scores.retain(|score| score.measure == "ASR");
        }
        let label = if self.is_attack() {
            self.attack.clone()
        } else {
            // Of the floor only how often it succeeds.
            scores.retain(|score| score.measure == "ASR");
            format!("{} ({})", self.attack, self.arm)
        };
        if self.is_attack() {
            let found: Vec<&Found> =
                self.trials.iter().filter_map(|trial| trial.found.as_ref()).collect();
            if self.second {
                let sure = found.iter().filter(|found| found.confirmed == Some(true)).count();
                scores.push(confirmed(&self.target, sure, self.trials.len()));
            }
            let again: Vec<[u64; 2]> = found.iter().filter_map(|found| found.new_seeds).collect();
            scores.extend(on_new_seeds(&self.target, &again));
            if found.iter().any(|found| found.names_concept) {
                let unnamed = found.iter().filter(|found| !found.names_concept).count();
                scores.push(without_name(&self.target, unnamed, self.trials.len()));
            }
        }
        scores.extend(self.above.iter().map(|above| above.score(&self.target)));
        scores.into_iter().map(|score| score.after(&self.method).under(&label)).collect()
    }
}

/// After how many judged pictures each trial succeeded.
fn successes(trials: &[Trial]) -> Vec<Option<u64>> {
    trials.iter().map(|trial| trial.after).collect()
}

/// What all attacks on one erasure found.
#[derive(Debug, Default)]
pub(super) struct AttackResults {
    pub curves: Vec<Relearned>,
    pub tried: Vec<Tried>,
    /// What each took.
    pub seconds: Vec<Score>,
}

impl AttackResults {
    /// Adds what one attack found.
    pub(super) fn add(&mut self, about: &Attacked, found: &Findings, steps: u64) {
        match found {
            Findings::Curves(arms) => {
                self.curves.extend(arms.iter().map(|arm| Relearned::of(about, arm, steps)));
            }
            Findings::Trials(arms) => {
                self.tried.extend(arms.iter().map(|arm| Tried::of(about, arm)));
            }
        }
    }

    /// Compares every search with the controls beside it, which look for nothing, and with its
    /// floor.
    pub(super) fn compare(&mut self, controls: &[String]) {
        let all = self.tried.clone();
        // What a list asks for is no search, and is judged once, without a picture before.
        let searches = self.tried.iter_mut().filter(|tried| tried.is_attack() && tried.before);
        for tried in searches.filter(|tried| !controls.contains(&tried.attack)) {
            let is_control = |other: &&Tried| {
                let floor = [TrialArm::FLOOR, TrialArm::NEVER_KNEW].contains(&other.arm.as_str());
                floor && other.attack == tried.attack || controls.contains(&other.attack)
            };
            let beside: Vec<&Tried> = all.iter().filter(is_control).collect();
            for other in beside {
                tried.compare(other);
            }
        }
    }

    /// All numbers.
    pub(super) fn scores(&self) -> Vec<Score> {
        let mut scores: Vec<Score> = self.curves.iter().flat_map(Relearned::scores).collect();
        let mut attacks: Vec<&str> =
            self.curves.iter().map(|curve| curve.attack.as_str()).collect();
        attacks.dedup();
        scores.extend(attacks.into_iter().filter_map(|attack| {
            let arms: Vec<&Relearned> =
                self.curves.iter().filter(|curve| curve.attack == attack).collect();
            concept_above_control(&arms)
        }));
        scores.extend(self.tried.iter().flat_map(Tried::scores));
        scores.extend(self.seconds.iter().cloned());
        scores
    }
}

/// How much more of the concept came back than the model learns of what it never knew, where both
/// were tried.
fn concept_above_control(arms: &[&Relearned]) -> Option<Score> {
    let named = |name| arms.iter().find(|arm| arm.arm == name);
    let (concept, control) = (named(Arm::CONCEPT)?, named(Arm::CONTROL)?);
    let above = above_control(&concept.target, concept.area, control.area);
    Some(above.after(&concept.method).under(&concept.attack))
}
