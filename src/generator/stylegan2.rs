//! `StyleGAN2` as a generator: a picture is a seed and a truncation. Latent and noise come from the
//! seed alone.

use std::collections::BTreeMap;
use std::path::Path;

use super::adapters::stacked;
use super::seeding::numpy_normal;
use super::stable_diffusion::{first_that_is_not, to_pictures};
use super::{
    Adapter, Blend, Error, Generator, ImageRequest, Laid, ModelCard, Seeding, Synthesizer,
};
use crate::model::Builder;
use crate::model::stylegan2::{self, Config, Discriminator, Noise, PREFIX, is_mapping};
use crate::pictures::Picture;
use crate::torch::{Compute, Kind, Rng, Tensor, finite_each, no_grad, stage};
use crate::watch::Watch;
use crate::weights::{Edit, MEAN_STYLE, Weights, is_stylegan, read_stylegan};

/// A generator from rosinality's or NVIDIA's files; in f32.
#[derive(Debug)]
pub struct StyleGan2 {
    card: ModelCard,
    network: stylegan2::Generator,
    /// Or why it cannot be built: only learning needs one.
    discriminator: Option<Result<Discriminator, String>>,
    /// The mean of all styles, `[1, style_dim]`.
    mean: Tensor,
    /// The base's, while an edit of the mapping is in place.
    own_mean: Option<Tensor>,
    /// The base's tensors in whose place an edit's are.
    originals: BTreeMap<String, Tensor>,
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
        let config = Config::of_file(&gan)?;
        let network = stylegan2::Generator::new(&config, Builder::load(weights, compute.device))?;
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
            settings: blake3::hash(format!("{config:?}").as_bytes()).to_hex().to_string(),
            parameters: network.parameters().count(),
            side: config.size,
            architecture: String::new(),
            predicts_velocity: false,
        };
        let originals = BTreeMap::new();
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
            own_mean: None,
            originals,
            compute,
            has_noise,
        })
    }

    /// Lays files onto it, one after the other: edits that were made of it, or generators that come
    /// of it.
    ///
    /// # Errors
    /// An edit of another base, tensors of other shapes, a file that is neither.
    pub fn lay(&self, adapters: &[Adapter]) -> Result<Laid, Error> {
        let mut laid: BTreeMap<String, Tensor> = BTreeMap::new();
        let (mut recipes, mut notes, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let original = |full: &str| -> Result<Tensor, Error> {
            let own = self.originals.get(full).or_else(|| self.find(full));
            let missing = || Error::EditShape {
                name: full.to_owned(),
                found: Vec::new(),
                wanted: Vec::new(),
            };
            Ok(own.ok_or_else(missing)?.detach())
        };
        for adapter in adapters {
            let file = Weights::open(&adapter.path)?;
            file.unchanged()?;
            let about = file.metadata();
            recipes.push(
                about.get("unsee.recipe").cloned().unwrap_or_else(|| format!("\"{adapter}\"")),
            );
            let values = if is_stylegan(&file) {
                let gan = read_stylegan(&file)?;
                let (own, other) = (self.network.config(), Config::of_file(&gan)?);
                let sizes = |of: &Config| {
                    let Config { size, channels, style_dim, mapping_layers, .. } = of;
                    format!(
                        "{size} pixels, channels {channels:?}, {mapping_layers} layers to \
                         {style_dim} numbers of style"
                    )
                };
                if sizes(own) != sizes(&other) {
                    let (own, other) = (sizes(own), sizes(&other));
                    let why =
                        format!("it is a StyleGAN2 of {other}; onto this base goes one of {own}");
                    return Err(Error::Config { path: adapter.path.clone(), why });
                }
                let other = gan.generator;
                notes.push(format!(
                    "{adapter}: its generator's weights go onto the base, whose own noise stays{}",
                    if other.contains(MEAN_STYLE) {
                        "; the mean of its styles is found anew"
                    } else {
                        ""
                    }
                ));
                let full = |(name, _): (&str, &Tensor)| {
                    Ok((format!("{PREFIX}{name}"), other.floats(name)?))
                };
                self.network.parameters().iter().map(full).collect::<Result<Vec<_>, Error>>()?
            } else {
                Edit::read(&file, &self.card.hash, original)?.tensors
            };
            let mut changed = 0;
            for (full, after) in values {
                let (before, after) = (original(&full)?, after.to_kind(Kind::Float));
                if before.size() != after.size() {
                    return Err(Error::EditShape {
                        name: full,
                        found: after.size(),
                        wanted: before.size(),
                    });
                }
                let after = after.to_device(before.device());
                // What is as it was is no change: the mean style belongs to a mapping that moved.
                if adapter.strength == 0.0 || after.equal(&before) {
                    continue;
                }
                changed += 1;
                let value = stacked(laid.get(&full), &before, after, adapter.strength);
                laid.insert(full, value);
            }
            if changed == 0 {
                warnings.push(format!("{adapter}: it changes nothing of the base"));
            }
        }
        let recipe = if recipes.len() == 1 {
            recipes.remove(0)
        } else {
            format!("[{}]", recipes.join(", "))
        };
        let edit = Edit {
            base: self.card.hash.clone(),
            recipe,
            tensors: laid.into_iter().collect(),
            ..Edit::default()
        };
        Ok(Laid { edit, notes, warnings })
    }

    /// Latents `[n, style_dim]` and each layer's noise `[n, 1, side, side]` of seeds, which mean
    /// what each shot says.
    fn chance_as(&self, seeds: &[u64], requests: &[ImageRequest]) -> (Tensor, Vec<Tensor>) {
        let (z, noises) = self.chance(seeds);
        for (row, (&seed, _)) in (0..)
            .zip(seeds.iter().zip(requests))
            .filter(|(_, (_, request))| request.seeding == Seeding::Nvidia)
        {
            // What is larger was refused.
            let numbers = numpy_normal(seed as u32, self.network.config().style_dim as usize);
            z.get(row).copy_(&Tensor::from_slice(&numbers));
            for (noise, own) in noises.iter().zip(self.network.noises()) {
                noise.get(row).copy_(&own.get(0));
            }
        }
        (z, noises)
    }

    /// A tensor of the base by full name, whatever is on it now.
    ///
    /// # Errors
    /// A name that it has not.
    pub fn base_tensor(&self, name: &str) -> Result<Tensor, Error> {
        let base = self.originals.get(name).or_else(|| self.find(name));
        base.map(Tensor::detach).ok_or_else(|| Error::EditShape {
            name: name.to_owned(),
            found: Vec::new(),
            wanted: Vec::new(),
        })
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        self.network.parameters().get(name.strip_prefix(PREFIX)?)
    }
}

