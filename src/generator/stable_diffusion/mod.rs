//! Stable Diffusion 1.x and 2.x, the miniature included.

mod drawing;

use std::collections::HashSet;

use super::checkpoint::unused;
use super::edited_tensors::EditedTensors;
use super::pixels::{to_pictures, to_tensor};
use super::{Checkpoint, Denoiser, Error, Generator, ImageRequest, ModelCard};
use crate::model::clip::TextModel;
use crate::model::unet::UNet;
use crate::model::vae::Vae;
use crate::model::{Builder, Parameters};
use crate::pictures::Picture;
use crate::sampler::{Sampler, Schedule, SchedulerConfig, Solver};
use crate::text::Tokenizer;
use crate::torch::{Compute, Kind, MemoryMode, Rng, Tensor, no_grad, not_finite, stage};
use crate::watch::Watch;
use crate::weights::Edit;

/// A normal distribution over latents, scaled as the UNet wants them.
#[derive(Debug)]
pub struct LatentDistribution {
    /// `[n, c, h, w]`, f32.
    pub mean: Tensor,
    /// `[n, c, h, w]`, f32.
    pub deviation: Tensor,
}

/// Text encoder, UNet, autoencoder, tokenizer and schedule. Parameters are `f32`; the heavy
/// operations run in the precision it was opened with.
#[derive(Debug)]
pub struct StableDiffusion {
    card: ModelCard,
    pub(super) tokenizer: Tokenizer,
    pub(super) text: TextModel,
    unet: UNet,
    vae: Vae,
    schedule: Schedule,
    scheduler: SchedulerConfig,
    compute: Compute,
    pub(super) notes: Vec<String>,
    /// The base's own values of the tensors that the edit in place has replaced.
    edited: EditedTensors,
}

impl StableDiffusion {
    /// Loads a model.
    ///
    /// # Errors
    /// A tensor that is missing, damaged or of another shape than the configuration says.
    pub fn load(checkpoint: &Checkpoint, compute: Compute) -> Result<Self, Error> {
        let device = compute.device;
        let Checkpoint { text_encoder, unet, vae, networks, .. } = checkpoint;
        let hash = checkpoint.hash()?;
        let text = TextModel::new(&networks.text, Builder::load(text_encoder, device))?;
        let mut unet = UNet::new(&networks.unet, Builder::load(unet, device))?;
        let vae = Vae::new(&networks.vae, Builder::load(vae, device))?;
        let networks_used = [text.parameters(), unet.parameters(), vae.parameters()];
        let left = checkpoint.components().into_iter().zip(networks_used).filter_map(
            |((what, weights), used)| {
                let used: HashSet<&str> = used.iter().map(|(name, _)| name).collect();
                let left: Vec<String> = weights
                    .names()
                    .filter(|name| !used.contains(name))
                    .map(str::to_owned)
                    .collect();
                (!left.is_empty()).then(|| unused(&checkpoint.path, what, &left))
            },
        );
        let notes = left.collect();
        unet.set_gradient_checkpointing(compute.memory != MemoryMode::Fast);
        // Autocast keeps its casts of parameters only where they want gradients.
        unet.parameters().train(true);
        vae.parameters().train(true);
        let scheduler = checkpoint.networks.scheduler.clone();
        let side = unet.config().sample_size.unwrap_or(64) * vae.factor();
        let card = ModelCard {
            kind: "stable-diffusion".to_owned(),
            path: checkpoint.path.clone(),
            hash: hash.to_hex().to_string(),
            settings: checkpoint.settings(),
            parameters: text.parameters().count()
                + unet.parameters().count()
                + vae.parameters().count(),
            side,
            architecture: checkpoint.configs.architecture().to_owned(),
            predicts_velocity: checkpoint.configs.predicts_velocity(),
        };
        let tokenizer = checkpoint.tokenizer.clone();
        let schedule = Schedule::new(&scheduler)?;
        Ok(Self {
            card,
            tokenizer,
            text,
            unet,
            vae,
            schedule,
            scheduler,
            compute,
            notes,
            edited: EditedTensors::default(),
        })
    }

