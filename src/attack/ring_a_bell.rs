//! Ring-A-Bell (Tsai et al. 2024, arXiv 2310.10012; what the paper leaves open is as in the
//! published code): words whose hidden states are nearest to those of the prompt and so many times
//! what the concept adds. It asks the text encoder alone, the base's as a rule, so that what is
//! found is tried on every erasure of the concept; no image model is consulted on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::BaseModel;
use super::concept_vector::{of_file, of_pairs};
use super::contract::{denoiser_of, rising};
use super::free_tokens::{FreePlaces, FreeTokens, rows};
use super::trials::{Proposal, Proposer, TrialLoop};
use super::{
    Access, Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, VERSION,
};
use crate::checkpoint_timer::CheckpointTimer;
use crate::files::{read_json, write_csv, write_json};
use crate::generator::{self, Model};
use crate::prompt_search::{GeneticSearch, GeneticSettings, Placement, squared_distances};
use crate::settings::Configurable;
use crate::torch::{Kind, Rng, Tensor, no_grad};
use crate::watch::Watch;
use crate::weights::{self, Weights};

/// The attack with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RingABell {
    /// How many words; a picture each. Those that are more than the text encoder reads are as many
    /// as it reads.
    pub lengths: Vec<usize>,
    /// How many times what the concept adds is wanted.
    pub strength: f64,
    /// What the concept adds to hidden states, `.npy` or `.safetensors`; else it is found from the
    /// concept's prompts and their anchors.
    pub vector: Option<PathBuf>,
    /// How the words are looked for.
    pub search: GeneticSettings,
    /// Whose text encoder is asked.
    pub encoder: Encoder,
    /// Whether the words that name the concept may not be found.
    pub ban_concept: bool,
    /// Further words that may not be found.
    pub ban: Vec<String>,
    /// New seeds with which what was found is tried again.
    pub new_seeds: u64,
}

/// Whose text encoder is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// The base's: what is found is the same for all erasures.
    Base,
    /// The one that draws, with its edit.
    Edited,
}

impl Default for RingABell {
    fn default() -> Self {
        Self {
            lengths: vec![16, 38, 77],
            strength: 3.0,
            vector: None,
            search: GeneticSettings::default(),
            encoder: Encoder::Base,
            ban_concept: true,
            ban: Vec::new(),
            new_seeds: 10,
        }
    }
}

impl Configurable for RingABell {
    fn name(&self) -> &'static str {
        "ring-a-bell"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        rising("ring-a-bell's lengths", &self.lengths)?;
        if !self.strength.is_finite() {
            return Err(format!("ring-a-bell's strength is {}; it is a number", self.strength));
        }
        if let Some(file) = self.vector.as_ref().filter(|file| !file.is_file()) {
            return Err(format!("ring-a-bell's vector {} is no file", file.display()));
        }
        self.search.check().map_err(|why| format!("ring-a-bell's search: {why}"))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.vector.iter().cloned().collect()
    }
}

impl RingABell {
    fn tokens(&self, count: usize) -> FreeTokens {
        FreeTokens {
            count,
            placement: Placement::Replace,
            ban_concept: self.ban_concept,
            ban: self.ban.clone(),
        }
    }

    /// The text encoder that is asked is there while this runs.
    fn asked<T>(&self, base: &BaseModel, work: impl FnOnce() -> T) -> T {
        match self.encoder {
            Encoder::Base => base.lent(work),
            Encoder::Edited => work(),
        }
    }
}

impl Attack for RingABell {
    fn needs(&self) -> AttackNeeds {
        match self.encoder {
            Encoder::Base => {
                AttackNeeds { access: Access::BaseTextEncoder, ..AttackNeeds::PROMPTS }
            }
            Encoder::Edited => {
                AttackNeeds { access: Access::TextEncoder, adaptive: true, ..AttackNeeds::PROMPTS }
            }
        }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        let (requests, lengths) = (requests as u64, self.lengths.len() as u64);
        AttackCost {
            search_steps: requests * lengths * self.search.generations,
            shared: self.encoder == Encoder::Base,
            batch: 1,
            images: requests * (1 + lengths + self.new_seeds),
            ..AttackCost::default()
        }
    }

    fn shortened(&self, steps: u64) -> Option<Box<dyn Attack>> {
        let search = GeneticSettings { generations: steps, ..self.search };
        let lengths = self.lengths[..1].to_vec();
        Some(Box::new(Self { lengths, search, new_seeds: 0, ..self.clone() }))
    }

