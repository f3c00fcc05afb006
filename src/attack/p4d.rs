//! P4D (Chin et al. 2024, arXiv 2309.06135; what the paper leaves open is as in the published
//! code): words are looked for under which the erased model predicts what the base predicts under
//! the prompt. P4D-N puts 16 words in the prompt's place, P4D-K one after every three of its own.
//!
//! The search is PEZ's: vectors that count as the nearest word. At a timestep by chance in each
//! step; the nearest words are drawn and judged block by block.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::BaseModel;
use super::contract::denoiser_of;
use super::free_tokens::{FreePlaces, FreeTokens, rows};
use super::word_search::{BlockSearch, SearchBudget, WordSearch};
use super::{
    Access, Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, TrialArm,
};
use crate::generator::{ImageRequest, Model};
use crate::pictures::Picture;
use crate::prompt_search::{NearestSearch, Placement, PredictionTarget, SearchSettings};
use crate::settings::Configurable;
use crate::torch::{Rng, Tensor, no_grad};
use crate::training::GradientsFor;

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
    pub search: SearchSettings,
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
            search: SearchSettings::NEAREST,
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

    fn budget(&self) -> SearchBudget {
        let Self { images: blocks, steps, batch, floor, new_seeds, .. } = *self;
        SearchBudget { blocks, steps, batch, floor, new_seeds }
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
        self.search.check(&format!("{name}'s search"))?;
        self.tokens.check(name)
    }
}

impl Attack for P4d {
    fn needs(&self) -> AttackNeeds {
        let access = Access::GradientsAndBase;
        AttackNeeds { base_images: true, access, ..AttackNeeds::GRADIENTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        self.budget().cost(requests)
    }

    fn shortened(&self, steps: u64) -> Option<Box<dyn Attack>> {
        Some(Box::new(Self { images: 1, steps, floor: false, new_seeds: 0, ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, words: &[String]) -> Result<(), String> {
        self.tokens.suits(model, words)
    }

    fn fits(&self, model: &Model<'_>, request: &ImageRequest, _: &[String]) -> Result<(), String> {
        self.tokens.fits(model, &request.prompt)
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
        let side = denoiser.card().side as usize;
        let of = |pictures: &[Picture], requests: &[ImageRequest]| {
            let prompts = requests.iter().map(|request| request.prompt.clone());
            let pictures = pictures.iter().cloned().map(|picture| picture.fitted(side));
            pictures.zip(prompts).collect::<Vec<_>>()
        };
        let concept = of(&exposure.base_images, &exposure.requests);
        let other = self.floor.then(|| of(&exposure.other_images, &exposure.other_requests));
        let mut found = Vec::new();
        for (arm, shown) in TrialArm::with_floor(concept, other, self.name(), context.watch) {
            let shown = shown.into_iter().cycle().take(exposure.requests.len());
            let (pictures, prompts): (Vec<Picture>, Vec<String>) = shown.unzip();
            let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
            let places = self.tokens.places(denoiser, exposure, &allowed)?;
            let mut rng = Rng::for_step(task.seed, &format!("{N} {arm}"), 0);
            let begin = rng.below(allowed.count(), &[places.frames.count(), places.frames.free()]);
            let begin = begin.to_device(denoiser.compute().device.tch());
            let search = BasePrediction {
                batch: self.batch,
                seed: task.seed,
                arm,
                base: &base,
                clean: denoiser.encode_pictures(&pictures)?.mean,
                ids: denoiser.token_ids(&prompts),
                search: NearestSearch::new(&allowed, &begin, self.search)?,
                places,
            };
            let trials = self.budget().trials(self.name(), arm, &model, task);
            found.push(trials.run(&mut BlockSearch::new(self.steps, search), context)?);
        }
        Ok(Findings::Trials(found))
    }
}

/// Looks for words under which the model predicts what the base predicts.
struct BasePrediction<'a> {
    /// Trials whose gradients are found together.
    batch: usize,
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

impl WordSearch for BasePrediction<'_> {
    fn places(&self) -> &FreePlaces<'_> {
        &self.places
    }

    fn step(&mut self, _: u64, step: u64, trials: &[usize]) -> Result<(), Error> {
        let (model, rows) = (self.places.model, rows(self.places.model, trials));
        let (frames, prediction) = (self.places.frames.select(&rows), self.target(step, trials));
        let gradient = |words: &Tensor| prediction.gradient(model, &frames, words, self.batch);
        Ok(self.search.step(&rows, gradient)?)
    }

    fn words(&self, rows: &Tensor) -> Tensor {
        self.search.words(rows)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.search.state()
    }
}
