//! A GAN's pictures by seed, and what a network calls them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::evidence::JudgedImage;
use super::judging::PictureKey;
use crate::generator::{Generator as _, ImageRequest, StyleGan2, Synthesizer, at_once};
use crate::judge::{Error, Evidence, ImageJudge, Judge, JudgeCard, Question};
use crate::measure::Domain;
use crate::pictures::Picture;
use crate::watch::Quiet;

/// First seeds of samples that are labelled, of those that are measured, of a second draw of these,
/// and of those that are looked at on the way. libtorch's generator reads 32 bits of a seed, so
/// they differ in those.
pub(super) const LABELLED: u64 = 0x4000_0000;
pub(super) const MEASURED: u64 = 0x8000_0000;
pub(super) const SECOND: u64 = 0xA000_0000;
pub(super) const LOOKED_AT: u64 = 0xC000_0000;

/// A picture of a GAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Its seed.
    pub seed: u64,
}

impl PictureKey for Sample {
    fn prompt(&self) -> String {
        String::new()
    }
}

impl Sample {
    /// Its picture in a folder.
    pub(super) fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.png", self.seed))
    }
}

/// `n` seeds from `first` on.
pub(super) fn samples(first: u64, n: usize) -> Vec<Sample> {
    (first..first + n as u64).map(|seed| Sample { seed }).collect()
}

/// What is drawn of samples into a folder.
pub(super) fn works(
    model: &StyleGan2,
    samples: &[Sample],
    folder: &Path,
) -> Vec<(PathBuf, ImageRequest)> {
    let side = model.card().side;
    samples
        .iter()
        .map(|sample| (sample.path(folder), ImageRequest::of_seed(sample.seed, 1.0, side)))
        .collect()
}

/// Draws samples of these seeds and keeps the pictures in memory.
pub(super) fn drawn(model: &dyn Synthesizer, seeds: &[u64]) -> Result<Vec<Picture>, super::Error> {
    let side = model.card().side;
    let requests: Vec<ImageRequest> =
        seeds.iter().map(|&seed| ImageRequest::of_seed(seed, 1.0, side)).collect();
    let mut pictures = Vec::with_capacity(requests.len());
    for group in requests.chunks(at_once(side)) {
        pictures.extend(model.draw(group, &mut Quiet)?);
    }
    Ok(pictures)
}

/// A judge of pictures that no prompt asked for.
pub(super) struct Unprompted<'a>(pub &'a Judge);

impl ImageJudge for Unprompted<'_> {
    fn card(&self) -> &JudgeCard {
        self.0.card()
    }

    fn questions(&self) -> Vec<Question> {
        self.0.questions()
    }

    fn look(&self, pictures: &[Picture], _: &[String]) -> Result<Vec<Evidence>, Error> {
        self.0.see(pictures, None)
    }
}

/// The class of a domain that a network saw, and how sure it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Classified {
    pub class: usize,
    pub probability: f64,
}

/// The probabilities of a domain's classes.
pub(super) fn probabilities(
    evidence: &Evidence,
    questions: &[Question],
    domain: Domain,
) -> Vec<f64> {
    let own = questions
        .iter()
        .zip(&evidence.logits)
        .find(|(question, _)| question.domain == domain.name());
    let logits = own.map(|(_, logits)| logits.as_slice()).unwrap_or_default();
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let each: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - most).exp()).collect();
    let sum: f64 = each.iter().sum();
    each.into_iter().map(|own| own / sum).collect()
}

/// What it called a picture.
pub(super) fn named(evidence: &Evidence, questions: &[Question], domain: Domain) -> Classified {
    let each = probabilities(evidence, questions, domain);
    let class = (0..each.len()).max_by(|&a, &b| each[a].total_cmp(&each[b])).unwrap_or(0);
    Classified { class, probability: each.get(class).copied().unwrap_or(0.0) }
}

/// What it called each picture.
pub(super) fn classes(
    judged: &[JudgedImage<Sample>],
    questions: &[Question],
    domain: Domain,
) -> Vec<usize> {
    judged.iter().map(|judged| named(&judged.evidence, questions, domain).class).collect()
}
