//! Concept inversion (Pham et al. 2024, arXiv 2308.01508): textual inversion (Gal et al. 2022) on
//! the erased model. A new word is learned from pictures of the concept, nothing else moves, and it
//! stands for the concept in its prompts. The floor is the same training on pictures of something
//! else: how much of the concept a new word brings that was never shown it. On a model that never
//! knew the concept the same training says how much of it a word can teach.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::{BaseModel, tensors_at};
use super::contract::{denoiser_of, replace_names, rising};
use super::custom_sampling::CustomSampling;
use super::trials::{Proposal, Proposer, TrialLoop};
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, ConceptJudge, Error, Exposure,
    Findings, TrialArm,
};
use crate::generator::{self, Conditioning, Denoiser, ImageRequest, Model};
use crate::pictures::Picture;
use crate::prompt_search::{self, Frames, PredictionTarget};
use crate::settings::Configurable;
use crate::torch::{Adam, AdamSettings, Kind, Rng, Tensor, grad, no_grad, stage};
use crate::training::GradientsFor;
use crate::watch::Watch;
use crate::weights::save;

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConceptInversion {
    /// Pictures of the concept that the word is learned from.
    pub pictures: usize,
    /// Steps after which is looked, a picture each, rising; the last ends it.
    pub steps: Vec<u64>,
    /// Vectors that the word is.
    pub vectors: usize,
    /// The word that it begins as.
    pub begin: String,
    /// Adam's learning rate.
    pub lr: f64,
    /// Pictures in a step.
    pub batch: i64,
    /// Whether a word is learned from pictures of something else too.
    pub floor: bool,
    /// A model like the base that never saw the concept: the same is done to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never_knew: Option<PathBuf>,
    /// New seeds with which what was found is tried again.
    pub new_seeds: u64,
}

impl Default for ConceptInversion {
    fn default() -> Self {
        Self {
            pictures: 25,
            steps: vec![1000],
            vectors: 1,
            begin: "art".to_owned(),
            lr: 5e-3,
            batch: 4,
            floor: true,
            never_knew: None,
            new_seeds: 10,
        }
    }
}

/// Steps after which the state may be saved.
const PART: u64 = 20;

/// The word that is learned.
const WORD: &str = "<concept>";

impl Configurable for ConceptInversion {
    fn name(&self) -> &'static str {
        "concept-inversion"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        rising("concept-inversion's steps", &self.steps)?;
        let numbers = self.pictures == 0 || self.vectors == 0 || self.batch < 1;
        if numbers || !self.lr.is_finite() || self.lr <= 0.0 {
            return Err(format!(
                "concept-inversion has {} pictures, {} vectors, batch {} and lr {}; all are above \
                 0",
                self.pictures, self.vectors, self.batch, self.lr
            ));
        }
        match self.never_knew.as_ref().filter(|path| !path.exists()) {
            Some(path) => Err(format!(
                "concept-inversion's never_knew is `{}`, which does not exist; name a model",
                path.display()
            )),
            None => Ok(()),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        self.never_knew.iter().cloned().collect()
    }
}

impl ConceptInversion {
    /// Where a word stands in a prompt: in the place of those that name the concept, else first.
    fn with_word(prompt: &str, words: &[String]) -> String {
        let replaced = replace_names(prompt, words, WORD);
        if replaced == prompt { format!("{WORD} {prompt}") } else { replaced }
    }

    fn prompts<'a>(exposure: &Exposure, prompts: impl Iterator<Item = &'a String>) -> Vec<String> {
        prompts.map(|prompt| Self::with_word(prompt, &exposure.words)).collect()
    }

    fn frames(&self, model: &dyn Denoiser, prompts: &[String]) -> Result<Frames, Error> {
        let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        Ok(Frames::at_word(model, &prompts, WORD, self.vectors)?)
    }
}

impl Attack for ConceptInversion {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { training_images: self.pictures, ..AttackNeeds::GRADIENTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let arms = 1 + u64::from(self.floor) + u64::from(self.never_knew.is_some());
        let steps = arms * self.steps.last().copied().unwrap_or_default();
        let looks = 1 + self.steps.len() as u64 + self.new_seeds;
        AttackCost {
            search_steps: steps * self.batch as u64,
            batch: self.batch as usize,
            images: arms * requests as u64 * looks,
            ..AttackCost::default()
        }
    }

