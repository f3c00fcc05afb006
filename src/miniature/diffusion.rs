//! The recipes of `pipelines/miniature.toml` and `miniature-synonyms.toml`: a CLIP whose text tower
//! becomes the generator's frozen text encoder, the autoencoder, the UNet; and, from another seed
//! and other pictures, the judge's CLIP.
//!
//! Each part is trained on the parts before it as they are shipped, rounded to f16.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::autoencoder::AutoencoderObjective;
use super::canvas_images::CanvasImages;
use super::clip::{ClipTraining, open_tokenizer, vocabulary};
use super::denoising::DenoisingObjective;
use super::encoded_canvas::EncodedCanvas;
use super::folders::{diffusers_json, model_index, scheduler, text_json};
use super::left_out::LeftOut;
use super::shipping::{invalid, read_config, ship};
use super::{ClipPart, TrainingPart};
use crate::canvas::{Language, Pose, SIDE};
use crate::files::write_json;
use crate::model::Builder;
use crate::model::clip::TextModel;
use crate::model::unet::{OneOrMany, UNet, UnetConfig};
use crate::model::vae::{Vae, VaeConfig};
use crate::sampler::{Prediction, Schedule, SchedulerConfig};
use crate::text::END;
use crate::torch::{Compute, Kind, Tensor, no_grad};
use crate::training::{Error, TrainConfig, train};
use crate::watch::Watch;
use crate::weights::{Weights, save_as};

/// `pipelines/miniature.toml`, `pipelines/miniature-synonyms.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MiniatureRecipe {
    /// Seed of every part; each derives its own.
    pub seed: u64,
    /// Seed of the canvas pictures that the generator learns from.
    pub canvas_seed: u64,
    /// Seed of the canvas pictures that the judge learns from.
    pub judge_canvas_seed: u64,
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
    /// How its captions speak; the text encoder learns from names alone.
    #[serde(default)]
    pub captions: Language,
    /// How often a caption is `UnlearnCanvas`' template; empty ones are a tenth, others the rest.
    #[serde(default = "template")]
    pub template: f64,
    /// Styles that it never sees; text encoder, autoencoder and judge do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_styles: Vec<String>,
    /// Objects that it never sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_objects: Vec<String>,
}

fn template() -> f64 {
    0.6
}

/// Trains what is not there yet and writes `miniature/` and `judge/` into `out`.
///
/// # Errors
/// Whatever stops a training; what was finished is kept.
pub fn train_miniature(
    recipe: &MiniatureRecipe,
    out: &Path,
    here: Compute,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    let trainer = MiniatureTrainer { recipe, out, here };
    let (words, canvas_seed) = (recipe.unet.captions, recipe.canvas_seed);
    trainer.clip("clip", &recipe.clip, canvas_seed, words).run(out, here, watch)?;
    trainer.text_encoder()?;
    trainer.vae(watch)?;
    let judge = trainer.clip("judge", &recipe.judge, recipe.judge_canvas_seed, Language::Names);
    judge.run(out, here, watch)?;
    trainer.unet(watch)
}

struct MiniatureTrainer<'a> {
    recipe: &'a MiniatureRecipe,
    out: &'a Path,
    here: Compute,
}

