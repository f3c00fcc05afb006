//! UA, IRA and CRA as `UnlearnCanvas` defines them, and what the erased prompts became.
//!
//! With acc(Y) the share of pictures prompted with Y that the judge calls Y: UA = 1 - acc(target);
//! IRA = mean acc over the other classes of the target's domain; CRA = mean acc over the classes of
//! the other domain, on the same pictures, those of the forgotten concept included (as in the
//! benchmark's code). `Seed_Images` is no style: IRA over styles leaves it out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::answers::PLAIN;
use super::blank::{BlankCheck, blank};
use super::{Answer, AnswerSet, Domain, Error, Interval, Reference, Target, bootstrap, wilson};

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
}

impl JudgedAnswer {
    fn named(&self, domain: Domain) -> &str {
        match domain {
            Domain::Style => &self.style,
            Domain::Object => &self.object,
        }
    }

    fn hit(&self, domain: Domain) -> bool {
        self.named(domain) == self.answer.wanted(domain)
    }
}

/// Whose pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The model before.
    Base,
    /// The model after.
    Erased,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// `UA`, `IRA`, `CRA`, …
    pub measure: String,
    /// Whose pictures.
    pub subject: Subject,
    /// What was to be forgotten, `style:Mosaic`.
    pub target: String,
    /// The number.
    pub value: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Numerator, where the number is a rate (or a mean of rates with equal denominators).
    pub hits: usize,
    /// Denominator: pictures.
    pub n: usize,
    /// `higher` or `lower`.
    pub better: String,
}

/// The share of the target's pictures that show nothing.
pub const BLANK: &str = "blank";

/// What the pictures of the erased prompts were called, most frequent first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Became {
    /// The target.
    pub target: String,
    /// Name and number of pictures.
    pub names: Vec<(String, usize)>,
    /// Pictures.
    pub n: usize,
}

/// The measures of one target on one subject's pictures. `base` are the base's pictures for
/// relative measures, `reference` is what is known about the judge.
///
/// # Errors
/// Pictures that are missing or doubled; a target that is not in the set.
pub fn score_target(
    set: &AnswerSet,
    target: &Target,
    subject: Subject,
    seen: &[JudgedAnswer],
    base: Option<&[JudgedAnswer]>,
    reference: Option<&Reference>,
) -> Result<Vec<Score>, Error> {
    set.check(seen.iter().map(|s| &s.answer))?;
    let domain = target.domain;
    if !set.classes(domain).contains(&target.name) {
        return Err(Error::Unknown(format!("{target} is not in the answer set")));
    }
    let score =
        |measure: &str, value: f64, interval: Interval, hits: usize, n: usize, better: &str| {
            Score {
                measure: measure.to_owned(),
                subject,
                target: target.to_string(),
                value,
                low: interval.low,
                high: interval.high,
                hits,
                n,
                better: better.to_owned(),
            }
        };
    let own = |s: &&JudgedAnswer| s.answer.wanted(domain) == target.name;
    let n = seen.iter().filter(own).count();
    let kept = seen.iter().filter(own).filter(|s| s.hit(domain)).count();
    let mut scores = Vec::new();
    for rate in Rate::ALL {
        if set.is_single(rate.domain(target)) {
            continue;
        }
        let counted: Vec<&JudgedAnswer> =
            seen.iter().filter(|s| rate.counts(target, &s.answer)).collect();
        let Some(value) = rate.of(target, counted.iter().copied()) else { continue };
        let hits = rate.hits(target, &counted);
        let interval = match rate {
            Rate::Ua => wilson(hits, n),
            Rate::Ira | Rate::Cra => cluster_interval(rate, &[(target, counted.clone())]),
        };
        scores.push(score(rate.name(), value, interval, hits, counted.len(), "higher"));
    }

    // Relative to what the base draws: a concept that it could not draw cannot be forgotten.
    if let Some(base) = base {
        let before: Vec<&JudgedAnswer> = base.iter().filter(own).collect();
        let had = before.iter().filter(|s| s.hit(domain)).count();
        if had > 0 {
            let relative = |kept: f64| 1.0 - kept / had as f64 * (before.len() as f64 / n as f64);
            let w = wilson(kept, n);
            let interval = Interval {
                low: relative(w.high * n as f64),
                high: relative(w.low * n as f64).min(1.0),
            };
            scores.push(score(
                "UA_rel",
                relative(kept as f64),
                interval,
                had.saturating_sub(kept),
                had,
                "higher",
            ));
        }
    }
    if let Some((value, interval)) = reference.and_then(|r| r.corrected(target, kept, n)) {
        scores.push(score("UA_corr", value, interval, n - kept, n, "higher"));
    }
    // What shows nothing counts as forgotten too, and that must be seen beside UA.
    let shown: Vec<BlankCheck> = (seen.iter().filter(own))
        .map(|s| BlankCheck { contrast: s.contrast, logits: &s.logits })
        .collect();
    let empty = blank(&shown);
    scores.push(score(BLANK, empty as f64 / n.max(1) as f64, wilson(empty, n), empty, n, "lower"));
    let fits: Vec<f64> = seen.iter().filter_map(|s| s.clip_score).map(f64::from).collect();
    if fits.len() == seen.len() && !fits.is_empty() {
        let mean = |draw: &[usize]| draw.iter().map(|&i| fits[i]).sum::<f64>() / draw.len() as f64;
        let all: Vec<usize> = (0..fits.len()).collect();
        let interval = bootstrap(fits.len(), |draw| Some(mean(draw)));
        scores.push(score("CLIP", mean(&all), interval, 0, fits.len(), "higher"));
    }
    Ok(scores)
}

