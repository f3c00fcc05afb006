//! Two networks that learn against each other: `StyleGAN2`'s training (Karras et al. 2020, sections 3 and 3.1, with the
//! settings of `rosinality/stylegan2-pytorch`).
//!
//! A step is up to four moves: the discriminator by `softplus(-D(x)) + softplus(D(G(z)))`, now and then its penalty on
//! gradients at real pictures (R1, Mescheder et al. 2018), the generator by `softplus(-D(G(z)))`, and now and then its
//! penalty on unequal path lengths. The penalties are lazy: rare, and so much the heavier; both optimizers' settings make
//! up for the additional moves.

use std::f64::consts::LN_2;

use super::sitting::{Pupil, drive};
use super::tracing::{difference, from_afar};
use super::{Contest, Error, Guide, Known, Plan, Pull, Rivals, Rules};
use crate::model::stylegan2::Noise;
use crate::torch::{
    Adam, AdamSettings, Ema, Kind, Place, Precision, Rng, Tensor, Thrift, grad, grad_of_grad, no_grad, stage,
};
use crate::watch::Watch;

/// Pixels on a side of the coarsest view by which a guide holds the generator.
const COARSEST: i64 = 8;

/// How names of the noise's weights end.
const NOISE: &str = "noise.weight";

/// How names of the mapping's weights begin.
const MAPPING: &str = "style.";

/// How fast the mean path length follows.
const PATH_PACE: f64 = 0.01;

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
    let mut match_ = Match::new(contest, plan, place)?;
    let end = drive(&mut match_, plan, place, folder, watch)?;
    let grade = match_.best.is_finite().then_some(match_.best);
    let average = match grade {
        Some(_) => match_.kept,
        None => match_.average.average().iter().map(Tensor::copy).collect(),
    };
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

/// A contest with its optimizers.
struct Match<'a> {
    contest: Contest<'a>,
    plan: &'a Plan,
    place: Place,
    /// The discriminator's parameters and the guide's.
    against: Vec<(String, Tensor)>,
    generator: Adam,
    discriminator: Adam,
    average: Ema,
    /// The mean path length, once one was seen. rosinality's begins at 0, which pulls the lengths of a generator that has
    /// learned before to nothing until the mean has caught up, after hundreds of penalties.
    path: Option<f64>,
    /// The averages at the best grade, where there is an exam.
    kept: Vec<Tensor>,
    best: f64,
    done: bool,
}

impl<'a> Match<'a> {
    fn new(contest: Contest<'a>, plan: &'a Plan, place: Place) -> Result<Self, Error> {
        can_compete(place)?;
        let rules = contest.rules;
        rules.fits(contest.generator.config().group).map_err(Error::Rules)?;
        let adam = |tensors: &[(String, Tensor)], lazy: f64| {
            let betas = (0.0, 0.99_f64.powf(lazy));
            let settings = AdamSettings { betas, decoupled: false, ..AdamSettings::default() };
            Adam::new(tensors.iter().map(|(_, tensor)| tensor), settings)
        };
        let mut against: Vec<(String, Tensor)> = contest.discriminator.parameters().named_leaves();
        against.extend(contest.guide.iter().flat_map(|guide| guide.parameters()));
        let rate = |(name, _): &(String, Tensor)| match name.trim_start_matches("g.") {
            name if name.ends_with(NOISE) => rules.noise,
            name if name.starts_with(MAPPING) => rules.mapping,
            _ => 1.0,
        };
        let rates = contest.moves.iter().map(rate).collect();
        let kept = match &contest.exam {
            Some(_) => contest.moves.iter().map(|(_, own)| own.detach().copy()).collect(),
            None => Vec::new(),
        };
        Ok(Self {
            generator: adam(&contest.moves, lazy(rules.path_every))?.with_rates(rates),
            discriminator: adam(&against, lazy(rules.r1_every))?,
            average: Ema::new(contest.moves.iter().map(|(_, tensor)| tensor)),
            path: None,
            kept,
            best: f64::NEG_INFINITY,
            done: false,
            against,
            contest,
            plan,
            place,
        })
    }

