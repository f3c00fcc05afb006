//! What draws pictures. Diffusion models and GANs are the same thing from here up; this module does
//! not know that erasure exists.

mod adapters;
mod checkpoint;
mod checkpoint_hints;
mod component;
mod conditioning;
mod denoise;
mod edited_tensors;
mod embedding;
mod export;
mod folder;
mod gan_files;
mod kind;
mod modelspec;
mod networks;
mod pipeline_class;
mod pixels;
mod presets;
mod seeding;
mod stable_diffusion;
mod stylegan2;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Device;

pub use adapters::{Adapter, MergedAdapters};
pub use checkpoint::{Checkpoint, Location};
pub use component::Component;
pub use conditioning::Conditioning;
pub use denoise::Guided;
pub use embedding::Embedding;
pub use export::{Edited, Format, ModuleRank};
pub use folder::{lacking, needed};
pub use gan_files::{export_gan, is_gan};
pub use kind::{Model, ModelKind};
pub use modelspec::modelspec;
pub use seeding::Seeding;
pub use stable_diffusion::{LatentDistribution, StableDiffusion};
pub use stylegan2::StyleGan2;

use crate::fields::{Class, Configuration};
use crate::model::stylegan2::{Discriminator, GeneratorNetwork, Noise};
use crate::pictures::Picture;
use crate::sampler::{Sampler, Schedule, Solver};
use crate::torch::{Compute, Kind, Tensor, no_grad, stage};
use crate::watch::Watch;
use crate::weights::{Edit, Sampling, Weights, is_lora, read_lora};

/// The fields of `model_index.json`.
pub const PIPELINE: Class = <pipeline_class::ModelIndex as Configuration>::CLASS;

/// Why a generator cannot be loaded, edited or drawn with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder that is no model.
    #[error("{path} is no model folder: {why}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A configuration file.
    #[error("{path}: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A configuration's field.
    #[error(transparent)]
    Fields(#[from] crate::fields::Error),
    /// An edit that names a tensor which the model lacks, or in another shape.
    #[error("the edit's `{name}` is {found:?}, the model's is {wanted:?}")]
    EditShape {
        /// The tensor.
        name: String,
        /// The edit's.
        found: Vec<i64>,
        /// The model's; empty where it has none.
        wanted: Vec<i64>,
    },
    /// A file of which nothing belongs to the base.
    #[error("nothing in {path} fits the base: it has {theirs}, …; the base has {ours}, …")]
    NothingFits {
        /// The file.
        path: PathBuf,
        /// Some of its names.
        theirs: String,
        /// Some of the base's.
        ours: String,
    },
    /// A place where something is already.
    #[error("{} is there already, and nothing is overwritten; name another one or remove \
        it", .0.display())]
    Occupied(PathBuf),
    /// What cannot be drawn.
    #[error("{0}")]
    Request(String),
    /// A picture that is none.
    #[error(
        "the picture of «{prompt}» with seed {seed} is none: {what} are NaN or infinite; {advice}"
    )]
    NotFinite {
        /// What of it.
        what: String,
        /// The prompt.
        prompt: String,
        /// The seed.
        seed: u64,
        /// What to try.
        advice: &'static str,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A network, with the file it was built from.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] crate::text::Error),
    /// The scheduler.
    #[error(transparent)]
    Sampler(#[from] crate::sampler::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

impl Error {
    /// A tensor that the model lacks.
    fn unknown_tensor(name: &str) -> Self {
        Self::EditShape { name: name.to_owned(), found: Vec::new(), wanted: Vec::new() }
    }

    /// Whether there was too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Torch(error) if error.is_out_of_memory())
    }
}

/// What a generator is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// `stable-diffusion` or `stylegan2`.
    pub kind: String,
    /// Where it was loaded from.
    pub path: PathBuf,
    /// Hash over the weights of all components.
    pub hash: String,
    /// Hash of all else that decides what it draws: configurations, schedule, tokenizer.
    #[serde(default)]
    pub settings: String,
    /// Numbers in its parameters.
    pub parameters: usize,
    /// Pixels on a side that it draws by itself.
    pub side: i64,
    /// Its architecture in modelspec's words; empty for what is no Stable Diffusion.
    #[serde(default)]
    pub architecture: String,
    /// Whether its network predicts velocities; noise if not.
    #[serde(default)]
    pub predicts_velocity: bool,
}

