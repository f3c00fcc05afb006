//! Attacks the model with an edit on it, and says how the concept came back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::attack_results::{AttackResults, Attacked};
use super::attacked_pictures::write_found;
use super::erasing::{Erased, SECONDS};
use super::protocol::{Cell, Protocol, Run};
use super::session::{Session, drawn};
use super::{BASE_PICTURES, Study, spread};
use crate::attack::{
    self, AttackContext, AttackTask, ConceptJudge, Exposure, Findings, MAX_EVALUATION_IMAGES,
    Verdict,
};
use crate::files::{read_json, write_json};
use crate::generator::{self, ImageRequest, Model, Provenance};
use crate::measure::Estimate;
use crate::pictures::Picture;
use crate::pipeline::{AttackSetting, PromptRow, read_prompts};
use crate::run::Error;
use crate::watch::Watch;
use crate::weights::Sampling;

/// What an earlier session saw, and of what.
#[derive(Serialize, Deserialize)]
struct SavedAttack {
    /// The edit's hash.
    edit: String,
    /// The attack's settings.
    settings: serde_json::Value,
    /// [`attack::VERSION`] with which it was found.
    #[serde(default)]
    version: u32,
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
    /// The phase of the run.
    phase: String,
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
        session: &mut Session,
        run: &mut Run,
    ) -> Result<Vec<Exposure>, Error> {
        let requests = self.protocol.requests(session);
        let of_target = self.protocol.of_target(target);
        let showing = of_target.iter().filter(|i| self.protocol.shows(target, base, **i));
        let showing: Vec<usize> = showing.copied().collect();
        let shown = spread(&showing, MAX_EVALUATION_IMAGES);
        if shown.is_empty() {
            return Ok(self.pipeline.attack.iter().map(|_| Exposure::default()).collect());
        }
        let folder = run.folder.path(BASE_PICTURES);
        let open = |i: &usize| Picture::open(&self.protocol.path(&folder, &requests[*i].0));
        // Others of the base that do not show it, as many, from all over the list.
        let others: Vec<usize> = (0..requests.len())
            .filter(|i| !of_target.contains(i) && !self.protocol.shows(target, base, *i))
            .collect();
        let stride = (others.len() / shown.len()).max(1);
        let others: Vec<usize> = others.into_iter().step_by(stride).take(shown.len()).collect();
        let asked = |of: &[usize]| -> Vec<ImageRequest> {
            of.iter().map(|i| requests[*i].1.clone()).collect()
        };
        let all = |of: &[usize]| of.iter().map(open).collect::<Result<Vec<_>, _>>();
        let about = &self.protocol.targets()[target];
        if shown.len() < showing.len() {
            run.watch.note(&format!(
                "attacks try {} of the {} pictures that show {}, from all over them",
                shown.len(),
                showing.len(),
                about.concept
            ));
        }
        let wants_images = |attack: &AttackSetting| attack.value.needs().base_images;
        let images = if self.pipeline.attack.iter().any(wants_images) {
            Some((all(&shown)?, all(&others)?))
        } else {
            None
        };
        let mut exposures = Vec::new();
        for attack in &self.pipeline.attack {
            let needs = attack.value.needs();
            let pictures = needs.training_images;
            let requests = asked(&shown);
            let words = about.words();
            let fitting = fitting(attack, &requests, &words, session, run.watch)?;
            let fitting = spread(&fitting, attack.tried(fitting.len()));
            let n = fitting.len();
            let requests = fitting.iter().map(|i| requests[*i].clone()).collect();
            let mut exposure = self.protocol.exposure(target, requests, session, pictures, run)?;
            if let Some((of_base, of_others)) = images.as_ref().filter(|_| needs.base_images) {
                exposure.base_images = fitting.iter().map(|i| of_base[*i].clone()).collect();
                exposure.other_images = of_others.iter().take(n).cloned().collect();
            }
            if needs.base_images || needs.other_requests {
                exposure.other_requests = asked(&others).into_iter().take(n).collect();
            }
            exposure.pairs = about.pairs_of_prompts();
            if let Some(list) = attack.value.prompt_list() {
                let listed = listed(list, &about.concept, session, run.watch)?;
                exposure.listed = spread(&listed, attack.tried(listed.len()));
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
            let phase = format!("{} {} after {}", attack.label, about.concept, cell.method);
            let attempt = Attempt { cell, attack, exposure, edit: &erased.hash, stem, phase };
            let found = self.attack(&attempt, session, run)?;
            let attacked = Attacked {
                target: about.concept.clone(),
                method: cell.method.clone(),
                attack: attack.label.clone(),
                folder: format!("attacks/{}", attempt.stem).into(),
                model: session.hash().to_owned(),
                edited: erased.components(),
                needs: attack.value.needs(),
                before: attack.value.prompt_list().is_none(),
                second: self.pipeline.judge.second.is_some(),
            };
            let steps = attack.value.cost(exposure.requests.len()).steps;
            let added = results.tried.len();
            results.add(&attacked, &found, steps);
            let phases = &run.folder.record.phases;
            if let Some(phase) = phases.iter().find(|phase| phase.name == attempt.phase) {
                let seconds = SECONDS.of(&about.concept, Estimate::exact(phase.seconds));
                results.seconds.push(seconds.after(&cell.method).under(&attack.label));
            }
            if let Some(tried) = results.tried.get(added) {
                write_found(&run.folder.path(format!("attacks/{}.csv", attempt.stem)), tried)?;
            }
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
        let settings = attack.settings();
        let known = read_json::<SavedAttack>(&file).filter(|seen| {
            let known = (seen.edit.as_str(), &seen.settings, seen.version);
            known == (*edit, &settings, attack::VERSION)
        });
        if let Some(seen) = known {
            return Ok(seen.found);
        }
        let found = self.attacked(attempt, session, run)?;
        let (edit, version) = ((*edit).to_owned(), attack::VERSION);
        let saved = SavedAttack { edit, settings, version, found };
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
        let &Attempt { cell, attack, exposure, edit, ref phase, .. } = attempt;
        let about = &self.protocol.targets()[cell.target];
        let (at_once, sampling) = (session.at_once(), session.sampling());
        let judge =
            JudgeOfTarget { protocol: &self.protocol, target: cell.target, at_once, sampling };
        let task = AttackTask { exposure, judge: &judge, sampling, seed: self.pipeline.seed };
        let (state, of) = (
            run.folder.path(attempt.state()),
            format!("{} {edit} {}", attack::VERSION, attack.settings()),
        );
        let artifacts = run.folder.path(format!("attacks/{}", attempt.stem));
        let shared = run.folder.path(format!("attacks/{}-{}", about.stem(), attack.label));
        let (hash, sensitive) = (session.hash().to_owned(), self.pipeline.concept.sensitive);
        let watch = &mut *run.watch;
        run.folder.phase(phase, self.compute.device, |_| {
            let mut context = AttackContext {
                state: Some(&state),
                artifacts: Some(&artifacts),
                shared: Some(&shared),
                provenance: Provenance { model: &hash, sensitive },
                of: &of,
                watch,
            };
            Ok(attack.value.attack(session.model(), &task, &mut context)?)
        })
    }
}

/// The study's judges, asked for one target.
struct JudgeOfTarget<'a, P> {
    protocol: &'a P,
    target: usize,
    /// Pictures that are drawn at once.
    at_once: usize,
    sampling: Option<Sampling>,
}

