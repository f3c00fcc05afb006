//! One step of two networks that learn against each other.
//!
//! It is up to four moves: the discriminator by `softplus(-D(x)) + softplus(D(G(z)))`, now and then
//! its penalty on gradients at real pictures (R1, Mescheder et al. 2018), the generator by
//! `softplus(-D(G(z)))`, and now and then its penalty on unequal path lengths. The penalties are
//! lazy: rare, and so much the heavier; both optimizers' settings make up for the additional moves.

use std::f64::consts::LN_2;

use super::reconstruction::{difference, energy_score, from_afar};
use super::trainer::Trainable;
use super::{
    ClassConditioning, Error, GanConfig, GanTraining, LatentImages, LentWeights, ParameterPenalty,
    TrainConfig,
};
use crate::model::stylegan2::{Noise, is_mapping};
use crate::torch::{
    Adam, AdamSettings, Compute, Ema, Kind, Rng, Tensor, grad, grad_of_grad, no_grad, stage,
};
use crate::watch::Watch;

/// Pixels on a side of the coarsest view by which a class conditioning holds the generator.
const COARSEST: i64 = 8;

/// How names of the noise's weights end.
const NOISE: &str = "noise.weight";

/// How fast the mean path length follows.
const PATH_PACE: f64 = 0.01;

/// A GAN training with its optimizers.
pub(super) struct GanStep<'a> {
    training: GanTraining<'a>,
    plan: &'a TrainConfig,
    compute: Compute,
    /// The discriminator's parameters and the class conditioning's.
    against: Vec<(String, Tensor)>,
    generator: Adam,
    discriminator: Adam,
    average: Ema,
    /// The mean path length, once one was seen. rosinality's begins at 0, which pulls the lengths
    /// of a generator that has learned before to nothing until the mean has caught up, after
    /// hundreds of penalties.
    path: Option<f64>,
    /// The averages at the best score, where there is early stopping.
    best_average: Vec<Tensor>,
    best: f64,
    done: bool,
}

impl<'a> GanStep<'a> {
    /// Before its first step.
    ///
    /// # Errors
    /// A batch that these networks cannot compare, a parameter that cannot move.
    pub(super) fn new(
        training: GanTraining<'a>,
        plan: &'a TrainConfig,
        compute: Compute,
    ) -> Result<Self, Error> {
        let config = training.config;
        config.fits(training.generator.config().group).map_err(Error::GanConfig)?;
        let adam = |tensors: &[(String, Tensor)], lazy: f64| {
            let betas = (0.0, 0.99_f64.powf(lazy));
            let settings = AdamSettings { betas, decoupled: false, ..AdamSettings::default() };
            Adam::new(tensors.iter().map(|(_, tensor)| tensor), settings)
        };
        let mut against: Vec<(String, Tensor)> = training.discriminator.parameters().named_leaves();
        against.extend(
            training.conditioning.iter().flat_map(|conditioning| conditioning.parameters()),
        );
        let rate = |(name, _): &(String, Tensor)| match name {
            name if name.ends_with(NOISE) => config.noise_lr,
            name if is_mapping(name) => config.mapping_lr,
            _ => 1.0,
        };
        let rates = training.parameters.iter().map(rate).collect();
        let best_average = match &training.early_stopping {
            Some(_) => training.parameters.iter().map(|(_, own)| own.detach().copy()).collect(),
            None => Vec::new(),
        };
        Ok(Self {
            generator: adam(&training.parameters, lazy(config.g_reg_every))?.with_rates(rates),
            discriminator: adam(&against, lazy(config.d_reg_every))?,
            average: Ema::new(training.parameters.iter().map(|(_, tensor)| tensor)),
            path: None,
            best_average,
            best: f64::NEG_INFINITY,
            done: false,
            against,
            training,
            plan,
            compute,
        })
    }