    /// The solver that `scheduler_config.json` names.
    ///
    /// # Errors
    /// One that is not built here.
    pub fn solver(&self) -> Result<Solver, Error> {
        Ok(self.scheduler.solver()?)
    }

    /// Which tensors of the checkpoint are used by nothing.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many tokens at a prompt's end the text encoder does not read.
    pub fn unread(&self, prompt: &str) -> usize {
        self.tokenizer.encode(prompt).dropped
    }

    /// Whether the text encoder reads the same in both.
    pub fn reads_alike(&self, a: &str, b: &str) -> bool {
        self.tokenizer.encode(a).ids == self.tokenizer.encode(b).ids
    }

    /// Whether a prompt has a word that was learned.
    pub fn names(&self, prompt: &str, word: &str) -> bool {
        self.tokenizer.named(prompt).any(|known| known == word)
    }

    /// Latents of unit variance for requests of one size, each from a generator of its own on the
    /// CPU.
    pub fn latents(&self, requests: &[ImageRequest]) -> Tensor {
        let factor = self.vae.factor();
        let channels = self.unet.config().in_channels;
        let each: Vec<Tensor> = requests
            .iter()
            .map(|request| {
                Rng::new(request.seed).normal(&[
                    1,
                    channels,
                    request.size.1 / factor,
                    request.size.0 / factor,
                ])
            })
            .collect();
        Tensor::cat(&each, 0)
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        let (component, rest) = name.split_once('.')?;
        let parameters: &Parameters = match component {
            "unet" => self.unet.parameters(),
            "text_encoder" => self.text.parameters(),
            "vae" => self.vae.parameters(),
            _ => return None,
        };
        parameters.get(rest)
    }
}

fn full_names<'a>(
    component: &'a str,
    parameters: &'a Parameters,
) -> impl Iterator<Item = (String, Tensor)> + 'a {
    parameters
        .iter()
        .map(move |(name, tensor)| (format!("{component}.{name}"), tensor.shallow_clone()))
}

impl Generator for StableDiffusion {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn compute(&self) -> Compute {
        self.compute
    }

    fn check(&self, request: &ImageRequest) -> Result<(), Error> {
        let multiple = self.vae.factor() << (self.unet.config().block_out_channels.len() - 1);
        let (w, h) = request.size;
        if w < multiple || h < multiple || w % self.vae.factor() != 0 || h % self.vae.factor() != 0
        {
            return Err(Error::Request(format!(
                "{w}x{h} pixels cannot be drawn: sides must be multiples of {}, at least \
                 {multiple}",
                self.vae.factor()
            )));
        }
        if !request.guidance.is_finite() || request.guidance < 0.0 {
            return Err(Error::Request(format!(
                "guidance is {}; it is a number and not negative: above 1 it guides, up to 1 the \
                 prompt alone draws",
                request.guidance
            )));
        }
        // The schedule's fields are looked through for the solver that is asked for.
        Sampler::new(request.sampler, &self.schedule, request.steps)?;
        Ok(())
    }

    fn draw(
        &self,
        requests: &[ImageRequest],
        watch: &mut dyn Watch,
    ) -> Result<Vec<Picture>, Error> {
        let mut pictures: Vec<Option<Picture>> = vec![None; requests.len()];
        for request in requests {
            self.check(request)?;
        }
        let mut rest: Vec<usize> = (0..requests.len()).collect();
        while let Some(&first) = rest.first() {
            let key = requests[first].batch_key();
            let (now, later): (Vec<usize>, Vec<usize>) =
                rest.iter().partition(|&&i| requests[i].batch_key() == key);
            let batch: Vec<ImageRequest> = now.iter().map(|&i| requests[i].clone()).collect();
            let pixels =
                stage("drawing", || self.draw_latents(&self.latents(&batch), &batch, watch))?;
            for (picture, i) in to_pictures(&pixels)?.into_iter().zip(now) {
                pictures[i] = Some(picture);
            }
            rest = later;
        }
        Ok(pictures.into_iter().flatten().collect())
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), Error> {
        let mut edited = std::mem::take(&mut self.edited);
        let replaced = edited.replace(edit, &self.card.hash, |name| self.find(name));
        self.edited = edited;
        replaced
    }
}

