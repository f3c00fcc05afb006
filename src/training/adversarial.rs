//! Two networks that learn against each other: `StyleGAN2`'s training (Karras et al. 2020, sections 3 and 3.1, with the
//! settings of `rosinality/stylegan2-pytorch`). What a step is stands in `bout`.

use super::bout::Bout;
use super::sitting::drive;
use super::{Contest, Error, Plan, Rivals};
use crate::torch::{Place, Precision, Tensor, Thrift, no_grad};
use crate::watch::Watch;

/// Lets them compete to the plan's end, from a checkpoint in `folder` where there is one. Both networks are left as they
/// are after the last step.
///
/// # Errors
/// As every training.
pub fn compete<'a>(
    contest: Contest<'a>,
    plan: &'a Plan,
    place: Place,
    folder: Option<&std::path::Path>,
    watch: &mut dyn Watch,
) -> Result<Rivals, Error> {
    can_compete(place)?;
    let mut bout = Bout::new(contest, plan, place)?;
    let end = drive(&mut bout, plan, place, folder, watch)?;
    let (average, grade) = bout.into_average();
    Ok(Rivals { average, grade, steps: end.step, loss: end.mean })
}

/// As [`compete`], with networks that want no gradients and are left as they were, whatever happens.
///
/// # Errors
/// As every training.
pub fn compete_on_loan<'a>(
    contest: Contest<'a>,
    plan: &'a Plan,
    place: Place,
    folder: Option<&std::path::Path>,
    watch: &mut dyn Watch,
) -> Result<Rivals, Error> {
    let moves = contest.moves.iter().map(|(_, own)| own.shallow_clone());
    let against = contest.discriminator.parameters().tensors().into_iter().map(Tensor::shallow_clone);
    let all: Vec<Tensor> = moves.chain(against).collect();
    let before: Vec<Tensor> = no_grad(|| all.iter().map(|own| own.detach().copy()).collect());
    let train = |on: bool| all.iter().for_each(|own| drop(own.set_requires_grad(on)));
    train(true);
    let outcome = compete(contest, plan, place, folder, watch);
    train(false);
    no_grad(|| all.iter().zip(&before).for_each(|(own, before)| own.detach().copy_(before)));
    outcome
}

