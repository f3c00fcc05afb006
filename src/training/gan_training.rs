//! What a GAN training is given: both networks, real pictures, settings, and what else acts on the
//! generator.

use serde::{Deserialize, Serialize};

use super::{ClassConditioning, Error, FixedImages, RealImages};
use crate::model::stylegan2::{Discriminator, GeneratorNetwork};
use crate::torch::{Rng, Tensor};

/// The settings of the GAN training; the defaults are rosinality's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GanConfig {
    /// Pictures in a batch.
    pub batch: i64,
    /// How often a batch is drawn under two latents, one for the coarse layers and one for the
    /// fine.
    pub style_mixing: f64,
    /// Weight of R1, γ in γ/2 · ‖∇D‖².
    pub r1_gamma: f64,
    /// Steps from one R1 to the next; 0 leaves it out.
    pub d_reg_every: u64,
    /// Weight of the path length's penalty.
    pub path_length_weight: f64,
    /// Steps from one such penalty to the next; 0 leaves it out.
    pub g_reg_every: u64,
    /// What part of a batch that penalty takes.
    pub path_batch_shrink: i64,
    /// Pictures after which an old weight counts half in the generator's average.
    pub ema_half_life: f64,
    /// Whether the average remembers no more than `(1 + step) / (10 + step)` of itself, so that the
    /// average of a short training is not its beginning; rosinality's does not do so.
    pub ema_warmup: bool,
    /// How many times as fast as other weights those of the noise move. White noise is the first
    /// grain that a young generator finds, and one of few that are wrong everywhere.
    pub noise_lr: f64,
    /// How many times as fast the mapping moves: its weights are a hundred times as large as
    /// others, so that at their rate it hardly moves at all in a short training, and the synthesis
    /// has to draw something else under the same styles.
    pub mapping_lr: f64,
    /// How many times as fast as the discriminator the generator moves (two time scales, Heusel et
    /// al. 2017): one that can draw already is worn down by a discriminator that is not much ahead.
    pub generator_lr: f64,
    /// Steps at the beginning in which the discriminator moves alone: a new one has nothing to tell
    /// a generator that can draw already.
    pub discriminator_warmup: u64,
}

impl Default for GanConfig {
    fn default() -> Self {
        Self {
            batch: 16,
            style_mixing: 0.9,
            r1_gamma: 10.0,
            d_reg_every: 16,
            path_length_weight: 2.0,
            g_reg_every: 4,
            path_batch_shrink: 2,
            // 0.5^(32 / 10,000) a step of 16 pictures.
            ema_half_life: 5000.0,
            ema_warmup: true,
            noise_lr: 1.0,
            mapping_lr: 1.0,
            generator_lr: 1.0,
            discriminator_warmup: 0,
        }
    }
}

impl GanConfig {
    /// Steps after which both regularisations have been due.
    pub fn cycle(&self) -> u64 {
        self.d_reg_every.max(self.g_reg_every).max(1)
    }

    /// Of a generator that can draw already and goes on for a while, from pictures of its own: one
    /// latent a picture and no penalty on path lengths, a mapping that keeps up with the rest,
    /// because what a latent becomes is for the mapping to say, and R1 as suits 64 pixels (it grows
    /// with the picture).
    pub fn fine_tuning() -> Self {
        Self {
            style_mixing: 0.0,
            r1_gamma: 0.1,
            g_reg_every: 0,
            noise_lr: 0.5,
            mapping_lr: 100.0,
            ..Self::default()
        }
    }

    /// Says what is wrong with them in a GAN training of so many steps.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self, steps: u64) -> Result<(), String> {
        if self.discriminator_warmup > 0 && self.discriminator_warmup >= steps {
            return Err(format!(
                "discriminator_warmup is {}, steps in which the discriminator moves alone, and \
                 there are {steps} in all; lower discriminator_warmup, or take more steps",
                self.discriminator_warmup
            ));
        }
        if self.batch < 1 || self.path_batch_shrink < 1 {
            return Err(format!(
                "batch is {} and path_batch_shrink {}; both are at least 1",
                self.batch, self.path_batch_shrink
            ));
        }
        if !(0.0..=1.0).contains(&self.style_mixing) {
            return Err(format!("style_mixing is {}; it is a share, 0 to 1", self.style_mixing));
        }
        let weights = [
            self.r1_gamma,
            self.path_length_weight,
            self.ema_half_life,
            self.noise_lr,
            self.mapping_lr,
            self.generator_lr,
        ];
        if weights.iter().any(|weight| weight.is_nan() || *weight < 0.0) {
            return Err(format!(
                "r1_gamma, path_length_weight, ema_half_life, noise_lr, mapping_lr and \
                 generator_lr are {weights:?}; none is negative"
            ));
        }
        Ok(())
    }

    /// Says whether a discriminator that compares pictures in groups can take such batches.
    ///
    /// # Errors
    /// A batch that is no multiple of a group.
    pub fn fits(&self, group: i64) -> Result<(), String> {
        let whole = |n: i64| n <= group || n % group == 0;
        let batch = self.batch;
        if whole(batch) {
            return Ok(());
        }
        Err(format!(
            "a batch of {batch} pictures cannot be compared in groups of {group}, as this \
             discriminator does; take a multiple of {group}"
        ))
    }
}

