//! `StyleGAN2` as a generator: a picture is a seed and a truncation. Latent and noise come from the
//! seed alone.

use std::path::Path;

use super::adapters::Merging;
use super::edited_tensors::EditedTensors;
use super::pixels::{first_not_finite, to_pictures};
use super::seeding::numpy_normal;
use super::{
    Adapter, Blend, Error, Generator, ImageRequest, MergedAdapters, Model, ModelCard, Seeding,
    Synthesizer, sample_batch,
};
use crate::model::Builder;
use crate::model::stylegan2::{
    Discriminator, GeneratorNetwork, Noise, PREFIX, StyleGan2Config, is_mapping,
};
use crate::pictures::Picture;
use crate::torch::{Compute, Kind, Rng, Tensor, finite_each, no_grad, stage};
use crate::watch::Watch;
use crate::weights::{Edit, EmaChoice, MEAN_STYLE, Weights, is_stylegan, read_stylegan};

/// A generator from rosinality's or NVIDIA's files; in f32.
#[derive(Debug)]
pub struct StyleGan2 {
    card: ModelCard,
    network: GeneratorNetwork,
    /// Or why it cannot be built: only learning needs one.
    discriminator: Option<Result<Discriminator, String>>,
    /// The mean of all styles, `[1, style_dim]`.
    mean: Tensor,
    /// The base's, while an edit of the mapping is in place.
    base_mean: Option<Tensor>,
    /// The base's tensors in whose place an edit's are.
    edited: EditedTensors,
    compute: Compute,
    /// Whether the file has a noise for each layer.
    has_noise: bool,
}

/// Latents of which the mean style is made where a file has none, as rosinality does.
const MEAN_OF: i64 = 4096;

impl StyleGan2 {
    /// Loads the averaged generator of a file, and its discriminator where there is one.
    ///
    /// # Errors
    /// A file that holds none, a tensor that is missing or of another shape.
    pub fn load(path: &Path, compute: Compute) -> Result<Self, Error> {
        let gan = read_stylegan(&Weights::open(path)?)?;
        let weights = &gan.generator;
        let config = StyleGan2Config::of_file(&gan)?;
        let network = GeneratorNetwork::new(&config, Builder::load(weights, compute.device))?;
        let discriminator = gan
            .discriminator
            .as_ref()
            .map(|weights| Discriminator::new(&config, Builder::load(weights, compute.device)))
            .map(|built| built.map_err(|error| error.to_string()));
        let mean = if let Some(info) = weights.info(MEAN_STYLE) {
            if info.shape.iter().product::<i64>() != config.style_dim {
                return Err(crate::model::Error::Shape {
                    path: weights.path(MEAN_STYLE).to_path_buf(),
                    name: MEAN_STYLE.to_owned(),
                    found: info.shape,
                    wanted: vec![config.style_dim],
                }
                .into());
            }
            weights
                .floats(MEAN_STYLE)?
                .to_kind(Kind::Float)
                .view([1, -1])
                .to_device(compute.device.tch())
        } else {
            mean_style(&network, compute)?
        };
        let card = ModelCard {
            kind: "stylegan2".to_owned(),
            path: super::folder::canonical(path),
            hash: weights.hash()?.to_hex().to_string(),
            settings: settings_hash(&config),
            parameters: network.parameters().count(),
            side: config.size,
            architecture: String::new(),
            predicts_velocity: false,
        };
        // What stands for a layer and belongs to none is of a file with a gap, which would be a
        // smaller network.
        let known = |name: &str| {
            network.parameters().get(name).is_some()
                || name == MEAN_STYLE
                || name.ends_with(".kernel")
        };
        let noises = network.noises().len();
        let is_noise = |name: &str| {
            name.strip_prefix("noises.noise_")
                .is_some_and(|n| n.parse::<usize>().is_ok_and(|n| n < noises))
        };
        if let Some(name) = weights.names().find(|name| !known(name) && !is_noise(name)) {
            return Err(Error::Config {
                path: path.to_path_buf(),
                why: format!(
                    "`{name}` belongs to none of the network's layers: a layer before it is \
                     missing, or the file is of another network"
                ),
            });
        }
        let has_noise = weights.contains("noises.noise_0");
        Ok(Self {
            card,
            network,
            discriminator,
            mean,
            base_mean: None,
            edited: EditedTensors::default(),
            compute,
            has_noise,
        })
    }

    /// Merges adapters into one edit of it, one after the other: edits that were made of it, or
    /// generators that come of it.
    ///
    /// # Errors
    /// An edit of another base, tensors of other shapes, a file that is neither.
    pub fn merge(&self, adapters: &[Adapter]) -> Result<MergedAdapters, Error> {
        let mut merging = Merging::default();
        for adapter in adapters {
            let file = Weights::open(&adapter.path)?;
            file.unchanged()?;
            merging.add_recipe(adapter, &file.metadata());
            let values = if is_stylegan(&file) {
                self.generator_tensors(adapter, &file, &mut merging.notes)?
            } else {
                Edit::read(&file, &self.card.hash, |full| self.base_tensor(full))?.tensors
            };
            let mut changed = 0;
            for (full, after) in values {
                let before = self.base_tensor(&full)?;
                let after = after.to_kind(Kind::Float).to_device(before.device());
                changed += usize::from(merging.add(full, &before, after, adapter.strength)?);
            }
            if changed == 0 {
                merging.warnings.push(format!("{adapter}: it changes nothing of the base"));
            }
        }
        Ok(merging.finish(self.card.hash.clone()))
    }