/// Refuses what a contest would ignore: gradients of gradients are not scaled and not computed again.
///
/// # Errors
/// A precision or a thrift that is not for networks that compete.
pub fn can_compete(place: Place) -> Result<(), Error> {
    let wrong = |why: &str| Err(crate::torch::Error::Precision(why.to_owned()).into());
    if place.precision == Precision::F16 {
        return wrong("networks that compete learn in f32, tf32 or bf16; use --precision bf16");
    }
    if place.memory != Thrift::Fast {
        return wrong("networks that compete know no --memory balanced or low; take a smaller batch");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Builder;
    use crate::model::stylegan2::{Config, Discriminator, Generator, Noise};
    use crate::torch::{Device, Kind, Rng};
    use crate::training::{Exam, Frozen, Guide, Kept, Known, Oversampled, Pull, Reals, Rules, Shunned};
    use crate::watch::{Impatient, Quiet};

    const HERE: Place = Place { device: Device::CPU, precision: Precision::F32, memory: Thrift::Fast };

    fn config() -> Config {
        Config { size: 8, style_dim: 8, mapping_layers: 2, channels: vec![8, 6], group: 4, clamp: None }
    }

    /// Both networks before their first step.
    fn young() -> (Generator, Discriminator) {
        let generator = Generator::new(&config(), Builder::fresh(1, Device::CPU)).unwrap();
        let discriminator = Discriminator::new(&config(), Builder::fresh(2, Device::CPU)).unwrap();
        generator.parameters().train(true);
        discriminator.parameters().train(true);
        (generator, discriminator)
    }

    /// Of two classes both occur.
    fn all() -> Tensor {
        Tensor::zeros([2], (Kind::Float, tch::Device::Cpu))
    }

    /// How far from `wanted` pictures drawn of these latents are.
    fn far(generator: &Generator, z: &Tensor, wanted: &Tensor) -> f64 {
        no_grad(|| {
            let drawn = generator.synthesize(&generator.broadcast(&generator.map(z)), Noise::Own);
            (drawn - wanted).abs().mean(Kind::Float).double_value(&[])
        })
    }

    /// Stripes whose class is which way they go.
    struct Stripes;

    impl Reals for Stripes {
        fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
            let way = rng.below(2, &[n]);
            let row = Tensor::from_slice(&[1.0_f32, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]);
            let [lying, standing] =
                [row.view([1, 1, 8, 1]), row.view([1, 1, 1, 8])].map(|x| x.expand([n, 3, 8, 8], false));
            (lying.where_self(&way.eq(0).view([-1, 1, 1, 1]), &standing), Some(way.unsqueeze(1)))
        }
    }

    /// Draws towards zero, and counts.
    struct Home(f64);

    impl Pull for Home {
        fn look(&mut self, parameters: &[&Tensor], _: &[Option<Tensor>]) {
            if self.0.is_nan() {
                self.0 = 1e-3 * parameters.len() as f64;
            }
        }
        fn facts(&self) -> String {
            "home".to_owned()
        }
        fn add(&self, _: usize, parameter: &Tensor, gradient: &mut Tensor) {
            let _ = gradient.g_add_(&(parameter * self.0));
        }
        fn memory(&self) -> Option<f64> {
            Some(self.0)
        }
        fn recall(&mut self, choice: f64) {
            self.0 = choice;
        }
    }

    /// Grades by the step.
    struct Grades(Vec<Option<f64>>);

    impl Exam for Grades {
        fn every(&self) -> u64 {
            2
        }
        fn grade(&mut self, step: u64) -> Result<Option<f64>, Error> {
            Ok(self.0[step as usize / 2 - 1])
        }
        fn pass(&self) -> f64 {
            0.9
        }
    }

    /// A contest from the beginning, with everything that a step can have; both networks' weights at its end.
    fn sitting(
        steps: u64,
        folder: Option<&std::path::Path>,
        exam: Option<&mut dyn Exam>,
        watch: &mut dyn Watch,
    ) -> Result<(Rivals, Vec<Tensor>), Error> {
        let (generator, discriminator) = young();
        let rules = Rules { batch: 4, mixing: 0.5, r1_every: 3, path_every: 2, ahead: 1, ..Rules::default() };
        let guide = Guide::new(&[2], &all(), 8, (8, 0.0, 0.0), Device::CPU);
        let mut pull = Home(f64::NAN);
        let plan = Plan { cooldown: 0.5, ..Plan::constant(steps, 2e-3, 7) };
        let contest = Contest {
            guide: Some(&guide),
            pull: Some(&mut pull),
            exam: match exam {
                Some(exam) => Some(exam),
                None => None,
            },
            ..Contest::between("test", (&generator, &discriminator), &Stripes, &rules)
        };
        let rivals = compete(contest, &plan, HERE, folder, watch)?;
        let weights = generator.parameters().iter().chain(discriminator.parameters().iter());
        Ok((rivals, weights.map(|(_, own)| own.detach().copy()).collect()))
    }

    #[test]
    fn interrupted_and_resumed_ends_with_the_same_bytes() {
        let (through, weights) = sitting(14, None, None, &mut Quiet).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for stop in [1, 5, 6, 11] {
            let stopped = sitting(14, Some(folder.path()), None, &mut Impatient(stop, 0));
            assert!(matches!(stopped, Err(Error::Interrupted(step)) if step == stop));
        }
        let (resumed, again) = sitting(14, Some(folder.path()), None, &mut Quiet).unwrap();
        assert!(through.average.iter().zip(&resumed.average).all(|(a, b)| a.equal(b)));
        assert!(weights.iter().zip(&again).all(|(a, b)| a.equal(b)));
        assert!(through.average.iter().all(|own| own.isfinite().all().int64_value(&[]) == 1));
    }

    #[test]
    fn the_best_that_may_be_kept_is_kept() {
        // The best is damaged, the second best comes at step 4, and the exam is never passed.
        let grades = vec![Some(0.1), Some(0.5), Some(0.3), None, Some(0.2)];
        let (kept, _) = sitting(10, None, Some(&mut Grades(grades)), &mut Quiet).unwrap();
        assert_eq!(kept.steps, 10);
        let (four, _) = sitting(10, None, Some(&mut Grades(vec![None, Some(0.95)])), &mut Quiet).unwrap();
        assert_eq!(four.steps, 4);
        assert!(kept.average.iter().zip(&four.average).all(|(a, b)| a.equal(b)));
    }

    /// Bright where a latent's first number is above its second, dark elsewhere.
    struct Lamps;

    impl Lamps {
        fn lit(z: &Tensor) -> Tensor {
            let bright = z.select(1, 0).gt_tensor(&z.select(1, 1)).to_kind(Kind::Float);
            (bright * 1.6 - 0.8).view([-1, 1, 1, 1]).expand([-1, 3, 8, 8], false)
        }
    }

    impl Reals for Lamps {
        fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
            (Self::lit(&rng.normal(&[n, 2])), None)
        }

        fn traced(&self, n: i64, dim: i64, rng: &mut Rng) -> Option<(Tensor, Tensor)> {
            let z = rng.normal(&[n, dim]);
            Some((Self::lit(&z), z))
        }
    }

    #[test]
    fn a_guide_holds_pictures_to_their_latents() {
        let apart = |hold: f64| {
            let (generator, discriminator) = young();
            let rules = Rules { batch: 8, mixing: 0.0, average: 200.0, ..Rules::default() };
            let guide = Guide::new(&[2], &all(), 8, (u64::MAX, hold, 0.0), Device::CPU);
            let contest = Contest {
                guide: Some(&guide),
                ..Contest::between("lamps", (&generator, &discriminator), &Lamps, &rules)
            };
            let rivals = compete(contest, &Plan::constant(100, 1e-2, 1), HERE, None, &mut Quiet).unwrap();
            generator.parameters().assign(&rivals.average);
            let z = Rng::new(3).normal(&[64, 8]);
            far(&generator, &z, &Lamps::lit(&z))
        };
        let (held, free) = (apart(50.0), apart(0.0));
        assert!(held < 0.8 * free, "{held} {free}");
    }

    /// White noise on grey, whatever the latent.
    struct Snow;

    impl Reals for Snow {
        fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
            (rng.normal(&[n, 1, 8, 8]).expand([n, 3, 8, 8], false) * 0.5, None)
        }

        fn traced(&self, n: i64, dim: i64, rng: &mut Rng) -> Option<(Tensor, Tensor)> {
            Some((self.some(n, rng).0, rng.normal(&[n, dim])))
        }
    }

    #[test]
    fn a_guide_holds_pictures_to_their_grain() {
        let grain = |weight: f64| {
            let (generator, discriminator) = young();
            let rules = Rules { batch: 8, mixing: 0.0, average: 100.0, ..Rules::default() };
            let guide = Guide::new(&[2], &all(), 8, (u64::MAX, 1.0, weight), Device::CPU);
            let contest = Contest {
                guide: Some(&guide),
                ..Contest::between("snow", (&generator, &discriminator), &Snow, &rules)
            };
            let rivals = compete(contest, &Plan::constant(60, 1e-2, 1), HERE, None, &mut Quiet).unwrap();
            generator.parameters().assign(&rivals.average);
            let styles = generator.broadcast(&generator.map(&Rng::new(3).normal(&[32, 8])));
            let drawn = |seed: u64| {
                let noises = config().noises(32, &mut Rng::new(seed), Device::CPU);
                no_grad(|| generator.synthesize(&styles, Noise::Given(&noises)))
            };
            (drawn(4) - drawn(5)).std(true).double_value(&[])
        };
        let (held, free) = (grain(20.0), grain(0.0));
        assert!(held > 2.0 * free, "{held} {free}");
    }

    #[test]
    fn what_is_kept_is_drawn_as_before() {
        let (old, _) = young();
        // Half of each batch goes where the real pictures are, the other half stays.
        let lit = Tensor::full([1, 3, 8, 8], 0.8, (Kind::Float, tch::Device::Cpu));
        let z = Rng::new(3).normal(&[24, 8]);
        let (gone, stays) = (z.narrow(0, 0, 8), z.narrow(0, 8, 16));
        let draw = |generator: &Generator, z: &Tensor| {
            no_grad(|| generator.synthesize(&generator.broadcast(&generator.map(z)), Noise::Own))
        };
        let (pictures, noises) = (draw(&old, &stays), config().noises(16, &mut Rng::new(4), Device::CPU));
        let some = |n: i64, rng: &mut Rng| {
            let rows = rng.below(16, &[n]);
            let [z, pictures] = [&stays, &pictures].map(|own| own.index_select(0, &rows));
            Known { z, pictures, noises: noises.iter().map(|own| own.index_select(0, &rows)).collect() }
        };
        let moved = |weight: f64| {
            let (generator, discriminator) = young();
            let reals = Frozen::new(&lit, Device::CPU);
            let rules = Rules { batch: 8, mixing: 0.0, average: 200.0, ..Rules::default() };
            let contest = Contest {
                oversampled: Some(&Oversampled { latents: gone.shallow_clone(), share: 0.5 }),
                kept: Some(&Kept { some: &some, weight }),
                ..Contest::between("kept", (&generator, &discriminator), &reals, &rules)
            };
            let rivals = compete(contest, &Plan::constant(100, 5e-3, 1), HERE, None, &mut Quiet).unwrap();
            generator.parameters().assign(&rivals.average);
            far(&generator, &stays, &pictures)
        };
        let (held, free) = (moved(50.0), moved(0.0));
        assert!(held < 0.4 * free, "{held} {free}");
    }

    #[test]
    fn what_is_shunned_is_not_forgotten() {
        let grey = |shade: f64| Tensor::full([4, 3, 8, 8], shade, (Kind::Float, tch::Device::Cpu));
        // How much more than a dark picture, which nobody draws, a bright one passes for real, as all real ones are.
        let told_apart = |share: f64| {
            let (generator, discriminator) = young();
            let rules = Rules { batch: 8, generator: 0.0, ..Rules::default() };
            let reals = Frozen::new(&grey(0.8), Device::CPU);
            let shunned = Shunned { pictures: Frozen::new(&grey(-0.8), Device::CPU), share };
            let contest = Contest {
                shunned: Some(&shunned),
                ..Contest::between("shunned", (&generator, &discriminator), &reals, &rules)
            };
            compete(contest, &Plan::constant(80, 5e-3, 1), HERE, None, &mut Quiet).unwrap();
            let logit = |shade: f64| {
                no_grad(|| discriminator.forward(&grey(shade)).mean(Kind::Float).double_value(&[]))
            };
            logit(0.8) - logit(-0.8)
        };
        let (shunned, unknown) = (told_apart(0.5), told_apart(0.0));
        assert!(shunned > 1.5 * unknown, "{shunned} {unknown}");
    }

    #[test]
    fn what_a_contest_would_ignore_is_refused() {
        can_compete(HERE).unwrap();
        let half = can_compete(Place { precision: Precision::F16, ..HERE }).unwrap_err();
        assert!(half.to_string().contains("use --precision bf16"), "{half}");
        let low = can_compete(Place { memory: Thrift::Low, ..HERE }).unwrap_err();
        assert!(low.to_string().contains("a smaller batch"), "{low}");
    }

    #[test]
    fn it_learns_what_passes_for_real() {
        let (generator, discriminator) = young();
        // One colour, which a new generator does not draw.
        let colour = Tensor::from_slice(&[0.8_f32, -0.6, 0.1]).view([1, 3, 1, 1]);
        let reals = Frozen::new(&colour.expand([8, 3, 8, 8], false), Device::CPU);
        let rules = Rules { batch: 8, r1: 1.0, average: 200.0, ..Rules::default() };
        let contest = Contest::between("colour", (&generator, &discriminator), &reals, &rules);
        let z = Rng::new(3).normal(&[32, 8]);
        let before = far(&generator, &z, &colour);
        let rivals = compete(contest, &Plan::constant(250, 5e-3, 1), HERE, None, &mut Quiet).unwrap();
        generator.parameters().assign(&rivals.average);
        let after = far(&generator, &z, &colour);
        assert!(after < 0.4 * before, "{before} {after}");
    }
}