impl Denoiser for StableDiffusion {
    fn condition(&self, prompts: &[&str]) -> Result<Tensor, Error> {
        let Compute { device, .. } = self.compute;
        let ids: Vec<Tensor> = prompts
            .iter()
            .map(|prompt| Tensor::from_slice(&self.tokenizer.encode(prompt).ids))
            .collect();
        let ids = Tensor::stack(&ids, 0).to_device(device.tch());
        stage("reading the prompts", || {
            no_grad(|| {
                let _scope = self.compute.scope();
                Ok(self.text.forward(&ids).to_kind(Kind::Float))
            })
        })
    }

    fn latent_shape(&self) -> [i64; 3] {
        let side = self.card.side / self.vae.factor();
        [self.unet.config().in_channels, side, side]
    }

    fn tokens(&self, prompt: &str) -> Vec<i64> {
        let ids = self.tokenizer.encode(prompt).ids;
        let end = ids.iter().position(|id| *id == self.tokenizer.end()).unwrap_or(ids.len());
        ids[1..end].to_vec()
    }

    fn predict(&self, latents: &Tensor, timesteps: &Tensor, text: &Tensor) -> Tensor {
        self.unet.forward(latents, timesteps, text).to_kind(Kind::Float)
    }

    fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    fn encode_pictures(&self, pictures: &[Picture]) -> Result<LatentDistribution, Error> {
        let Compute { device, .. } = self.compute;
        let batch = to_tensor(pictures)?.to_device(device.tch()) * 2.0 - 1.0;
        let scale = self.vae.config().scaling_factor;
        stage("encoding pictures", || {
            no_grad(|| {
                let _scope = self.compute.scope();
                let mut moments = in_slices(&batch, 1, |batch| {
                    let moments = self.vae.encode(batch);
                    let deviation = (moments.log_variance.to_kind(Kind::Float) * 0.5).exp() * scale;
                    vec![moments.mean.to_kind(Kind::Float) * scale, deviation]
                })
                .into_iter();
                let mut next = || moments.next().unwrap_or_default();
                let latents = LatentDistribution { mean: next(), deviation: next() };
                if not_finite(&latents.mean) + not_finite(&latents.deviation) > 0 {
                    return Err(Error::Request(format!(
                        "the autoencoder makes NaN or infinity of pictures in {}; use --precision \
                         f32",
                        self.compute.precision
                    )));
                }
                Ok(latents)
            })
        })
    }

    fn denoiser_parameters(&self) -> Vec<(String, Tensor)> {
        full_names("unet", self.unet.parameters()).collect()
    }
}

/// Pixels that the autoencoder takes at once: 32 pictures of 128 to a side, two of 512. At 512 its
/// first level takes 134 MB for each picture and tensor.
const SLICE: i64 = 32 * 128 * 128;

/// Runs the autoencoder over a batch `[n, c, h, w]` of pictures or latents a few at a time; `side`
/// is how many pixels to a side each of its positions stands for.
fn in_slices(batch: &Tensor, side: i64, work: impl Fn(&Tensor) -> Vec<Tensor>) -> Vec<Tensor> {
    let size = batch.size();
    let pixels = size[2] * size[3] * side * side;
    let n = (SLICE / pixels).clamp(1, size[0]);
    let parts: Vec<Vec<Tensor>> = batch.split(n, 0).iter().map(work).collect();
    let columns = parts.first().map_or(0, Vec::len);
    (0..columns)
        .map(|i| Tensor::cat(&parts.iter().map(|part| &part[i]).collect::<Vec<_>>(), 0))
        .collect()
}