    fn suits(&self, model: &Model<'_>, words: &[String]) -> Result<(), String> {
        if let (Model::Diffusion(model), Some(file)) = (model, &self.vector) {
            of_file(&**model, file).map(drop).map_err(|error| error.to_string())?;
        }
        self.tokens(1).suits(model, words)
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let exposure = task.exposure;
        let base = BaseModel::of(denoiser)?;
        // Which words may be found does not hang on the edit, their vectors do.
        let reads = denoiser.token_ids(&[""]).size()[1] as usize - 2;
        let mut lengths: Vec<usize> = self.lengths.iter().map(|k| (*k).min(reads)).collect();
        lengths.dedup();
        let allowed = self.tokens(1).allowed(denoiser, exposure)?;
        let places = lengths
            .iter()
            .map(|k| self.tokens(*k).places(denoiser, exposure, &allowed))
            .collect::<Result<Vec<_>, _>>()?;
        let vector = self.asked(&base, || match &self.vector {
            Some(file) => of_file(denoiser, file),
            None => of_pairs(denoiser, &exposure.pairs),
        })?;
        let shared = context.shared.filter(|_| self.encoder == Encoder::Base);
        let found = shared.or(context.artifacts);
        let hash = &denoiser.card().hash;
        let mut of = format!("{VERSION} {hash} {} {}", self.settings(), task.seed);
        if self.encoder == Encoder::Edited {
            of = format!("{of} {}", context.of);
        }
        let mut proposer = NearestStates {
            settings: self,
            seed: task.seed,
            base: &base,
            added: vector * self.strength,
            places,
            interrupted: InterruptedSearch {
                file: context.state.map(|folder| folder.join("search.safetensors")),
                of: of.clone(),
            },
            known: FoundLists::new(found.map(|folder| folder.join("found.json")), of),
        };
        let trials = TrialLoop {
            steps: self.search.generations,
            new_seeds: self.new_seeds,
            ..TrialLoop::new(self.name(), &model, task, lengths.len() as u64)
        };
        Ok(Findings::Trials(vec![trials.run(&mut proposer, context)?]))
    }
}

/// The words that were found for one prompt.
#[derive(Debug, Serialize, Deserialize)]
struct FoundList {
    /// As indices among those that may be found.
    words: Vec<i64>,
    /// The prompt that they were found for.
    prompt: String,
    /// The prompt that they are.
    text: String,
}

/// What was found of prompts, for every erasure of the concept.
#[derive(Debug, Serialize, Deserialize)]
struct FoundLists {
    /// Model, settings and seed.
    of: String,
    /// By how many words there are and the prompt.
    lists: BTreeMap<String, FoundList>,
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl FoundLists {
    /// Those of a file, where it is of the same model, settings and seed.
    fn new(file: Option<PathBuf>, of: String) -> Self {
        let known = file.as_deref().and_then(read_json);
        let known = known.filter(|known: &Self| known.of == of);
        let lists = known.map(|known| known.lists).unwrap_or_default();
        Self { of, lists, file }
    }

    /// Adds what was found; all of it is a list of prompts too, which `generate --csv` and the
    /// attack `prompts` take.
    fn add(&mut self, key: String, list: FoundList) -> Result<(), Error> {
        self.lists.insert(key, list);
        if let Some(file) = &self.file {
            let mut records = vec![["prompt", "found_for", "words"].map(str::to_owned)];
            records.extend(self.lists.values().map(|list| {
                [list.text.clone(), list.prompt.clone(), list.words.len().to_string()]
            }));
            write_csv(&file.with_extension("csv"), records)?;
            write_json(file, self)?;
        }
        Ok(())
    }
}

/// Where a search goes on from.
struct InterruptedSearch {
    file: Option<PathBuf>,
    /// Model, settings and seed.
    of: String,
}

impl InterruptedSearch {
    fn save(&self, purpose: &str, generation: u64, search: &GeneticSearch) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        let about = [
            ("of", self.of.clone()),
            ("purpose", purpose.to_owned()),
            ("generation", generation.to_string()),
        ];
        Ok(weights::save(file, &search.state(), &about)?)
    }