    /// The generator's averages, and their score where there is one: the best ones then.
    pub(super) fn into_average(self) -> (Vec<Tensor>, Option<f64>) {
        if self.best.is_finite() {
            return (self.best_average, Some(self.best));
        }
        (self.average.average().iter().map(Tensor::copy).collect(), None)
    }

    fn device(&self) -> tch::Device {
        self.compute.device.tch()
    }

    /// What a batch of `n` is drawn from, under one latent each or under two.
    fn latents(&self, n: i64, rng: &mut Rng) -> GanLatents {
        let config = self.training.generator.config();
        let mixed = rng.uniform(&[1]).double_value(&[0]) < self.training.config.style_mixing;
        let mut z = || {
            let z = rng.normal(&[n, config.style_dim]).to_device(self.device());
            self.training
                .oversampled
                .map_or_else(|| z.shallow_clone(), |often| often.among(&z, rng))
        };
        let z = if mixed { vec![z(), z()] } else { vec![z()] };
        let crossing = 1 + rng.below(config.styles() - 1, &[1]).int64_value(&[0]);
        GanLatents { z, crossing, noises: config.noises(n, rng, self.compute.device) }
    }

    /// Styles `w+` `[n, styles, style_dim]` of latents.
    fn styles(&self, latents: &GanLatents) -> Tensor {
        let generator = self.training.generator;
        let w: Vec<Tensor> =
            latents.z.iter().map(|z| generator.broadcast(&generator.map(z))).collect();
        match w.as_slice() {
            [coarse, fine] => {
                let rest = fine.size()[1] - latents.crossing;
                let parts =
                    [coarse.narrow(1, 0, latents.crossing), fine.narrow(1, latents.crossing, rest)];
                Tensor::cat(&parts, 1)
            }
            _ => w[0].shallow_clone(),
        }
    }

    fn draw(&self, latents: &GanLatents) -> Tensor {
        self.training.generator.synthesize(&self.styles(latents), Noise::Given(&latents.noises))
    }

    /// Logits `[n]`; with classes also by how well the pictures fit them.
    fn logits(&self, pictures: &Tensor, classes: Option<&Tensor>) -> Tensor {
        let features = self.training.discriminator.features(pictures);
        let verdict = self.training.discriminator.verdict(&features);
        match (self.training.conditioning, classes) {
            (Some(conditioning), Some(classes)) => verdict + conditioning.fit(&features, classes),
            _ => verdict,
        }
    }

    /// The class conditioning that holds the generator to pictures at this step, and pictures with
    /// their latents.
    fn held(
        &self,
        step: u64,
        rng: &mut Rng,
    ) -> Option<(&'a ClassConditioning, Tensor, GanLatents)> {
        let conditioning = self
            .training
            .conditioning
            .filter(|conditioning| step < conditioning.until && conditioning.shape_weight > 0.0)?;
        let GanConfig { batch, .. } = *self.training.config;
        let (pictures, z) = self.training.real_images.traced(
            batch,
            self.training.generator.config().style_dim,
            rng,
        )?;
        let latents = GanLatents { z: vec![z], ..self.latents(batch, rng) };
        Some((conditioning, pictures, latents))
    }

    /// The classes that pictures drawn from these latents are to show, where a class conditioning
    /// says so at this step.
    fn classes(&self, latents: &GanLatents, step: u64) -> Option<Tensor> {
        let conditioning =
            self.training.conditioning.filter(|conditioning| step < conditioning.until)?;
        (latents.z.len() == 1).then(|| conditioning.classes(&latents.z[0]))
    }

