//! From evidence to numbers with intervals. Knows neither pictures nor models: only what was asked
//! for (an [`AnswerSet`]) and what a judge found.

mod answers;
mod attacks;
mod became;
mod blank;
mod classes;
mod clip_score;
mod estimate;
mod frechet;
mod interval;
mod judging;
mod latents;
mod manifold;
mod moved;
mod rates;
mod recognisable;
mod relearning;
mod score;
mod unlearning;

pub use answers::{Answer, AnswerSet, Domain, PLAIN, TargetClass};
pub use attacks::{
    AboveControl, SuccessPoint, attack_success, confirmed, on_new_seeds, success_curve,
    without_name,
};
pub use became::{Became, became};
pub use blank::{PictureStats, blank};
pub use classes::{BLANK, JudgedAnswer, score_base, score_mean, score_target};
pub use estimate::Estimate;
pub use frechet::{Moments, frechet};
pub use interval::{Interval, bootstrap, wilson};
pub use judging::{JudgeAccuracy, KnownPicture, Reference, argmax};
pub use latents::{JudgedSamples, LatentMeasures, mean_over_targets};
pub use manifold::precision_recall;
pub use moved::moved;
pub use rates::{Shown, rates_after, rates_before, share};
pub use recognisable::{Margin, Recognisable, recognised_by};
pub use relearning::{CurvePoint, above_control, area, half, relearning};
pub use score::{BASE, Better, Measure, Score, Subject, Unit};
pub use unlearning::ClassChanges;

/// What cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A picture that should have been judged was not.
    #[error(
        "{missing} of {expected} pictures of the answer set are missing, the first is {first}; \
         draw them, or shrink the answer set: a missing picture is no zero"
    )]
    Missing {
        /// How many.
        missing: usize,
        /// How many there should be.
        expected: usize,
        /// One of them.
        first: String,
    },
    /// A picture was judged twice.
    #[error("{0} was judged twice; remove one of the two")]
    Doubled(String),
    /// A picture that the answer set does not know.
    #[error("{0} is not in the answer set")]
    Unexpected(String),
    /// A class that the judge was not asked about.
    #[error("{0}")]
    Unknown(String),
}
