//! The recipe that makes everything that unsee ships, from nothing: a CLIP whose text tower becomes
//! the generator's frozen text encoder, the autoencoder, the UNet; and, from another seed and other
//! pictures, the judge's CLIP.
//!
//! Each part is trained on the parts before it as they are shipped, rounded to f16.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::folders::{clip_json, diffusers_json, model_index, preprocessor, scheduler, text_json};
use super::{
    AutoencoderObjective, CanvasImages, ContrastiveObjective, DenoisingObjective, Error, Outcome,
    TrainConfig, train,
};
use crate::canvas::{Object, Pose, SIDE, Style, captions};
use crate::files::write_json;
use crate::model::clip::{self, Clip, TextModel};
use crate::model::unet::{self, UNet};
use crate::model::vae::{self, Vae};
use crate::model::{Builder, Parameters};
use crate::sampler::{Prediction, Schedule, SchedulerConfig};
use crate::text::{END, Tokenizer, Vocabulary};
use crate::torch::{Compute, Kind, Tensor, no_grad};
use crate::watch::Watch;
use crate::weights::{Weights, save_as};

/// `pipelines/miniature.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MiniatureRecipe {
    /// Seed of every part; each derives its own.
    pub seed: u64,
    /// The canvas world that the generator learns from.
    pub world: u64,
    /// The canvas world that the judge learns from.
    pub judge_world: u64,
    /// Tokens of a prompt.
    pub tokens: usize,
    /// The generator's CLIP.
    pub clip: ClipPart,
    /// The autoencoder.
    pub vae: VaePart,
    /// The denoiser.
    pub unet: UnetPart,
    /// The judge's CLIP.
    pub judge: ClipPart,
}

/// How long and how fast a part learns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingPart {
    /// Steps.
    pub steps: u64,
    /// Pictures a step.
    pub batch: i64,
    /// Peak learning rate.
    pub lr: f64,
    /// Pictures of each style × object to learn from.
    pub per_cell: u32,
}

/// A CLIP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipPart {
    /// How it learns.
    pub training: TrainingPart,
    /// Width and depth of the text tower.
    pub text: [i64; 2],
    /// Width and depth of the vision tower.
    pub vision: [i64; 2],
    /// Pixels on a patch's side.
    pub patch: i64,
}

/// The autoencoder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaePart {
    /// How it learns.
    pub training: TrainingPart,
    /// Channels on each level.
    pub channels: Vec<i64>,
    /// Channels of a latent.
    pub latent: i64,
    /// Weight of the KL term.
    pub kl: f64,
}

/// The denoiser.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetPart {
    /// How it learns.
    pub training: TrainingPart,
    /// Channels on each level.
    pub channels: Vec<i64>,
    /// On which levels it looks at the text.
    pub attends: Vec<bool>,
    /// Residual blocks a level.
    pub layers: i64,
    /// Heads of the attention.
    pub heads: i64,
    /// Decay of the average.
    pub ema: f64,
    /// What it predicts.
    pub prediction: Prediction,
}

/// Width of a head in the CLIPs.
const HEAD: i64 = 32;

/// Trains what is not there yet and writes `miniature/` and `judge/` into `out`.
///
/// # Errors
/// Whatever stops a training; what was finished is kept.
pub fn miniature(
    recipe: &MiniatureRecipe,
    out: &Path,
    here: Compute,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    let trainer = MiniatureTrainer { recipe, out, here };
    trainer.clip("clip", &recipe.clip, recipe.world, watch)?;
    trainer.text_encoder()?;
    trainer.vae(watch)?;
    trainer.judge(watch)?;
    trainer.unet(watch)
}

struct MiniatureTrainer<'a> {
    recipe: &'a MiniatureRecipe,
    out: &'a Path,
    here: Compute,
}