    /// The discriminator's moves; gives its loss.
    fn discriminate(&mut self, step: u64, lr: f64, rng: &mut Rng) -> Result<f64, Error> {
        let config = self.training.config;
        let tensors: Vec<Tensor> =
            self.against.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let (latents, fake_classes, real, real_classes) =
            if let Some((conditioning, real, latents)) = self.held(step, rng) {
                let classes = conditioning.classes(&latents.z[0]);
                (latents, Some(classes.shallow_clone()), real, Some(classes))
            } else {
                let latents = self.latents(config.batch, rng);
                let classes = self.classes(&latents, step);
                let (real, real_classes) = self.training.real_images.some(config.batch, rng);
                let real_classes = real_classes.filter(|_| classes.is_some());
                (latents, classes, real, real_classes)
            };
        let value = {
            let _scope = self.compute.scope();
            let mut fake = no_grad(|| self.draw(&latents));
            if let Some(negative_images) = self.training.negative_images {
                fake = negative_images.among(&fake.to_kind(Kind::Float), rng);
            }
            let (real, fake) = (
                self.logits(&real, real_classes.as_ref()),
                self.logits(&fake, fake_classes.as_ref()),
            );
            let loss = softplus(&-real) + softplus(&fake);
            self.discriminator.step(&grad(&loss, &tensors)?, lr)?;
            loss.double_value(&[])
        };
        if config.d_reg_every > 0 && step.is_multiple_of(config.d_reg_every) {
            let real = real.set_requires_grad(true);
            let logits = self.logits(&real, real_classes.as_ref());
            let slope = grad_of_grad(&logits.sum(Kind::Float), &[&real])?.remove(0);
            let slope =
                slope.ok_or_else(|| Error::Model(nothing("the discriminator's pictures")))?;
            let energy = slope.square().flatten(1, -1).sum_dim_intlist(
                [1_i64].as_slice(),
                false,
                Kind::Float,
            );
            let penalty =
                energy.mean(Kind::Float) * (config.r1_gamma / 2.0 * config.d_reg_every as f64);
            self.discriminator.step(&grad(&penalty, &tensors)?, lr)?;
        }
        Ok(value)
    }

    /// The generator's moves; gives its loss.
    fn generate(&mut self, step: u64, lr: f64, rng: &mut Rng) -> Result<f64, Error> {
        let config = self.training.config;
        let tensors: Vec<Tensor> =
            self.training.parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let (held, mut latents) = match self.held(step, rng) {
            Some((conditioning, pictures, latents)) => (Some((conditioning, pictures)), latents),
            None => (None, self.latents(config.batch, rng)),
        };
        let often = self.training.oversampled.map_or(0, |often| often.of(config.batch));
        let retained = self.training.retained.filter(|_| often < config.batch).map(|retained| {
            let known = (retained.some)(config.batch - often, rng);
            latents.end_with(&known);
            (known.pictures, retained.weight)
        });
        let classes = self.classes(&latents, step);
        let (mut gradients, value) = {
            let _scope = self.compute.scope();
            let drawn = self.draw(&latents);
            let mut loss = softplus(&-self.logits(&drawn, classes.as_ref()));
            let value = loss.double_value(&[]);
            let drawn = drawn.to_kind(Kind::Float);
            if let Some((conditioning, pictures)) = &held {
                loss += difference(&from_afar(&drawn), &from_afar(pictures), COARSEST)
                    * conditioning.shape_weight;
                if conditioning.grain_weight > 0.0 {
                    let noises = self.training.generator.config().noises(
                        config.batch,
                        rng,
                        self.compute.device,
                    );
                    let again = self.draw(&GanLatents { noises, ..latents }).to_kind(Kind::Float);
                    let finest = pictures.size()[2];
                    loss += energy_score([&drawn, &again], pictures, finest, 1.0)
                        * conditioning.grain_weight;
                }
            }
            if let Some((pictures, weight)) = &retained {
                let n = pictures.size()[0];
                loss +=
                    difference(&drawn.narrow(0, config.batch - n, n), pictures, COARSEST) * *weight;
            }
            (grad(&loss, &tensors)?, value)
        };
        if let Some(penalty) = &mut self.training.penalty {
            no_grad(|| {
                penalty.prepare(&tensors, &gradients);
                for (i, (own, gradient)) in tensors.iter().zip(&mut gradients).enumerate() {
                    let gradient = gradient.get_or_insert_with(|| own.zeros_like());
                    penalty.add_gradient(i, own, gradient);
                }
            });
        }
        self.generator.step(&gradients, lr)?;
        if config.g_reg_every > 0 && step.is_multiple_of(config.g_reg_every) {
            self.even_out(&tensors, lr, rng)?;
        }
        Ok(value)
    }

