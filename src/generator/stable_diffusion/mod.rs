//! Stable Diffusion 1.x and 2.x, the miniature included.

mod drawing;

use std::collections::HashSet;

use super::checkpoint::unused;
use super::edited_tensors::EditedTensors;
use super::pixels::{to_pictures, to_tensor};
use super::{
    Adapter, Checkpoint, Component, Conditioning, Denoiser, Error, Generator, ImageRequest,
    LatentDistribution, Location, MergedAdapters, Model, ModelCard,
};
use crate::model::clip::TextModel;
use crate::model::unet::UNet;
use crate::model::vae::Vae;
use crate::model::{Builder, Parameters};
use crate::pictures::Picture;
use crate::sampler::{Sampler, Schedule, SchedulerConfig, Solver};
use crate::text::Tokenizer;
use crate::torch::{Compute, Kind, MemoryMode, Rng, Tensor, no_grad, not_finite, stage};
use crate::watch::Watch;
use crate::weights::{Edit, EmaChoice};

/// Text encoder, UNet, autoencoder, tokenizer and schedule. Parameters are `f32`; the heavy
/// operations run in the precision it was opened with.
#[derive(Debug)]
pub struct StableDiffusion {
    card: ModelCard,
    hash: blake3::Hash,
    /// Where its weights lie.
    location: Location,
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
            hash,
            location: checkpoint.location.clone(),
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

    /// Whether a prompt has a word that was learned.
    pub fn names(&self, prompt: &str, word: &str) -> bool {
        self.tokenizer.named(prompt).any(|known| known == word)
    }

    fn network(&self, component: Component) -> &Parameters {
        match component {
            Component::Unet => self.unet.parameters(),
            Component::TextEncoder => self.text.parameters(),
            Component::Vae => self.vae.parameters(),
        }
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        let (component, rest) = name.split_once('.')?;
        let component = Component::ALL.into_iter().find(|known| known.name() == component)?;
        self.network(component).get(rest)
    }
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

    fn lay(&self, adapters: &[Adapter], ema: EmaChoice) -> Result<MergedAdapters, Error> {
        // Opened again rather than kept: mapped files count as memory of the process.
        Checkpoint::open_hashed(&self.location, self.hash)?.merge(adapters, ema)
    }

    fn model(&mut self) -> Model<'_> {
        Model::Diffusion(self)
    }

    fn tensor_names(&self) -> Vec<String> {
        let all = Component::ALL.into_iter().flat_map(|component| self.parameters(component));
        all.map(|(name, _)| name).collect()
    }

    fn base_tensor(&self, name: &str) -> Result<Tensor, Error> {
        let base = self.edited.original(name).or_else(|| self.find(name));
        base.map(Tensor::detach).ok_or_else(|| Error::unknown_tensor(name))
    }

    fn reads_alike(&self, one: &str, other: &str) -> bool {
        self.tokenizer.encode(one).ids == self.tokenizer.encode(other).ids
    }

    fn unread(&self, prompt: &str) -> usize {
        self.tokenizer.encode(prompt).dropped
    }
}

impl Denoiser for StableDiffusion {
    fn latent_shape(&self) -> [i64; 3] {
        let side = self.card.side / self.vae.factor();
        [self.unet.config().in_channels, side, side]
    }

    fn latents(&self, requests: &[ImageRequest]) -> Tensor {
        let factor = self.vae.factor();
        let channels = self.unet.config().in_channels;
        let each: Vec<Tensor> = requests
            .iter()
            .map(|request| {
                let (width, height) = request.size;
                Rng::new(request.seed).normal(&[1, channels, height / factor, width / factor])
            })
            .collect();
        Tensor::cat(&each, 0)
    }

    fn tokens(&self, prompt: &str) -> Vec<i64> {
        let ids = self.tokenizer.encode(prompt).ids;
        let end = ids.iter().position(|id| *id == self.tokenizer.end()).unwrap_or(ids.len());
        ids[1..end].to_vec()
    }

    fn token_ids(&self, prompts: &[&str]) -> Tensor {
        let ids: Vec<Tensor> = prompts
            .iter()
            .map(|prompt| Tensor::from_slice(&self.tokenizer.encode(prompt).ids))
            .collect();
        Tensor::stack(&ids, 0).to_device(self.compute.device.tch())
    }

    fn text_of(&self, tokens: &[i64]) -> String {
        self.tokenizer.decode(tokens)
    }

    fn vocabulary(&self) -> i64 {
        self.text.words()
    }

    fn embed(&self, ids: &Tensor) -> Tensor {
        self.text.embed(ids)
    }

    fn encode(&self, embeddings: &Tensor) -> Conditioning {
        Conditioning { states: self.text.encode(embeddings).to_kind(Kind::Float) }
    }

    fn predict(&self, latents: &Tensor, timesteps: &Tensor, conditioning: &Conditioning) -> Tensor {
        self.unet.forward(latents, timesteps, &conditioning.states).to_kind(Kind::Float)
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

    fn decode(&self, latents: &Tensor) -> Tensor {
        let latents = latents / self.vae.config().scaling_factor;
        let decode = |latents: &Tensor| vec![self.vae.decode(latents).to_kind(Kind::Float)];
        in_slices(&latents, self.vae.factor(), decode).remove(0)
    }

    fn parameters(&self, component: Component) -> Vec<(String, Tensor)> {
        let full = |(name, tensor): (&str, &Tensor)| {
            (format!("{}.{name}", component.name()), tensor.shallow_clone())
        };
        self.network(component).iter().map(full).collect()
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