    fn device(&self) -> tch::Device {
        self.place.device.tch()
    }

    /// Whether this batch is drawn under two latents.
    fn latents(&self, n: i64, rng: &mut Rng) -> Latents {
        let config = self.contest.generator.config();
        let mixed = rng.uniform(&[1]).double_value(&[0]) < self.contest.rules.mixing;
        let mut z = || {
            let z = rng.normal(&[n, config.style_dim]).to_device(self.device());
            self.contest.oversampled.map_or_else(|| z.shallow_clone(), |often| often.among(&z, rng))
        };
        let z = if mixed { vec![z(), z()] } else { vec![z()] };
        let crossing = 1 + rng.below(config.styles() - 1, &[1]).int64_value(&[0]);
        Latents { z, crossing, noises: config.noises(n, rng, self.place.device) }
    }

    /// Styles `w+` `[n, styles, style_dim]` of latents.
    fn styles(&self, latents: &Latents) -> Tensor {
        let generator = self.contest.generator;
        let w: Vec<Tensor> = latents.z.iter().map(|z| generator.broadcast(&generator.map(z))).collect();
        match w.as_slice() {
            [coarse, fine] => {
                let rest = fine.size()[1] - latents.crossing;
                let parts = [coarse.narrow(1, 0, latents.crossing), fine.narrow(1, latents.crossing, rest)];
                Tensor::cat(&parts, 1)
            }
            _ => w[0].shallow_clone(),
        }
    }

    fn draw(&self, latents: &Latents) -> Tensor {
        self.contest.generator.synthesize(&self.styles(latents), Noise::Given(&latents.noises))
    }

    /// Logits `[n]`; with classes also by how well the pictures fit them.
    fn logits(&self, pictures: &Tensor, classes: Option<&Tensor>) -> Tensor {
        let features = self.contest.discriminator.features(pictures);
        let verdict = self.contest.discriminator.verdict(&features);
        match (self.contest.guide, classes) {
            (Some(guide), Some(classes)) => verdict + guide.fit(&features, classes),
            _ => verdict,
        }
    }

    /// The guide that holds the generator to pictures at this step, and pictures with their latents.
    fn held(&self, step: u64, rng: &mut Rng) -> Option<(&'a Guide, Tensor, Latents)> {
        let guide = self.contest.guide.filter(|guide| step < guide.until && guide.hold > 0.0)?;
        let Rules { batch, .. } = *self.contest.rules;
        let (pictures, z) =
            self.contest.reals.traced(batch, self.contest.generator.config().style_dim, rng)?;
        let latents = Latents { z: vec![z], ..self.latents(batch, rng) };
        Some((guide, pictures, latents))
    }

    /// The classes that pictures drawn from these latents are to show, where a guide says so at this step.
    fn classes(&self, latents: &Latents, step: u64) -> Option<Tensor> {
        let guide = self.contest.guide.filter(|guide| step < guide.until)?;
        (latents.z.len() == 1).then(|| guide.classes(&latents.z[0]))
    }

