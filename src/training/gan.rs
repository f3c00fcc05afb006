//! `StyleGAN2`'s training of two networks in turns (Karras et al. 2020, sections 3 and 3.1, with
//! the settings of `rosinality/stylegan2-pytorch`). What a step is stands in `gan_step`.

use super::gan_step::GanStep;
use super::{Error, GanOutcome, GanTraining, LentWeights, TrainConfig, train_loop};
use crate::torch::{Compute, MemoryMode, Precision, Tensor};
use crate::watch::Watch;

/// Trains both to the plan's end, from a checkpoint in `folder` where there is one. Both networks
/// are left as they are after the last step.
///
/// # Errors
/// As every training.
pub fn train_gan<'a>(
    training: GanTraining<'a>,
    plan: &'a TrainConfig,
    compute: Compute,
    folder: Option<&std::path::Path>,
    watch: &mut dyn Watch,
) -> Result<GanOutcome, Error> {
    check_gan_compute(compute)?;
    let mut trainer = GanStep::new(training, plan, compute)?;
    let end = train_loop(&mut trainer, plan, compute, folder, watch)?;
    let (average, score) = trainer.into_average();
    Ok(GanOutcome { average, score, steps: end.step, loss: end.mean })
}

/// As [`train_gan`], with networks that want no gradients and are left as they were, whatever
/// happens.
///
/// # Errors
/// As every training.
// duplicate: it takes what the other takes
pub fn train_gan_and_restore<'a>(
    training: GanTraining<'a>,
    plan: &'a TrainConfig,
    compute: Compute,
    folder: Option<&std::path::Path>,
    watch: &mut dyn Watch,
) -> Result<GanOutcome, Error> {
    let generator = training.parameters.iter().map(|(_, parameter)| parameter.shallow_clone());
    let discriminator =
        training.discriminator.parameters().tensors().into_iter().map(Tensor::shallow_clone);
    let all: Vec<Tensor> = generator.chain(discriminator).collect();
    let _restored = LentWeights::restoring(&all);
    let train = |on: bool| all.iter().for_each(|parameter| drop(parameter.set_requires_grad(on)));
    train(true);
    let outcome = train_gan(training, plan, compute, folder, watch);
    train(false);
    outcome
}

