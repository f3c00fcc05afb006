//! What became of a concept that a GAN's pictures show: the same latents before and after, by what
//! a judge calls them and by distances of features.

use super::{
    AnswerSet, Better, ClassChanges, Domain, Error, Estimate, Margin, Measure, Moments,
    Recognisable, Score, Subject, TargetClass, frechet, precision_recall,
};
use crate::torch::Tensor;

/// Pictures of some latents: what the judge called them, and their features.
#[derive(Debug)]
pub struct JudgedSamples {
    /// The style of each, by number.
    pub styles: Vec<usize>,
    /// The object of each, by number.
    pub objects: Vec<usize>,
    /// How surely each was called that; empty where there is nothing to tell apart.
    pub margins: Vec<Margin>,
    /// Features `[n, width]`.
    pub features: Tensor,
}

impl JudgedSamples {
    /// The classes of a domain.
    pub fn classes(&self, domain: Domain) -> &[usize] {
        match domain {
            Domain::Style => &self.styles,
            Domain::Object => &self.objects,
        }
    }
}

/// Of the base's latents, how many show the target: what its PUL counts by.
const SHARE: Measure = Measure::share("share", Subject::Concept, Better::Neither);
const PUL: Measure = Measure::share("PUL", Subject::Concept, Better::Higher);
const PUL_OF_NEGATIVES: Measure =
    Measure::share("PUL of negatives", Subject::Concept, Better::Higher);
/// Gone, and still a picture: of the latents that showed the target.
const PUL_CLEAN: Measure = Measure::share("PUL_clean", Subject::Concept, Better::Higher);
const FID_TO_POSITIVES: Measure = Measure::distance("FID to positives");
const FID_TO_KNOWN: Measure = Measure::distance("FID to known");
const RET_FID: Measure = Measure::distance("Ret-FID");
const PRECISION: Measure = Measure::share("precision", Subject::Keep, Better::Higher);
const RECALL: Measure = Measure::share("recall", Subject::Keep, Better::Higher);
const DRIFT: Measure = Measure::share("drift", Subject::Keep, Better::Lower);
const LARGEST_DRIFT: Measure = Measure::share("largest drift", Subject::Keep, Better::Lower);
const DRIFT_BESIDE: Measure = Measure::share("drift beside", Subject::All, Better::Lower);
const LARGEST_DRIFT_BESIDE: Measure =
    Measure::share("largest drift beside", Subject::All, Better::Lower);

/// What one target's pictures are measured against.
#[derive(Debug)]
pub struct LatentMeasures<'a> {
    target: &'a TargetClass,
    name: String,
    set: &'a AnswerSet,
    class: usize,
    base: &'a JudgedSamples,
    /// A second draw of the base.
    second: &'a JudgedSamples,
    /// Features of the base's pictures without the target.
    without: Tensor,
    /// Those of the second draw.
    positives: Tensor,
    /// Their moments.
    reference: Moments,
    /// Known pictures without the target.
    known: Option<Moments>,
    /// Features of what a generator draws that never saw the target.
    retrained: Option<Tensor>,
}

impl<'a> LatentMeasures<'a> {
    /// Against the base's pictures and a second draw of them, the moments `known` of known pictures
    /// without the target and the features of a generator's that never saw it.
    ///
    /// # Errors
    /// A target that is none of the set's, or that almost every picture shows.
    pub fn new(
        set: &'a AnswerSet,
        target: &'a TargetClass,
        base: &'a JudgedSamples,
        second: &'a JudgedSamples,
        known: Option<Moments>,
        retrained: Option<Tensor>,
    ) -> Result<Self, Error> {
        let class = set.class(target)?;
        let without_target = |samples: &JudgedSamples| {
            let rows = (0..).zip(samples.classes(target.domain));
            let rows: Vec<i64> =
                rows.filter(|(_, shown)| **shown != class).map(|(row, _)| row).collect();
            samples.features.index_select(0, &Tensor::from_slice(&rows))
        };
        let (without, positives) = (without_target(base), without_target(second));
        if without.size()[0] < 2 || positives.size()[0] < 2 {
            return Err(Error::Unknown(format!(
                "almost every picture of the model shows {target}"
            )));
        }
        Ok(Self {
            target,
            name: target.to_string(),
            set,
            class,
            base,
            second,
            reference: Moments::of(&positives),
            without,
            positives,
            known,
            retrained,
        })
    }

    /// The base's own numbers: its positives against a second draw of themselves.
    pub fn of_base(&self) -> Vec<Score> {
        let classes = self.base.classes(self.target.domain);
        let shown = classes.iter().filter(|class| **class == self.class).count();
        let n = classes.len();
        let share = Score { detail: true, ..SHARE.of(&self.name, Estimate::of_share(shown, n)) };
        let mut scores = vec![share];
        scores.extend(self.drifts(self.second));
        scores.extend(self.distances(&self.without));
        scores
    }

