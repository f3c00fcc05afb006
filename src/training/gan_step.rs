//! One step of two networks that learn against each other.
//!
//! It is up to four moves: the discriminator by `softplus(-D(x)) + softplus(D(G(z)))`, now and then
//! its penalty on gradients at real pictures (R1, Mescheder et al. 2018), the generator by
//! `softplus(-D(G(z)))`, and now and then its penalty on unequal path lengths. The penalties are
//! lazy: rare, and so much the heavier; both optimizers' settings make up for the additional moves.

use std::f64::consts::LN_2;

use super::gan_latents::GanLatents;
use super::path_lengths::PathLengths;
use super::picture_distance::{energy_score, from_afar, picture_distance};
use super::{
    ClassConditioning, ConditioningSettings, Error, GanConfig, GanTraining, LentWeights,
    ParameterPenalty, TrainConfig, Trainable,
};
use crate::model::stylegan2::is_mapping;
use crate::torch::{
    Adam, AdamSettings, Compute, Ema, Kind, Rng, Tensor, grad, grad_of_grad, no_grad, stage,
};
use crate::watch::Watch;

/// Pixels on a side of the coarsest view by which a class conditioning holds the generator.
const COARSEST: i64 = 8;

/// How names of the noise's weights end.
const NOISE: &str = "noise.weight";

/// A GAN training with its optimizers.
pub(super) struct GanStep<'a> {
    training: GanTraining<'a>,
    plan: &'a TrainConfig,
    compute: Compute,
    /// The discriminator's parameters and the class conditioning's.
    discriminator_parameters: Vec<(String, Tensor)>,
    generator: Adam,
    discriminator: Adam,
    average: Ema,
    path_lengths: PathLengths,
    /// The averages at the best score, where there is early stopping.
    best_average: Vec<Tensor>,
    best_score: f64,
    done: bool,
}