    /// The generator's move against unequal path lengths.
    fn even_out(&mut self, tensors: &[&Tensor], lr: f64, rng: &mut Rng) -> Result<(), Error> {
        let config = self.training.config;
        let latents = self.latents((config.batch / config.path_batch_shrink).max(1), rng);
        let styles = self.styles(&latents);
        // Where no layer of the mapping moves they are no part of a graph.
        let styles = if styles.requires_grad() { styles } else { styles.set_requires_grad(true) };
        let pictures = self.training.generator.synthesize(&styles, Noise::Given(&latents.noises));
        let pixels = (pictures.size()[2] * pictures.size()[3]) as f64;
        let direction = rng.normal(&pictures.size()).to_device(self.device()) / pixels.sqrt();
        let slope = grad_of_grad(&(pictures * direction).sum(Kind::Float), &[&styles])?.remove(0);
        let slope = slope.ok_or_else(|| Error::Model(nothing("the styles")))?;
        let lengths = slope.square().sum_dim_intlist([2_i64].as_slice(), false, Kind::Float);
        let lengths = lengths.mean_dim([1_i64].as_slice(), false, Kind::Float).sqrt();
        let here = lengths.mean(Kind::Float);
        let before = self.path.unwrap_or_else(|| here.double_value(&[]));
        let mean = (here - before) * PATH_PACE + before;
        self.path = Some(mean.double_value(&[]));
        let penalty = (lengths - mean).square().mean(Kind::Float)
            * (config.path_length_weight * config.g_reg_every as f64);
        self.generator.step(&grad(&penalty, tensors)?, lr)?;
        Ok(())
    }

    /// Looks at the averages, and keeps the best; of equal ones the last, which more steps and
    /// slower ones have gone into.
    fn check_early_stopping(&mut self, step: u64) -> Result<(), Error> {
        let Some(early_stopping) = &mut self.training.early_stopping else { return Ok(()) };
        // While the discriminator moves alone there is nothing new to see; at the end there is,
        // whenever that is.
        let due =
            (step + 1).is_multiple_of(early_stopping.every().max(1)) || step + 1 == self.plan.steps;
        if step < self.training.config.discriminator_warmup || !due {
            return Ok(());
        }
        let own: Vec<&Tensor> = self.training.parameters.iter().map(|(_, own)| own).collect();
        let lent = LentWeights::restoring(own);
        lent.assign(self.average.average());
        let score = early_stopping.evaluate(step + 1);
        drop(lent);
        let score = score?;
        if let Some(score) = score.filter(|score| *score >= self.best) {
            self.best = score;
            no_grad(|| {
                let pairs = self.best_average.iter_mut().zip(self.average.average());
                pairs.for_each(|(best, own)| best.copy_(own));
            });
            self.done = score >= early_stopping.target();
        }
        Ok(())
    }
}

