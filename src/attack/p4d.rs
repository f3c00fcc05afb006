//! P4D (Chin et al. 2024, arXiv 2309.06135; what the paper leaves open is as in the published
//! code): words are looked for under which the erased model predicts what the base predicts under
//! the prompt. P4D-N puts 16 words in the prompt's place, P4D-K one after every three of its own.
//!
//! The search is PEZ's: vectors that count as the nearest word. At a timestep by chance in each
//! step; the nearest words are drawn and judged block by block.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract::denoiser_of;
use super::custom_sampling::BaseModel;
use super::free_tokens::{FreePlaces, FreeTokens, rows};
use super::trials::{Proposal, Proposer, TrialLoop};
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, TrialArm,
};
use crate::generator::{self, ImageRequest, Model};
use crate::pictures::Picture;
use crate::prompt_search::{NearestSearch, NearestSettings, Placement, PredictionTarget};
use crate::settings::Configurable;
use crate::torch::{Rng, Tensor, no_grad};
use crate::training::GradientsFor;
use crate::watch::Watch;

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct P4d {
    /// Which tokens.
    pub tokens: FreeTokens,
    /// Pictures of each trial that are judged, at most.
    pub images: u64,
    /// Steps of the search before each.
    pub steps: u64,
    /// How the vectors move.
    pub search: NearestSettings,
    /// Trials whose gradients are found together.
    pub batch: usize,
    /// Whether the same search is done for what the base draws of something else.
    pub floor: bool,
    /// New seeds with which what was found is tried again.
    pub new_seeds: u64,
}

impl P4d {
    /// Sixteen words in the prompt's place.
    pub fn n() -> Self {
        let tokens =
            FreeTokens { count: 16, placement: Placement::Replace, ..FreeTokens::default() };
        Self {
            tokens,
            images: 60,
            steps: 50,
            search: NearestSettings::default(),
            batch: 4,
            floor: true,
            new_seeds: 10,
        }
    }

    /// A word after every three of the prompt.
    pub fn k() -> Self {
        let tokens = FreeTokens { placement: Placement::Spread, ..FreeTokens::default() };
        Self { tokens, ..Self::n() }
    }
}

impl Default for P4d {
    fn default() -> Self {
        Self::n()
    }
}

/// Its name in the table, with words in the prompt's place.
pub(super) const N: &str = "p4d";
/// With words among the prompt's.
pub(super) const K: &str = "p4d-k";

impl Configurable for P4d {
    fn name(&self) -> &'static str {
        if self.tokens.placement == Placement::Spread { K } else { N }
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let name = self.name();
        if self.images == 0 || self.steps == 0 || self.batch == 0 {
            return Err(format!(
                "{name} has {} images, {} steps and batch {}; all are above 0",
                self.images, self.steps, self.batch
            ));
        }
        let NearestSettings { lr, decay } = self.search;
        if !lr.is_finite() || lr <= 0.0 || !decay.is_finite() || decay < 0.0 {
            return Err(format!(
                "{name}'s search has lr {lr} and decay {decay}; lr is above 0, decay not negative"
            ));
        }
        self.tokens.check(name)
    }
}

impl Attack for P4d {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { base_images: true, ..AttackNeeds::PROMPTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let each = requests as u64 * (1 + u64::from(self.floor));
        AttackCost {
            steps: 0,
            search_steps: each * self.images * self.steps,
            images: each * (1 + self.images + self.new_seeds),
        }
    }

