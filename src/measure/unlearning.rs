//! What became of a generator's pictures, latent by latent: how much of a class is gone (PUL,
//! percentage of unlearning, Tiwary et al. 2025), and how far the shares of the other classes have
//! moved.

use super::{Estimate, bootstrap, wilson};

/// What a judge called the pictures of the same latents, before and after.
#[derive(Debug, Clone, Copy)]
pub struct ClassChanges<'a> {
    /// Class of each latent's picture before.
    pub before: &'a [usize],
    /// Class of it after.
    pub after: &'a [usize],
}

impl ClassChanges<'_> {
    /// `(n₀ - n₁) / n₀`, with n the pictures of the class over all latents, before and after.
    /// `None` where there were none.
    pub fn unlearned(&self, class: usize) -> Option<Estimate> {
        let of = |draw: &mut dyn Iterator<Item = usize>| {
            let (mut had, mut has) = (0_i64, 0_i64);
            for i in draw {
                had += i64::from(self.before[i] == class);
                has += i64::from(self.after[i] == class);
            }
            (had > 0).then(|| (had - has) as f64 / had as f64)
        };
        let n = self.before.len();
        let value = of(&mut (0..n))?;
        let mut interval = bootstrap(n, |draw| of(&mut draw.iter().copied()));
        let hits = self.after.iter().filter(|&&after| after == class).count();
        if hits == 0 {
            // Every draw says the same; Wilson's bound of what may be left does not.
            let had = self.before.iter().filter(|&&before| before == class).count() as f64;
            interval.low = 1.0 - wilson(hits, n).high * n as f64 / had;
        }
        Some(Estimate { value, low: interval.low, high: interval.high, hits, n })
    }

    /// Share of the latents that showed the class which no longer do. `None` where there were none.
    pub fn unlearned_of_negatives(&self, class: usize) -> Option<Estimate> {
        let showed = self.before.iter().zip(self.after).filter(|(before, _)| **before == class);
        let (n, hits) = showed
            .fold((0, 0), |(n, hits), (_, after)| (n + 1, hits + usize::from(*after != class)));
        (n > 0).then(|| Estimate::of_share(hits, n))
    }

    /// As [`unlearned_of_negatives`](Self::unlearned_of_negatives), and only pictures count for
    /// which `counts` says so.
    pub fn unlearned_where(&self, class: usize, counts: &[bool]) -> Option<Estimate> {
        let all = self.before.iter().zip(self.after).zip(counts);
        let showed = all.filter(|((before, _), _)| **before == class);
        let (n, hits) = showed.fold((0, 0), |(n, hits), ((_, after), counts)| {
            (n + 1, hits + usize::from(*after != class && *counts))
        });
        (n > 0).then(|| Estimate::of_share(hits, n))
    }

    /// Relative change of each class's share among the pictures that do not show `without`; of all,
    /// where that is `None`: above 0 where the class became more frequent. `None` for that class
    /// itself, and for classes that did not occur.
    pub fn drift(&self, classes: usize, without: Option<usize>) -> Vec<Option<f64>> {
        self.drift_of(classes, without, &mut (0..self.before.len()))
    }

    fn drift_of(
        &self,
        classes: usize,
        without: Option<usize>,
        draw: &mut dyn Iterator<Item = usize>,
    ) -> Vec<Option<f64>> {
        let (mut before, mut after) = (vec![0_usize; classes], vec![0_usize; classes]);
        for i in draw {
            before[self.before[i]] += 1;
            after[self.after[i]] += 1;
        }
        if let Some(out) = without {
            (before[out], after[out]) = (0, 0);
        }
        let total = |counts: &[usize]| counts.iter().sum::<usize>().max(1) as f64;
        let (was, is) = (total(&before), total(&after));
        let change =
            |(b, a): (&usize, &usize)| (*b > 0).then(|| (*a as f64 / is) / (*b as f64 / was) - 1.0);
        before.iter().zip(&after).map(change).collect()
    }

    /// [`Self::drift`] of one class.
    pub fn drift_of_class(&self, without: Option<usize>, class: usize) -> Option<Estimate> {
        if Some(class) == without {
            return None;
        }
        // Its share before and after needs four counts, however many classes there are.
        let of = |draw: &mut dyn Iterator<Item = usize>| {
            let (mut n, mut shown, mut out) = (0.0, [0.0; 2], [0.0; 2]);
            for i in draw {
                n += 1.0;
                for (when, called) in [self.before[i], self.after[i]].into_iter().enumerate() {
                    shown[when] += f64::from(u8::from(called == class));
                    out[when] += f64::from(u8::from(Some(called) == without));
                }
            }
            let [was, is] = [0, 1].map(|when| shown[when] / f64::max(n - out[when], 1.0));
            (was > 0.0).then(|| is / was - 1.0)
        };
        let n = self.before.len();
        let hits = self.after.iter().filter(|&&after| after == class).count();
        let value = of(&mut (0..n))?;
        let interval = bootstrap(n, |draw| of(&mut draw.iter().copied()));
        Some(Estimate { value, low: interval.low, high: interval.high, hits, n })
    }

    /// The mean and the largest size of [`Self::drift`] over the classes.
    pub fn drifts(&self, classes: usize, without: Option<usize>) -> Option<[Estimate; 2]> {
        let mean = |drift: &[f64]| drift.iter().sum::<f64>() / drift.len() as f64;
        let largest = |drift: &[f64]| drift.iter().copied().fold(0.0, f64::max);
        Some([self.drift_by(classes, without, &mean)?, self.drift_by(classes, without, &largest)?])
    }

    fn drift_by(
        &self,
        classes: usize,
        without: Option<usize>,
        reduce: &dyn Fn(&[f64]) -> f64,
    ) -> Option<Estimate> {
        let known = |drift: Vec<Option<f64>>| {
            let known: Vec<f64> = drift.into_iter().flatten().map(f64::abs).collect();
            (!known.is_empty()).then(|| reduce(&known))
        };
        let n = self.before.len();
        let value = known(self.drift(classes, without))?;
        let drawn =
            bootstrap(n, |draw| known(self.drift_of(classes, without, &mut draw.iter().copied())));
        // Drawing again adds to every change; mirrored at the value the draws' excess is taken off
        // it.
        let (low, high) =
            ((2.0 * value - drawn.high).max(0.0), (2.0 * value - drawn.low).max(value));
        Some(Estimate { value, low, high, hits: 0, n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_and_what_came_are_both_counted() {
        // Four of class 0: three went, and one of class 1 became one. PUL: (4 - 2) / 4 = 0.5; of
        // those four, 3/4 are gone.
        let changes =
            ClassChanges { before: &[0, 0, 0, 0, 1, 1, 1, 2], after: &[1, 1, 2, 0, 1, 1, 0, 2] };
        let all = changes.unlearned(0).unwrap();
        assert!((all.value - 0.5).abs() < 1e-12 && all.hits == 2, "{all:?}");
        let of_negatives = changes.unlearned_of_negatives(0).unwrap();
        assert_eq!((of_negatives.hits, of_negatives.n), (3, 4));
        assert!(changes.unlearned(3).is_none() && changes.unlearned_of_negatives(3).is_none());
        // Of the others 3/4 and 1/4 before, 4/6 and 2/6 after: (4/6) / (3/4) - 1 = -1/9 and
        // (2/6) / (1/4) - 1 = 1/3; the mean of their sizes is (1/9 + 1/3) / 2 = 2/9.
        let drift = changes.drift(3, Some(0));
        assert!(drift[0].is_none());
        assert!(
            (drift[1].unwrap() + 1.0 / 9.0).abs() < 1e-12
                && (drift[2].unwrap() - 1.0 / 3.0).abs() < 1e-12
        );
        let of_class = changes.drift_of_class(Some(0), 2).unwrap();
        assert!((of_class.value - 1.0 / 3.0).abs() < 1e-12, "{of_class:?}");
        assert_eq!((of_class.hits, of_class.n), (2, 8));
        assert!(of_class.low <= of_class.value && of_class.value <= of_class.high);
        assert!(changes.drift_of_class(Some(0), 0).is_none());
        let [mean, largest] = changes.drifts(3, Some(0)).unwrap();
        assert!(
            (mean.value - 2.0 / 9.0).abs() < 1e-12 && (largest.value - 1.0 / 3.0).abs() < 1e-12
        );
        assert!(mean.low <= mean.value && mean.value <= mean.high);
    }

    /// Two of class 0 before, three after: PUL (2 - 3) / 2 = -0.5, and none of the two is gone.
    #[test]
    fn a_class_that_grew_is_unlearned_by_less_than_nothing() {
        let changes = ClassChanges { before: &[0, 0, 1, 1], after: &[0, 0, 0, 1] };
        let all = changes.unlearned(0).unwrap();
        assert!((all.value + 0.5).abs() < 1e-12 && (all.hits, all.n) == (3, 4), "{all:?}");
        let of_negatives = changes.unlearned_of_negatives(0).unwrap();
        assert_eq!((of_negatives.hits, of_negatives.n), (0, 2));
    }

    /// With no class left out: class 0 from 3/4 to 2/4, (2/4) / (3/4) - 1 = -1/3; class 1 from 1/4
    /// to 2/4, (2/4) / (1/4) - 1 = 1; the mean of their sizes is (1/3 + 1) / 2 = 2/3, the largest
    /// is 1. Class 2 occurs nowhere and has none.
    #[test]
    fn drift_of_all_classes() {
        let changes = ClassChanges { before: &[0, 0, 0, 1], after: &[0, 0, 1, 1] };
        let drift = changes.drift(3, None);
        assert!((drift[0].unwrap() + 1.0 / 3.0).abs() < 1e-12, "{drift:?}");
        assert!((drift[1].unwrap() - 1.0).abs() < 1e-12 && drift[2].is_none(), "{drift:?}");
        let [mean, largest] = changes.drifts(3, None).unwrap();
        assert!((mean.value - 2.0 / 3.0).abs() < 1e-12, "{mean:?}");
        assert!((largest.value - 1.0).abs() < 1e-12, "{largest:?}");
        let of_class = changes.drift_of_class(None, 0).unwrap();
        assert!((of_class.value + 1.0 / 3.0).abs() < 1e-12, "{of_class:?}");
        assert!(changes.drift_of_class(None, 2).is_none());
    }

    #[test]
    fn nothing_left_is_not_certainty() {
        let before: Vec<usize> = (0..200).map(|i| i % 4).collect();
        let changes = ClassChanges { before: &before, after: &[1; 200] };
        let all = changes.unlearned(0).unwrap();
        assert!((all.value - 1.0).abs() < 1e-12 && (0.9..0.99).contains(&all.low), "{all:?}");
        let same = ClassChanges { before: &before, after: &before }.unlearned(1).unwrap();
        assert!(same.value == 0.0 && same.low == 0.0 && same.high == 0.0, "{same:?}");
    }
}