    /// The tensors of a generator that comes of this one, under this one's full names.
    fn generator_tensors(
        &self,
        adapter: &Adapter,
        file: &Weights,
        notes: &mut Vec<String>,
    ) -> Result<Vec<(String, Tensor)>, Error> {
        let gan = read_stylegan(file)?;
        let config = StyleGan2Config::of_file(&gan)?;
        let (ours, theirs) = (sizes(self.network.config()), sizes(&config));
        if ours != theirs {
            let why = format!("it is a StyleGAN2 of {theirs}; onto this base goes one of {ours}");
            return Err(Error::Config { path: adapter.path.clone(), why });
        }
        let weights = gan.generator;
        notes.push(format!(
            "{adapter}: its generator's weights go onto the base, whose own noise stays{}",
            if weights.contains(MEAN_STYLE) {
                "; the mean of its styles is found anew"
            } else {
                ""
            }
        ));
        let full =
            |(name, _): (&str, &Tensor)| Ok((format!("{PREFIX}{name}"), weights.floats(name)?));
        self.network.parameters().iter().map(full).collect()
    }

    /// Latents `[n, style_dim]` and each layer's noise `[n, 1, side, side]` of seeds, which mean
    /// what each request says.
    fn seeded_latents_and_noises(
        &self,
        seeds: &[u64],
        requests: &[ImageRequest],
    ) -> (Tensor, Vec<Tensor>) {
        let (z, noises) = self.latents_and_noises(seeds);
        for (row, (&seed, _)) in (0..)
            .zip(seeds.iter().zip(requests))
            .filter(|(_, (_, request))| request.seeding == Seeding::Nvidia)
        {
            // What is larger was refused.
            let numbers = numpy_normal(seed as u32, self.network.config().style_dim as usize);
            z.get(row).copy_(&Tensor::from_slice(&numbers));
            for (noise, saved) in noises.iter().zip(self.network.noises()) {
                noise.get(row).copy_(&saved.get(0));
            }
        }
        (z, noises)
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        self.network.parameters().get(name.strip_prefix(PREFIX)?)
    }
}

/// A network's sizes in words.
fn sizes(config: &StyleGan2Config) -> String {
    let StyleGan2Config { size, channels, style_dim, mapping_layers, .. } = config;
    format!(
        "{size} pixels, channels {channels:?}, {mapping_layers} layers to {style_dim} numbers of \
         style"
    )
}