    /// What a method did.
    pub fn of(&self, after: &JudgedSamples) -> Vec<Score> {
        let changes = ClassChanges {
            before: self.base.classes(self.target.domain),
            after: after.classes(self.target.domain),
        };
        let gone = [
            (PUL, changes.unlearned(self.class)),
            (PUL_OF_NEGATIVES, changes.unlearned_of_negatives(self.class)),
            (PUL_CLEAN, self.clean(&changes, after)),
        ];
        let mut scores: Vec<Score> = gone
            .into_iter()
            .filter_map(|(measure, estimate)| Some(measure.of(&self.name, estimate?)))
            .collect();
        scores.extend(self.drifts(after));
        scores.extend(self.distances(&after.features));
        scores
    }

    /// Share of the latents that showed the target which no longer do, and whose pictures are as
    /// recognisable as the base's.
    fn clean(&self, changes: &ClassChanges, after: &JudgedSamples) -> Option<Estimate> {
        let line = Recognisable::as_base(self.base.margins.iter().copied())?;
        let recognisable: Vec<bool> =
            after.margins.iter().map(|&margin| line.has(margin)).collect();
        changes.unlearned_where(self.class, &recognisable)
    }

    /// What a generator scores that never saw the target: what it is said to show is the judge's
    /// mistake, and more than that no erasure can be asked for.
    pub fn of_retrained(&self, retrained: &JudgedSamples) -> Vec<Score> {
        let mut scores = self.of(retrained);
        // Of pictures to themselves.
        scores.retain(|score| score.measure != RET_FID.name);
        scores
    }

    /// How far features are from the references: as many of them as the base has without the
    /// target, because distances shrink with the number of pictures.
    fn distances(&self, features: &Tensor) -> Vec<Score> {
        let n = self.without.size()[0].min(features.size()[0]);
        let features = features.narrow(0, 0, n);
        let mut scores = vec![FID_TO_POSITIVES.of(&self.name, frechet(&features, &self.reference))];
        if let Some(known) = &self.known {
            scores.push(FID_TO_KNOWN.of(&self.name, frechet(&features, known)));
        }
        if let Some(retrained) = &self.retrained {
            let n = n.min(retrained.size()[0]);
            let reference = Moments::of(&retrained.narrow(0, 0, n));
            let distance = frechet(&features.narrow(0, 0, n), &reference);
            scores.push(RET_FID.of(&self.name, distance));
        }
        let [precision, recall] = precision_recall(&features, &self.positives);
        scores.push(PRECISION.of(&self.name, precision));
        scores.push(RECALL.of(&self.name, recall));
        scores
    }

    /// How far the other classes' shares moved, all together and each by itself, in the target's
    /// domain and beside it; the base's own are of a second draw.
    fn drifts(&self, now: &JudgedSamples) -> Vec<Score> {
        let mut scores = Vec::new();
        let domain = self.target.domain;
        for (domain, without, measures) in [
            (domain, Some(self.class), [DRIFT, LARGEST_DRIFT]),
            (domain.other(), None, [DRIFT_BESIDE, LARGEST_DRIFT_BESIDE]),
        ] {
            let changes =
                ClassChanges { before: self.base.classes(domain), after: now.classes(domain) };
            let names = self.set.classes(domain);
            let estimates = changes.drifts(names.len(), without).into_iter().flatten();
            for (i, (measure, estimate)) in measures.into_iter().zip(estimates).enumerate() {
                scores.push(Score { detail: i > 0, ..measure.of(&self.name, estimate) });
            }
            for (class, name) in names.iter().enumerate() {
                let drift = changes.drift_of_class(without, class);
                scores.extend(drift.map(|estimate| Score {
                    measure: format!("drift of {name}"),
                    detail: true,
                    better: Better::Neither,
                    ..DRIFT.of(&self.name, estimate)
                }));
            }
        }
        scores
    }
}

/// The mean of each measure of each method over so many targets, where it was measured of all; of
/// one there is none.
pub fn mean_over_targets(scores: &[Score], targets: usize) -> Vec<Score> {
    if targets < 2 {
        return Vec::new();
    }
    let mut means: Vec<Score> = Vec::new();
    for score in scores.iter().filter(|score| score.measure != SHARE.name) {
        let same = |other: &&Score| {
            let renamed = Score { target: score.target.clone(), ..(*other).clone() };
            renamed.method == score.method && renamed.is_of_same(score)
        };
        if means.iter().any(|mean| same(&mean)) {
            continue;
        }
        let all: Vec<&Estimate> = scores.iter().filter(same).map(|s| &s.estimate).collect();
        // Of fewer targets it would stand beside means of others.
        if all.len() < targets {
            continue;
        }
        let k = all.len() as f64;
        let value = all.iter().map(|one| one.value).sum::<f64>() / k;
        // The targets share their latents, so their errors may go the same way: the mean of the
        // half widths.
        let half = |side: fn(&Estimate) -> f64| all.iter().map(|one| side(one)).sum::<f64>() / k;
        let estimate = Estimate {
            value,
            low: value - half(|one| one.value - one.low),
            high: value + half(|one| one.high - one.value),
            hits: all.iter().map(|one| one.hits).sum(),
            n: all.iter().map(|one| one.n).sum(),
        };
        means.push(Score { target: format!("mean of {targets}"), estimate, ..score.clone() });
    }
    means
}