/// One picture to draw: everything that it depends on beside the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// The prompt.
    pub prompt: String,
    /// What to stay away from; empty in most cases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub negative: String,
    /// Seed of the first latent.
    pub seed: u64,
    /// Scale of classifier-free guidance; up to 1 there is none.
    pub guidance: f64,
    /// Sampling steps.
    pub steps: usize,
    /// The solver.
    pub sampler: Solver,
    /// Pixels across and down.
    pub size: (i64, i64),
    /// How far a GAN's style may lie from the mean of all: 1 is as it comes, 0 the mean itself.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub truncation: f64,
    /// Another seed whose style a GAN's picture has a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blend: Option<Blend>,
    /// What a GAN's seeds mean.
    #[serde(default, skip_serializing_if = "Seeding::is_usual")]
    pub seeding: Seeding,
}

/// How much of another seed's style a GAN's picture has. The noise stays the first seed's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blend {
    /// A point on the line between both styles, 0 to 1.
    Between {
        /// The other seed.
        seed: u64,
        /// Its share.
        share: f64,
    },
    /// The other style from a layer on: coarse things from the first seed, fine things from the
    /// other.
    From {
        /// The other seed.
        seed: u64,
        /// The first row of `w+` that is the other's.
        layer: i64,
    },
}

impl Blend {
    /// The other seed.
    fn seed(self) -> u64 {
        match self {
            Self::Between { seed, .. } | Self::From { seed, .. } => seed,
        }
    }

    /// The other style's share of each of `layers` rows of `w+`.
    fn shares(self, layers: i64) -> Vec<f32> {
        (0..layers)
            .map(|row| match self {
                Self::Between { share, .. } => share as f32,
                Self::From { layer, .. } => f32::from(u8::from(row >= layer)),
            })
            .collect()
    }
}

fn one() -> f64 {
    1.0
}

/// Whether a truncation, or the strength of an edit, is 1.
pub fn is_one(share: &f64) -> bool {
    (share - 1.0).abs() < 1e-12
}

impl ImageRequest {
    /// A picture of a GAN: no prompt, no steps.
    pub fn of_seed(seed: u64, truncation: f64, side: i64) -> Self {
        Self {
            prompt: String::new(),
            negative: String::new(),
            seed,
            guidance: 1.0,
            steps: 0,
            sampler: Solver::Ddim,
            size: (side, side),
            truncation,
            blend: None,
            seeding: Seeding::default(),
        }
    }

    /// As an edit wants it to be sampled.
    #[must_use]
    pub fn sampled(self, sampling: Option<Sampling>) -> Self {
        match sampling {
            Some(Sampling { steps, guidance }) => Self { steps, guidance, ..self },
            None => self,
        }
    }

    /// What must be equal for two requests to be drawn in one batch.
    fn batch_key(&self) -> (usize, Solver, (i64, i64), bool) {
        (self.steps, self.sampler, self.size, self.guides())
    }

    /// As in diffusers: up to 1 the prompt draws alone.
    fn guides(&self) -> bool {
        self.guidance > 1.0
    }

    /// The parameters as A1111 writes them.
    pub fn parameters(&self, model: &str) -> String {
        if self.steps == 0 {
            let blend = match self.blend {
                None => String::new(),
                Some(Blend::Between { seed, share }) => {
                    format!(", Style: {share} of the way to seed {seed}")
                }
                Some(Blend::From { seed, layer }) => {
                    format!(", Style: seed {seed}'s from layer {layer}")
                }
            };
            let seeding = if self.seeding.is_usual() { "" } else { " (as NVIDIA's scripts)" };
            return format!(
                "Seed: {}{seeding}, Truncation: {}{blend}, Size: {}x{}, Model hash: {}",
                self.seed,
                self.truncation,
                self.size.0,
                self.size.1,
                &model[..model.len().min(10)],
            );
        }
        let negative = if self.negative.is_empty() {
            String::new()
        } else {
            format!("Negative prompt: {}\n", self.negative)
        };
        format!(
            "{}\n{negative}Steps: {}, Sampler: {}, CFG scale: {}, Seed: {}, Size: {}x{}, Model \
             hash: {}",
            self.prompt,
            self.steps,
            self.sampler.title(),
            self.guidance,
            self.seed,
            self.size.0,
            self.size.1,
            &model[..model.len().min(10)],
        )
    }
}

