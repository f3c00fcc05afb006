//! What became of a concept: the same latents before and after, by the judge's names and by
//! distances of features.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::evidence::JudgedImage;
use super::samples::{Sample, classes, named};
use crate::canvas;
use crate::judge::{Evidence, Question};
use crate::measure::{
    AnswerSet, ClassChanges, Domain, Estimate, Moments, Target, frechet, precision_recall,
};
use crate::pictures::Picture;
use crate::report::GridBand;
use crate::torch::Tensor;

/// One number of one method on one concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GanScore {
    /// `object:Cat`, or `mean` over all.
    pub target: String,
    /// The method, or `base`, or `retrained` for a generator that never saw the target.
    pub method: String,
    /// `PUL`, `PUL of negatives`, `FID to positives`, …
    pub measure: String,
    /// The number.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// Pictures of one subject: what the judge called them, and their features.
pub(super) struct JudgedSamples {
    pub judged: Vec<JudgedImage<Sample>>,
    pub folder: PathBuf,
    pub features: Tensor,
}

/// Of the base's latents, how many show the target: what its PUL counts by.
pub const SHARE: &str = "share";

/// What one target's pictures are measured against.
pub(super) struct Measured<'a> {
    target: &'a Target,
    questions: &'a [Question],
    /// The classes of the target's domain and of the other one.
    names: [&'a [String]; 2],
    class: usize,
    base: &'a JudgedSamples,
    /// Classes of the base's pictures in the target's domain and in the other one.
    before: [Vec<usize>; 2],
    /// Features of the base's pictures without the target.
    own: Tensor,
    /// Those of a second draw.
    positives: Tensor,
    /// Their moments.
    reference: Moments,
    /// Known pictures without the target.
    known: Option<Moments>,
    /// Features of what a generator draws that never saw the target.
    retrained: Option<Tensor>,
    /// Classes of a second draw of the base, as of the first.
    again: [Vec<usize>; 2],
}