/// Refuses what a GAN training would ignore: gradients of gradients are not scaled and not computed
/// again.
///
/// # Errors
/// A precision or a memory mode that is not for networks of a GAN.
pub fn check_gan_compute(compute: Compute) -> Result<(), Error> {
    let wrong = |why: &str| Err(crate::torch::Error::Precision(why.to_owned()).into());
    if compute.precision == Precision::F16 {
        return wrong("the networks of a GAN learn in f32, tf32 or bf16; use --precision bf16");
    }
    if compute.memory != MemoryMode::Fast {
        return wrong(
            "the networks of a GAN know no --memory balanced or low; take a smaller batch",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Builder;
    use crate::model::stylegan2::{Discriminator, GeneratorNetwork, Noise, StyleGan2Config};
    use crate::torch::{Device, Kind, Rng, no_grad};
    use crate::training::{
        ClassConditioning, ConditioningSettings, EarlyStopping, FixedImages, GanConfig,
        LatentImages, NegativeImages, OversampledLatents, ParameterPenalty, RealImages,
        RetainedImages,
    };
    use crate::watch::{InterruptAfter, Quiet};

    const HERE: Compute =
        Compute { device: Device::CPU, precision: Precision::F32, memory: MemoryMode::Fast };

    fn small_config() -> StyleGan2Config {
        StyleGan2Config {
            size: 8,
            style_dim: 8,
            mapping_layers: 2,
            channels: vec![8, 6],
            group: 4,
            clamp: None,
        }
    }

    /// Both networks before their first step.
    fn untrained() -> (GeneratorNetwork, Discriminator) {
        let generator =
            GeneratorNetwork::new(&small_config(), Builder::fresh(1, Device::CPU)).unwrap();
        let discriminator =
            Discriminator::new(&small_config(), Builder::fresh(2, Device::CPU)).unwrap();
        generator.parameters().train(true);
        discriminator.parameters().train(true);
        (generator, discriminator)
    }

    /// Of two classes, both of which occur.
    fn conditioned(until: u64, shape_weight: f64, grain_weight: f64) -> ClassConditioning {
        let absent = Tensor::zeros([2], (Kind::Float, tch::Device::Cpu));
        let settings = ConditioningSettings { until, shape_weight, grain_weight };
        ClassConditioning::new(&[2], &absent, 8, settings, Device::CPU)
    }

    /// How far from `wanted` pictures drawn of these latents are.
    fn far(generator: &GeneratorNetwork, z: &Tensor, wanted: &Tensor) -> f64 {
        no_grad(|| {
            let drawn = generator.synthesize(&generator.broadcast(&generator.map(z)), Noise::Own);
            (drawn - wanted).abs().mean(Kind::Float).double_value(&[])
        })
    }

    /// Stripes whose class is which way they go.
    struct Stripes;

    impl RealImages for Stripes {
        fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
            let way = rng.below(2, &[n]);
            let row = Tensor::from_slice(&[1.0_f32, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]);
            let [lying, standing] = [row.view([1, 1, 8, 1]), row.view([1, 1, 1, 8])]
                .map(|x| x.expand([n, 3, 8, 8], false));
            (lying.where_self(&way.eq(0).view([-1, 1, 1, 1]), &standing), Some(way.unsqueeze(1)))
        }
    }

    /// Weight decay whose strength is chosen at the first step.
    struct Decay(f64);

    impl ParameterPenalty for Decay {
        fn prepare(&mut self, parameters: &[&Tensor], _: &[Option<Tensor>]) {
            if self.0.is_nan() {
                self.0 = 1e-3 * parameters.len() as f64;
            }
        }
        fn fingerprint(&self) -> String {
            "decay".to_owned()
        }
        fn add_gradient(&self, _: usize, parameter: &Tensor, gradient: &mut Tensor) {
            let _ = gradient.g_add_(&(parameter * self.0));
        }
        fn scalar(&self) -> Option<f64> {
            Some(self.0)
        }
        fn load_scalar(&mut self, choice: f64) {
            self.0 = choice;
        }
    }

    /// Scores by the step.
    struct Scores(Vec<Option<f64>>);

    impl EarlyStopping for Scores {
        fn every(&self) -> u64 {
            2
        }
        fn evaluate(&mut self, step: u64) -> Result<Option<f64>, Error> {
            Ok(self.0[step as usize / 2 - 1])
        }
        fn target(&self) -> f64 {
            0.9
        }
    }

    /// A GAN training from the beginning, with everything that a step can have; both networks'
    /// weights at its end.
    fn session(
        steps: u64,
        folder: Option<&std::path::Path>,
        early_stopping: Option<&mut dyn EarlyStopping>,
        watch: &mut dyn Watch,
    ) -> Result<(GanOutcome, Vec<Tensor>), Error> {
        let (generator, discriminator) = untrained();
        let config = GanConfig {
            batch: 4,
            style_mixing: 0.5,
            d_reg_every: 3,
            g_reg_every: 2,
            discriminator_warmup: 1,
            ..GanConfig::default()
        };
        let conditioning = conditioned(8, 0.0, 0.0);
        let mut penalty = Decay(f64::NAN);
        let plan = TrainConfig { cooldown: 0.5, ..TrainConfig::constant(steps, 2e-3, 7) };
        let training = GanTraining {
            conditioning: Some(&conditioning),
            penalty: Some(&mut penalty),
            early_stopping: match early_stopping {
                Some(early_stopping) => Some(early_stopping),
                None => None,
            },
            ..GanTraining::between("test", &generator, &discriminator, &Stripes, &config)
        };
        let outcome = train_gan(training, &plan, HERE, folder, watch)?;
        let weights = generator.parameters().iter().chain(discriminator.parameters().iter());
        Ok((outcome, weights.map(|(_, weight)| weight.detach().copy()).collect()))
    }

    #[test]
    fn interrupted_and_resumed_ends_with_the_same_bytes() {
        let (through, weights) = session(14, None, None, &mut Quiet).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for stop in [1, 5, 6, 11] {
            let stopped = session(14, Some(folder.path()), None, &mut InterruptAfter(stop, 0));
            assert!(matches!(stopped, Err(Error::Interrupted(step)) if step == stop));
        }
        let (resumed, again) = session(14, Some(folder.path()), None, &mut Quiet).unwrap();
        assert!(through.average.iter().zip(&resumed.average).all(|(a, b)| a.equal(b)));
        assert!(weights.iter().zip(&again).all(|(a, b)| a.equal(b)));
        let is_finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
        assert!(through.average.iter().all(is_finite));
    }

    #[test]
    fn the_best_that_may_be_kept_is_kept() {
        // The best is damaged, the second best comes at step 4, and the target is never reached.
        let scores = vec![Some(0.1), Some(0.5), Some(0.3), None, Some(0.2)];
        let (retained, _) = session(10, None, Some(&mut Scores(scores)), &mut Quiet).unwrap();
        assert_eq!(retained.steps, 10);
        let (four, _) =
            session(10, None, Some(&mut Scores(vec![None, Some(0.95)])), &mut Quiet).unwrap();
        assert_eq!(four.steps, 4);
        assert!(retained.average.iter().zip(&four.average).all(|(a, b)| a.equal(b)));
    }

    /// Bright where a latent's first number is above its second, dark elsewhere.
    struct Lamps;

    impl Lamps {
        fn lit(z: &Tensor) -> Tensor {
            let bright = z.select(1, 0).gt_tensor(&z.select(1, 1)).to_kind(Kind::Float);
            (bright * 1.6 - 0.8).view([-1, 1, 1, 1]).expand([-1, 3, 8, 8], false)
        }
    }

    impl RealImages for Lamps {
        fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
            (Self::lit(&rng.normal(&[n, 2])), None)
        }

        fn some_with_latents(&self, n: i64, dim: i64, rng: &mut Rng) -> Option<(Tensor, Tensor)> {
            let z = rng.normal(&[n, dim]);
            Some((Self::lit(&z), z))
        }
    }

    #[test]
    fn class_conditioning_holds_pictures_to_their_latents() {
        let apart = |shape_weight: f64| {
            let (generator, discriminator) = untrained();
            let config = GanConfig {
                batch: 8,
                style_mixing: 0.0,
                ema_half_life: 200.0,
                ..GanConfig::default()
            };
            let conditioning = conditioned(u64::MAX, shape_weight, 0.0);
            let training = GanTraining {
                conditioning: Some(&conditioning),
                ..GanTraining::between("lamps", &generator, &discriminator, &Lamps, &config)
            };
            let outcome =
                train_gan(training, &TrainConfig::constant(100, 1e-2, 1), HERE, None, &mut Quiet)
                    .unwrap();
            generator.parameters().assign(&outcome.average);
            let z = Rng::new(3).normal(&[64, 8]);
            far(&generator, &z, &Lamps::lit(&z))
        };
        let (held, free) = (apart(50.0), apart(0.0));
        assert!(held < 0.8 * free, "{held} {free}");
    }

    /// White noise on grey, whatever the latent.
    struct Snow;

    impl RealImages for Snow {
        fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
            (rng.normal(&[n, 1, 8, 8]).expand([n, 3, 8, 8], false) * 0.5, None)
        }

        fn some_with_latents(&self, n: i64, dim: i64, rng: &mut Rng) -> Option<(Tensor, Tensor)> {
            Some((self.some(n, rng).0, rng.normal(&[n, dim])))
        }
    }

    #[test]
    fn class_conditioning_holds_pictures_to_their_grain() {
        let varied = |grain_weight: f64| {
            let (generator, discriminator) = untrained();
            let config = GanConfig {
                batch: 8,
                style_mixing: 0.0,
                ema_half_life: 100.0,
                ..GanConfig::default()
            };
            let conditioning = conditioned(u64::MAX, 1.0, grain_weight);
            let training = GanTraining {
                conditioning: Some(&conditioning),
                ..GanTraining::between("snow", &generator, &discriminator, &Snow, &config)
            };
            let outcome =
                train_gan(training, &TrainConfig::constant(60, 1e-2, 1), HERE, None, &mut Quiet)
                    .unwrap();
            generator.parameters().assign(&outcome.average);
            let styles = generator.broadcast(&generator.map(&Rng::new(3).normal(&[32, 8])));
            let drawn = |seed: u64| {
                let noises = small_config().noises(32, &mut Rng::new(seed), Device::CPU);
                no_grad(|| generator.synthesize(&styles, Noise::Given(&noises)))
            };
            (drawn(4) - drawn(5)).std(true).double_value(&[])
        };
        let (held, free) = (varied(20.0), varied(0.0));
        assert!(held > 2.0 * free, "{held} {free}");
    }

    #[test]
    fn what_is_kept_is_drawn_as_before() {
        let (old, _) = untrained();
        // Half of each batch goes where the real pictures are, the other half stays.
        let lit = Tensor::full([1, 3, 8, 8], 0.8, (Kind::Float, tch::Device::Cpu));
        let z = Rng::new(3).normal(&[24, 8]);
        let (gone, stays) = (z.narrow(0, 0, 8), z.narrow(0, 8, 16));
        let draw = |generator: &GeneratorNetwork, z: &Tensor| {
            no_grad(|| generator.synthesize(&generator.broadcast(&generator.map(z)), Noise::Own))
        };
        let (pictures, noises) =
            (draw(&old, &stays), small_config().noises(16, &mut Rng::new(4), Device::CPU));
        let some = |n: i64, rng: &mut Rng| {
            let rows = rng.below(16, &[n]);
            let [z, pictures] = [&stays, &pictures].map(|all| all.index_select(0, &rows));
            LatentImages {
                z,
                pictures,
                noises: noises.iter().map(|noise| noise.index_select(0, &rows)).collect(),
            }
        };
        let moved = |weight: f64| {
            let (generator, discriminator) = untrained();
            let real_images = FixedImages::new(&lit, Device::CPU);
            let config = GanConfig {
                batch: 8,
                style_mixing: 0.0,
                ema_half_life: 200.0,
                ..GanConfig::default()
            };
            let training = GanTraining {
                oversampled: Some(&OversampledLatents {
                    latents: gone.shallow_clone(),
                    share: 0.5,
                }),
                retained: Some(&RetainedImages { some: &some, weight }),
                ..GanTraining::between("kept", &generator, &discriminator, &real_images, &config)
            };
            let outcome =
                train_gan(training, &TrainConfig::constant(100, 5e-3, 1), HERE, None, &mut Quiet)
                    .unwrap();
            generator.parameters().assign(&outcome.average);
            far(&generator, &stays, &pictures)
        };
        let (held, free) = (moved(50.0), moved(0.0));
        assert!(held < 0.4 * free, "{held} {free}");
    }

    #[test]
    fn negative_images_are_not_forgotten() {
        let grey = |shade: f64| Tensor::full([4, 3, 8, 8], shade, (Kind::Float, tch::Device::Cpu));
        // How much more than a dark picture, which nobody draws, a bright one passes for real, as
        // all real ones are.
        let told_apart = |share: f64| {
            let (generator, discriminator) = untrained();
            let config = GanConfig { batch: 8, generator_lr: 0.0, ..GanConfig::default() };
            let real_images = FixedImages::new(&grey(0.8), Device::CPU);
            let negative_images =
                NegativeImages { pictures: FixedImages::new(&grey(-0.8), Device::CPU), share };
            let training = GanTraining {
                negative_images: Some(&negative_images),
                ..GanTraining::between("shunned", &generator, &discriminator, &real_images, &config)
            };
            train_gan(training, &TrainConfig::constant(80, 5e-3, 1), HERE, None, &mut Quiet)
                .unwrap();
            let logit = |shade: f64| {
                no_grad(|| discriminator.forward(&grey(shade)).mean(Kind::Float).double_value(&[]))
            };
            logit(0.8) - logit(-0.8)
        };
        let (negative_images, unknown) = (told_apart(0.5), told_apart(0.0));
        assert!(negative_images > 1.5 * unknown, "{negative_images} {unknown}");
    }

    #[test]
    fn what_a_gan_training_would_ignore_is_refused() {
        check_gan_compute(HERE).unwrap();
        let half = check_gan_compute(Compute { precision: Precision::F16, ..HERE }).unwrap_err();
        assert!(half.to_string().contains("use --precision bf16"), "{half}");
        let low = check_gan_compute(Compute { memory: MemoryMode::Low, ..HERE }).unwrap_err();
        assert!(low.to_string().contains("a smaller batch"), "{low}");
    }

    #[test]
    fn it_learns_what_passes_for_real() {
        let (generator, discriminator) = untrained();
        // One colour, which a new generator does not draw.
        let colour = Tensor::from_slice(&[0.8_f32, -0.6, 0.1]).view([1, 3, 1, 1]);
        let real_images = FixedImages::new(&colour.expand([8, 3, 8, 8], false), Device::CPU);
        let config =
            GanConfig { batch: 8, r1_gamma: 1.0, ema_half_life: 200.0, ..GanConfig::default() };
        let training =
            GanTraining::between("colour", &generator, &discriminator, &real_images, &config);
        let z = Rng::new(3).normal(&[32, 8]);
        let before = far(&generator, &z, &colour);
        let outcome =
            train_gan(training, &TrainConfig::constant(250, 5e-3, 1), HERE, None, &mut Quiet)
                .unwrap();
        generator.parameters().assign(&outcome.average);
        let after = far(&generator, &z, &colour);
        assert!(after < 0.4 * before, "{before} {after}");
    }
}
