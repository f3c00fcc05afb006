//! How a concept comes back while an erased model is trained on pictures of it.

use serde::{Deserialize, Serialize};

use super::{Better, Estimate, Measure, Score, Subject, Unit};

/// How much of the concept was back after so many steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Training steps.
    pub step: u64,
    /// Of the pictures that showed it before it was erased, the share that shows it again.
    #[serde(flatten)]
    pub share: Estimate,
}

/// Of the pictures that showed the concept, how many show it again.
const BACK: Measure = Measure::share("back", Subject::Concept, Better::Lower);
const AREA: Measure = Measure::share("area", Subject::Concept, Better::Lower);
/// Above what the model learns of something that it never knew.
const ABOVE_CONTROL: Measure =
    Measure::share("area above control", Subject::Concept, Better::Lower);
const STEPS: Measure = Measure {
    name: "steps to half",
    subject: Subject::Concept,
    unit: Unit::Steps,
    better: Better::Higher,
};

/// What was back at the end, the first step that was looked at after which half was, where it ever
/// was, and the area.
pub fn relearning(target: &str, curve: &[CurvePoint], steps: u64) -> Vec<Score> {
    let last = curve.last().map(|point| BACK.of(target, point.share));
    let exact = |measure: Measure, value| measure.of(target, Estimate::exact(value));
    let half = half(curve).map(|step| exact(STEPS, step as f64));
    last.into_iter().chain(half).chain([exact(AREA, area(curve, steps))]).collect()
}

/// How much more of the concept came back than the model learns of what it never knew: 0 and less
/// is an erasure that holds.
pub fn above_control(target: &str, concept: f64, control: f64) -> Score {
    ABOVE_CONTROL.of(target, Estimate::exact(concept - control))
}

/// The first step that was looked at after which half was back.
pub fn half(curve: &[CurvePoint]) -> Option<u64> {
    curve.iter().find(|point| point.share.value >= 0.5).map(|point| point.step)
}

/// The area under the curve over its steps, 0 to 1: trapezoids, as wide as the steps between two
/// points; what comes after the last, because half was back, counts as the last.
pub fn area(curve: &[CurvePoint], steps: u64) -> f64 {
    let mut area = 0.0;
    for pair in curve.windows(2) {
        let width = (pair[1].step - pair[0].step) as f64;
        area += width * f64::midpoint(pair[0].share.value, pair[1].share.value);
    }
    if let Some(last) = curve.last() {
        area += last.share.value * steps.saturating_sub(last.step) as f64;
    }
    area / steps.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_in_numbers() {
        let at = |step, hits| CurvePoint { step, share: Estimate::of_share(hits, 10) };
        let curve = [at(0, 0), at(10, 4), at(20, 6)];
        // 10 · 0.2 + 10 · 0.5 + 20 · 0.6 of 40.
        assert!((area(&curve, 40) - 19.0 / 40.0).abs() < 1e-12);
        let value = |name: &str, scores: &[Score]| {
            scores.iter().find(|score| score.measure == name).map(|score| score.estimate.value)
        };
        let scores = relearning("cats", &curve, 40);
        assert_eq!(
            (value("back", &scores), value("steps to half", &scores)),
            (Some(0.6), Some(20.0))
        );
        // Never half is no number of steps.
        assert_eq!(value("steps to half", &relearning("cats", &curve[..2], 40)), None);
        assert!((above_control("cats", 0.3, 0.4).estimate.value + 0.1).abs() < 1e-12);
    }
}
