//! UA, IRA and CRA as `UnlearnCanvas` defines them, and what goes with them.
//!
//! With acc(Y) the share of pictures prompted with Y that the judge calls Y: UA = 1 - acc(target);
//! IRA = mean acc over the other classes of the target's domain; CRA = mean acc over the classes of
//! the other domain, on the same pictures, those of the forgotten concept included (as in the
//! benchmark's code). UA_clean is the share of the target's pictures that are not called so and are
//! as recognisable as the base's pictures. `Seed_Images` is no style: IRA over styles leaves it
//! out.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::PLAIN;
use super::blank::{PictureStats, blank};
use super::clip_score::clip_score;
use super::{
    Answer, AnswerSet, Better, Domain, Error, Estimate, Interval, Margin, Measure, Recognisable,
    Reference, Score, Subject, TargetClass, bootstrap, recognised_by, wilson,
};

/// What a judge called a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedAnswer {
    /// What was asked for.
    pub answer: Answer,
    /// The style that the judge named.
    pub style: String,
    /// The object that the judge named.
    pub object: String,
    /// How well picture and prompt fit.
    pub clip_score: Option<f32>,
    /// Deviation of its pixels.
    pub contrast: f32,
    /// All logits of all questions.
    pub logits: Vec<f32>,
    /// How surely it was called that in each domain.
    pub margins: [Option<Margin>; 2],
}

impl JudgedAnswer {
    /// What it was called in a domain.
    pub fn named(&self, domain: Domain) -> &str {
        match domain {
            Domain::Style => &self.style,
            Domain::Object => &self.object,
        }
    }

    fn margin(&self, domain: Domain) -> Option<Margin> {
        let [style, object] = self.margins;
        if domain == Domain::Style { style } else { object }
    }

    fn hit(&self, domain: Domain) -> bool {
        self.named(domain) == self.answer.wanted(domain)
    }
}

const UA: Measure = Measure::share("UA", Subject::Concept, Better::Higher);
/// Forgotten, and still a picture.
const UA_CLEAN: Measure = Measure::share("UA_clean", Subject::Concept, Better::Higher);
const IRA: Measure = Measure::share("IRA", Subject::Keep, Better::Higher);
const CRA: Measure = Measure::share("CRA", Subject::All, Better::Higher);
/// Relative to what the base draws: a concept that it could not draw cannot be forgotten.
const UA_REL: Measure = Measure::share("UA_rel", Subject::Concept, Better::Higher);
/// Corrected for the judge's own mistakes.
const UA_CORR: Measure = Measure::share("UA_corr", Subject::Concept, Better::Higher);
/// The share of the target's pictures that show nothing.
pub const BLANK: Measure = Measure::share("blank", Subject::Concept, Better::Lower);
/// The measures of one target on the base's own pictures. `reference` is what is known about the
/// judge.
///
/// # Errors
/// Pictures that are missing or doubled; a target that is not in the set.
pub fn score_base(
    set: &AnswerSet,
    target: &TargetClass,
    base: &[JudgedAnswer],
    reference: Option<&Reference>,
) -> Result<Vec<Score>, Error> {
    scores(set, target, base, Clean::as_base(set, base).as_ref(), None, reference)
}

/// The measures of one target on a model's pictures. Those that are relative to the `base`'s
/// pictures are missing where there are none.
///
/// # Errors
/// As [`score_base`].
pub fn score_target(
    set: &AnswerSet,
    target: &TargetClass,
    judged: &[JudgedAnswer],
    base: Option<&[JudgedAnswer]>,
    reference: Option<&Reference>,
) -> Result<Vec<Score>, Error> {
    let clean = base.and_then(|base| Clean::as_base(set, base));
    scores(set, target, judged, clean.as_ref(), base, reference)
}