/// A hash of the sizes. What is hashed names their type as it was called when the first records
/// were written, so that those go on being of the same model.
fn settings_hash(config: &StyleGan2Config) -> String {
    let text = format!("{config:?}").replacen("StyleGan2Config", "Config", 1);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The mean of the styles of many latents, `[1, style_dim]`.
fn mean_style(network: &GeneratorNetwork, compute: Compute) -> Result<Tensor, Error> {
    let z =
        Rng::new(0).normal(&[MEAN_OF, network.config().style_dim]).to_device(compute.device.tch());
    stage("finding the mean style", || {
        Ok(no_grad(|| network.map(&z).mean_dim([0_i64].as_slice(), true, Kind::Float)))
    })
}

impl Generator for StyleGan2 {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn compute(&self) -> Compute {
        self.compute
    }

    fn check(&self, request: &ImageRequest) -> Result<(), Error> {
        let side = self.card.side;
        if request.seeding == Seeding::Nvidia && !self.has_noise {
            return Err(Error::Request(
                "the file has no noise of its own, which NVIDIA's scripts draw all pictures with \
                 (--seeding nvidia)"
                    .to_owned(),
            ));
        }
        let large = |seed: u64| request.seeding == Seeding::Nvidia && u32::try_from(seed).is_err();
        if large(request.seed) || request.blend.is_some_and(|blend| large(blend.seed())) {
            return Err(Error::Request(format!(
                "seeds go up to {} where they are NVIDIA's (--seeding nvidia)",
                u32::MAX
            )));
        }
        if request.size == (side, side) {
            return Ok(());
        }
        let (w, h) = request.size;
        Err(Error::Request(format!(
            "{w}x{h} pixels cannot be drawn: this StyleGAN2 draws {side}x{side}"
        )))
    }

    fn draw(
        &self,
        requests: &[ImageRequest],
        watch: &mut dyn Watch,
    ) -> Result<Vec<Picture>, Error> {
        for request in requests {
            self.check(request)?;
        }
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let pixels = stage("drawing", || {
            Ok::<_, Error>(no_grad(|| {
                let seeds: Vec<u64> = requests.iter().map(|request| request.seed).collect();
                let (z, noises) = self.seeded_latents_and_noises(&seeds, requests);
                let kept: Vec<f32> =
                    requests.iter().map(|request| request.truncation as f32).collect();
                let kept = Tensor::from_slice(&kept).view([-1, 1]).to_device(z.device());
                let styles = |z: &Tensor| {
                    self.network
                        .broadcast(&(&self.mean + (self.network.map(z) - &self.mean) * &kept))
                };
                let mut w = styles(&z);
                if requests.iter().any(|request| request.blend.is_some()) {
                    // A request without a blend is blended with itself.
                    let others: Vec<u64> = requests
                        .iter()
                        .map(|request| request.blend.map_or(request.seed, Blend::seed))
                        .collect();
                    let layers = self.network.config().styles();
                    let share = |request: &ImageRequest| {
                        request
                            .blend
                            .map_or(vec![0.0; layers as usize], |blend| blend.shares(layers))
                    };
                    let shares: Vec<f32> = requests.iter().flat_map(share).collect();
                    let shares =
                        Tensor::from_slice(&shares).view([-1, layers, 1]).to_device(z.device());
                    let other = styles(&self.seeded_latents_and_noises(&others, requests).0);
                    w = &w + (other - &w) * shares;
                }
                self.network.synthesize(&w, Noise::Given(&noises))
            }))
        })?;
        if let Some(index) = first_not_finite(&finite_each(&pixels)) {
            return Err(Error::NotFinite {
                what: "its pixels".to_owned(),
                prompt: String::new(),
                seed: requests[index].seed,
                advice: "leave the edits out or take less of them (FILE@0.5), a truncation nearer \
                    to 0, or another copy of the network",
            });
        }
        let pixels = no_grad(|| (pixels * 0.5 + 0.5).clamp(0.0, 1.0));
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
        to_pictures(&pixels)
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), Error> {
        let mut edited = std::mem::take(&mut self.edited);
        let replaced = edited.replace(edit, &self.card.hash, |name| self.find(name));
        self.edited = edited;
        replaced?;
        if let Some(mean) = self.base_mean.take() {
            self.mean = mean;
        }
        // Styles that are mapped otherwise have another mean.
        if self.edited.names().any(is_mapping) {
            let mean = mean_style(&self.network, self.compute)?;
            self.base_mean = Some(std::mem::replace(&mut self.mean, mean));
        }
        Ok(())
    }

    fn lay(&self, adapters: &[Adapter], ema: EmaChoice) -> Result<MergedAdapters, Error> {
        if ema == EmaChoice::Auto {
            return self.merge(adapters);
        }
        Err(Error::Request(
            "a StyleGAN2's averaged generator is taken as it is; ema does not fit, leave it out"
                .to_owned(),
        ))
    }

    fn model(&mut self) -> Model<'_> {
        Model::Gan(self)
    }

    fn synthesizer(&self) -> Option<&dyn Synthesizer> {
        Some(self)
    }

    fn tensor_names(&self) -> Vec<String> {
        self.parameters().into_iter().map(|(name, _)| name).collect()
    }

    fn base_tensor(&self, name: &str) -> Result<Tensor, Error> {
        let base = self.edited.original(name).or_else(|| self.find(name));
        base.map(Tensor::detach).ok_or_else(|| Error::unknown_tensor(name))
    }

    fn taken(&self, request: ImageRequest) -> ImageRequest {
        ImageRequest::of_seed(request.seed, request.truncation, self.card.side)
    }

    fn at_once(&self) -> Option<usize> {
        Some(sample_batch(self.card.side))
    }
}

impl Synthesizer for StyleGan2 {
    fn network(&self) -> &GeneratorNetwork {
        &self.network
    }

    fn discriminator(&self) -> Result<&Discriminator, Error> {
        let path = self.card.path.display();
        match &self.discriminator {
            Some(Ok(built)) => Ok(built),
            Some(Err(why)) => Err(Error::Request(format!(
                "{path} has a discriminator that unsee cannot build, and this method learns with \
                 one: {why}"
            ))),
            None => Err(Error::Request(format!(
                "{path} holds no discriminator, which this method learns with; give a training \
                 checkpoint (rosinality's `d`, NVIDIA's `D`)"
            ))),
        }
    }

    fn latents_and_noises(&self, seeds: &[u64]) -> (Tensor, Vec<Tensor>) {
        let config = self.network.config();
        let mut each: Vec<Rng> = seeds.iter().map(|&seed| Rng::new(seed)).collect();
        let mut draw = |shape: &[i64]| {
            let rows: Vec<Tensor> = each.iter_mut().map(|rng| rng.normal(shape)).collect();
            Tensor::cat(&rows, 0).to_device(self.compute.device.tch())
        };
        let z = draw(&[1, config.style_dim]);
        let noises =
            config.noise_sides().into_iter().map(|side| draw(&[1, 1, side, side])).collect();
        (z, noises)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        let full = |(name, tensor): (String, Tensor)| (format!("{PREFIX}{name}"), tensor);
        self.network.parameters().named_leaves().into_iter().map(full).collect()
    }
}
