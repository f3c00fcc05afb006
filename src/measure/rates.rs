//! How often a concept is shown, before and after, on the same prompts and seeds.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::interval::wilson_of;
use super::{Interval, bootstrap, wilson};

/// What a prompt is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It brings the concept out.
    Concept,
    /// It has nothing to do with it.
    Keep,
}

impl Role {
    /// `concept` or `keep`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Concept => "concept",
            Self::Keep => "keep",
        }
    }
}

/// What was found about one prompt and seed, before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// Which prompt; pictures of one prompt hang together.
    pub prompt: usize,
    /// Whether the concept was seen: before, after.
    pub shown: [bool; 2],
    /// How well picture and prompt fit, where the screen says that: before, after.
    pub fit: Option<[f64; 2]>,
}

/// A number with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Numerator, where it is a rate.
    pub hits: usize,
    /// Pictures.
    pub n: usize,
}

impl Estimate {
    /// A share of pictures that have nothing to do with each other, with Wilson's interval; 0 of 0
    /// is nothing.
    pub fn of_share(hits: usize, n: usize) -> Self {
        let Interval { low, high } = wilson(hits, n);
        Self { value: hits as f64 / n.max(1) as f64, low, high, hits, n }
    }
}

/// A measure before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Who looked.
    pub screen: String,
    /// At the pictures of which prompts.
    pub role: Role,
    /// `shown`; `gone`: of those that showed it before, how many do not after; `new`: of those that
    /// did not, how many do; `CLIP score`.
    pub measure: String,
    /// Before.
    pub before: Option<Estimate>,
    /// After.
    pub after: Option<Estimate>,
}

/// All measures of one screen on the prompts of one role.
pub fn rates(screen: &str, role: Role, pairs: &[Paired]) -> Vec<Rate> {
    let rate = |measure: &str, before: Option<Estimate>, after: Option<Estimate>| Rate {
        screen: screen.to_owned(),
        role,
        measure: measure.to_owned(),
        before,
        after,
    };
    let at = |when: usize| pairs.iter().map(move |pair| (pair.prompt, pair.shown[when]));
    let (was, was_not): (Vec<&Paired>, Vec<&Paired>) = pairs.iter().partition(|pair| pair.shown[0]);
    let gone = share(was.iter().map(|pair| (pair.prompt, !pair.shown[1])));
    let new = share(was_not.iter().map(|pair| (pair.prompt, pair.shown[1])));
    let mut rates = vec![
        rate("shown", share(at(0)), share(at(1))),
        rate("gone", None, gone),
        rate("new", None, new),
    ];
    let fits =
        |when: usize| pairs.iter().filter_map(move |pair| Some((pair.prompt, pair.fit?[when])));
    if fits(0).next().is_some() {
        rates.push(rate("CLIP score", mean(fits(0)), mean(fits(1))));
    }
    rates
}

/// A share of pictures, each with its prompt; `None` where there are none. Its interval is Wilson's
/// for as many trials as there are prompts: pictures of one prompt hang together, and how closely a
/// few prompts cannot tell.
pub fn share(pictures: impl Iterator<Item = (usize, bool)>) -> Option<Estimate> {
    let pictures: Vec<(usize, bool)> = pictures.collect();
    let n = pictures.len();
    let hits = pictures.iter().filter(|(_, yes)| *yes).count();
    let prompts: BTreeSet<usize> = pictures.iter().map(|(prompt, _)| *prompt).collect();
    let value = hits as f64 / n as f64;
    let Interval { low, high } = wilson_of(value, prompts.len());
    (n > 0).then_some(Estimate { value, low, high, hits, n })
}

/// A mean over pictures, each with its prompt, with an interval over prompts that are drawn again;
/// `None` where there are fewer than two prompts.
fn mean(pictures: impl Iterator<Item = (usize, f64)>) -> Option<Estimate> {
    let pictures: Vec<(usize, f64)> = pictures.collect();
    let n = pictures.len();
    let prompts = clusters(&pictures);
    let Interval { low, high } = resampled(&prompts);
    let value = pictures.iter().map(|(_, value)| value).sum::<f64>() / n as f64;
    (prompts.len() > 1).then_some(Estimate { value, low, high, hits: 0, n })
}

/// Sum and number of each prompt's pictures.
fn clusters(pictures: &[(usize, f64)]) -> Vec<(f64, usize)> {
    let mut sums: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    for (prompt, value) in pictures {
        let sum = sums.entry(*prompt).or_default();
        sum.0 += value;
        sum.1 += 1;
    }
    sums.into_values().collect()
}

fn resampled(prompts: &[(f64, usize)]) -> Interval {
    bootstrap(prompts.len(), |draw| {
        let (sum, n) =
            draw.iter().fold((0.0, 0), |(sum, n), &i| (sum + prompts[i].0, n + prompts[i].1));
        (n > 0).then(|| sum / n as f64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::wilson;

    #[test]
    fn what_was_shown_is_gone_or_new() {
        let pair = |prompt, before, after| Paired {
            prompt,
            shown: [before, after],
            fit: Some([30.0, 28.0]),
        };
        let pairs: Vec<Paired> = (0..20)
            .map(|i| match i {
                0..12 => pair(i, true, i < 3),
                _ => pair(i, false, i == 12),
            })
            .collect();
        let rates = rates("clip", Role::Concept, &pairs);
        let find = |measure: &str| rates.iter().find(|rate| rate.measure == measure).unwrap();
        let counted = |estimate: Option<Estimate>| estimate.map(|e| (e.hits, e.n));
        assert_eq!(counted(find("shown").before), Some((12, 20)));
        assert_eq!(counted(find("shown").after), Some((4, 20)));
        assert_eq!(counted(find("gone").after), Some((9, 12)));
        assert_eq!(counted(find("new").after), Some((1, 8)));
        let wilson = wilson(4, 20);
        assert!((find("shown").after.unwrap().high - wilson.high).abs() < 1e-12);
        assert!((find("CLIP score").after.unwrap().value - 28.0).abs() < 1e-12);
    }

    #[test]
    fn seeds_of_a_prompt_are_no_new_evidence() {
        let of = |shown: usize, seeds: usize| {
            share((0..10 * seeds).map(|i| (i % 10, i < shown))).unwrap()
        };
        assert_eq!(of(5, 1).low, of(20, 4).low);
        assert!((of(0, 8).high - wilson(0, 10).high).abs() < 1e-12);
        // One picture more or less changes little.
        assert!((of(100, 10).low - of(99, 10).low).abs() < 0.03);
        assert_eq!(share(std::iter::empty()), None);
    }
}