/// The means of UA, IRA and CRA over several targets of one domain, each erased by itself. The
/// interval is over latents and prompts, for these targets: it does not say how others would fare.
pub fn score_mean(
    domain: Domain,
    subject: Subject,
    erased: &[(&Target, &[JudgedAnswer])],
) -> Vec<Score> {
    Rate::ALL
        .into_iter()
        .filter_map(|rate| {
            let counted: Vec<(&Target, Vec<&JudgedAnswer>)> = erased
                .iter()
                .map(|&(target, seen)| {
                    (target, seen.iter().filter(|s| rate.counts(target, &s.answer)).collect())
                })
                .collect();
            let classes: BTreeSet<&str> = counted
                .iter()
                .flat_map(|(target, seen)| {
                    seen.iter().map(|own| own.answer.wanted(rate.domain(target)))
                })
                .collect();
            if rate == Rate::Cra && classes.len() < 2 {
                return None;
            }
            let value =
                mean(counted.iter().map(|(target, seen)| rate.of(target, seen.iter().copied())))?;
            let interval = cluster_interval(rate, &counted);
            Some(Score {
                measure: rate.name().to_owned(),
                subject,
                target: format!("mean of {} {}s", erased.len(), domain.name()),
                value,
                low: interval.low,
                high: interval.high,
                hits: counted.iter().map(|(target, seen)| rate.hits(target, seen)).sum(),
                n: counted.iter().map(|(_, seen)| seen.len()).sum(),
                better: "higher".to_owned(),
            })
        })
        .collect()
}

/// Counts what the target's pictures were called.
pub fn became(target: &Target, seen: &[JudgedAnswer]) -> Became {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut n = 0;
    for s in seen.iter().filter(|s| s.answer.wanted(target.domain) == target.name) {
        *names.entry(s.named(target.domain)).or_default() += 1;
        n += 1;
    }
    let mut names: Vec<(String, usize)> =
        names.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Became { target: target.to_string(), names, n }
}

/// The benchmark's three rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rate {
    Ua,
    Ira,
    Cra,
}

impl Rate {
    const ALL: [Self; 3] = [Self::Ua, Self::Ira, Self::Cra];

    fn name(self) -> &'static str {
        match self {
            Self::Ua => "UA",
            Self::Ira => "IRA",
            Self::Cra => "CRA",
        }
    }

    /// Which name of a picture is compared.
    fn domain(self, target: &Target) -> Domain {
        if self == Self::Cra { target.domain.other() } else { target.domain }
    }

    /// Whether the rate is over this picture.
    fn counts(self, target: &Target, answer: &Answer) -> bool {
        let wanted = answer.wanted(target.domain);
        match self {
            Self::Ua => wanted == target.name,
            Self::Ira => {
                wanted != target.name && !(target.domain == Domain::Style && wanted == PLAIN)
            }
            Self::Cra => true,
        }
    }

    /// Pictures that speak for the erasure.
    fn hits(self, target: &Target, counted: &[&JudgedAnswer]) -> usize {
        let named = counted.iter().filter(|s| s.hit(self.domain(target))).count();
        if self == Self::Ua { counted.len() - named } else { named }
    }

    /// The rate: a mean over classes of shares.
    fn of<'a>(
        self,
        target: &Target,
        counted: impl Iterator<Item = &'a JudgedAnswer>,
    ) -> Option<f64> {
        let domain = self.domain(target);
        let mut cells: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for s in counted {
            let cell = cells.entry(s.answer.wanted(domain)).or_default();
            cell.0 += usize::from(s.hit(domain));
            cell.1 += 1;
        }
        let named = mean(cells.values().map(|&(hits, n)| Some(hits as f64 / n as f64)))?;
        Some(if self == Self::Ua { 1.0 - named } else { named })
    }
}