/// A term of the generator's loss that depends on its parameters alone: its gradient is known
/// without a graph.
pub trait ParameterPenalty {
    /// Looks at all parameters that move, where the term does not fall apart into one for each. The
    /// gradients are those of the generator's own loss.
    fn prepare(&mut self, _parameters: &[&Tensor], _gradients: &[Option<Tensor>]) {}

    /// Adds the term's gradient to the `i`-th parameter's, after [`Self::prepare`].
    fn add_gradient(&self, i: usize, parameter: &Tensor, gradient: &mut Tensor);

    /// What it depends on: a state of others is another training's.
    fn fingerprint(&self) -> String;

    /// What it chose at its first step and must keep, where it has chosen.
    fn scalar(&self) -> Option<f64> {
        None
    }

    /// Takes that choice back.
    fn load_scalar(&mut self, _choice: f64) {}
}

/// Scores the generator on the way, and says when it is good enough.
pub trait EarlyStopping {
    /// Steps from one score to the next.
    fn every(&self) -> u64;

    /// How good the network is, whose parameters point at their averages meanwhile: larger is
    /// better, and the best is kept. `None` where it is only looked at.
    ///
    /// # Errors
    /// Whatever goes wrong on the way to a score.
    fn evaluate(&mut self, step: u64) -> Result<Option<f64>, Error>;

    /// A score that is enough.
    fn target(&self) -> f64;
}

/// Latents that are drawn more often than chance has it, so that both networks soon know what
/// becomes of them.
#[derive(Debug)]
pub struct OversampledLatents {
    /// `[n, style_dim]`
    pub latents: Tensor,
    /// Their share of each batch that the generator draws, 0 to 1.
    pub share: f64,
}

impl OversampledLatents {
    /// Latents `z` `[n, style_dim]` of chance, of which the first ones are replaced.
    pub(super) fn among(&self, z: &Tensor, rng: &mut Rng) -> Tensor {
        let n = z.size()[0];
        let replaced = self.of(n);
        let rows = rng.below(self.latents.size()[0], &[replaced]).to_device(self.latents.device());
        Tensor::cat(&[self.latents.index_select(0, &rows), z.narrow(0, replaced, n - replaced)], 0)
    }

    /// How many of a batch of `n` they are.
    pub(super) fn of(&self, n: i64) -> i64 {
        part(self.share, n)
    }
}

/// A share of a batch of `n`.
fn part(share: f64, n: i64) -> i64 {
    (share * n as f64).round() as i64
}

/// Pictures that the generator draws already, and is to go on drawing from the same latents.
pub struct RetainedImages<'a> {
    /// `n` of them at random.
    pub some: &'a dyn Fn(i64, &mut Rng) -> LatentImages,
    /// How much it counts beside the GAN training that they are drawn otherwise: the weight of
    /// their mean absolute difference, at their size and from farther away.
    pub weight: f64,
}

/// Pictures and what they were drawn from.
#[derive(Debug)]
pub struct LatentImages {
    /// `[n, style_dim]`
    pub z: Tensor,
    /// One `[n, 1, side, side]` for each layer.
    pub noises: Vec<Tensor>,
    /// `[n, 3, size, size]` from -1 to 1.
    pub pictures: Tensor,
}

/// Pictures that are never to pass for real, whoever drew them (negative data augmentation, Sinha
/// et al. 2021, arXiv 2102.05113): once the generator draws few of their kind the discriminator
/// would forget them, and the rest would pass.
#[derive(Debug)]
pub struct NegativeImages {
    /// The pictures.
    pub pictures: FixedImages,
    /// Their share of what the discriminator is told to be drawn, 0 to 1.
    pub share: f64,
}