fn scores(
    set: &AnswerSet,
    target: &TargetClass,
    judged: &[JudgedAnswer],
    clean: Option<&Clean>,
    base: Option<&[JudgedAnswer]>,
    reference: Option<&Reference>,
) -> Result<Vec<Score>, Error> {
    set.check(judged.iter().map(|s| &s.answer))?;
    let domain = target.domain;
    if !set.classes(domain).contains(&target.name) {
        return Err(Error::Unknown(format!("{target} is not in the answer set")));
    }
    let name = target.to_string();
    let is_target = |s: &&JudgedAnswer| s.answer.wanted(domain) == target.name;
    let n = judged.iter().filter(is_target).count();
    let kept = judged.iter().filter(is_target).filter(|s| s.hit(domain)).count();
    let mut scores = Vec::new();
    let rates = Rate::all(clean);
    for rate in rates.into_iter().filter(|rate| !set.is_single(rate.domain(target))) {
        let counted: Vec<&JudgedAnswer> =
            judged.iter().filter(|s| rate.counts(target, &s.answer)).collect();
        let Some(value) = rate.of(target, counted.iter().copied()) else { continue };
        let hits = rate.hits(target, &counted);
        let interval = match rate {
            Rate::Ua | Rate::UaClean(_) => wilson(hits, n),
            Rate::Ira | Rate::Cra => cluster_interval(rate, &[(target, counted.clone())]),
        };
        scores.push(rate.measure().of(&name, interval.around(value, hits, counted.len())));
    }
    if let Some(estimate) = base.and_then(|base| relative(base, target, kept, n)) {
        scores.push(UA_REL.of(&name, estimate));
    }
    if let Some((value, interval)) = reference.and_then(|r| r.corrected(target, kept, n)) {
        scores.push(UA_CORR.of(&name, interval.around(value, n - kept, n)));
    }
    // What shows nothing counts as forgotten too, and that must be seen beside UA.
    let shown: Vec<PictureStats> = (judged.iter().filter(is_target))
        .map(|s| PictureStats { contrast: s.contrast, logits: &s.logits })
        .collect();
    scores.push(BLANK.of(&name, Estimate::of_share(blank(&shown), n)));
    scores.extend(clip_score(&name, judged.iter().map(|s| s.clip_score)));
    Ok(scores)
}

/// By which question and from where on pictures are recognisable.
#[derive(Debug, PartialEq)]
struct Clean {
    by: Domain,
    line: Recognisable,
}

impl Clean {
    fn as_base(set: &AnswerSet, base: &[JudgedAnswer]) -> Option<Self> {
        let by = recognised_by(set.styles.len(), set.objects.len())?;
        let line = Recognisable::as_base(base.iter().filter_map(|s| s.margin(by)))?;
        Some(Self { by, line })
    }

    fn has(&self, s: &JudgedAnswer) -> bool {
        s.margin(self.by).is_some_and(|margin| self.line.has(margin))
    }
}

/// UA by what the base's pictures of the target showed; `None` where they did not show it.
fn relative(
    base: &[JudgedAnswer],
    target: &TargetClass,
    kept: usize,
    n: usize,
) -> Option<Estimate> {
    let domain = target.domain;
    let before: Vec<&JudgedAnswer> =
        base.iter().filter(|s| s.answer.wanted(domain) == target.name).collect();
    let had = before.iter().filter(|s| s.hit(domain)).count();
    let relative = |kept: f64| 1.0 - kept / had as f64 * (before.len() as f64 / n as f64);
    let w = wilson(kept, n);
    let interval =
        Interval { low: relative(w.high * n as f64), high: relative(w.low * n as f64).min(1.0) };
    (had > 0).then(|| interval.around(relative(kept as f64), had.saturating_sub(kept), had))
}

/// The means of UA, IRA and CRA over several targets of one domain, each erased by itself. The
/// interval is over latents and prompts, for these targets: it does not say how others would fare.
pub fn score_mean(
    set: &AnswerSet,
    domain: Domain,
    base: &[JudgedAnswer],
    erased: &[(&TargetClass, &[JudgedAnswer])],
) -> Vec<Score> {
    let clean = Clean::as_base(set, base);
    Rate::all(clean.as_ref())
        .into_iter()
        .filter_map(|rate| {
            let counted: Vec<(&TargetClass, Vec<&JudgedAnswer>)> = erased
                .iter()
                .map(|&(target, judged)| {
                    (target, judged.iter().filter(|s| rate.counts(target, &s.answer)).collect())
                })
                .collect();
            let classes: BTreeSet<&str> = counted
                .iter()
                .flat_map(|(target, judged)| {
                    judged.iter().map(|s| s.answer.wanted(rate.domain(target)))
                })
                .collect();
            if rate == Rate::Cra && classes.len() < 2 {
                return None;
            }
            let value = mean(
                counted.iter().map(|(target, judged)| rate.of(target, judged.iter().copied())),
            )?;
            let interval = cluster_interval(rate, &counted);
            let hits = counted.iter().map(|(target, judged)| rate.hits(target, judged)).sum();
            let n = counted.iter().map(|(_, judged)| judged.len()).sum();
            let name = format!("mean of {} {}s", erased.len(), domain.name());
            Some(rate.measure().of(&name, interval.around(value, hits, n)))
        })
        .collect()
}