impl Trainable for GanStep<'_> {
    fn name(&self) -> &'static str {
        self.training.name
    }

    fn fingerprint(&self) -> String {
        let shapes = self.training.parameters.iter().chain(&self.against);
        let shapes: Vec<String> =
            shapes.map(|(name, own)| format!("{name} {:?}", own.size())).collect();
        let penalty =
            self.training.penalty.as_deref().map(ParameterPenalty::fingerprint).unwrap_or_default();
        let often = self.training.oversampled.map_or(0.0, |often| often.share);
        let retained = self.training.retained.map_or(0.0, |retained| retained.weight);
        let negative_images =
            self.training.negative_images.map_or(0.0, |negative_images| negative_images.share);
        format!(
            "{:?} {often} {retained} {negative_images} {} {penalty}",
            self.training.config,
            shapes.concat()
        )
    }

    fn step(&mut self, step: u64, lr: f64, _: &mut dyn Watch) -> Result<f64, Error> {
        let mut rng = Rng::for_step(self.plan.seed, self.training.name, step);
        let [for_d, for_g] = [self.training.config.d_reg_every, self.training.config.g_reg_every]
            .map(|every| lr * lazy(every));
        let loss = stage(self.training.name, || -> Result<f64, Error> {
            let against = self.discriminate(step, for_d, &mut rng)?;
            if step < self.training.config.discriminator_warmup {
                return Ok(against);
            }
            Ok(against
                + self.generate(step, for_g * self.training.config.generator_lr, &mut rng)?)
        })?;
        let GanConfig { batch, ema_half_life, ema_warmup, .. } = *self.training.config;
        let decay = (-LN_2 * batch as f64 / ema_half_life.max(1e-9)).exp();
        self.average.update(
            self.training.parameters.iter().map(|(_, own)| own),
            decay,
            if ema_warmup { step } else { u64::MAX },
        );
        self.check_early_stopping(step)?;
        Ok(loss)
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let share = |what: &'static str| {
            move |(name, own): &(String, Tensor)| (format!("{what}.{name}"), own.shallow_clone())
        };
        let mut all: Vec<(String, Tensor)> =
            self.training.parameters.iter().map(share("g")).collect();
        all.extend(self.against.iter().map(share("d")));
        for (what, tensors) in [("average", self.average.average()), ("best", &self.best_average)] {
            let named = self.training.parameters.iter().zip(tensors);
            all.extend(
                named.map(|((name, _), own)| (format!("{what}.{name}"), own.shallow_clone())),
            );
        }
        all.extend(self.generator.state().iter().map(share("adam_g")));
        all.extend(self.discriminator.state().iter().map(share("adam_d")));
        all
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        let path = self.path.unwrap_or(f64::NAN);
        let mut numbers =
            vec![("path", path), ("grade", self.best), ("done", f64::from(u8::from(self.done)))];
        if let Some(penalty) = self.training.penalty.as_deref() {
            numbers.push(("pull", penalty.scalar().unwrap_or(f64::NAN)));
        }
        numbers
    }

    fn load_scalar(&mut self, name: &str, value: f64) {
        match name {
            "path" => self.path = value.is_finite().then_some(value),
            "grade" => self.best = value,
            "done" => self.done = value > 0.0,
            "pull" => {
                if let Some(penalty) =
                    self.training.penalty.as_deref_mut().filter(|_| value.is_finite())
                {
                    penalty.load_scalar(value);
                }
            }
            _ => {}
        }
    }

    fn loss_falls(&self) -> bool {
        false
    }

    fn done(&self) -> bool {
        self.done
    }
}

/// By how much rates and decays shrink where a penalty makes more moves than there are steps.
fn lazy(every: u64) -> f64 {
    if every == 0 { 1.0 } else { every as f64 / (every as f64 + 1.0) }
}

/// What a batch is drawn from.
struct GanLatents {
    /// One, or two where the batch is mixed.
    z: Vec<Tensor>,
    /// The first layer that is drawn under the second.
    crossing: i64,
    noises: Vec<Tensor>,
}

impl GanLatents {
    /// Puts these in the last ones' place; they are drawn under one latent each.
    fn end_with(&mut self, known: &LatentImages) {
        let put = |own: &mut Tensor, known: &Tensor| {
            let rest = own.size()[0] - known.size()[0];
            *own = Tensor::cat(&[&own.narrow(0, 0, rest), known], 0);
        };
        self.z.iter_mut().for_each(|z| put(z, &known.z));
        self.noises.iter_mut().zip(&known.noises).for_each(|(own, known)| put(own, known));
    }
}

/// `mean softplus(x)`.
fn softplus(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float).softplus().mean(Kind::Float)
}

fn nothing(what: &str) -> crate::model::Error {
    crate::model::Error::Config(format!("{what} do not reach what is drawn"))
}