    /// The discriminator's moves; gives its loss.
    fn discriminate(&mut self, step: u64, lr: f64, rng: &mut Rng) -> Result<f64, Error> {
        let rules = self.contest.rules;
        let tensors: Vec<Tensor> = self.against.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let (latents, fake_classes, real, real_classes) =
            if let Some((guide, real, latents)) = self.held(step, rng) {
                let classes = guide.classes(&latents.z[0]);
                (latents, Some(classes.shallow_clone()), real, Some(classes))
            } else {
                let latents = self.latents(rules.batch, rng);
                let classes = self.classes(&latents, step);
                let (real, real_classes) = self.contest.reals.some(rules.batch, rng);
                let real_classes = real_classes.filter(|_| classes.is_some());
                (latents, classes, real, real_classes)
            };
        let value = {
            let _scope = self.place.scope();
            let fake = no_grad(|| self.draw(&latents));
            let (real, fake) =
                (self.logits(&real, real_classes.as_ref()), self.logits(&fake, fake_classes.as_ref()));
            let loss = softplus(&-real) + softplus(&fake);
            self.discriminator.step(&grad(&loss, &tensors)?, lr)?;
            loss.double_value(&[])
        };
        if rules.r1_every > 0 && step.is_multiple_of(rules.r1_every) {
            let real = real.set_requires_grad(true);
            let logits = self.logits(&real, real_classes.as_ref());
            let slope = grad_of_grad(&logits.sum(Kind::Float), &[&real])?.remove(0);
            let slope = slope.ok_or_else(|| Error::Model(nothing("the discriminator's pictures")))?;
            let energy =
                slope.square().flatten(1, -1).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float);
            let penalty = energy.mean(Kind::Float) * (rules.r1 / 2.0 * rules.r1_every as f64);
            self.discriminator.step(&grad(&penalty, &tensors)?, lr)?;
        }
        Ok(value)
    }

    /// The generator's moves; gives its loss.
    fn generate(&mut self, step: u64, lr: f64, rng: &mut Rng) -> Result<f64, Error> {
        let rules = self.contest.rules;
        let tensors: Vec<Tensor> =
            self.contest.moves.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let (held, mut latents) = match self.held(step, rng) {
            Some((guide, pictures, latents)) => (Some((guide, pictures)), latents),
            None => (None, self.latents(rules.batch, rng)),
        };
        let kept = self.contest.kept.map(|kept| {
            let often = self.contest.oversampled.map_or(0, |often| often.of(rules.batch));
            let known = (kept.some)(rules.batch - often, rng);
            latents.end_with(&known);
            (known.pictures, kept.weight)
        });
        let classes = self.classes(&latents, step);
        let (mut gradients, value) = {
            let _scope = self.place.scope();
            let drawn = self.draw(&latents);
            let mut loss = softplus(&-self.logits(&drawn, classes.as_ref()));
            let value = loss.double_value(&[]);
            let drawn = drawn.to_kind(Kind::Float);
            if let Some((guide, pictures)) = &held {
                loss += difference(&from_afar(&drawn), &from_afar(pictures), COARSEST) * guide.hold;
            }
            if let Some((pictures, weight)) = &kept {
                let n = pictures.size()[0];
                loss += difference(&drawn.narrow(0, rules.batch - n, n), pictures, COARSEST) * *weight;
            }
            (grad(&loss, &tensors)?, value)
        };
        if let Some(pull) = &mut self.contest.pull {
            no_grad(|| {
                pull.look(&tensors, &gradients);
                for (i, (own, gradient)) in tensors.iter().zip(&mut gradients).enumerate() {
                    let gradient = gradient.get_or_insert_with(|| own.zeros_like());
                    pull.add(i, own, gradient);
                }
            });
        }
        self.generator.step(&gradients, lr)?;
        if rules.path_every > 0 && step.is_multiple_of(rules.path_every) {
            let latents = self.latents((rules.batch / rules.path_share).max(1), rng);
            let styles = self.styles(&latents);
            // Where no layer of the mapping moves they are no part of a graph.
            let styles = if styles.requires_grad() { styles } else { styles.set_requires_grad(true) };
            let pictures = self.contest.generator.synthesize(&styles, Noise::Given(&latents.noises));
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
            let penalty =
                (lengths - mean).square().mean(Kind::Float) * (rules.path * rules.path_every as f64);
            self.generator.step(&grad(&penalty, &tensors)?, lr)?;
        }
        Ok(value)
    }

    /// Looks at the averages, and keeps the best.
    fn examine(&mut self, step: u64) -> Result<(), Error> {
        let Some(exam) = &mut self.contest.exam else { return Ok(()) };
        if !(step + 1).is_multiple_of(exam.every().max(1)) {
            return Ok(());
        }
        let own: Vec<&Tensor> = self.contest.moves.iter().map(|(_, own)| own).collect();
        let grade = lent(&own, self.average.average(), || exam.grade(step + 1))?;
        if let Some(grade) = grade.filter(|grade| *grade > self.best) {
            self.best = grade;
            no_grad(|| {
                self.kept.iter_mut().zip(self.average.average()).for_each(|(kept, own)| kept.copy_(own));
            });
            self.done = grade >= exam.pass();
        }
        Ok(())
    }
}