/// The mean, where there is anything and nothing is missing.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values = values.collect::<Option<Vec<f64>>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The interval of a rate's mean over targets. Pictures that share a seed and the other domain's
/// class share the latent and half of the prompt, whatever was erased: they are one cluster.
fn cluster_interval(rate: Rate, erased: &[(&Target, Vec<&JudgedAnswer>)]) -> Interval {
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

    /// Two styles beside the plain one, two objects, two seeds; the judge errs where told to.
    fn world(
        wrong: impl Fn(&Answer, Domain) -> Option<&'static str>,
    ) -> (AnswerSet, Vec<JudgedAnswer>) {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let set = AnswerSet {
            styles: names(&["Mosaic", "Neon", PLAIN]),
            objects: names(&["Cat", "Boat"]),
            seeds: vec![1, 2],
        };
        let seen = set
            .answers()
            .into_iter()
            .map(|answer| JudgedAnswer {
                style: wrong(&answer, Domain::Style).unwrap_or(&answer.style).to_owned(),
                object: wrong(&answer, Domain::Object).unwrap_or(&answer.object).to_owned(),
                answer,
                clip_score: None,
                contrast: 50.0,
                logits: Vec::new(),
            })
            .collect();
        (set, seen)
    }

    fn value(scores: &[Score], measure: &str) -> (f64, usize, usize) {
        let s = scores.iter().find(|s| s.measure == measure).unwrap();
        (s.value, s.hits, s.n)
    }

    #[test]
    fn the_benchmark_s_definitions() {
        let target: Target = "style:Mosaic".parse().unwrap();
        // All but one Mosaic picture became Neon; one Neon boat was called a cat.
        let (set, seen) = world(|a, domain| match domain {
            Domain::Style if a.style == "Mosaic" && (a.object != "Cat" || a.seed != 1) => {
                Some("Neon")
            }
            Domain::Object if a.style == "Neon" && a.object == "Boat" && a.seed == 2 => Some("Cat"),
            _ => None,
        });
        let scores = score_target(&set, &target, Subject::Erased, &seen, None, None).unwrap();
        assert_eq!(value(&scores, "UA"), (0.75, 3, 4));
        assert_eq!(value(&scores, "IRA"), (1.0, 4, 4)); // Neon alone: Seed_Images is left out
        assert_eq!(value(&scores, "CRA"), (f64::midpoint(1.0, 5.0 / 6.0), 11, 12));
        let became = became(&target, &seen);
        assert_eq!(became.names, [("Neon".to_owned(), 3), ("Mosaic".to_owned(), 1)]);

        // An object's CRA is over all styles, the plain one included.
        let target: Target = "object:Cat".parse().unwrap();
        let scores = score_target(&set, &target, Subject::Erased, &seen, None, None).unwrap();
        assert_eq!(value(&scores, "UA"), (0.0, 0, 6));
        assert_eq!(value(&scores, "CRA").2, 12);
    }

    #[test]
    fn means_over_targets() {
        let targets: Vec<Target> =
            ["style:Mosaic", "style:Neon"].iter().map(|t| t.parse().unwrap()).collect();
        // Mosaic went wholly, Neon not at all, and Neon took the cats along.
        let (_, mosaic) =
            world(|a, d| (d == Domain::Style && a.style == "Mosaic").then_some("Seed_Images"));
        let (_, neon) = world(|a, d| (d == Domain::Object && a.object == "Cat").then_some("Boat"));
        let scores = score_mean(
            Domain::Style,
            Subject::Erased,
            &[(&targets[0], &mosaic), (&targets[1], &neon)],
        );
        assert_eq!(value(&scores, "UA"), (0.5, 4, 8));
        assert_eq!(value(&scores, "IRA"), (1.0, 8, 8));
        assert_eq!(value(&scores, "CRA"), (0.75, 18, 24));
        let ua = &scores[0];
        // Nothing differs between latents, so nothing is uncertain.
        assert_eq!((ua.low, ua.high, ua.target.as_str()), (0.5, 0.5, "mean of 2 styles"));
    }

    #[test]
    fn relative_to_the_base() {
        let target: Target = "style:Mosaic".parse().unwrap();
        let (set, base) = world(|a, d| {
            (d == Domain::Style && a.style == "Mosaic" && a.seed == 1).then_some("Neon")
        });
        let (_, erased) = world(|a, d| {
            (d == Domain::Style && a.style == "Mosaic" && !(a.seed == 2 && a.object == "Cat"))
                .then_some("Neon")
        });
        let scores =
            score_target(&set, &target, Subject::Erased, &erased, Some(&base), None).unwrap();
        assert_eq!(value(&scores, "UA_rel").0, 0.5); // 1 of the 2 that the base could draw
    }

    #[test]
    fn missing_pictures_are_no_zeros() {
        let (set, mut seen) = world(|_, _| None);
        seen.pop();
        let target = "style:Mosaic".parse().unwrap();
        assert!(score_target(&set, &target, Subject::Base, &seen, None, None).is_err());
    }
}
