//! How often a concept is shown, before and after, on the same prompts and seeds.

use std::collections::{BTreeMap, BTreeSet};

use super::interval::wilson_of;
use super::{
    Better, Estimate, Interval, Margin, Measure, Recognisable, Score, Subject, Unit, bootstrap,
};

/// What was found about one prompt and seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// Which prompt; pictures of one prompt hang together.
    pub prompt: usize,
    /// Whether the concept was detected.
    pub shown: bool,
    /// How surely that could be told, where the detector compares with other things.
    pub margin: Option<Margin>,
    /// How well picture and prompt fit, where the detector says that.
    pub fit: Option<f64>,
}

/// The share of pictures that show the concept: of its own prompts that is to fall, of others not
/// to rise.
const fn shown(subject: Subject) -> Measure {
    Measure::share("shown", subject, Better::Lower)
}

/// Of pictures that showed it before, how many do not after.
const fn gone(subject: Subject) -> Measure {
    Measure::share("gone", subject, Better::Higher)
}

/// Of pictures that showed it before, how many do not after and are as recognisable as the base's
/// pictures.
const GONE_CLEAN: Measure = Measure::share("gone_clean", Subject::Concept, Better::Higher);

/// Of pictures that did not show it before, how many do after.
const fn new(subject: Subject) -> Measure {
    Measure::share("new", subject, Better::Lower)
}

const fn clip_score(subject: Subject) -> Measure {
    Measure { name: "CLIP score", subject, unit: Unit::Cosine, better: Better::Higher }
}

/// What one detector found in pictures of the base, all of prompts of one kind.
pub fn rates_before(target: &str, subject: Subject, pictures: &[Shown]) -> Vec<Score> {
    let shares = share(pictures.iter().map(|picture| (picture.prompt, picture.shown)));
    let fits = mean(pictures.iter().filter_map(|picture| Some((picture.prompt, picture.fit?))));
    let shown = shares.map(|estimate| shown(subject).of(target, estimate));
    let fit = fits.map(|estimate| clip_score(subject).of(target, estimate));
    shown.into_iter().chain(fit).collect()
}

/// What it found after a method, in the same order of prompts and seeds.
pub fn rates_after(
    target: &str,
    subject: Subject,
    before: &[Shown],
    after: &[Shown],
) -> Vec<Score> {
    let mut scores = rates_before(target, subject, after);
    let of = |was: bool, counts: fn(bool) -> bool| {
        let pairs = before.iter().zip(after).filter(move |(before, _)| before.shown == was);
        share(pairs.map(|(_, after)| (after.prompt, counts(after.shown))))
    };
    let changes =
        [(gone(subject), of(true, |shown| !shown)), (new(subject), of(false, |shown| shown))];
    let changes =
        changes.into_iter().filter_map(|(measure, share)| Some(measure.of(target, share?)));
    let fit = scores.split_off(scores.len().min(1));
    scores.extend(changes);
    if subject == Subject::Concept {
        scores.extend(gone_clean(before, after).map(|share| GONE_CLEAN.of(target, share)));
    }
    scores.extend(fit);
    scores
}

fn gone_clean(before: &[Shown], after: &[Shown]) -> Option<Estimate> {
    let margins = before.iter().map(|picture| picture.margin).collect::<Option<Vec<_>>>()?;
    let line = Recognisable::as_base(margins.into_iter())?;
    let clean = |now: &Shown| !now.shown && now.margin.is_some_and(|margin| line.has(margin));
    let showed = before.iter().zip(after).filter(|(before, _)| before.shown);
    share(showed.map(|(_, now)| (now.prompt, clean(now))))
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
        let margin = Some(Margin { class: 0, logits: 2.0 });
        let at = |prompt, shown, fit| Shown { prompt, shown, margin, fit: Some(fit) };
        let before: Vec<Shown> = (0..20).map(|i| at(i, i < 12, 30.0)).collect();
        let after: Vec<Shown> = (0..20).map(|i| at(i, i < 3 || i == 12, 28.0)).collect();
        let base = rates_before("cats", Subject::Concept, &before);
        let scores = rates_after("cats", Subject::Concept, &before, &after);
        let find = |all: &[Score], measure: &str| {
            all.iter().find(|score| score.measure == measure).unwrap().estimate
        };
        let counted = |estimate: Estimate| (estimate.hits, estimate.n);
        assert_eq!(counted(find(&base, "shown")), (12, 20));
        assert_eq!(counted(find(&scores, "shown")), (4, 20));
        assert_eq!(counted(find(&scores, "gone")), (9, 12));
        assert_eq!(counted(find(&scores, "new")), (1, 8));
        let wilson = wilson(4, 20);
        assert!((find(&scores, "shown").high - wilson.high).abs() < 1e-12);
        assert!((find(&scores, "CLIP score").value - 28.0).abs() < 1e-12);
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