    fn suits(
        &self,
        model: &Model<'_>,
        prompts: &[&str],
        words: Option<&str>,
    ) -> Result<(), String> {
        self.tokens.suits(model, prompts, words)
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let _none = GradientsFor::only(denoiser.all_parameters(), |_| false);
        let exposure = task.exposure;
        let allowed = self.tokens.allowed(denoiser, exposure)?;
        let base = BaseModel::of(denoiser)?;
        let of = |pictures: &[Picture], requests: &[ImageRequest]| {
            let prompts = requests.iter().map(|request| request.prompt.clone());
            pictures.iter().cloned().zip(prompts).collect::<Vec<_>>()
        };
        let concept = of(&exposure.base_images, &exposure.requests);
        let other = of(&exposure.other_images, &exposure.other_requests);
        let arms = [(TrialArm::ATTACK, concept), (TrialArm::FLOOR, other)];
        let mut found = Vec::new();
        for (arm, shown) in arms.into_iter().take(1 + usize::from(self.floor)) {
            if shown.is_empty() {
                continue;
            }
            let shown = shown.into_iter().cycle().take(exposure.requests.len());
            let (pictures, prompts): (Vec<Picture>, Vec<String>) = shown.unzip();
            let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
            let places = self.tokens.places(denoiser, exposure, &allowed)?;
            let mut rng = Rng::for_step(task.seed, &format!("{N} {arm}"), 0);
            let begin = rng.below(allowed.count(), &[places.frames.count(), places.frames.free()]);
            let begin = begin.to_device(denoiser.compute().device.tch());
            let mut proposer = BasePrediction {
                settings: self,
                seed: task.seed,
                arm,
                base: &base,
                clean: denoiser.encode_pictures(&pictures)?.mean,
                ids: denoiser.token_ids(&prompts),
                search: NearestSearch::new(&allowed, &begin, self.search)?,
                places,
            };
            let trials = TrialLoop {
                arm,
                steps: self.steps,
                new_seeds: self.new_seeds,
                ..TrialLoop::new(self.name(), &model, task, self.images)
            };
            found.push(trials.run(&mut proposer, context)?);
        }
        Ok(Findings::Trials(found))
    }
}

/// Looks for words under which the model predicts what the base predicts.
struct BasePrediction<'a> {
    settings: &'a P4d,
    seed: u64,
    arm: &'static str,
    base: &'a BaseModel,
    /// Of each trial's picture, `[n, c, h, w]`.
    clean: Tensor,
    /// Of the prompt that the base is asked with, `[n, tokens]`.
    ids: Tensor,
    places: FreePlaces<'a>,
    search: NearestSearch<'a>,
}

impl BasePrediction<'_> {
    /// What is to be predicted in a step for some of the trials.
    fn target(&self, step: u64, trials: &[usize]) -> PredictionTarget {
        let (model, device) = (self.places.model, self.clean.device());
        let (mut noises, mut timesteps) = (Vec::new(), Vec::new());
        for trial in trials {
            let mut rng = Rng::for_step(self.seed, &format!("{N} {} {trial}", self.arm), step + 1);
            noises.push(rng.normal(&self.clean.size()[1..]));
            timesteps.push(rng.below(model.schedule().steps(), &[1]));
        }
        let rows = rows(model, trials);
        let noise = Tensor::stack(&noises, 0).to_device(device);
        let timesteps = Tensor::cat(&timesteps, 0).to_device(device);
        let clean = self.clean.index_select(0, &rows);
        let noisy = model.schedule().add_noise(&clean, &noise, &timesteps);
        let target = self.base.lent(|| {
            no_grad(|| {
                let _scope = model.compute().scope();
                let prompt = model.encode(&model.embed(&self.ids.index_select(0, &rows)));
                model.predict(&noisy, &timesteps, &prompt)
            })
        });
        PredictionTarget { noisy, timesteps, target }
    }
}

impl Proposer for BasePrediction<'_> {
    fn propose(
        &mut self,
        round: u64,
        trials: &[usize],
        watch: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error> {
        let first = (round - 1) * self.settings.steps;
        let model = self.places.model;
        let (rows, frames) = (rows(model, trials), &self.places.frames);
        let frames = frames.select(&rows);
        let left = format!("{} left", trials.len());
        for step in first..first + self.settings.steps {
            let prediction = self.target(step, trials);
            let batch = self.settings.batch;
            self.search.step(&rows, |words| prediction.gradient(model, &frames, words, batch))?;
            watch.at(step + 1, &left);
            if watch.interrupted() {
                return Err(generator::Error::Interrupted.into());
            }
        }
        let found = self.search.words(&rows);
        Ok(self.places.proposals(trials, &found))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.search.state()
    }
}
