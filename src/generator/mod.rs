//! What draws pictures. Diffusion models and GANs are the same thing from here up; this module does
//! not know that erasure exists.

mod adapters;
mod checkpoint;
mod checkpoint_hints;
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

pub use adapters::{Adapter, MergedAdapters};
pub use checkpoint::{Checkpoint, Location};
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
use crate::sampler::{Schedule, Solver};
use crate::torch::{Compute, Kind, Tensor, no_grad, stage};
use crate::watch::Watch;
use crate::weights::Edit;

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
                Tensor::empty([seeds.len() as i64, 3, side, side], (Kind::Float, tch::Device::Cpu));
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
    /// Hidden states of prompts, `[n, tokens, width]`.
    ///
    /// # Errors
    /// libtorch's.
    fn condition(&self, prompts: &[&str]) -> Result<Tensor, Error>;

    /// The ids of a prompt's own tokens, without start, end and filling; as many as are read.
    fn tokens(&self, prompt: &str) -> Vec<i64>;

    /// The network's prediction for noisy latents `[n, c, h, w]` at timesteps `[n]` under `text`
    /// `[n, tokens, width]`, in `f32`. Records a graph where parameters require gradients.
    fn predict(&self, latents: &Tensor, timesteps: &Tensor, text: &Tensor) -> Tensor;

    /// Channels, rows and columns of the latents of a picture in the model's own size.
    fn latent_shape(&self) -> [i64; 3];

    /// What the network was trained with.
    fn schedule(&self) -> &Schedule;

    /// The latents' distribution for pictures, scaled as the network wants them.
    ///
    /// # Errors
    /// Pictures of a size that the autoencoder cannot take.
    fn encode_pictures(&self, pictures: &[Picture]) -> Result<LatentDistribution, Error>;

    /// The denoiser's parameters by full name, `unet.…`; leaves in `f32`.
    fn denoiser_parameters(&self) -> Vec<(String, Tensor)>;
}