/// Draws pictures.
pub trait Generator {
    /// What it is.
    fn card(&self) -> &ModelCard;

    /// Where it runs and in which precision.
    fn compute(&self) -> Compute;

    /// Says what cannot be drawn, before anything is.
    ///
    /// # Errors
    /// A size that the networks do not have.
    fn check(&self, _request: &ImageRequest) -> Result<(), Error> {
        Ok(())
    }

    /// Draws one batch. Requests of different sizes, steps or samplers may be mixed.
    ///
    /// # Errors
    /// Requests that cannot be drawn, too little memory, interruption.
    fn draw(&self, requests: &[ImageRequest], watch: &mut dyn Watch)
    -> Result<Vec<Picture>, Error>;

    /// Puts an edit in place of the one before; the empty edit restores the base.
    ///
    /// # Errors
    /// An edit for another model; the model is unchanged then.
    fn apply(&mut self, edit: &Edit) -> Result<(), Error>;

    /// As what methods edit and attacks attack.
    fn model(&mut self) -> Model<'_>;

    /// As a GAN; `None` where it is none.
    fn synthesizer(&self) -> Option<&dyn Synthesizer> {
        None
    }

    /// Full names of its weights.
    fn tensor_names(&self) -> Vec<String>;

    /// A tensor of the base by full name, whatever is on it now.
    ///
    /// # Errors
    /// A name that it has not.
    fn base_tensor(&self, name: &str) -> Result<Tensor, Error>;

    /// A request as it is to this model: without what it does not take.
    fn taken(&self, request: ImageRequest) -> ImageRequest {
        request
    }

    /// Pictures that are drawn at once without measuring, where that is known.
    fn at_once(&self) -> Option<usize> {
        None
    }

    /// Whether two prompts are the same to it.
    fn reads_alike(&self, _one: &str, _other: &str) -> bool {
        true
    }

    /// How many tokens at a prompt's end it does not read.
    fn unread(&self, _prompt: &str) -> usize {
        0
    }
}

/// Reads an edit that was made of a model, or a LoRA that a method saved, at full strength.
///
/// # Errors
/// A file that is neither, an edit of another base.
pub fn read_edit(generator: &dyn Generator, file: &Weights) -> Result<Edit, Error> {
    let base = |name: &str| Ok::<_, Error>(generator.base_tensor(name)?.to_device(Device::Cpu));
    let hash = &generator.card().hash;
    if !is_lora(file) {
        return Edit::read(file, hash, base);
    }
    file.unchanged()?;
    let names = generator.tensor_names();
    let mut tensors = Vec::new();
    for factors in read_lora(file, names.iter().map(String::as_str), &mut Vec::new())? {
        let weight = base(&factors.name)?;
        tensors.push((factors.name.clone(), factors.added(file, &weight, 1.0)?));
    }
    Ok(Edit { base: hash.clone(), ..Edit::described(file, tensors) })
}

/// Samples of `side` × `side` pixels that are drawn at once: fewer of large ones, whose layers take
/// gigabytes.
pub fn sample_batch(side: i64) -> usize {
    const BATCH: i64 = 64;
    const LARGE: i64 = 256;
    (BATCH * LARGE * LARGE / (side * side)).clamp(4, BATCH) as usize
}

/// What a GAN method needs of a generator.
pub trait Synthesizer: Generator {
    /// The network that maps latents to styles and draws under styles.
    fn network(&self) -> &GeneratorNetwork;

    /// The network that it learned against; its weights are the base's.
    ///
    /// # Errors
    /// A file that has none.
    fn discriminator(&self) -> Result<&Discriminator, Error>;

    /// Latents `[n, style_dim]` and each layer's noise `[n, 1, side, side]` of pictures: a seed
    /// gives the same, whichever others are in the batch.
    fn latents_and_noises(&self, seeds: &[u64]) -> (Tensor, Vec<Tensor>);