/// What a class conditioning holds the generator to at a step.
struct HeldImages<'a> {
    conditioning: &'a ClassConditioning,
    /// `[n, 3, size, size]` from -1 to 1.
    pictures: Tensor,
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
        let mut discriminator_parameters = training.discriminator.parameters().named_leaves();
        discriminator_parameters.extend(
            training.conditioning.iter().flat_map(|conditioning| conditioning.parameters()),
        );
        let rate = |(name, _): &(String, Tensor)| match name {
            name if name.ends_with(NOISE) => config.noise_lr,
            name if is_mapping(name) => config.mapping_lr,
            _ => 1.0,
        };
        let rates = training.parameters.iter().map(rate).collect();
        let best_average = match &training.early_stopping {
            Some(_) => {
                training.parameters.iter().map(|(_, tensor)| tensor.detach().copy()).collect()
            }
            None => Vec::new(),
        };
        Ok(Self {
            generator: adam(&training.parameters, lazy(config.g_reg_every))?.with_rates(rates),
            discriminator: adam(&discriminator_parameters, lazy(config.d_reg_every))?,
            average: Ema::new(training.parameters.iter().map(|(_, tensor)| tensor)),
            path_lengths: PathLengths { mean: None },
            best_average,
            best_score: f64::NEG_INFINITY,
            done: false,
            discriminator_parameters,
            training,
            plan,
            compute,
        })
    }

    /// The generator's averages, and their score where there is one: the best ones then.
    pub(super) fn into_average(self) -> (Vec<Tensor>, Option<f64>) {
        if self.best_score.is_finite() {
            return (self.best_average, Some(self.best_score));
        }
        (self.average.average().iter().map(Tensor::copy).collect(), None)
    }

    /// What a batch of `n` is drawn from.
    fn latents(&self, n: i64, rng: &mut Rng) -> GanLatents {
        GanLatents::random(&self.training, n, self.compute.device, rng)
    }

    fn draw(&self, latents: &GanLatents) -> Tensor {
        latents.draw(self.training.generator)
    }

    /// Logits `[n]`; with classes also by how well the pictures fit them.
    fn logits(&self, pictures: &Tensor, classes: Option<&Tensor>) -> Tensor {
        let features = self.training.discriminator.features(pictures);
        let logits = self.training.discriminator.logits(&features);
        match (self.training.conditioning, classes) {
            (Some(conditioning), Some(classes)) => logits + conditioning.fit(&features, classes),
            _ => logits,
        }
    }

    /// The class conditioning, while it lasts.
    fn conditioning(&self, step: u64) -> Option<&'a ClassConditioning> {
        self.training.conditioning.filter(|conditioning| step < conditioning.settings.until)
    }

    /// What a class conditioning holds the generator to at this step, and what it is drawn from.
    fn held(&self, step: u64, rng: &mut Rng) -> Option<(HeldImages<'a>, GanLatents)> {
        let holds = |conditioning: &&ClassConditioning| conditioning.settings.shape_weight > 0.0;
        let conditioning = self.conditioning(step).filter(holds)?;
        let GanConfig { batch, .. } = *self.training.config;
        let dim = self.training.generator.config().style_dim;
        let (pictures, z) = self.training.real_images.some_with_latents(batch, dim, rng)?;
        let latents = self.latents(batch, rng).with_latents(z);
        Some((HeldImages { conditioning, pictures }, latents))
    }

    /// The classes that pictures drawn from these latents are to show, where a class conditioning
    /// says so at this step.
    fn classes(&self, latents: &GanLatents, step: u64) -> Option<Tensor> {
        let conditioning = self.conditioning(step)?;
        latents.unmixed().map(|z| conditioning.classes(z))
    }

    /// The discriminator's moves; gives its loss.
    fn step_discriminator(&mut self, step: u64, lr: f64, rng: &mut Rng) -> Result<f64, Error> {
        let config = self.training.config;
        let tensors = handles(&self.discriminator_parameters);
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let (latents, real, real_classes) = if let Some((held, latents)) = self.held(step, rng) {
            let classes = self.classes(&latents, step);
            (latents, held.pictures, classes)
        } else {
            let latents = self.latents(config.batch, rng);
            let (real, classes) = self.training.real_images.some(config.batch, rng);
            (latents, real, classes)
        };
        let fake_classes = self.classes(&latents, step);
        let real_classes = real_classes.filter(|_| fake_classes.is_some());
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
            let slope = slope.ok_or_else(|| Error::unreached("the discriminator's pictures"))?;
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
    fn step_generator(&mut self, step: u64, lr: f64, rng: &mut Rng) -> Result<f64, Error> {
        let config = self.training.config;
        let tensors = handles(&self.training.parameters);
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let (held, mut latents) = match self.held(step, rng) {
            Some((held, latents)) => (Some(held), latents),
            None => (None, self.latents(config.batch, rng)),
        };
        let oversampled = self.training.oversampled.map_or(0, |latents| latents.of(config.batch));
        let retained = self.training.retained.filter(|_| oversampled < config.batch);
        let retained = retained.map(|retained| {
            let known = (retained.some)(config.batch - oversampled, rng);
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
            if let Some(held) = &held {
                self.hold(&mut loss, held, &drawn, latents, rng);
            }
            if let Some((pictures, weight)) = &retained {
                let n = pictures.size()[0];
                let again = drawn.narrow(0, config.batch - n, n);
                loss += picture_distance(&again, pictures, COARSEST) * *weight;
            }
            (grad(&loss, &tensors)?, value)
        };
        if let Some(penalty) = &mut self.training.penalty {
            no_grad(|| {
                penalty.prepare(&tensors, &gradients);
                for (i, (parameter, gradient)) in tensors.iter().zip(&mut gradients).enumerate() {
                    let gradient = gradient.get_or_insert_with(|| parameter.zeros_like());
                    penalty.add_gradient(i, parameter, gradient);
                }
            });
        }
        self.generator.step(&gradients, lr)?;
        if config.g_reg_every > 0 && step.is_multiple_of(config.g_reg_every) {
            self.regularize_path_lengths(&tensors, lr, rng)?;
        }
        Ok(value)
    }

    /// Adds to the generator's loss how far what was drawn from these latents is from what the
    /// class conditioning holds it to.
    fn hold(
        &self,
        loss: &mut Tensor,
        held: &HeldImages<'_>,
        drawn: &Tensor,
        latents: GanLatents,
        rng: &mut Rng,
    ) {
        let HeldImages { conditioning, pictures } = held;
        let ConditioningSettings { shape_weight, grain_weight, .. } = conditioning.settings;
        *loss += picture_distance(&from_afar(drawn), &from_afar(pictures), COARSEST) * shape_weight;
        if grain_weight > 0.0 {
            let GanConfig { batch, .. } = *self.training.config;
            let config = self.training.generator.config();
            let noises = config.noises(batch, rng, self.compute.device);
            let again = self.draw(&latents.with_noises(noises)).to_kind(Kind::Float);
            let finest = pictures.size()[2];
            *loss += energy_score(drawn, &again, pictures, finest, 1.0) * grain_weight;
        }
    }

    /// The generator's move against unequal path lengths.
    fn regularize_path_lengths(
        &mut self,
        tensors: &[&Tensor],
        lr: f64,
        rng: &mut Rng,
    ) -> Result<(), Error> {
        let config = self.training.config;
        let latents = self.latents((config.batch / config.path_batch_shrink).max(1), rng);
        let styles = latents.styles(self.training.generator);
        // Where no layer of the mapping moves they are no part of a graph.
        let styles = if styles.requires_grad() { styles } else { styles.set_requires_grad(true) };
        let pictures = latents.synthesize(self.training.generator, &styles);
        let penalty = self.path_lengths.penalty(&styles, &pictures, rng)?
            * (config.path_length_weight * config.g_reg_every as f64);
        self.generator.step(&grad(&penalty, tensors)?, lr)?;
        Ok(())
    }

    /// Scores the averages, and keeps the best; of equal ones the last, which more steps and slower
    /// ones have gone into.
    fn check_early_stopping(&mut self, step: u64) -> Result<(), Error> {
        let Some(early_stopping) = &mut self.training.early_stopping else { return Ok(()) };
        // While the discriminator moves alone there is nothing new to see; at the end there is,
        // whenever that is.
        let due =
            (step + 1).is_multiple_of(early_stopping.every().max(1)) || step + 1 == self.plan.steps;
        if step < self.training.config.discriminator_warmup || !due {
            return Ok(());
        }
        let parameters = self.training.parameters.iter().map(|(_, parameter)| parameter);
        let lent = LentWeights::pointing(parameters, self.average.average());
        let score = early_stopping.evaluate(step + 1);
        drop(lent);
        if let Some(score) = score?.filter(|score| *score >= self.best_score) {
            self.best_score = score;
            no_grad(|| {
                let pairs = self.best_average.iter_mut().zip(self.average.average());
                pairs.for_each(|(best, average)| best.copy_(average));
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
        let shapes = self.training.parameters.iter().chain(&self.discriminator_parameters);
        let shapes: Vec<String> =
            shapes.map(|(name, tensor)| format!("{name} {:?}", tensor.size())).collect();
        let penalty =
            self.training.penalty.as_deref().map(ParameterPenalty::fingerprint).unwrap_or_default();
        let oversampled = self.training.oversampled.map_or(0.0, |latents| latents.share);
        let retained = self.training.retained.map_or(0.0, |retained| retained.weight);
        let negative_images = self.training.negative_images.map_or(0.0, |images| images.share);
        format!(
            "{:?}, oversampled {oversampled}, retained {retained}, negative images \
             {negative_images}, {}, penalty {penalty}",
            self.training.config,
            shapes.concat()
        )
    }

    fn step(&mut self, step: u64, lr: f64, _: &mut dyn Watch) -> Result<f64, Error> {
        let mut rng = Rng::for_step(self.plan.seed, self.training.name, step);
        let [for_d, for_g] = [self.training.config.d_reg_every, self.training.config.g_reg_every]
            .map(|every| lr * lazy(every));
        let loss = stage(self.training.name, || -> Result<f64, Error> {
            let loss = self.step_discriminator(step, for_d, &mut rng)?;
            if step < self.training.config.discriminator_warmup {
                return Ok(loss);
            }
            let for_g = for_g * self.training.config.generator_lr;
            Ok(loss + self.step_generator(step, for_g, &mut rng)?)
        })?;
        let GanConfig { batch, ema_half_life, ema_warmup, .. } = *self.training.config;
        let decay = (-LN_2 * batch as f64 / ema_half_life.max(1e-9)).exp();
        self.average.update(
            self.training.parameters.iter().map(|(_, parameter)| parameter),
            decay,
            if ema_warmup { step } else { u64::MAX },
        );
        self.check_early_stopping(step)?;
        Ok(loss)
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let within = |what: &'static str| {
            move |(name, tensor): &(String, Tensor)| {
                (format!("{what}.{name}"), tensor.shallow_clone())
            }
        };
        let mut all: Vec<(String, Tensor)> =
            self.training.parameters.iter().map(within("g")).collect();
        all.extend(self.discriminator_parameters.iter().map(within("d")));
        for (what, tensors) in [("average", self.average.average()), ("best", &self.best_average)] {
            let named = self.training.parameters.iter().zip(tensors);
            all.extend(
                named.map(|((name, _), tensor)| (format!("{what}.{name}"), tensor.shallow_clone())),
            );
        }
        all.extend(self.generator.state().iter().map(within("adam_g")));
        all.extend(self.discriminator.state().iter().map(within("adam_d")));
        all
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        let mut numbers = vec![
            ("path_length", self.path_lengths.mean.unwrap_or(f64::NAN)),
            ("best_score", self.best_score),
            ("done", f64::from(u8::from(self.done))),
        ];
        if let Some(penalty) = self.training.penalty.as_deref() {
            numbers.push(("penalty", penalty.scalar().unwrap_or(f64::NAN)));
        }
        numbers
    }

    fn load_scalar(&mut self, name: &str, value: f64) {
        match name {
            "path_length" => self.path_lengths.mean = value.is_finite().then_some(value),
            "best_score" => self.best_score = value,
            "done" => self.done = value > 0.0,
            "penalty" => {
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

/// The tensors themselves, without their names.
fn handles(named: &[(String, Tensor)]) -> Vec<Tensor> {
    named.iter().map(|(_, tensor)| tensor.shallow_clone()).collect()
}

/// `mean softplus(x)`.
fn softplus(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float).softplus().mean(Kind::Float)
}