    /// The generation that an earlier session came to, where it was of the same.
    fn load(
        &self,
        purpose: &str,
        settings: GeneticSettings,
        words: i64,
    ) -> Option<(u64, GeneticSearch)> {
        let saved = Weights::open(self.file.as_ref()?).ok()?;
        let metadata = saved.metadata();
        let said = |key: &str| metadata.get(key).map(String::as_str);
        if said("of") != Some(&self.of) || said("purpose") != Some(purpose) {
            return None;
        }
        let generation = said("generation")?.parse().ok()?;
        let tensor = |name| saved.tensor(name).ok();
        let (lists, distances) = (tensor("lists")?, tensor("distances")?);
        Some((generation, GeneticSearch::restored(settings, words, lists, distances)))
    }
}

/// Looks for words whose hidden states are near to those that are wanted.
struct NearestStates<'a> {
    settings: &'a RingABell,
    seed: u64,
    base: &'a BaseModel,
    /// What is wanted beside a prompt's own hidden states, `[tokens, width]`.
    added: Tensor,
    /// For each length.
    places: Vec<FreePlaces<'a>>,
    known: FoundLists,
    interrupted: InterruptedSearch,
}

impl NearestStates<'_> {
    /// The words for one prompt, as indices among those that may be found.
    fn words(
        &self,
        prompt: &str,
        places: &FreePlaces<'_>,
        mut tell: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Vec<i64>, Error> {
        let settings = &self.settings.search;
        let FreePlaces { model, frames, allowed, .. } = places;
        let target = model.condition(&[prompt])?.states.squeeze_dim(0) + &self.added;
        let k = frames.free();
        let first = Tensor::zeros([1], (Kind::Int64, target.device()));
        let apart = |lists: &Tensor| {
            no_grad(|| {
                let _scope = model.compute().scope();
                let n = lists.size()[0];
                let found = allowed.tokens(&lists.to_device(target.device()));
                let frames = frames.select(&first.expand([n], false));
                let vectors = frames.fill(*model, &model.embed(&found));
                let states = model.encode(&vectors).states;
                Ok::<_, Error>(squared_distances(&states, &target).to_device(tch::Device::Cpu))
            })
        };
        let purpose = format!("ring-a-bell {k} {prompt}");
        let chance = |generation| Rng::for_step(self.seed, &purpose, generation);
        let words = allowed.count();
        let (done, mut search) = match self.interrupted.load(&purpose, *settings, words) {
            Some(known) => known,
            None => (0, GeneticSearch::new(*settings, words, k, &mut chance(0), apart)?),
        };
        let mut timer = CheckpointTimer::default();
        for generation in done + 1..=settings.generations {
            search = search.renew(&mut chance(generation), apart)?;
            let told = tell(generation);
            if told.is_err() || timer.is_over() {
                timer.after(|| self.interrupted.save(&purpose, generation, &search))?;
            }
            told?;
        }
        Ok(Vec::try_from(search.best()).unwrap_or_default())
    }
}

impl Proposer for NearestStates<'_> {
    fn propose(
        &mut self,
        round: u64,
        trials: &[usize],
        watch: &mut dyn Watch,
    ) -> Result<Vec<Proposal>, Error> {
        let generations = self.settings.search.generations;
        let places = &self.places[round as usize - 1];
        let mut found = Vec::new();
        for (done, trial) in trials.iter().enumerate() {
            let prompt = &places.requests[*trial].prompt;
            let key = format!("{} {prompt}", places.frames.free());
            if let Some(list) = self.known.lists.get(&key) {
                found.push(Tensor::from_slice(&list.words));
                continue;
            }
            let tell = |generation| {
                let all = done as u64 * generations + generation;
                let at = (round - 1) * generations + all / trials.len() as u64;
                watch.at(at, &format!("{} of {} prompts", done, trials.len()));
                if watch.interrupted() {
                    return Err(generator::Error::Interrupted.into());
                }
                Ok(())
            };
            let words = self.settings.asked(self.base, || self.words(prompt, places, tell))?;
            let chosen = Tensor::from_slice(&words).unsqueeze(0);
            let device = places.model.compute().device.tch();
            let tokens = places.allowed.tokens(&chosen.to_device(device));
            let frame = places.frames.select(&rows(places.model, &[*trial]));
            let text = frame.texts(places.model, &tokens).concat();
            found.push(chosen.squeeze_dim(0));
            self.known.add(key, FoundList { words, prompt: prompt.clone(), text })?;
        }
        let found = Tensor::stack(&found, 0).to_device(places.model.compute().device.tch());
        Ok(places.proposals(trials, &places.allowed.tokens(&found)))
    }
}
