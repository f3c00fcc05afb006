//! What a GAN's methods learn from: samples of the base and who says what they show, and how far an
//! erasure has come by the same network.

use super::reference_judge::ReferenceJudge;
use super::samples::{Sample, evaluated};
use crate::erasure::{Evaluator, Progress};
use crate::generator::{ImageRequest, Synthesizer, sample_batch};
use crate::judge::{Features, Question};
use crate::measure::{AnswerSet, Moments, TargetClass};
use crate::pictures::Picture;
use crate::run::Error;
use crate::run::evidence::JudgedImage;

/// Pictures of one evaluation, at most: what showed the target, and others.
pub(super) const EVALUATION_IMAGES: usize = HELD_OUT + OTHERS / 2;
const HELD_OUT: usize = 150;
const OTHERS: usize = 500;

/// What is known about samples of the base.
pub(super) enum Labelled {
    /// What the labeller saw.
    Judged(Vec<JudgedImage<Sample>>),
    /// Which show it and which do not, as the user says.
    Given(Vec<(u64, bool)>),
}

/// Seeds of samples that show a target, and of those that do not.
pub(super) struct Split {
    pub negatives: Vec<u64>,
    pub positives: Vec<u64>,
}

impl Split {
    /// Seeds that show the target and are only looked at on the way, and those to learn from. Of
    /// very few both are all.
    pub(super) fn hold_out(&self) -> (&[u64], &[u64]) {
        match (self.negatives.len() / 4).min(HELD_OUT) {
            0 => (&self.negatives, &self.negatives),
            some => self.negatives.split_at(some),
        }
    }
}

impl Labelled {
    /// Splits them by a target; what is doubtful is neither.
    ///
    /// # Errors
    /// Too few of either kind.
    pub(super) fn split(
        &self,
        questions: &[Question],
        set: &AnswerSet,
        target: &TargetClass,
        threshold: f64,
    ) -> Result<Split, Error> {
        /// So that looks on the way have two sets of positives to compare.
        const LEAST: [usize; 2] = [2, 8];
        let (mut negatives, mut positives) = (Vec::new(), Vec::new());
        match self {
            Self::Judged(judged) => {
                let class = set.class(target)?;
                for judged in judged {
                    let shown = judged.probabilities(questions, target.domain)[class];
                    if shown >= threshold {
                        negatives.push(judged.asked.seed);
                    } else if shown <= 1.0 - threshold {
                        positives.push(judged.asked.seed);
                    }
                }
            }
            Self::Given(labels) => {
                for &(seed, shows) in labels {
                    if shows { &mut negatives } else { &mut positives }.push(seed);
                }
            }
        }
        for ((seeds, least), what) in
            [&negatives, &positives].into_iter().zip(LEAST).zip(["show", "do not show"])
        {
            if seeds.len() < least {
                let (surely, advice) = match self {
                    Self::Judged(_) => (
                        "surely ",
                        "label more samples (concept.samples), or lower concept.threshold",
                    ),
                    Self::Given(_) => ("", "look through more of them (unsee label)"),
                };
                return Err(Error::Unknown(format!(
                    "{} of the labelled samples {surely}{what} {target}; at least {least} are \
                     needed: {advice}",
                    seeds.len()
                )));
            }
        }
        Ok(Split { negatives, positives })
    }
}

/// Looks at an erasure on the way, by the labeller: the judge is for the end.
///
/// Damage is measured by the features of the network that also says what is gone, but between sets
/// of pictures.
///
/// # Errors
/// Whatever goes wrong in drawing and looking.
pub(super) fn evaluator<'a>(
    model: &dyn Synthesizer,
    labeller: &'a ReferenceJudge,
    features: &'a Features,
    set: &AnswerSet,
    target: &'a TargetClass,
    split: &Split,
) -> Result<Box<Evaluator<'a>>, Error> {
    let held_out: Vec<u64> = split.hold_out().0.to_vec();
    let moments = move |model: &dyn Synthesizer, seeds: &[u64]| -> Result<Moments, Error> {
        Ok(Moments::of(&features.of(&samples(model, seeds)?)?))
    };
    let many = &split.positives[..split.positives.len().min(OTHERS)];
    let (first, second) = many.split_at(many.len() / 2);
    let reference = moments(model, first)?;
    let unit = moments(model, second)?.distance(&reference).max(1e-9);
    let others = evaluated(second.len());
    set.class(target)?;
    Ok(Box::new(move |model: &dyn Synthesizer| {
        let progress = || -> Result<Progress, Error> {
            let pictures = samples(model, &held_out)?;
            let called = labeller.called(target, &pictures)?;
            let shown = called.into_iter().filter(|called| *called).count();
            let damage = moments(model, &others)?.distance(&reference) / unit;
            let n = held_out.len();
            Ok(Progress { unlearned: (n - shown) as f64 / n.max(1) as f64, damage })
        };
        progress().map_err(|error| crate::erasure::Error::Task(error.to_string()))
    }))
}

/// Draws samples of these seeds and keeps the pictures in memory.
pub(super) fn samples(model: &dyn Synthesizer, seeds: &[u64]) -> Result<Vec<Picture>, Error> {
    let side = model.card().side;
    let requests: Vec<ImageRequest> =
        seeds.iter().map(|&seed| ImageRequest::of_seed(seed, 1.0, side)).collect();
    super::session::drawn(model, &requests, sample_batch(side))
}
