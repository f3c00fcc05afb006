//! UA, IRA and CRA as `UnlearnCanvas` defines them, and what the erased prompts became.
//!
//! With acc(Y) the share of pictures prompted with Y that the judge calls Y:
//! UA = 1 - acc(target); IRA = mean acc over the other classes of the target's domain; CRA = mean acc over
//! the classes of the other domain, on the same pictures, those of the forgotten concept included (as in
//! the benchmark's code). `Seed_Images` is no style: IRA over styles leaves it out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answers::PLAIN;
use super::{Answer, AnswerSet, Domain, Error, Interval, Reference, Target, bootstrap, wilson};

/// What a judge called a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// What was asked for.
    pub answer: Answer,
    /// The style that the judge named.
    pub style: String,
    /// The object that the judge named.
    pub object: String,
    /// How well picture and prompt fit.
    pub clip_score: Option<f32>,
}

impl Seen {
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

/// The measures of one target on one subject's pictures. `base` are the base's pictures for relative
/// measures, `reference` is what is known about the judge.
///
/// # Errors
/// Pictures that are missing or doubled; a target that is not in the set.
pub fn score_target(
    set: &AnswerSet,
    target: &Target,
    subject: Subject,
    seen: &[Seen],
    base: Option<&[Seen]>,
    reference: Option<&Reference>,
) -> Result<Vec<Score>, Error> {
    set.check(seen.iter().map(|s| &s.answer))?;
    let domain = target.domain;
    if !set.classes(domain).contains(&target.name) {
        return Err(Error::Unknown(format!("{target} is not in the answer set")));
    }
    let score = |measure: &str, value: f64, interval: Interval, hits: usize, n: usize, better: &str| Score {
        measure: measure.to_owned(),
        subject,
        target: target.to_string(),
        value,
        low: interval.low,
        high: interval.high,
        hits,
        n,
        better: better.to_owned(),
    };
    let own = |s: &&Seen| s.answer.wanted(domain) == target.name;
    let forget: Vec<&Seen> = seen.iter().filter(own).collect();
    let n = forget.len();
    let kept = forget.iter().filter(|s| s.hit(domain)).count();
    let ua = 1.0 - kept as f64 / n as f64;
    let mut scores = vec![score("UA", ua, wilson(n - kept, n), n - kept, n, "higher")];

    for (measure, domain, leave_out) in [("IRA", domain, Some(&target.name)), ("CRA", domain.other(), None)] {
        let counted: Vec<&Seen> = seen
            .iter()
            .filter(|s| {
                let wanted = s.answer.wanted(domain);
                Some(wanted) != leave_out.map(String::as_str)
                    && !(measure == "IRA" && domain == Domain::Style && wanted == PLAIN)
            })
            .collect();
        let Some(value) = macro_average(counted.iter().copied(), domain) else { continue };
        let hits = counted.iter().filter(|s| s.hit(domain)).count();
        let interval = cluster_interval(&counted, domain);
        scores.push(score(measure, value, interval, hits, counted.len(), "higher"));
    }

    // Relative to what the base draws: a concept that it could not draw cannot be forgotten.
    if let Some(base) = base {
        let before: Vec<&Seen> = base.iter().filter(own).collect();
        let had = before.iter().filter(|s| s.hit(domain)).count();
        if had > 0 {
            let relative = |kept: f64| 1.0 - kept / had as f64 * (before.len() as f64 / n as f64);
            let w = wilson(kept, n);
            let interval =
                Interval { low: relative(w.high * n as f64), high: relative(w.low * n as f64).min(1.0) };
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
    let fits: Vec<f64> = seen.iter().filter_map(|s| s.clip_score).map(f64::from).collect();
    if fits.len() == seen.len() && !fits.is_empty() {
        let mean = |draw: &[usize]| draw.iter().map(|&i| fits[i]).sum::<f64>() / draw.len() as f64;
        let all: Vec<usize> = (0..fits.len()).collect();
        let interval = bootstrap(fits.len(), |draw| Some(mean(draw)));
        scores.push(score("CLIP", mean(&all), interval, 0, fits.len(), "higher"));
    }
    Ok(scores)
}

/// Counts what the target's pictures were called.
pub fn became(target: &Target, seen: &[Seen]) -> Became {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut n = 0;
    for s in seen.iter().filter(|s| s.answer.wanted(target.domain) == target.name) {
        *names.entry(s.named(target.domain)).or_default() += 1;
        n += 1;
    }
    let mut names: Vec<(String, usize)> = names.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Became { target: target.to_string(), names, n }
}

/// The mean over classes of the share that the judge got right.
fn macro_average<'a>(seen: impl Iterator<Item = &'a Seen>, domain: Domain) -> Option<f64> {
    let mut cells: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for s in seen {
        let cell = cells.entry(s.answer.wanted(domain)).or_default();
        cell.0 += usize::from(s.hit(domain));
        cell.1 += 1;
    }
    (!cells.is_empty())
        .then(|| cells.values().map(|&(hits, n)| hits as f64 / n as f64).sum::<f64>() / cells.len() as f64)
}

/// Pictures that share a seed and the other domain's class share the latent and half of the prompt:
/// they are one cluster.
fn cluster_interval(seen: &[&Seen], domain: Domain) -> Interval {
    let mut clusters: BTreeMap<(u64, &str), Vec<&Seen>> = BTreeMap::new();
    for s in seen {
        clusters.entry((s.answer.seed, s.answer.wanted(domain.other()))).or_default().push(s);
    }
    let clusters: Vec<Vec<&Seen>> = clusters.into_values().collect();
    bootstrap(clusters.len(), |draw| {
        macro_average(draw.iter().flat_map(|&i| clusters[i].iter().copied()), domain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two styles beside the plain one, two objects, two seeds; the judge errs where told to.
    fn world(wrong: impl Fn(&Answer, Domain) -> Option<&'static str>) -> (AnswerSet, Vec<Seen>) {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let set = AnswerSet {
            styles: names(&["Mosaic", "Neon", PLAIN]),
            objects: names(&["Cat", "Boat"]),
            seeds: vec![1, 2],
        };
        let seen = set
            .answers()
            .into_iter()
            .map(|answer| Seen {
                style: wrong(&answer, Domain::Style).unwrap_or(&answer.style).to_owned(),
                object: wrong(&answer, Domain::Object).unwrap_or(&answer.object).to_owned(),
                answer,
                clip_score: None,
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
            Domain::Style if a.style == "Mosaic" && (a.object != "Cat" || a.seed != 1) => Some("Neon"),
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
    fn relative_to_the_base() {
        let target: Target = "style:Mosaic".parse().unwrap();
        let (set, base) =
            world(|a, d| (d == Domain::Style && a.style == "Mosaic" && a.seed == 1).then_some("Neon"));
        let (_, erased) = world(|a, d| {
            (d == Domain::Style && a.style == "Mosaic" && !(a.seed == 2 && a.object == "Cat"))
                .then_some("Neon")
        });
        let scores = score_target(&set, &target, Subject::Erased, &erased, Some(&base), None).unwrap();
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
