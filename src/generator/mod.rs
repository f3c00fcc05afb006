//! What draws pictures. Diffusion models and GANs are the same thing from here up; this module does
//! not know that erasure exists.

mod adapters;
mod ancestral_noise;
mod checkpoint;
mod checkpoint_hints;
mod component;
mod conditioning;
mod denoiser;
mod edited_tensors;
mod embedding;
mod error;
mod export;
mod folder;
mod gan_files;
mod guided;
mod kind;
mod latent_distribution;
mod modelspec;
mod networks;
mod pipeline_class;
mod pixels;
mod presets;
mod provenance;
mod request;
mod seeding;
#[cfg(test)]
pub(crate) mod small;
mod stable_diffusion;
mod stylegan2;
mod synthesizer;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Device;

pub use adapters::{Adapter, MergedAdapters};
pub use ancestral_noise::AncestralNoise;
pub use checkpoint::{Checkpoint, Location};
pub use component::Component;
pub use conditioning::Conditioning;
pub use denoiser::Denoiser;
pub use embedding::Embedding;
pub use error::Error;
pub use export::{Edited, Format, ModuleRank};
pub use folder::{lacking, needed};
pub use gan_files::{export_gan, is_gan};
pub use guided::Guided;
pub use kind::{Model, ModelKind};
pub use latent_distribution::LatentDistribution;
pub use modelspec::modelspec;
pub use provenance::{ABOUT, Provenance};
pub use request::{Blend, ImageRequest, is_one};
pub use seeding::Seeding;
pub use stable_diffusion::StableDiffusion;
pub use stylegan2::StyleGan2;
pub use synthesizer::{Synthesizer, sample_batch};

use crate::fields::{Class, Configuration};
use crate::pictures::Picture;
use crate::torch::{Compute, Tensor};
use crate::watch::Watch;
use crate::weights::{Edit, EmaChoice, Weights, is_lora, read_lora};

/// The fields of `model_index.json`.
pub const PIPELINE: Class = <pipeline_class::ModelIndex as Configuration>::CLASS;

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

    /// Lays files onto the base, one after the other, and says what of them fits; of a file with
    /// two sets of weights one is taken. Nothing is put on the model.
    ///
    /// # Errors
    /// An edit of another base, a file in which nothing fits, tensors of other shapes.
    fn lay(&self, adapters: &[Adapter], ema: EmaChoice) -> Result<MergedAdapters, Error>;

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
