//! Whether a picture still shows something. What is mush is not called by the erased concept's name
//! either, so it counts as forgotten; `UA_clean` and its like count it out.
//!
//! A picture is recognisable where the judge tells what is in it as plainly as in the base's own
//! pictures: the difference between its two largest logits is no smaller than in all but the
//! lowest twentieth of those. On pictures that were labelled by eye this agrees better than
//! distances of features do; `docs/measures.md` has the numbers.

use super::Domain;

/// The share of the base's own pictures that are below the line.
const LOWEST: f64 = 0.05;

/// How plainly a judge tells classes apart: the difference between its two largest logits.
/// Infinite where there is nothing to tell apart.
pub fn plainness(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    match sorted.as_slice() {
        [first, second, ..] => first - second,
        _ => f32::INFINITY,
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

/// From which plainness on a picture is recognisable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recognisable(f32);

impl Recognisable {
    /// As plain as the base's own pictures are; `None` where there are none.
    pub fn as_base(plainness: impl Iterator<Item = f32>) -> Option<Self> {
        let mut sorted: Vec<f32> = plainness.collect();
        sorted.sort_by(f32::total_cmp);
        sorted.get((sorted.len() as f64 * LOWEST) as usize).copied().map(Self)
    }

    /// Whether a picture of this plainness is.
    pub fn has(self, plainness: f32) -> bool {
        plainness >= self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_lowest_twentieth_of_the_base_are() {
        let base: Vec<f32> = (0_u8..40).map(f32::from).collect();
        let line = Recognisable::as_base(base.iter().rev().copied()).unwrap();
        assert_eq!(base.iter().filter(|plain| line.has(**plain)).count(), 38);
        assert_eq!(plainness(&[1.0, 4.5, 3.0]), 1.5);
        assert!(line.has(plainness(&[1.0])) && !line.has(f32::NAN));
        assert_eq!(Recognisable::as_base(std::iter::empty()), None);
        assert_eq!(recognised_by(13, 10), Some(Domain::Object));
        assert_eq!((recognised_by(13, 1), recognised_by(1, 1)), (Some(Domain::Style), None));
    }
}