impl<P: Protocol> ConceptJudge for JudgeOfTarget<'_, P> {
    fn draw(
        &self,
        model: &Model<'_>,
        requests: &[ImageRequest],
    ) -> Result<Vec<Picture>, attack::Error> {
        let requests: Vec<ImageRequest> =
            requests.iter().cloned().map(|request| request.sampled(self.sampling)).collect();
        let drawn = drawn(model.generator(), &requests, self.at_once);
        drawn.map_err(of_judge)
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    fn judge(&self, pictures: &[Picture]) -> Result<Vec<Verdict>, attack::Error> {
        self.protocol.verdicts(self.target, pictures).map_err(of_judge)
    }
}

/// What stopped the drawing or the judging, as attacks have it.
fn of_judge(error: Error) -> attack::Error {
    match error {
        Error::Interrupted => generator::Error::Interrupted.into(),
        other => attack::Error::Task(other.to_string()),
    }
}

/// What a list of prompts asks for; of one with a column `concept` the rows of this one.
pub(super) fn listed(
    file: &Path,
    concept: &str,
    session: &Session,
    watch: &mut dyn Watch,
) -> Result<Vec<ImageRequest>, Error> {
    let rows = read_prompts(file, &[], watch)?;
    let is_of = |row: &&PromptRow| {
        let named = row.columns.iter().find(|(column, _)| column == "concept");
        named.is_none_or(|(_, name)| name == concept)
    };
    let requests: Vec<ImageRequest> = rows
        .iter()
        .filter(is_of)
        .map(|row| session.request_of(row, row.seed.unwrap_or_default()))
        .collect();
    session.warn_of_unread(requests.iter().map(|request| request.prompt.as_str()), watch);
    if requests.is_empty() {
        return Err(Error::Unknown(format!(
            "{}: none of its {} rows has `{concept}` in the column `concept`",
            file.display(),
            rows.len()
        )));
    }
    Ok(requests)
}

/// The requests that an attack can begin with; of the others it is said that they are left out.
///
/// # Errors
/// None of them.
fn fitting(
    attack: &AttackSetting,
    requests: &[ImageRequest],
    words: &[String],
    session: &mut Session,
    watch: &mut dyn Watch,
) -> Result<Vec<usize>, Error> {
    let model = session.model();
    let (mut fitting, mut left) = (Vec::new(), Vec::new());
    for (i, request) in requests.iter().enumerate() {
        match attack.value.fits(&model, request, words) {
            Ok(()) => fitting.push(i),
            Err(why) => left.push((&request.prompt, why)),
        }
    }
    let Some((first, why)) = left.first() else { return Ok(fitting) };
    if fitting.is_empty() {
        return Err(Error::Unknown(format!(
            "{} suits none of the {} pictures, one of «{first}» for one: {why}; change its \
             settings",
            attack.label,
            requests.len()
        )));
    }
    watch.warn(&format!(
        "{} of {} pictures are left out of {}, one of «{first}» for one: {why}",
        left.len(),
        requests.len(),
        attack.label
    ));
    Ok(fitting)
}