impl<'a> Measured<'a> {
    /// Against the base's pictures and a second draw of them, features `known` of known pictures
    /// without the target and those of a generator that never saw it.
    ///
    /// # Errors
    /// A base of which almost all pictures show the target.
    pub(super) fn new(
        (set, questions): (&'a AnswerSet, &'a [Question]),
        target: &'a Target,
        (base, second): (&'a JudgedSamples, &JudgedSamples),
        known: Option<Moments>,
        retrained: Option<Tensor>,
    ) -> Result<Self, Error> {
        let classes_of =
            |album: &JudgedSamples, domain: Domain| classes(&album.judged, questions, domain);
        let class = set.class(target)?;
        let domains = [target.domain, target.domain.other()];
        let [before, again] =
            [base, second].map(|album| domains.map(|domain| classes_of(album, domain)));
        let without = |album: &JudgedSamples, classes: &[usize]| {
            let rows = (0..).zip(classes).filter(|(_, own)| **own != class);
            let rows: Vec<i64> = rows.map(|(row, _)| row).collect();
            album.features.index_select(0, &Tensor::from_slice(&rows))
        };
        let (own, positives) = (without(base, &before[0]), without(second, &again[0]));
        if own.size()[0] < 2 || positives.size()[0] < 2 {
            return Err(Error::Unknown(format!(
                "almost every picture of the model shows {target}"
            )));
        }
        let reference = Moments::of(&positives);
        let names = domains.map(|domain| set.classes(domain));
        Ok(Self {
            target,
            questions,
            names,
            class,
            base,
            before,
            own,
            positives,
            reference,
            known,
            retrained,
            again,
        })
    }

    fn score(&self, method: &str, measure: &str, estimate: Estimate) -> GanScore {
        GanScore {
            target: self.target.to_string(),
            method: method.to_owned(),
            measure: measure.to_owned(),
            estimate,
        }
    }

    /// How far features are from the references: as many of them as the base has without the
    /// target, because distances shrink with the number of pictures.
    fn distances(&self, method: &str, features: &Tensor) -> Vec<GanScore> {
        let n = self.own.size()[0].min(features.size()[0]);
        let features = features.narrow(0, 0, n);
        let mut scores =
            vec![self.score(method, "FID to positives", frechet(&features, &self.reference))];
        if let Some(known) = &self.known {
            scores.push(self.score(method, "FID to known", frechet(&features, known)));
        }
        if let Some(retrained) = &self.retrained {
            let n = n.min(retrained.size()[0]);
            let reference = Moments::of(&retrained.narrow(0, 0, n));
            let distance = frechet(&features.narrow(0, 0, n), &reference);
            scores.push(self.score(method, "Ret-FID", distance));
        }
        let [precision, recall] = precision_recall(&features, &self.positives);
        scores.push(self.score(method, "precision", precision));
        scores.push(self.score(method, "recall", recall));
        scores
    }

    /// The base's own numbers: its positives against a second draw of themselves.
    pub(super) fn of_base(&self) -> Vec<GanScore> {
        let shown = self.before[0].iter().filter(|own| **own == self.class).count();
        let n = self.before[0].len();
        let mut scores = vec![self.score("base", SHARE, Estimate::of_share(shown, n))];
        scores.extend(self.drifts("base", &self.again));
        scores.extend(self.distances("base", &self.own));
        scores
    }

    /// How far the other classes' shares moved, all together and each by itself, in the target's
    /// domain and beside it; the base's own are of a second draw.
    fn drifts(&self, method: &str, now: &[Vec<usize>; 2]) -> Vec<GanScore> {
        let mut scores = Vec::new();
        for (i, (without, suffix)) in
            [(Some(self.class), ""), (None, " beside")].into_iter().enumerate()
        {
            let turned = ClassChanges { before: &self.before[i], after: &now[i] };
            for (measure, estimate) in ["drift", "largest drift"]
                .into_iter()
                .zip(turned.drifts(self.names[i].len(), without).into_iter().flatten())
            {
                scores.push(self.score(method, &format!("{measure}{suffix}"), estimate));
            }
            for (class, name) in self.names[i].iter().enumerate() {
                let own = turned.drift_of_class(without, class);
                scores.extend(own.map(|own| self.score(method, &format!("drift of {name}"), own)));
            }
        }
        scores
    }

    /// What a method did.
    pub(super) fn after(&self, method: &str, after: &JudgedSamples) -> Vec<GanScore> {
        let domains = [self.target.domain, self.target.domain.other()];
        let now = domains.map(|domain| classes(&after.judged, self.questions, domain));
        let turned = ClassChanges { before: &self.before[0], after: &now[0] };
        let gone = [
            ("PUL", turned.unlearned(self.class)),
            ("PUL of negatives", turned.unlearned_of_negatives(self.class)),
        ];
        let mut scores: Vec<GanScore> = gone
            .into_iter()
            .filter_map(|(measure, estimate)| Some(self.score(method, measure, estimate?)))
            .collect();
        scores.extend(self.drifts(method, &now));
        scores.extend(self.distances(method, &after.features));
        scores
    }

    /// What a generator scores that never saw the target: what it is said to show is the judge's
    /// mistake, and more than that no erasure can be asked for.
    pub(super) fn of_retrained(&self, retrained: &JudgedSamples) -> Vec<GanScore> {
        let mut scores = self.after("retrained", retrained);
        // Of pictures to themselves.
        scores.retain(|score| score.measure != "Ret-FID");
        scores
    }

    /// Latents of which the base's pictures show the target, or do not.
    pub(super) fn latents(&self, shown: bool) -> impl Iterator<Item = Sample> {
        let rows = self.base.judged.iter().zip(&self.before[0]);
        rows.filter(move |(_, class)| (**class == self.class) == shown)
            .map(|(judged, _)| judged.asked)
    }

    /// What a picture must be called to show the target.
    pub(super) fn shows(&self, evidence: &Evidence) -> bool {
        named(evidence, self.questions, self.target.domain).class == self.class
    }

    /// The same latents before and after each method: some that showed the target, and some that
    /// did not.
    pub(super) fn bands(
        &self,
        base: &Path,
        methods: &[(&str, PathBuf)],
    ) -> Result<Vec<GridBand>, Error> {
        const OWN: usize = 8;
        const OTHERS: usize = 6;
        let shown: Vec<Sample> =
            self.latents(true).take(OWN).chain(self.latents(false).take(OTHERS)).collect();
        let rows = std::iter::once(("before", base))
            .chain(methods.iter().map(|(name, folder)| (*name, folder.as_path())));
        rows.map(|(name, folder)| {
            let pictures = shown
                .iter()
                .map(|sample| Picture::open(&sample.path(folder)))
                .collect::<Result<Vec<_>, _>>()?;
            let before = name == "before";
            let label = vec![canvas::spaced(&self.target.name), name.to_owned()];
            Ok(GridBand { label, pictures, marked: name == "adapt-then-unlearn", gap: before })
        })
        .collect()
    }
}

/// The mean of each measure of each method over so many targets, where it was measured of all; of
/// one there is none.
pub(super) fn means(scores: &[GanScore], targets: usize) -> Vec<GanScore> {
    if targets < 2 {
        return Vec::new();
    }
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for score in scores {
        let key = (score.method.as_str(), score.measure.as_str());
        if score.measure != SHARE && !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mean = |(method, measure): (&str, &str)| {
        let own: Vec<&Estimate> = scores
            .iter()
            .filter(|score| (score.method.as_str(), score.measure.as_str()) == (method, measure))
            .map(|score| &score.estimate)
            .collect();
        // Of fewer targets it would stand beside means of others.
        if own.len() < targets {
            return None;
        }
        let k = own.len() as f64;
        let value = own.iter().map(|own| own.value).sum::<f64>() / k;
        // The targets share their latents, so their errors may go the same way: the mean of the
        // half widths.
        let half = |side: fn(&Estimate) -> f64| own.iter().map(|own| side(own)).sum::<f64>() / k;
        Some(GanScore {
            target: "mean".to_owned(),
            method: method.to_owned(),
            measure: measure.to_owned(),
            estimate: Estimate {
                value,
                low: value - half(|own| own.value - own.low),
                high: value + half(|own| own.high - own.value),
                hits: own.iter().map(|own| own.hits).sum(),
                n: own.iter().map(|own| own.n).sum(),
            },
        })
    };
    keys.into_iter().filter_map(mean).collect()
}