    /// Latents `[n, style_dim]` alone.
    fn latents(&self, seeds: &[u64]) -> Tensor {
        // Beside their noises they are small.
        let group = sample_batch(self.network().config().size);
        let each: Vec<Tensor> =
            seeds.chunks(group).map(|seeds| self.latents_and_noises(seeds).0).collect();
        Tensor::cat(&each, 0)
    }

    /// Samples as the network draws them, `[n, 3, size, size]` on the CPU: about -1 to 1, and not
    /// clamped.
    ///
    /// # Errors
    /// libtorch's.
    fn sample(&self, seeds: &[u64]) -> Result<Tensor, Error> {
        stage("drawing samples", || {
            let side = self.network().config().size;
            let group = sample_batch(side);
            // Filled piece by piece: of large pictures there is no room for all of them twice.
            let all =
                Tensor::empty([seeds.len() as i64, 3, side, side], (Kind::Float, Device::Cpu));
            no_grad(|| {
                for (first, seeds) in (0..).step_by(group).zip(seeds.chunks(group)) {
                    let (z, noises) = self.latents_and_noises(seeds);
                    let styles = self.network().broadcast(&self.network().map(&z));
                    let drawn = self.network().synthesize(&styles, Noise::Given(&noises));
                    all.narrow(0, first, seeds.len() as i64).copy_(&drawn);
                }
            });
            Ok(all)
        })
    }

    /// The network's parameters by full name, `g.…`; leaves in `f32`.
    fn parameters(&self) -> Vec<(String, Tensor)>;
}

/// What a diffusion method needs of a generator.
pub trait Denoiser: Generator {
    /// The ids of a prompt's own tokens, without start, end and filling; as many as are read.
    fn tokens(&self, prompt: &str) -> Vec<i64>;

    /// The ids that the text encoder reads of prompts, `[n, tokens]`: start, end and filling too.
    fn token_ids(&self, prompts: &[&str]) -> Tensor;

    /// The text encoder's vectors of tokens `[n, tokens]`, `[n, tokens, width]`.
    fn embed(&self, ids: &Tensor) -> Tensor;

    /// Reads vectors of tokens `[n, tokens, width]`, which need not be any word's. Records a graph
    /// where they or parameters require gradients.
    fn encode(&self, embeddings: &Tensor) -> Conditioning;

    /// Reads prompts, a row each. Records no graph.
    ///
    /// # Errors
    /// libtorch's.
    fn condition(&self, prompts: &[&str]) -> Result<Conditioning, Error> {
        stage("reading the prompts", || {
            no_grad(|| {
                let _scope = self.compute().scope();
                Ok(self.encode(&self.embed(&self.token_ids(prompts))))
            })
        })
    }

    /// The network's prediction for noisy latents `[n, c, h, w]` at timesteps `[n]`, in `f32`.
    /// Records a graph where parameters or the conditioning require gradients.
    fn predict(&self, latents: &Tensor, timesteps: &Tensor, told: &Conditioning) -> Tensor;

    /// Latents of unit variance `[n, c, h, w]`, taken through the first `steps` of a sampler that
    /// draws no noise of its own. Records no graph.
    fn denoise(&self, sampler: &Sampler, latents: &Tensor, steps: usize, told: &Guided) -> Tensor {
        denoise::denoise(|z, t, told| self.predict(z, t, told), sampler, latents, steps, told)
    }

    /// Channels, rows and columns of the latents of a picture in the model's own size.
    fn latent_shape(&self) -> [i64; 3];

    /// What the network was trained with.
    fn schedule(&self) -> &Schedule;

    /// The latents' distribution for pictures, scaled as the network wants them.
    ///
    /// # Errors
    /// Pictures of a size that the autoencoder cannot take.
    fn encode_pictures(&self, pictures: &[Picture]) -> Result<LatentDistribution, Error>;

    /// Latents `[n, c, h, w]`, scaled as the network wants them, to pixels `[n, 3, h, w]` of about
    /// -1 to 1, in `f32`. Records a graph where the latents require gradients.
    fn decode(&self, latents: &Tensor) -> Tensor;

    /// A component's parameters by full name, `unet.…`; leaves in `f32`.
    fn parameters(&self, component: Component) -> Vec<(String, Tensor)>;
}
