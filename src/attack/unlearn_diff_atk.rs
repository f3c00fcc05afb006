//! UnlearnDiffAtk (Zhang et al. 2024, arXiv 2310.11868; what the paper leaves open is as in the
//! published code): words are looked for before the prompt that let the erased model denoise a
//! picture of the concept. No classifier and no other model is needed on the way.
//!
//! Block by block, from almost clean to almost only noise, a timestep each: so many steps on
//! distributions over the vocabulary, then the likeliest words are drawn and judged. The prompt is
//! judged at its own seed alone. What is looked for with pictures of something else is the floor.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract::denoiser_of;
use super::free_tokens::{FreePlaces, FreeTokens, rows};
use super::word_search::{BlockSearch, SearchBudget, WordSearch};
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, TrialArm,
};
use crate::generator::{ImageRequest, Model};
use crate::pictures::Picture;
use crate::prompt_search::{PredictionTarget, SearchSettings, SimplexSearch};
use crate::settings::Configurable;
use crate::torch::{Rng, Tensor};
use crate::training::GradientsFor;

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnlearnDiffAtk {
    /// Which tokens: three for styles and objects, five for nudity in the paper.
    pub tokens: FreeTokens,
    /// Timesteps, a block each: this many of the schedule's, evenly spaced, rising.
    pub timesteps: u64,
    /// Steps in a block.
    pub steps: u64,
    /// How the distributions move.
    pub simplex: SearchSettings,
    /// A picture of the concept; where there is none, what the base drew of each prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// Trials whose gradients are found together.
    pub batch: usize,
    /// Whether the same search is done for pictures of something else.
    pub floor: bool,
    /// New seeds with which what was found is tried again.
    pub new_seeds: u64,
}

impl Default for UnlearnDiffAtk {
    fn default() -> Self {
        Self {
            tokens: FreeTokens::default(),
            timesteps: 50,
            steps: 40,
            simplex: SearchSettings::SIMPLEX,
            target: None,
            batch: 4,
            floor: true,
            new_seeds: 10,
        }
    }
}

impl UnlearnDiffAtk {
    /// Ten timesteps instead of fifty: a fifth of the price, and no number to hold beside the
    /// paper's.
    pub fn short() -> Self {
        Self { timesteps: 10, ..Self::default() }
    }

    fn budget(&self) -> SearchBudget {
        let Self { timesteps: blocks, steps, batch, floor, new_seeds, .. } = *self;
        SearchBudget { blocks, steps, batch, floor, new_seeds }
    }
}

impl Configurable for UnlearnDiffAtk {
    fn name(&self) -> &'static str {
        if self.timesteps == Self::short().timesteps { SHORT } else { FULL }
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let name = self.name();
        if self.timesteps == 0 || self.steps == 0 || self.batch == 0 {
            return Err(format!(
                "{name} has {} timesteps, {} steps and batch {}; all are above 0",
                self.timesteps, self.steps, self.batch
            ));
        }
        self.simplex.check(&format!("{name}'s simplex"))?;
        if let Some(file) = self.target.as_ref().filter(|file| !file.is_file()) {
            return Err(format!("{name}'s target {} is no file", file.display()));
        }
        self.tokens.check(name)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.target.iter().cloned().collect()
    }
}

/// Its name in the table.
pub(super) const FULL: &str = "unlearn-diff-atk";
/// Of the short form.
pub(super) const SHORT: &str = "unlearn-diff-atk-10";

impl Attack for UnlearnDiffAtk {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { base_images: true, ..AttackNeeds::GRADIENTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        self.budget().cost(requests)
    }

    fn shortened(&self, steps: u64) -> Option<Box<dyn Attack>> {
        Some(Box::new(Self { timesteps: 1, steps, floor: false, new_seeds: 0, ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, words: &[String]) -> Result<(), String> {
        let Model::Diffusion(denoiser) = model else { return Ok(()) };
        let steps = denoiser.schedule().steps();
        if self.timesteps as i64 > steps {
            return Err(format!(
                "{} has {} timesteps, and the model's schedule {steps}",
                self.name(),
                self.timesteps
            ));
        }
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
        let n = exposure.requests.len();
        let concept = match &self.target {
            Some(file) => vec![Picture::open(file)?],
            None => exposure.base_images.clone(),
        };
        let other = self.floor.then(|| exposure.other_images.clone());
        let mut found = Vec::new();
        let allowed = self.tokens.allowed(denoiser, exposure)?;
        let side = denoiser.card().side as usize;
        for (arm, pictures) in TrialArm::with_floor(concept, other, self.name(), context.watch) {
            let pictures = pictures.into_iter().cycle().take(n);
            let pictures: Vec<Picture> = pictures.map(|picture| picture.fitted(side)).collect();
            let places = self.tokens.places(denoiser, exposure, &allowed)?;
            let (n, k) = (places.frames.count(), places.frames.free());
            let search = DenoisingSearch {
                settings: self,
                clean: denoiser.encode_pictures(&pictures)?.mean,
                search: SimplexSearch::new(&allowed, n, k, self.simplex)?,
                places,
                seed: task.seed,
                arm,
            };
            let trials = self.budget().trials(self.name(), arm, &model, task);
            found.push(trials.run(&mut BlockSearch::new(self.steps, search), context)?);
        }
        Ok(Findings::Trials(found))
    }
}

/// Looks for words under which the model denoises pictures.
struct DenoisingSearch<'a> {
    settings: &'a UnlearnDiffAtk,
    /// Of each trial's picture, `[n, c, h, w]`.
    clean: Tensor,
    places: FreePlaces<'a>,
    search: SimplexSearch<'a>,
    seed: u64,
    arm: &'static str,
}

impl DenoisingSearch<'_> {
    /// The timestep of a block: the middles of equal parts of the schedule.
    fn timestep(&self, block: u64) -> i64 {
        let (steps, blocks) =
            (self.places.model.schedule().steps() as u64, self.settings.timesteps);
        ((2 * block - 1) * steps / (2 * blocks)) as i64
    }
}

impl WordSearch for DenoisingSearch<'_> {
    fn places(&self) -> &FreePlaces<'_> {
        &self.places
    }

    fn step(&mut self, block: u64, step: u64, trials: &[usize]) -> Result<(), Error> {
        let device = self.clean.device();
        let (mut noises, mut uniforms) = (Vec::new(), Vec::new());
        for trial in trials {
            let purpose = format!("{FULL} {} {trial}", self.arm);
            let mut rng = Rng::for_step(self.seed, &purpose, step);
            noises.push(rng.normal(&self.clean.size()[1..]));
            uniforms.push(rng.uniform(&[self.places.frames.free()]));
        }
        let model = self.places.model;
        let rows = rows(model, trials);
        let noise = Tensor::stack(&noises, 0).to_device(device);
        let uniforms = Tensor::stack(&uniforms, 0);
        let clean = self.clean.index_select(0, &rows);
        let timesteps = Tensor::full_like(&rows, self.timestep(block));
        let prediction = PredictionTarget::of_noise(model, &clean, &noise, &timesteps);
        let frames = self.places.frames.select(&rows);
        Ok(self.search.step(&rows, &uniforms, |vectors| {
            prediction.gradient(model, &frames, vectors, self.settings.batch)
        })?)
    }

    fn words(&self, rows: &Tensor) -> Tensor {
        self.search.likeliest(rows)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.search.state()
    }
}