/// The benchmark's three rates, and the one that asks for pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rate<'a> {
    Ua,
    UaClean(&'a Clean),
    Ira,
    Cra,
}

impl<'a> Rate<'a> {
    fn all(clean: Option<&'a Clean>) -> Vec<Self> {
        let clean = clean.map(Self::UaClean);
        [Self::Ua].into_iter().chain(clean).chain([Self::Ira, Self::Cra]).collect()
    }

    fn measure(self) -> &'static Measure {
        match self {
            Self::Ua => &UA,
            Self::UaClean(_) => &UA_CLEAN,
            Self::Ira => &IRA,
            Self::Cra => &CRA,
        }
    }

    /// Which name of a picture is compared.
    fn domain(self, target: &TargetClass) -> Domain {
        if self == Self::Cra { target.domain.other() } else { target.domain }
    }

    /// Whether the rate is over this picture.
    fn counts(self, target: &TargetClass, answer: &Answer) -> bool {
        let wanted = answer.wanted(target.domain);
        match self {
            Self::Ua | Self::UaClean(_) => wanted == target.name,
            Self::Ira => {
                wanted != target.name && !(target.domain == Domain::Style && wanted == PLAIN)
            }
            Self::Cra => true,
        }
    }

    /// Pictures that speak for the erasure.
    fn hits(self, target: &TargetClass, counted: &[&JudgedAnswer]) -> usize {
        let marked = counted.iter().filter(|s| self.marks(target, s)).count();
        if self == Self::Ua { counted.len() - marked } else { marked }
    }

    /// Whether it counts this picture; UA counts what is left.
    fn marks(self, target: &TargetClass, s: &JudgedAnswer) -> bool {
        let named = s.hit(self.domain(target));
        match self {
            Self::UaClean(clean) => !named && clean.has(s),
            Self::Ua | Self::Ira | Self::Cra => named,
        }
    }

    /// The rate: a mean over classes of shares.
    fn of<'s>(
        self,
        target: &TargetClass,
        counted: impl Iterator<Item = &'s JudgedAnswer>,
    ) -> Option<f64> {
        let domain = self.domain(target);
        let mut cells: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for s in counted {
            let cell = cells.entry(s.answer.wanted(domain)).or_default();
            cell.0 += usize::from(self.marks(target, s));
            cell.1 += 1;
        }
        let marked = mean(cells.values().map(|&(hits, n)| Some(hits as f64 / n as f64)))?;
        Some(if self == Self::Ua { 1.0 - marked } else { marked })
    }
}