impl NegativeImages {
    /// Drawn pictures `[n, 3, size, size]`, of which the first ones are replaced.
    pub(super) fn among(&self, drawn: &Tensor, rng: &mut Rng) -> Tensor {
        let n = drawn.size()[0];
        let replaced = part(self.share, n);
        let rest = drawn.narrow(0, replaced, n - replaced);
        Tensor::cat(&[self.pictures.some(replaced, rng).0, rest], 0)
    }
}

/// What a GAN training is given.
pub struct GanTraining<'a> {
    /// A short name; part of the seed of every step.
    pub name: &'static str,
    /// Draws.
    pub generator: &'a GeneratorNetwork,
    /// The generator's parameters that move, which want gradients.
    pub parameters: Vec<(String, Tensor)>,
    /// Tells drawn pictures from real ones; all of its parameters move and want gradients.
    pub discriminator: &'a Discriminator,
    /// What is real.
    pub real_images: &'a dyn RealImages,
    /// The settings.
    pub config: &'a GanConfig,
    /// Classes that regions of the noise stand for.
    pub conditioning: Option<&'a ClassConditioning>,
    /// Latents that are drawn more often.
    pub oversampled: Option<&'a OversampledLatents>,
    /// What is to stay as it is: of each batch whatever is not oversampled.
    pub retained: Option<&'a RetainedImages<'a>>,
    /// What never passes for real.
    pub negative_images: Option<&'a NegativeImages>,
    /// What else moves the generator.
    pub penalty: Option<&'a mut dyn ParameterPenalty>,
    /// Ends the GAN training early.
    pub early_stopping: Option<&'a mut dyn EarlyStopping>,
}

impl<'a> GanTraining<'a> {
    /// Between two networks all of whose parameters move, and nothing else.
    pub fn between(
        name: &'static str,
        generator: &'a GeneratorNetwork,
        discriminator: &'a Discriminator,
        real_images: &'a dyn RealImages,
        config: &'a GanConfig,
    ) -> Self {
        Self {
            name,
            generator,
            parameters: generator.parameters().named_leaves(),
            discriminator,
            real_images,
            config,
            conditioning: None,
            oversampled: None,
            retained: None,
            negative_images: None,
            penalty: None,
            early_stopping: None,
        }
    }
}

/// What a GAN training ended with.
#[derive(Debug)]
pub struct GanOutcome {
    /// The averages of the generator's parameters that moved, in their order: the last ones, or the
    /// best that early stopping saw.
    pub average: Vec<Tensor>,
    /// The best score, where there were any.
    pub score: Option<f64>,
    /// Steps that were done.
    pub steps: u64,
    /// The mean of both losses' sum over the last steps.
    pub loss: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Device, Kind};

    #[test]
    fn a_share_of_the_latents_is_replaced() {
        let z = Rng::new(1).normal(&[16, 3]);
        let oversampled =
            |share: f64| OversampledLatents { latents: Rng::new(2).normal(&[5, 3]) + 100.0, share };
        for (share, replaced) in [(0.0, 0), (0.5, 8), (0.3, 5), (1.0, 16)] {
            let mixed = oversampled(share).among(&z, &mut Rng::new(3));
            assert_eq!(mixed.size(), z.size());
            let is_replaced = mixed.select(1, 0).gt(50.0);
            assert_eq!(is_replaced.sum(Kind::Int64).int64_value(&[]), replaced, "{share}");
            let rest = |latents: &Tensor| latents.narrow(0, replaced, 16 - replaced);
            assert!(rest(&mixed).equal(&rest(&z)), "{share}");
        }
    }

    #[test]
    fn a_share_of_what_was_drawn_is_replaced() {
        let drawn = Rng::new(1).normal(&[8, 3, 4, 4]);
        let pictures = Tensor::full([5, 3, 4, 4], 9.0, (Kind::Float, tch::Device::Cpu));
        for (share, replaced) in [(0.0, 0), (0.25, 2), (1.0, 8)] {
            let negative_images =
                NegativeImages { pictures: FixedImages::new(&pictures, Device::CPU), share };
            let mixed = negative_images.among(&drawn, &mut Rng::new(3));
            assert_eq!(mixed.eq(9.0).sum(Kind::Int64).int64_value(&[]), replaced * 48, "{share}");
            let rest = |pictures: &Tensor| pictures.narrow(0, replaced, 8 - replaced);
            assert!(rest(&mixed).equal(&rest(&drawn)), "{share}");
        }
    }
}
