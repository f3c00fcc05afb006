//! Studies, from a pipeline file to a run folder. This room alone writes to `outputs/`.

mod answering;
mod batch;
mod checkup;
mod concept;
mod configurations;
mod diff;
mod drawing;
mod erasing;
mod evaluate;
mod evidence;
mod export;
mod folder;
mod forecast;
mod gan;
mod generate;
mod inspect;
mod judging;
mod label;
mod labelled;
mod labels;
mod layouts;
mod measured;
mod naming;
mod opening;
mod pipeline;
mod prompts;
#[cfg(feature = "hub")]
mod pull;
mod ranges;
mod reference_judge;
mod relearned;
mod samples;
mod screening;
mod screens;
mod session;
mod study;
mod tables;
mod task;
mod train;
mod unlearn;
mod unprompted;

pub use crate::generator::{Adapter, Embedding, Format, ModuleRank, Seeding};
pub use crate::pictures::Picture;
pub use crate::torch::Compute;
pub use crate::torch::Kind;
pub use crate::weights::{Dialect, EmaChoice};
pub use batch::Batch;
pub use checkup::{Checkup, checkup};
pub use concept::{ConceptSettings, Only, PromptList, PromptSettings, ScreenSettings, Screening};
pub use configurations::configurations;
pub use diff::{Apart, diff};
pub use evaluate::{EvaluateReport, EvaluateRequest, evaluate};
pub use evidence::{EvidenceFile, JudgedImage};
pub use export::export;
pub use folder::{Artifact, Ending, Machine, Phase, Record, RunFolder, Status};
pub use forecast::{Forecast, forecast};
pub use gan::{FeedbackSettings, GanMethod, MeasureSettings, Unlearning};
pub use generate::{Drawn, GanGenerateRequest, GenerateRequest, generate};
pub use inspect::{Finding, TensorFact, fits, inspect};
pub use judging::{PictureKey, PictureSource, judge_pictures};
pub use label::{LabelSession, draw_pages, read_numbers};
pub use layouts::{GridRequest, Rows, canvas_folder, canvas_sheet, compare};
pub use measured::{GanScore, SHARE};
pub use naming::{located, needs_no_prompt, shipped, shipped_or_path};
pub use pipeline::{
    AnswerSettings, DrawSettings, Job, JudgeSettings, Method, ModelSettings, Pipeline,
    TaskSettings, parse_toml,
};
pub use prompts::{Column, PromptRow, read_prompts};
#[cfg(feature = "hub")]
pub use pull::pull;
pub use ranges::range;
pub use reference_judge::{JudgeReport, ReferenceJudge};
pub use relearned::{CurvePoint, Relearned};
pub use screening::{Screened, screen};
pub use screens::ScreenReport;
pub use study::{Summary, erase_only, run};
pub use train::{TrainRecipe, train};
pub use unlearn::{Unlearned, erase_shown, unlearn};
pub use unprompted::{UnpromptedReport, survey};

use std::path::PathBuf;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline file.
    #[error("{0}")]
    Pipeline(String),
    /// Something that was asked for does not exist.
    #[error("{0}")]
    Unknown(String),
    /// Another process works in the folder.
    #[error("{0} is in use by another unsee; wait for it, or choose another folder with --out")]
    Locked(PathBuf),
    /// The folder holds something else.
    #[error("{path} holds another run ({why}); choose another folder with --out, or remove it")]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// The user stopped it.
    #[error("interrupted; the same command goes on from here")]
    Interrupted,
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Pictures.
    #[error(transparent)]
    Pictures(#[from] crate::pictures::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
    /// The generator.
    #[error(transparent)]
    Generator(crate::generator::Error),
    /// The method.
    #[error(transparent)]
    Erasure(crate::erasure::Error),
    /// The attack.
    #[error(transparent)]
    Attack(crate::attack::Error),
    /// The judge.
    #[error(transparent)]
    Judge(#[from] crate::judge::Error),
    /// The measures.
    #[error(transparent)]
    Measure(#[from] crate::measure::Error),
    /// The hub.
    #[error(transparent)]
    Hub(crate::hub::Error),
    /// The training of a miniature.
    #[error(transparent)]
    Training(crate::training::Error),
}

impl From<crate::generator::Error> for Error {
    fn from(error: crate::generator::Error) -> Self {
        match error {
            crate::generator::Error::Interrupted => Self::Interrupted,
            other => Self::Generator(other),
        }
    }
}

impl From<crate::hub::Error> for Error {
    fn from(error: crate::hub::Error) -> Self {
        match error {
            crate::hub::Error::Interrupted => Self::Interrupted,
            other => Self::Hub(other),
        }
    }
}

impl From<crate::training::Error> for Error {
    fn from(error: crate::training::Error) -> Self {
        match error {
            crate::training::Error::Interrupted(_) => Self::Interrupted,
            other => Self::Training(other),
        }
    }
}

impl From<crate::attack::Error> for Error {
    fn from(error: crate::attack::Error) -> Self {
        match error {
            crate::attack::Error::Training(training) => training.into(),
            crate::attack::Error::Generator(generator) => generator.into(),
        }
    }
}

impl From<crate::erasure::Error> for Error {
    fn from(error: crate::erasure::Error) -> Self {
        match error {
            crate::erasure::Error::Training(training) => training.into(),
            crate::erasure::Error::Generator(generator) => generator.into(),
            other => Self::Erasure(other),
        }
    }
}
