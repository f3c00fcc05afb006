//! How well pictures fit their prompts (Hessel et al. 2021).

use super::{Better, Measure, Score, Subject, Unit, bootstrap};

const CLIP_SCORE: Measure = Measure {
    name: "CLIP score",
    subject: Subject::All,
    unit: Unit::Cosine,
    better: Better::Higher,
};

/// The mean over all pictures; `None` where the judge does not say it of each.
pub(super) fn clip_score(target: &str, fits: impl Iterator<Item = Option<f32>>) -> Option<Score> {
    let fits: Vec<f64> = fits.map(|fit| fit.map(f64::from)).collect::<Option<_>>()?;
    if fits.is_empty() {
        return None;
    }
    let mean = |draw: &[usize]| draw.iter().map(|&i| fits[i]).sum::<f64>() / draw.len() as f64;
    let all: Vec<usize> = (0..fits.len()).collect();
    let interval = bootstrap(fits.len(), |draw| Some(mean(draw)));
    Some(CLIP_SCORE.of(target, interval.around(mean(&all), 0, fits.len())))
}