impl<'a> MiniatureTrainer<'a> {
    /// A whole CLIP's training, into `out/<name>`.
    fn clip(
        &self,
        name: &'static str,
        part: &'a ClipPart,
        canvas_seed: u64,
        words: Language,
    ) -> ClipTraining<'a> {
        let (tokens, seed) = (self.recipe.tokens, self.seed(name));
        ClipTraining { name, part, canvas_seed, words, tokens, seed }
    }

    /// Takes the text tower out of the generator's CLIP.
    fn text_encoder(&self) -> Result<(), Error> {
        let (from, to) = (self.out.join("clip"), self.out.join("miniature"));
        let file = to.join("text_encoder/model.safetensors");
        if file.exists() {
            return Ok(());
        }
        let vocabulary = vocabulary(self.recipe.unet.captions);
        vocabulary.save(&to.join("tokenizer"), self.recipe.tokens, END)?;
        let weights = Weights::open(&from.join("model.safetensors"))?;
        let tensors = weights
            .names()
            .filter(|name| name.starts_with("text_model."))
            .map(|name| Ok((name.to_owned(), weights.tensor(name)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let config = self.recipe.clip.config(vocabulary.size() as i64, self.recipe.tokens as i64);
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
            CanvasImages::draw(self.recipe.canvas_seed, part.training.per_cell, Pose::Free, watch);
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
        let deviation = Tensor::cat(&means, 0).std(false).double_value(&[]);
        config.scaling_factor = (1e5 / deviation).round() / 1e5;
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
        let vae = Vae::new(
            &read_config(&root.join("vae/config.json"))?,
            Builder::load(&weights, device),
        )?;
        let scheduler = scheduler(part.prediction);
        let schedule = Schedule::new(
            &serde_json::from_value::<SchedulerConfig>(scheduler.clone()).map_err(invalid)?,
        )
        .map_err(invalid)?;
        let config =
            part.config(&self.recipe.clip, self.recipe.vae.latent, SIDE as i64 / vae.factor());
        let model = UNet::new(&config, Builder::fresh(self.seed("unet"), device))?;
        model.parameters().train(true);
        let canvas = self.encoded_canvas(&root, &vae, watch)?;
        let mut objective = DenoisingObjective {
            unet: &model,
            schedule: &schedule,
            canvas: &canvas,
            batch: part.training.batch,
            template: part.template,
            cells: Tensor::from_slice(&part.left_out().cells()),
            device,
        };
        let plan = TrainConfig { ema: Some(part.ema), ..part.training.plan(self.seed("unet")) };
        let outcome = train(&mut objective, &plan, self.here, Some(&self.state("unet")), watch)?;
        write_json(&folder.join("config.json"), &diffusers_json("UNet2DConditionModel", &config))?;
        write_json(&root.join("scheduler/scheduler_config.json"), &scheduler)?;
        write_json(&root.join("model_index.json"), &model_index())?;
        ship(&file, model.parameters(), &outcome)
    }

    /// What the UNet learns from, encoded by the parts in `root`.
    fn encoded_canvas(
        &self,
        root: &Path,
        vae: &Vae,
        watch: &mut dyn Watch,
    ) -> Result<EncodedCanvas, Error> {
        let device = self.here.device;
        let weights = Weights::open(&root.join("text_encoder/model.safetensors"))?;
        let text = TextModel::new(
            &read_config(&root.join("text_encoder/config.json"))?,
            Builder::load(&weights, device),
        )?;
        let tokenizer = open_tokenizer(&root.join("tokenizer"), self.recipe.tokens)?;
        let embed = |prompts: &[String]| {
            let ids: Vec<Tensor> =
                prompts.iter().map(|p| Tensor::from_slice(&tokenizer.encode(p).ids)).collect();
            text.forward(&Tensor::stack(&ids, 0).to_device(device.tch()))
        };
        let per_cell = self.recipe.unet.training.per_cell;
        let images = CanvasImages::draw(self.recipe.canvas_seed, per_cell, Pose::Free, watch);
        let language = self.recipe.unet.captions;
        Ok(EncodedCanvas::new(vae, &images, language, &embed, self.here, watch))
    }

    fn seed(&self, part: &str) -> u64 {
        crate::torch::seed_from(&[&self.recipe.seed.to_le_bytes(), part.as_bytes()])
    }

    fn state(&self, part: &str) -> PathBuf {
        self.out.join("training").join(part)
    }
}

impl VaePart {
    fn config(&self) -> VaeConfig {
        let levels = self.channels.len();
        VaeConfig {
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

impl MiniatureRecipe {
    /// Says what is wrong with it, before anything is drawn or learned.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        self.unet.left_out().check()
    }
}

impl UnetPart {
    fn left_out(&self) -> LeftOut<'_> {
        LeftOut { styles: &self.without_styles, objects: &self.without_objects }
    }

    fn config(&self, clip: &ClipPart, latent: i64, size: i64) -> UnetConfig {
        let kind = |attends: bool, way: &str| {
            format!("{}{way}Block2D", if attends { "CrossAttn" } else { "" })
        };
        UnetConfig {
            sample_size: Some(size),
            in_channels: latent,
            out_channels: latent,
            block_out_channels: self.channels.clone(),
            down_block_types: self.attends.iter().map(|&a| kind(a, "Down")).collect(),
            up_block_types: self.attends.iter().rev().map(|&a| kind(a, "Up")).collect(),
            layers_per_block: self.layers,
            cross_attention_dim: clip.text[0],
            attention_head_dim: OneOrMany::One(self.heads),
            norm_num_groups: 32,
            norm_eps: 1e-5,
            use_linear_projection: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
        }
    }
}