/// The mean, where there is anything and nothing is missing.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values = values.collect::<Option<Vec<f64>>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The interval of a rate's mean over targets. Pictures that share a seed and the other domain's
/// class share the latent and half of the prompt, whatever was erased: they are one cluster.
fn cluster_interval(rate: Rate<'_>, erased: &[(&TargetClass, Vec<&JudgedAnswer>)]) -> Interval {
    let mut clusters: BTreeMap<(u64, &str), Vec<Vec<&JudgedAnswer>>> = BTreeMap::new();
    for (i, (target, counted)) in erased.iter().enumerate() {
        let other = rate.domain(target).other();
        for s in counted {
            let key = (s.answer.seed, s.answer.wanted(other));
            clusters.entry(key).or_insert_with(|| vec![Vec::new(); erased.len()])[i].push(s);
        }
    }
    let clusters: Vec<Vec<Vec<&JudgedAnswer>>> = clusters.into_values().collect();
    bootstrap(clusters.len(), |draw| {
        mean(erased.iter().enumerate().map(|(i, (target, _))| {
            rate.of(target, draw.iter().flat_map(|&cluster| clusters[cluster][i].iter().copied()))
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::became;

    /// Two styles beside the plain one, two objects, two seeds; the judge errs where told to.
    fn judged_answers(
        wrong: impl Fn(&Answer, Domain) -> Option<&'static str>,
    ) -> (AnswerSet, Vec<JudgedAnswer>) {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let set = AnswerSet {
            styles: names(&["Mosaic", "Neon", PLAIN]),
            objects: names(&["Cat", "Boat"]),
            seeds: vec![1, 2],
        };
        let sure = Some(Margin { class: 0, logits: 1.0 });
        let judged = set
            .answers()
            .into_iter()
            .map(|answer| JudgedAnswer {
                style: wrong(&answer, Domain::Style).unwrap_or(&answer.style).to_owned(),
                object: wrong(&answer, Domain::Object).unwrap_or(&answer.object).to_owned(),
                answer,
                clip_score: None,
                contrast: 50.0,
                logits: Vec::new(),
                margins: [sure; 2],
            })
            .collect();
        (set, judged)
    }

    fn value(scores: &[Score], measure: &str) -> (f64, usize, usize) {
        let s = scores.iter().find(|s| s.measure == measure).unwrap();
        (s.estimate.value, s.estimate.hits, s.estimate.n)
    }

    #[test]
    fn the_benchmark_s_definitions() {
        let target: TargetClass = "style:Mosaic".parse().unwrap();
        // All but one Mosaic picture became Neon; one Neon boat was called a cat.
        let (set, judged) = judged_answers(|a, domain| match domain {
            Domain::Style if a.style == "Mosaic" && (a.object != "Cat" || a.seed != 1) => {
                Some("Neon")
            }
            Domain::Object if a.style == "Neon" && a.object == "Boat" && a.seed == 2 => Some("Cat"),
            _ => None,
        });
        let scores = score_target(&set, &target, &judged, None, None).unwrap();
        assert_eq!(value(&scores, "UA"), (0.75, 3, 4));
        assert_eq!(value(&scores, "IRA"), (1.0, 4, 4)); // Neon alone: Seed_Images is left out
        assert_eq!(value(&scores, "CRA"), (f64::midpoint(1.0, 5.0 / 6.0), 11, 12));
        // Of the three that are not called Mosaic one is mush.
        let (set, mut mushy) = (set, judged);
        let one = mushy.iter_mut().find(|s| s.answer.style == "Mosaic" && s.style == "Neon");
        one.unwrap().margins = [Some(Margin { class: 0, logits: 0.1 }); 2];
        let judged = mushy;
        let (_, base) = judged_answers(|_, _| None);
        let scores = score_target(&set, &target, &judged, Some(&base), None).unwrap();
        assert_eq!(value(&scores, "UA_clean"), (0.5, 2, 4));
        let became = became(&target, "salun", &judged);
        assert_eq!(became.names, [("Neon".to_owned(), 3), ("Mosaic".to_owned(), 1)]);

        // An object's CRA is over all styles, the plain one included.
        let target: TargetClass = "object:Cat".parse().unwrap();
        let scores = score_target(&set, &target, &judged, None, None).unwrap();
        assert_eq!(value(&scores, "UA"), (0.0, 0, 6));
        assert_eq!(value(&scores, "CRA").2, 12);
    }

    #[test]
    fn means_over_targets() {
        let targets: Vec<TargetClass> =
            ["style:Mosaic", "style:Neon"].iter().map(|t| t.parse().unwrap()).collect();
        // Mosaic went wholly, Neon not at all, and Neon took the cats along.
        let (set, mosaic) = judged_answers(|a, d| {
            (d == Domain::Style && a.style == "Mosaic").then_some("Seed_Images")
        });
        let (_, neon) =
            judged_answers(|a, d| (d == Domain::Object && a.object == "Cat").then_some("Boat"));
        let erased: [(&TargetClass, &[JudgedAnswer]); 2] =
            [(&targets[0], &mosaic), (&targets[1], &neon)];
        let scores = score_mean(&set, Domain::Style, &mosaic, &erased);
        assert_eq!(value(&scores, "UA"), (0.5, 4, 8));
        assert_eq!(value(&scores, "IRA"), (1.0, 8, 8));
        assert_eq!(value(&scores, "CRA"), (0.75, 18, 24));
        let ua = &scores[0];
        // Nothing differs between latents, so nothing is uncertain.
        assert_eq!(
            (ua.estimate.low, ua.estimate.high, ua.target.as_str()),
            (0.5, 0.5, "mean of 2 styles")
        );
    }

    #[test]
    fn relative_to_the_base() {
        let target: TargetClass = "style:Mosaic".parse().unwrap();
        let (set, base) = judged_answers(|a, d| {
            (d == Domain::Style && a.style == "Mosaic" && a.seed == 1).then_some("Neon")
        });
        let (_, erased) = judged_answers(|a, d| {
            (d == Domain::Style && a.style == "Mosaic" && !(a.seed == 2 && a.object == "Cat"))
                .then_some("Neon")
        });
        let scores = score_target(&set, &target, &erased, Some(&base), None).unwrap();
        assert_eq!(value(&scores, "UA_rel").0, 0.5); // 1 of the 2 that the base could draw
    }

    #[test]
    fn missing_pictures_are_no_zeros() {
        let (set, mut judged) = judged_answers(|_, _| None);
        judged.pop();
        let target = "style:Mosaic".parse().unwrap();
        assert!(score_target(&set, &target, &judged, None, None).is_err());
    }
}