impl Pupil for Match<'_> {
    fn name(&self) -> &'static str {
        self.contest.name
    }

    fn facts(&self) -> String {
        let shapes = self.contest.moves.iter().chain(&self.against);
        let shapes: Vec<String> = shapes.map(|(name, own)| format!("{name} {:?}", own.size())).collect();
        let pull = self.contest.pull.as_deref().map(Pull::facts).unwrap_or_default();
        let often = self.contest.oversampled.map_or(0.0, |often| often.share);
        let kept = self.contest.kept.map_or(0.0, |kept| kept.weight);
        format!("{:?} {often} {kept} {} {pull}", self.contest.rules, shapes.concat())
    }

    fn step(&mut self, step: u64, lr: f64, _: &mut dyn Watch) -> Result<f64, Error> {
        let mut rng = Rng::for_step(self.plan.seed, self.contest.name, step);
        let [for_d, for_g] =
            [self.contest.rules.r1_every, self.contest.rules.path_every].map(|every| lr * lazy(every));
        let loss = stage(self.contest.name, || -> Result<f64, Error> {
            let against = self.discriminate(step, for_d, &mut rng)?;
            if step < self.contest.rules.ahead {
                return Ok(against);
            }
            Ok(against + self.generate(step, for_g * self.contest.rules.generator, &mut rng)?)
        })?;
        let Rules { batch, average, warm, .. } = *self.contest.rules;
        let decay = (-LN_2 * batch as f64 / average.max(1e-9)).exp();
        self.average.update(
            self.contest.moves.iter().map(|(_, own)| own),
            decay,
            if warm { step } else { u64::MAX },
        );
        self.examine(step)?;
        Ok(loss)
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let share = |what: &'static str| {
            move |(name, own): &(String, Tensor)| (format!("{what}.{name}"), own.shallow_clone())
        };
        let mut all: Vec<(String, Tensor)> = self.contest.moves.iter().map(share("g")).collect();
        all.extend(self.against.iter().map(share("d")));
        for (what, tensors) in [("average", self.average.average()), ("kept", &self.kept)] {
            let named = self.contest.moves.iter().zip(tensors);
            all.extend(named.map(|((name, _), own)| (format!("{what}.{name}"), own.shallow_clone())));
        }
        all.extend(self.generator.state().iter().map(share("adam_g")));
        all.extend(self.discriminator.state().iter().map(share("adam_d")));
        all
    }

    fn numbers(&self) -> Vec<(&'static str, f64)> {
        let path = self.path.unwrap_or(f64::NAN);
        let mut numbers =
            vec![("path", path), ("grade", self.best), ("done", f64::from(u8::from(self.done)))];
        if let Some(pull) = self.contest.pull.as_deref() {
            numbers.push(("pull", pull.memory().unwrap_or(f64::NAN)));
        }
        numbers
    }

    fn recall(&mut self, name: &str, value: f64) {
        match name {
            "path" => self.path = value.is_finite().then_some(value),
            "grade" => self.best = value,
            "done" => self.done = value > 0.0,
            _ => {
                if let Some(pull) = self.contest.pull.as_deref_mut().filter(|_| value.is_finite()) {
                    pull.recall(value);
                }
            }
        }
    }

    fn falls(&self) -> bool {
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
struct Latents {
    /// One, or two where the batch is mixed.
    z: Vec<Tensor>,
    /// The first layer that is drawn under the second.
    crossing: i64,
    noises: Vec<Tensor>,
}

impl Latents {
    /// Puts these in the last ones' place; they are drawn under one latent each.
    fn end_with(&mut self, known: &Known) {
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

/// Does `work` while the tensors hold other values.
fn lent<T>(own: &[&Tensor], others: &[Tensor], work: impl FnOnce() -> T) -> T {
    let before: Vec<Tensor> = no_grad(|| own.iter().map(|own| own.detach().copy()).collect());
    let put = |values: &[Tensor]| {
        no_grad(|| own.iter().zip(values).for_each(|(own, value)| own.detach().copy_(value)));
    };
    put(others);
    let result = work();
    put(&before);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Builder;
    use crate::model::stylegan2::{Config, Discriminator, Generator};
    use crate::torch::Device;
    use crate::training::{Exam, Frozen, Kept, Oversampled, Reals};
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
        let guide = Guide::new(&[2], &all(), 8, (8, 0.0), Device::CPU);
        let mut pull = Home(f64::NAN);
        let plan = Plan { cooldown: 0.5, ..Plan::constant(steps, 2e-3, 7) };
        let contest = Contest {
            name: "test",
            generator: &generator,
            moves: generator.parameters().named_leaves(),
            discriminator: &discriminator,
            reals: &Stripes,
            rules: &rules,
            guide: Some(&guide),
            oversampled: None,
            kept: None,
            pull: Some(&mut pull),
            exam: match exam {
                Some(exam) => Some(exam),
                None => None,
            },
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
            let guide = Guide::new(&[2], &all(), 8, (u64::MAX, hold), Device::CPU);
            let contest = Contest {
                name: "lamps",
                generator: &generator,
                moves: generator.parameters().named_leaves(),
                discriminator: &discriminator,
                reals: &Lamps,
                rules: &rules,
                guide: Some(&guide),
                oversampled: None,
                kept: None,
                pull: None,
                exam: None,
            };
            let rivals = compete(contest, &Plan::constant(100, 1e-2, 1), HERE, None, &mut Quiet).unwrap();
            generator.parameters().assign(&rivals.average);
            let z = Rng::new(3).normal(&[64, 8]);
            far(&generator, &z, &Lamps::lit(&z))
        };
        let (held, free) = (apart(50.0), apart(0.0));
        assert!(held < 0.8 * free, "{held} {free}");
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
            let rules = Rules { batch: 8, mixing: 0.0, average: 200.0, ..Rules::default() };
            let contest = Contest {
                name: "kept",
                generator: &generator,
                moves: generator.parameters().named_leaves(),
                discriminator: &discriminator,
                reals: &Frozen::new(&lit, Device::CPU),
                rules: &rules,
                guide: None,
                oversampled: Some(&Oversampled { latents: gone.shallow_clone(), share: 0.5 }),
                kept: Some(&Kept { some: &some, weight }),
                pull: None,
                exam: None,
            };
            let rivals = compete(contest, &Plan::constant(100, 5e-3, 1), HERE, None, &mut Quiet).unwrap();
            generator.parameters().assign(&rivals.average);
            far(&generator, &stays, &pictures)
        };
        let (held, free) = (moved(50.0), moved(0.0));
        assert!(held < 0.4 * free, "{held} {free}");
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
        let contest = Contest {
            name: "colour",
            generator: &generator,
            moves: generator.parameters().named_leaves(),
            discriminator: &discriminator,
            reals: &reals,
            rules: &rules,
            guide: None,
            oversampled: None,
            kept: None,
            pull: None,
            exam: None,
        };
        let z = Rng::new(3).normal(&[32, 8]);
        let before = far(&generator, &z, &colour);
        let rivals = compete(contest, &Plan::constant(250, 5e-3, 1), HERE, None, &mut Quiet).unwrap();
        generator.parameters().assign(&rivals.average);
        let after = far(&generator, &z, &colour);
        assert!(after < 0.4 * before, "{before} {after}");
    }
}