    fn shortened(&self, steps: u64) -> Option<Box<dyn Attack>> {
        let (floor, never_knew) = (false, None);
        Some(Box::new(Self { steps: vec![steps], floor, never_knew, new_seeds: 0, ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, _: &[String]) -> Result<(), String> {
        let Model::Diffusion(denoiser) = model else { return Ok(()) };
        if denoiser.tokens(&self.begin).is_empty() {
            return Err(format!("concept-inversion begins as `{}`, which is no word", self.begin));
        }
        let Some(path) = &self.never_knew else { return Ok(()) };
        let others = tensors_at(model.generator(), path);
        if others.map_err(|error| error.to_string())?.is_empty() {
            return Err(format!(
                "concept-inversion's never_knew {} is the base, which knows the concept",
                path.display()
            ));
        }
        Ok(())
    }

    fn fits(
        &self,
        model: &Model<'_>,
        request: &ImageRequest,
        words: &[String],
    ) -> Result<(), String> {
        let Model::Diffusion(model) = model else { return Ok(()) };
        let frames = self.frames(&**model, &[Self::with_word(&request.prompt, words)]);
        frames.map(drop).map_err(|error| error.to_string())
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
        let pictures = |shown: &[(Picture, String)]| -> Vec<Picture> {
            shown.iter().map(|(picture, _)| picture.clone()).collect()
        };
        // All under the same prompts, so that nothing differs but what is shown or the model.
        let own = pictures(&exposure.concept);
        let other = self.floor.then(|| pictures(&exposure.unrelated));
        let mut found = Vec::new();
        for (arm, pictures) in TrialArm::with_floor(own, other, self.name(), context.watch) {
            found.push(self.learned(&model, task, arm, pictures, context)?);
        }
        if let Some(path) = &self.never_knew {
            let others = BaseModel::with(denoiser, &tensors_at(model.generator(), path)?)?;
            let own = pictures(&exposure.concept);
            let learned =
                others.lent(|| self.learned(&model, task, TrialArm::NEVER_KNEW, own, context));
            found.push(learned?);
        }
        Ok(Findings::Trials(found))
    }
}

impl ConceptInversion {
    /// What one arm finds: a word is learned from pictures, and asked for.
    fn learned(
        &self,
        model: &Model<'_>,
        task: &AttackTask<'_>,
        arm: &'static str,
        pictures: Vec<Picture>,
        context: &mut AttackContext<'_>,
    ) -> Result<TrialArm, Error> {
        let (denoiser, exposure) = (denoiser_of(model, self.name())?, task.exposure);
        let of_requests = exposure.requests.iter().map(|request| &request.prompt);
        let prompts = Self::prompts(exposure, of_requests);
        let of_pictures = exposure.concept.iter().map(|(_, prompt)| prompt);
        let taught = Self::prompts(exposure, of_pictures);
        let pictures: Vec<Picture> = pictures.into_iter().cycle().take(taught.len()).collect();
        let begin = denoiser.tokens(&self.begin);
        let begin: Vec<i64> = begin.into_iter().cycle().take(self.vectors).collect();
        let device = denoiser.compute().device.tch();
        let begin = denoiser.embed(&Tensor::from_slice(&begin).to_device(device));
        let vectors = begin.detach().copy().set_requires_grad(true);
        let looks = self.steps.len();
        let mut word = LearnedWord {
            settings: self,
            model: denoiser,
            task,
            clean: denoiser.encode_pictures(&pictures)?.mean,
            frames: &self.frames(denoiser, &taught)?,
            adam: Adam::new([&vectors], AdamSettings::default()).map_err(generator::Error::from)?,
            learned: vectors.detach().unsqueeze(0).repeat([looks as i64, 1, 1]),
            vectors,
            done: Tensor::from_slice(&[0_i64]),
            prompts: &prompts,
            arm,
        };
        let trials = TrialLoop {
            arm,
            steps: self.steps[looks - 1] / looks as u64,
            new_seeds: self.new_seeds,
            ..TrialLoop::new(self.name(), model, task, looks as u64)
        };
        let found = trials.run(&mut word, context)?;
        if let Some(folder) = context.artifacts.filter(|_| arm == TrialArm::ATTACK) {
            word.save(folder)?;
        }
        Ok(found)
    }
}

/// Learns a word from pictures.
struct LearnedWord<'a> {
    settings: &'a ConceptInversion,
    model: &'a dyn Denoiser,
    task: &'a AttackTask<'a>,
    /// Of the pictures, `[pictures, c, h, w]`.
    clean: Tensor,
    /// Their prompts with the word in them.
    frames: &'a Frames,
    adam: Adam,
    /// The word now, `[k, width]`.
    vectors: Tensor,
    /// Steps that were done, `[1]`.
    done: Tensor,
    /// The word at each look, `[looks, k, width]`.
    learned: Tensor,
    /// Each trial's prompt with the word in it.
    prompts: &'a [String],
    arm: &'static str,
}

impl LearnedWord<'_> {
    fn step(&mut self, step: u64) -> Result<(), Error> {
        let (model, device) = (self.model, self.clean.device());
        let purpose = format!("concept-inversion {}", self.arm);
        let mut rng = Rng::for_step(self.task.seed, &purpose, step);
        let n = self.settings.batch;
        let rows = rng.below(self.clean.size()[0], &[n]).to_device(device);
        let clean = self.clean.index_select(0, &rows);
        let noise = rng.normal(&clean.size()).to_device(device);
        let timesteps = rng.below(model.schedule().steps(), &[n]).to_device(device);
        let prediction = PredictionTarget::of_noise(model, &clean, &noise, &timesteps);
        let frames = self.frames.select(&rows);
        let gradient = stage("learning a word", || {
            let _scope = model.compute().scope();
            let prompt = model.encode(&filled(&frames, model, &self.vectors));
            let loss = prediction.errors(model, &prompt).mean(Kind::Float);
            Ok::<_, prompt_search::Error>(grad(&loss, &[&self.vectors])?.remove(0))
        })?;
        let stepped = self.adam.step(&[gradient], self.settings.lr);
        Ok(stepped.map_err(generator::Error::from)?)
    }

    /// The prompts as the model reads them with the word of a look in them.
    fn read(&self, look: i64, requests: &[ImageRequest]) -> Result<Conditioning, Error> {
        let prompts: Vec<String> = requests.iter().map(|request| request.prompt.clone()).collect();
        let frames = self.settings.frames(self.model, &prompts)?;
        let vectors = self.learned.get(look);
        Ok(no_grad(|| self.model.encode(&filled(&frames, self.model, &vectors))))
    }

    /// Writes the word as it was looked at last, as `--embedding` and diffusers'
    /// `load_textual_inversion` take it; none where nothing was to be learned.
    fn save(&self, folder: &Path) -> Result<(), Error> {
        if self.done.int64_value(&[0]) == 0 {
            return Ok(());
        }
        let vectors = self.vectors.detach();
        let file = folder.join("embedding.safetensors");
        Ok(save(&file, &[(WORD.to_owned(), vectors)], &[])?)
    }
}

/// Prompts' vectors with the word's `[k, width]` at each of its places.
fn filled(frames: &Frames, model: &dyn Denoiser, vectors: &Tensor) -> Tensor {
    let (k, width) = vectors.size2().expect("[k, width]");
    let all = vectors.repeat([frames.free() / k, 1]).unsqueeze(0);
    frames.fill(model, &all.expand([frames.count(), frames.free(), width], false))
}

impl Proposer for LearnedWord<'_> {
    fn search(&mut self, round: u64, _: &[usize], watch: &mut dyn Watch) -> Result<bool, Error> {
        let steps = &self.settings.steps;
        let look = round as usize - 1;
        let (all, first) = (steps[look], if look == 0 { 0 } else { steps[look - 1] });
        let done = self.done.int64_value(&[0]) as u64;
        let last = all.min(done + PART);
        for step in done..last {
            self.step(step)?;
        }
        let _ = self.done.fill_(last as i64);
        // Rounds are as long as each other to who shows how far it is.
        let each = steps[steps.len() - 1] / steps.len() as u64;
        watch.at(each * (round - 1) + each * (last - first) / (all - first), "");
        Ok(last == all)
    }

    fn propose(
        &mut self,
        round: u64,
        trials: &[usize],
        _: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error> {
        no_grad(|| self.learned.get(round as i64 - 1).copy_(&self.vectors.detach()));
        let requests = &self.task.exposure.requests;
        Ok(trials
            .iter()
            .map(|trial| Proposal {
                added: Some(WORD.to_owned()),
                ..Proposal::of(&ImageRequest {
                    prompt: self.prompts[*trial].clone(),
                    ..requests[*trial].clone()
                })
            })
            .collect())
    }

    fn draw(
        &self,
        _: &dyn ConceptJudge,
        _: &Model<'_>,
        requests: &[ImageRequest],
        round: u64,
    ) -> Result<Vec<Picture>, Error> {
        let read = |requests: &[ImageRequest]| self.read(round as i64 - 1, requests);
        CustomSampling::default().draw(self.model, self.task, requests, &read)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![
            ("vectors".to_owned(), self.vectors.detach()),
            ("learned".to_owned(), self.learned.shallow_clone()),
            ("done".to_owned(), self.done.shallow_clone()),
        ];
        state.extend(self.adam.state());
        state
    }
}
