//! Whether a picture still shows something. What is mush is not called by the erased concept's name
//! either, so it counts as forgotten; `UA_clean` and its like count it out.
//!
//! A picture is recognisable where the judge tells what is in it about as surely as in the base's
//! own pictures of the same: the margin, its largest logit less its second largest, is no more than
//! 2.5 deviations below the mean of theirs. One line for all classes would call some of a class's
//! own pictures in the base mush that the judge finds hard. On pictures that were labelled by eye
//! this agrees better than that and than distances of features; `docs/measures.md` has the numbers.

use std::collections::BTreeMap;

use super::Domain;

/// How far below the mean a picture still is recognisable, in deviations.
const BELOW: f64 = 2.5;

/// What a judge called a picture, and how surely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// The class with the largest logit, by number.
    pub class: usize,
    /// By how much it is larger than the second largest.
    pub logits: f32,
}

impl Margin {
    /// Of a question's logits; `None` where there is nothing to tell apart.
    pub fn of(logits: &[f32]) -> Option<Self> {
        let mut classes: Vec<usize> = (0..logits.len()).collect();
        classes.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        match classes.as_slice() {
            [first, second, ..] => {
                Some(Self { class: *first, logits: logits[*first] - logits[*second] })
            }
            _ => None,
        }
    }
}

/// The question by which pictures are recognised: what they are of, or, where there is one object
/// only, how they are made. `None` where there is one of both.
pub fn recognised_by(styles: usize, objects: usize) -> Option<Domain> {
    match (styles, objects) {
        (_, 2..) => Some(Domain::Object),
        (2.., _) => Some(Domain::Style),
        _ => None,
    }
}

/// From which margin on a picture of each class is recognisable.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognisable {
    lines: BTreeMap<usize, f64>,
    /// The line of classes that none of the base's pictures is called.
    other: f64,
}

impl Recognisable {
    /// As the base's own pictures are; `None` where no class has two of them. The deviation is that
    /// within classes, pooled: a class may have few pictures.
    pub fn as_base(margins: impl Iterator<Item = Margin>) -> Option<Self> {
        let mut classes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for margin in margins {
            classes.entry(margin.class).or_default().push(f64::from(margin.logits));
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let all: Vec<f64> = classes.values().flatten().copied().collect();
        let squares = classes.values().map(|values| {
            let mean = mean(values);
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
        });
        let free = all.len().checked_sub(classes.len()).filter(|free| *free > 0)?;
        let deviation = (squares.sum::<f64>() / free as f64).sqrt();
        let line = |values: &[f64]| mean(values) - BELOW * deviation;
        let lines = classes.iter().map(|(class, values)| (*class, line(values))).collect();
        Some(Self { lines, other: line(&all) })
    }

    /// Whether a picture of this margin is.
    pub fn has(&self, margin: Margin) -> bool {
        f64::from(margin.logits) >= *self.lines.get(&margin.class).unwrap_or(&self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_base_has_its_line() {
        let of = |class, logits| Margin { class, logits };
        // Means 10 and 4, squares 8 + 2 of 5 - 2 degrees of freedom.
        let base = [of(0, 8.0), of(0, 10.0), of(0, 12.0), of(1, 3.0), of(1, 5.0)];
        let line = Recognisable::as_base(base.into_iter()).unwrap();
        let deviation = (10.0_f64 / 3.0).sqrt();
        for (class, mean) in [(0, 10.0), (1, 4.0), (7, 38.0 / 5.0)] {
            let at = mean - 2.5 * deviation;
            assert!(line.has(of(class, (at + 1e-4) as f32)), "{class}");
            assert!(!line.has(of(class, (at - 1e-4) as f32)), "{class}");
        }
        assert!(!line.has(of(0, f32::NAN)));
        assert_eq!(Recognisable::as_base([of(0, 2.0), of(1, 3.0)].into_iter()), None);
        assert_eq!(Recognisable::as_base(std::iter::empty()), None);
    }

    #[test]
    fn margins_are_between_the_two_largest() {
        assert_eq!(Margin::of(&[1.0, 4.5, 3.0]), Some(Margin { class: 1, logits: 1.5 }));
        assert_eq!(Margin::of(&[1.0]), None);
        assert_eq!(recognised_by(13, 10), Some(Domain::Object));
        assert_eq!((recognised_by(13, 1), recognised_by(1, 1)), (Some(Domain::Style), None));
    }
}