/// The mean of the styles of many latents, `[1, style_dim]`.
fn mean_style(network: &stylegan2::Generator, compute: Compute) -> Result<Tensor, Error> {
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
                let (z, noises) = self.chance_as(&seeds, requests);
                let kept: Vec<f32> =
                    requests.iter().map(|request| request.truncation as f32).collect();
                let kept = Tensor::from_slice(&kept).view([-1, 1]).to_device(z.device());
                let styles = |z: &Tensor| {
                    self.network
                        .broadcast(&(&self.mean + (self.network.map(z) - &self.mean) * &kept))
                };
                let mut w = styles(&z);
                if requests.iter().any(|request| request.blend.is_some()) {
                    // Whoever has no other has the whole of himself.
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
                    let other = styles(&self.chance_as(&others, requests).0);
                    w = &w + (other - &w) * shares;
                }
                self.network.synthesize(&w, Noise::Given(&noises))
            }))
        })?;
        if let Some(index) = first_that_is_not(&finite_each(&pixels)) {
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
        if !edit.is_empty() && edit.base != self.card.hash {
            return Err(crate::weights::Error::other_base(&edit.base, &self.card.hash).into());
        }
        for (name, tensor) in &edit.tensors {
            let own = self.find(name).map(Tensor::size);
            if own.as_ref() != Some(&tensor.size()) {
                let (name, found, wanted) = (name.clone(), tensor.size(), own.unwrap_or_default());
                return Err(Error::EditShape { name, found, wanted });
            }
        }
        edit.check()?;
        no_grad(|| {
            for (name, original) in std::mem::take(&mut self.originals) {
                if let Some(own) = self.find(&name) {
                    own.detach().copy_(&original);
                }
            }
            for (name, tensor) in &edit.tensors {
                if let Some(own) = self.find(name) {
                    let original = own.detach().copy();
                    own.detach().copy_(tensor);
                    self.originals.insert(name.clone(), original);
                }
            }
        });
        if let Some(mean) = self.own_mean.take() {
            self.mean = mean;
        }
        // Styles that are mapped otherwise have another mean.
        if self.originals.keys().any(|name| is_mapping(name)) {
            let mean = mean_style(&self.network, self.compute)?;
            self.own_mean = Some(std::mem::replace(&mut self.mean, mean));
        }
        Ok(())
    }
}

impl Synthesizer for StyleGan2 {
    fn network(&self) -> &stylegan2::Generator {
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

    fn chance(&self, seeds: &[u64]) -> (Tensor, Vec<Tensor>) {
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
        let full = |(name, own): (String, Tensor)| (format!("{PREFIX}{name}"), own);
        self.network.parameters().named_leaves().into_iter().map(full).collect()
    }
}
