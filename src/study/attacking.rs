//! Attacks the model with an edit on it, and says how the concept came back.

use serde::{Deserialize, Serialize};

use super::attack_results::{AttackResults, Attacked};
use super::erasing::Erased;
use super::protocol::{Cell, Protocol, Run};
use super::session::{Session, drawn};
use super::{BASE_PICTURES, Study};
use crate::attack::{
    AttackContext, AttackTask, Exposure, Findings, MAX_EVALUATION_IMAGES, Verdict,
};
use crate::files::write_json;
use crate::generator::{ImageRequest, Model};
use crate::pictures::Picture;
use crate::pipeline::AttackSetting;
use crate::run::Error;

/// What an earlier session saw, and of what.
#[derive(Serialize, Deserialize)]
struct SavedAttack {
    /// The edit's hash.
    edit: String,
    /// The attack's settings.
    settings: serde_json::Value,
    found: Findings,
}

/// One attack on one erasure.
struct Attempt<'a> {
    cell: &'a Cell,
    attack: &'a AttackSetting,
    exposure: &'a Exposure,
    /// The edit's hash.
    edit: &'a str,
    /// In names of files.
    stem: String,
}

impl Attempt<'_> {
    /// Where it goes on from, inside the run.
    fn state(&self) -> String {
        format!("state/attacks/{}", self.stem)
    }
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
        let of_target = self.protocol.of_target(target);
        let showing = of_target.iter().filter(|i| self.protocol.shows(target, base, **i));
        let shown: Vec<usize> = showing.copied().take(MAX_EVALUATION_IMAGES).collect();
        if shown.is_empty() {
            return Ok(self.pipeline.attack.iter().map(|_| Exposure::default()).collect());
        }
        let folder = run.folder.path(BASE_PICTURES);
        let open = |i: &usize| Picture::open(&self.protocol.path(&folder, &requests[*i].0));
        let images = if self.pipeline.attack.iter().any(|attack| attack.value.needs().base_images) {
            // Others of the base that do not show it, as many, from all over the list.
            let others: Vec<usize> = (0..requests.len())
                .filter(|i| !of_target.contains(i) && !self.protocol.shows(target, base, *i))
                .collect();
            let stride = (others.len() / shown.len()).max(1);
            let others = others.iter().step_by(stride).take(shown.len());
            let of_base = shown.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            Some((of_base, others.map(open).collect::<Result<Vec<_>, _>>()?))
        } else {
            None
        };
        let asked: Vec<ImageRequest> = shown.iter().map(|i| requests[*i].1.clone()).collect();
        let mut exposures = Vec::new();
        for attack in &self.pipeline.attack {
            let needs = attack.value.needs();
            let asked = asked.clone();
            let pictures = needs.training_images;
            let mut exposure = self.protocol.exposure(target, asked, session, pictures, run)?;
            if let Some((of_base, of_others)) = images.as_ref().filter(|_| needs.base_images) {
                exposure.base_images.clone_from(of_base);
                exposure.other_images.clone_from(of_others);
            }
            exposures.push(exposure);
        }
        Ok(exposures)
    }

    /// Lets every attack attack the model with the edit that is on it.
    pub(super) fn attacks(
        &self,
        cell: &Cell,
        exposures: &[Exposure],
        erased: &Erased,
        session: &mut Session,
        run: &mut Run,
    ) -> Result<AttackResults, Error> {
        let mut results = AttackResults::default();
        let about = &self.protocol.targets()[cell.target];
        for (attack, exposure) in self.pipeline.attack.iter().zip(exposures) {
            if exposure.requests.is_empty() {
                run.watch.note(&format!(
                    "{} of {} is left out: none of the base's pictures shows it, so nothing can \
                     come back",
                    attack.label, about.concept
                ));
                continue;
            }
            let stem = format!("{}-{}-{}", about.stem(), cell.method, attack.label);
            let attempt = Attempt { cell, attack, exposure, edit: &erased.hash, stem };
            let found = self.attack(&attempt, session, run)?;
            let attacked = Attacked {
                target: about.concept.clone(),
                method: cell.method.clone(),
                attack: attack.label.clone(),
                model: session.hash().to_owned(),
                edited: erased.components(),
            };
            let steps = attack.value.cost(exposure.requests.len()).steps;
            results.add(&attacked, &found, steps);
        }
        let attacks = self.pipeline.attack.iter();
        let controls = attacks.filter(|attack| attack.value.is_control());
        results.compare(&controls.map(|attack| attack.label.clone()).collect::<Vec<_>>());
        Ok(results)
    }

    /// Attacks, or reads what an earlier session saw of the same edit.
    fn attack(
        &self,
        attempt: &Attempt,
        session: &mut Session,
        run: &mut Run,
    ) -> Result<Findings, Error> {
        let Attempt { attack, edit, .. } = attempt;
        let file = run.folder.path(format!("attacks/{}.json", attempt.stem));
        let settings = attack.value.settings();
        let known = fs_err::read_to_string(&file)
            .ok()
            .and_then(|text| serde_json::from_str::<SavedAttack>(&text).ok())
            .filter(|seen| seen.edit == *edit && seen.settings == settings);
        if let Some(seen) = known {
            return Ok(seen.found);
        }
        let found = self.attacked(attempt, session, run)?;
        let saved = SavedAttack { edit: (*edit).to_owned(), settings, found };
        write_json(&file, &saved)?;
        let state = run.folder.path(attempt.state());
        if state.exists() {
            fs_err::remove_dir_all(&state)?;
        }
        Ok(saved.found)
    }

    fn attacked(
        &self,
        attempt: &Attempt,
        session: &mut Session,
        run: &mut Run,
    ) -> Result<Findings, Error> {
        let &Attempt { cell, attack, exposure, edit, .. } = attempt;
        let about = &self.protocol.targets()[cell.target];
        let (at_once, sampling) = (session.at_once(), session.sampling());
        let judge = |model: &Model<'_>, requests: &[ImageRequest]| {
            let judge = || -> Result<Vec<Verdict>, Error> {
                let requests: Vec<ImageRequest> =
                    requests.iter().cloned().map(|request| request.sampled(sampling)).collect();
                let pictures = drawn(model.generator(), &requests, at_once)?;
                self.protocol.verdicts(cell.target, &pictures)
            };
            judge().map_err(|error| error.to_string())
        };
        let what = format!("{} {} after {}", attack.label, about.concept, cell.method);
        let task = AttackTask { exposure, judge: &judge, seed: self.pipeline.seed };
        let (state, of) =
            (run.folder.path(attempt.state()), format!("{edit} {}", attack.value.settings()));
        let watch = &mut *run.watch;
        run.folder.phase(&what, self.compute.device, |_| {
            let mut context = AttackContext { state: Some(&state), of: &of, watch };
            Ok(attack.value.attack(session.model(), &task, &mut context)?)
        })
    }
}
