//! `StyleGAN2` as a generator: a picture is a seed and a truncation. Latent and noise come from the seed alone.

use std::path::Path;

use super::stable_diffusion::to_pictures;
use super::{Error, Generator, ModelCard, Shot};
use crate::model::Builder;
use crate::model::stylegan2::{self, Config, Noise};
use crate::pictures::Picture;
use crate::torch::{Kind, Place, Rng, Tensor, no_grad, stage};
use crate::watch::Watch;
use crate::weights::{Edit, MEAN_STYLE, Weights, read_stylegan};

/// A generator from rosinality's or NVIDIA's files; in f32.
#[derive(Debug)]
pub struct StyleGan2 {
    card: ModelCard,
    network: stylegan2::Generator,
    /// The mean of all styles, `[1, style_dim]`.
    mean: Tensor,
    place: Place,
}

/// Latents of which the mean style is made where a file has none, as rosinality does.
const MEAN_OF: i64 = 4096;

impl StyleGan2 {
    /// Loads the averaged generator of a file.
    ///
    /// # Errors
    /// A file that holds none, a tensor that is missing or of another shape.
    pub fn load(path: &Path, place: Place) -> Result<Self, Error> {
        let gan = read_stylegan(&Weights::open(path)?)?;
        let weights = &gan.generator;
        let config = Config::of_file(&gan)?;
        let network = stylegan2::Generator::new(&config, Builder::load(weights, place.device))?;
        let mean = if weights.contains(MEAN_STYLE) {
            weights.tensor(MEAN_STYLE)?.to_kind(Kind::Float).view([1, -1]).to_device(place.device.tch())
        } else {
            let z = Rng::new(0).normal(&[MEAN_OF, config.style_dim]).to_device(place.device.tch());
            stage("finding the mean style", || {
                Ok::<_, Error>(no_grad(|| network.map(&z).mean_dim([0_i64].as_slice(), true, Kind::Float)))
            })?
        };
        let card = ModelCard {
            kind: "stylegan2".to_owned(),
            path: super::folder::canonical(path),
            hash: weights.hash()?.to_hex().to_string(),
            parameters: network.parameters().count(),
            side: config.size,
        };
        Ok(Self { card, network, mean, place })
    }

    /// Latents `[n, style_dim]` and each layer's noise `[n, 1, side, side]`: a picture's own, whatever its company.
    fn chance(&self, shots: &[Shot]) -> (Tensor, Vec<Tensor>) {
        let config = self.network.config();
        let mut each: Vec<Rng> = shots.iter().map(|shot| Rng::new(shot.seed)).collect();
        let mut draw = |shape: &[i64]| {
            let rows: Vec<Tensor> = each.iter_mut().map(|rng| rng.normal(shape)).collect();
            Tensor::cat(&rows, 0).to_device(self.place.device.tch())
        };
        let z = draw(&[1, config.style_dim]);
        let noises = config.noise_sides().into_iter().map(|side| draw(&[1, 1, side, side])).collect();
        (z, noises)
    }
}

impl Generator for StyleGan2 {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn check(&self, shot: &Shot) -> Result<(), Error> {
        let side = self.card.side;
        if shot.size == (side, side) {
            return Ok(());
        }
        let (w, h) = shot.size;
        Err(Error::Shot(format!("{w}x{h} pixels cannot be drawn: this StyleGAN2 draws {side}x{side}")))
    }

    fn draw(&self, shots: &[Shot], watch: &mut dyn Watch) -> Result<Vec<Picture>, Error> {
        for shot in shots {
            self.check(shot)?;
        }
        if shots.is_empty() {
            return Ok(Vec::new());
        }
        let pixels = stage("drawing", || {
            Ok::<_, Error>(no_grad(|| {
                let (z, noises) = self.chance(shots);
                let kept: Vec<f32> = shots.iter().map(|shot| shot.truncation as f32).collect();
                let kept = Tensor::from_slice(&kept).view([-1, 1]).to_device(z.device());
                let w = &self.mean + (self.network.map(&z) - &self.mean) * kept;
                let picture = self.network.synthesize(&self.network.broadcast(&w), Noise::Given(&noises));
                (picture * 0.5 + 0.5).clamp(0.0, 1.0)
            }))
        })?;
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
        to_pictures(&pixels)
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), Error> {
        if edit.is_empty() {
            return Ok(());
        }
        Err(Error::Shot("edits of a StyleGAN2 are not built yet".to_owned()))
    }
}