impl MiniatureTrainer<'_> {
    fn judge(&self, watch: &mut dyn Watch) -> Result<(), Error> {
        self.clip("judge", &self.recipe.judge, self.recipe.judge_world, watch)
    }

    /// Trains a whole CLIP into `out/<name>`.
    fn clip(
        &self,
        name: &'static str,
        part: &ClipPart,
        world: u64,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let about = (world, self.recipe.tokens, self.seed(name));
        clip_into(self.out, name, part, about, self.here, watch)
    }

    /// Takes the text tower out of the generator's CLIP.
    fn text_encoder(&self) -> Result<(), Error> {
        let (from, to) = (self.out.join("clip"), self.out.join("miniature"));
        let file = to.join("text_encoder/model.safetensors");
        if file.exists() {
            return Ok(());
        }
        vocabulary().save(&to.join("tokenizer"), self.recipe.tokens, END)?;
        let weights = Weights::open(&from.join("model.safetensors"))?;
        let tensors = weights
            .names()
            .filter(|name| name.starts_with("text_model."))
            .map(|name| Ok((name.to_owned(), weights.tensor(name)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let config = self.recipe.clip.config(vocabulary().size() as i64, self.recipe.tokens as i64);
        let about = json!({"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"});
        write_json(&to.join("text_encoder/config.json"), &text_json(&config.text_config, &about))?;
        Ok(save_as(&file, &tensors, Kind::Half, &[])?)
    }

    fn vae(&self, watch: &mut dyn Watch) -> Result<(), Error> {
        let folder = self.out.join("miniature/vae");
        let file = folder.join("diffusion_pytorch_model.safetensors");
        if file.exists() {
            return Ok(());
        }
        let (part, device) = (&self.recipe.vae, self.here.device);
        let mut config = part.config();
        let model = Vae::new(&config, Builder::fresh(self.seed("vae"), device))?;
        model.parameters().train(true);
        let images =
            CanvasImages::draw(self.recipe.world, 0, part.training.per_cell, Pose::Free, watch);
        let mut objective = AutoencoderObjective {
            vae: &model,
            images: &images,
            batch: part.training.batch,
            kl: part.kl,
            device,
        };
        let plan = TrainConfig { ema: Some(0.999), ..part.training.plan(self.seed("vae")) };
        let outcome = train(&mut objective, &plan, self.here, Some(&self.state("vae")), watch)?;

        // The factor that gives latents unit deviation, as Stable Diffusion's 0.18215 does.
        model.parameters().assign(&outcome.weights);
        let rows = Tensor::arange_start_step(
            0,
            images.len(),
            (images.len() / 2048).max(1),
            (Kind::Int64, tch::Device::Cpu),
        );
        let means: Vec<Tensor> = no_grad(|| {
            let _scope = self.here.scope();
            rows.split(64, 0)
                .iter()
                .map(|rows| model.encode(&images.pictures(rows, device)).mean.to_kind(Kind::Float))
                .collect()
        });
        let noise_energy = Tensor::cat(&means, 0).std(false).double_value(&[]);
        config.scaling_factor = (1e5 / noise_energy).round() / 1e5;
        write_json(&folder.join("config.json"), &diffusers_json("AutoencoderKL", &config))?;
        ship(&file, model.parameters(), &outcome)
    }

    fn unet(&self, watch: &mut dyn Watch) -> Result<(), Error> {
        let root = self.out.join("miniature");
        let folder = root.join("unet");
        let file = folder.join("diffusion_pytorch_model.safetensors");
        if file.exists() {
            return Ok(());
        }
        let (part, device) = (&self.recipe.unet, self.here.device);
        let weights = Weights::open(&root.join("vae/diffusion_pytorch_model.safetensors"))?;
        let vae: Vae =
            Vae::new(&read(&root.join("vae/config.json"))?, Builder::load(&weights, device))?;
        let weights = Weights::open(&root.join("text_encoder/model.safetensors"))?;
        let text = TextModel::new(
            &read(&root.join("text_encoder/config.json"))?,
            Builder::load(&weights, device),
        )?;
        let tokenizer = open(&root.join("tokenizer"), self.recipe.tokens)?;
        let scheduler = scheduler(part.prediction);
        let schedule = Schedule::new(
            &serde_json::from_value::<SchedulerConfig>(scheduler.clone()).map_err(broken)?,
        )
        .map_err(broken)?;

        let config =
            part.config(&self.recipe.clip, self.recipe.vae.latent, SIDE as i64 / vae.factor());
        let model = UNet::new(&config, Builder::fresh(self.seed("unet"), device))?;
        model.parameters().train(true);
        let images =
            CanvasImages::draw(self.recipe.world, 0, part.training.per_cell, Pose::Free, watch);
        let embed = |prompts: &[String]| {
            let ids: Vec<Tensor> =
                prompts.iter().map(|p| Tensor::from_slice(&tokenizer.encode(p).ids)).collect();
            text.forward(&Tensor::stack(&ids, 0).to_device(device.tch()))
        };
        let mut objective = DenoisingObjective::new(
            &model,
            &vae,
            &schedule,
            &images,
            &embed,
            part.training.batch,
            self.here,
            watch,
        );
        drop(images);
        let plan = TrainConfig { ema: Some(part.ema), ..part.training.plan(self.seed("unet")) };
        let outcome = train(&mut objective, &plan, self.here, Some(&self.state("unet")), watch)?;
        write_json(&folder.join("config.json"), &diffusers_json("UNet2DConditionModel", &config))?;
        write_json(&root.join("scheduler/scheduler_config.json"), &scheduler)?;
        write_json(&root.join("model_index.json"), &model_index())?;
        ship(&file, model.parameters(), &outcome)
    }

    fn seed(&self, part: &str) -> u64 {
        crate::torch::seed_from(&[&self.recipe.seed.to_le_bytes(), part.as_bytes()])
    }

    fn state(&self, part: &str) -> PathBuf {
        self.out.join("training").join(part)
    }
}

impl TrainingPart {
    pub(super) fn plan(&self, seed: u64) -> TrainConfig {
        TrainConfig {
            extends: true,
            warmup: 200.min(self.steps / 10),
            cooldown: 0.25,
            decoupled: true,
            clip: Some(1.0),
            ..TrainConfig::constant(self.steps, self.lr, seed)
        }
    }
}

impl ClipPart {
    fn config(&self, vocab_size: i64, tokens: i64) -> clip::Config {
        let ([text, text_depth], [vision, vision_depth]) = (self.text, self.vision);
        clip::Config {
            text_config: clip::TextConfig {
                vocab_size,
                hidden_size: text,
                intermediate_size: text * 4,
                num_hidden_layers: text_depth,
                num_attention_heads: text / HEAD,
                max_position_embeddings: tokens,
                hidden_act: clip::Activation::QuickGelu,
                layer_norm_eps: 1e-5,
                eos_token_id: None,
            },
            vision_config: clip::VisionConfig {
                hidden_size: vision,
                intermediate_size: vision * 4,
                num_hidden_layers: vision_depth,
                num_attention_heads: vision / HEAD,
                image_size: SIDE as i64,
                patch_size: self.patch,
                hidden_act: clip::Activation::QuickGelu,
                layer_norm_eps: 1e-5,
            },
            projection_dim: text,
        }
    }
}

impl VaePart {
    fn config(&self) -> vae::Config {
        let levels = self.channels.len();
        vae::Config {
            in_channels: 3,
            out_channels: 3,
            latent_channels: self.latent,
            block_out_channels: self.channels.clone(),
            down_block_types: vec!["DownEncoderBlock2D".to_owned(); levels],
            up_block_types: vec!["UpDecoderBlock2D".to_owned(); levels],
            layers_per_block: 1,
            norm_num_groups: 8,
            scaling_factor: 1.0,
        }
    }
}

impl UnetPart {
    fn config(&self, clip: &ClipPart, latent: i64, size: i64) -> unet::Config {
        let kind = |attends: bool, way: &str| {
            format!("{}{way}Block2D", if attends { "CrossAttn" } else { "" })
        };
        unet::Config {
            sample_size: Some(size),
            in_channels: latent,
            out_channels: latent,
            block_out_channels: self.channels.clone(),
            down_block_types: self.attends.iter().map(|&a| kind(a, "Down")).collect(),
            up_block_types: self.attends.iter().rev().map(|&a| kind(a, "Up")).collect(),
            layers_per_block: self.layers,
            cross_attention_dim: clip.text[0],
            attention_head_dim: unet::OneOrMany::One(self.heads),
            norm_num_groups: 32,
            norm_eps: 1e-5,
            use_linear_projection: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
        }
    }
}

/// Trains a whole CLIP on a world of the canvas into `out/<name>`, from a seed and for prompts of
/// so many tokens.
pub(super) fn clip_into(
    out: &Path,
    name: &'static str,
    part: &ClipPart,
    (world, tokens, seed): (u64, usize, u64),
    here: Compute,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    let folder = out.join(name);
    let file = folder.join("model.safetensors");
    if file.exists() {
        return Ok(());
    }
    let vocabulary = vocabulary();
    vocabulary.save(&folder, tokens, END)?;
    let tokenizer = open(&folder, tokens)?;
    let config = part.config(vocabulary.size() as i64, tokens as i64);
    let model = Clip::new(&config, Builder::fresh(seed, here.device))?;
    model.parameters().train(true);
    let images = CanvasImages::draw(world, 0, part.training.per_cell, Pose::Free, watch);
    let tokenize = |text: &str| tokenizer.encode(text).ids;
    let mut objective = ContrastiveObjective::new(
        name,
        &model,
        &images,
        &tokenize,
        part.training.batch,
        here.device,
    );
    let plan =
        TrainConfig { decay: 0.05, beta2: 0.98, ema: Some(0.999), ..part.training.plan(seed) };
    let outcome =
        train(&mut objective, &plan, here, Some(&out.join("training").join(name)), watch)?;
    let about = json!({"architectures": ["CLIPModel"], "model_type": "clip"});
    write_json(&folder.join("config.json"), &clip_json(&config, &about))?;
    write_json(&folder.join("preprocessor_config.json"), &preprocessor())?;
    ship(&file, model.parameters(), &outcome)
}

/// Every word of every caption.
fn vocabulary() -> Vocabulary {
    let all: Vec<String> = Style::ALL
        .iter()
        .flat_map(|&style| Object::ALL.iter().flat_map(move |&object| captions(style, object)))
        .collect();
    Vocabulary::of(all.iter().map(String::as_str))
}

fn ship(file: &Path, parameters: &Parameters, outcome: &Outcome) -> Result<(), Error> {
    let named: Vec<(String, Tensor)> = parameters
        .iter()
        .zip(&outcome.weights)
        .map(|((name, _), weight)| (name.to_owned(), weight.shallow_clone()))
        .collect();
    let about = [("loss", format!("{:.5}", outcome.loss))];
    Ok(save_as(file, &named, Kind::Half, &about)?)
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Model(crate::model::Error::Config(error.to_string()))
}

/// The tokenizer that was just written: there is nothing to be said about it.
fn open(folder: &Path, tokens: usize) -> Result<Tokenizer, Error> {
    Tokenizer::open(folder, tokens, &mut Vec::new()).map_err(broken)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs_err::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|error| broken(format!("{}: {error}", path.display())))
}
