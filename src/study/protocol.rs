//! What a study of one kind of pictures does: which pictures there are, who looks at them, and what
//! is measured. The loop around it is the same for all.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::detectors::DetectorReport;
use super::reference_judge::JudgeReport;
use super::session::Session;
use super::target::Target;
use super::training_images::ImageDemand;
use crate::attack::{Exposure, Verdict};
use crate::erasure::{Evaluator, TrainingImages};
use crate::generator::ImageRequest;
use crate::judge::FeatureCard;
use crate::measure::{Became, Estimate, Score};
use crate::pictures::Picture;
use crate::run::Error;
use crate::run::folder::RunFolder;
use crate::run::judging::PictureKey;
use crate::watch::Watch;

/// A GAN's labelled samples, by seed.
pub(super) struct LabelledSamples<'s> {
    /// Those that show the target.
    pub negatives: Vec<u64>,
    /// Those that do not.
    pub positives: Vec<u64>,
    /// Says on the way how far an erasure has come.
    pub evaluator: Box<Evaluator<'s>>,
}

/// Pictures of one method on one target.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Which target.
    pub target: usize,
    /// The method's label.
    pub method: String,
    /// Where its pictures are.
    pub folder: PathBuf,
}

/// Everything that a run shares with its protocol.
pub(super) struct Run<'r, 'w> {
    /// The folder.
    pub folder: &'r mut RunFolder,
    /// Shows how far it is, and may stop it.
    pub watch: &'w mut dyn Watch,
}

/// Who judged, and how good they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Judges {
    /// Who names classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeReport>,
    /// Who confirms what attacks bring back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<JudgeReport>,
    /// Who labelled what methods learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labeller: Option<JudgeReport>,
    /// Who says whether the concept is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detectors: Vec<DetectorReport>,
    /// How often two detectors say the same of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Estimate>,
    /// By whose features sets of pictures were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureCard>,
}

/// A study of one kind of pictures.
pub(super) trait Protocol {
    /// What a picture was asked to show.
    type Key: PictureKey;
    /// What judges said of a set of pictures.
    type Seen;

    /// What is to be forgotten, each from the base by itself.
    fn targets(&self) -> &[Target];

    /// The pictures that are drawn of the base and after each method.
    fn requests(&self, session: &Session) -> Vec<(Self::Key, ImageRequest)>;

    /// A picture's file.
    fn path(&self, folder: &Path, key: &Self::Key) -> PathBuf;

    /// Notes in the run what all numbers depend on, and warns of what is read otherwise than it
    /// looks.
    fn bind(&self, session: &Session, run: &mut Run) -> Result<(), Error>;

    /// Lets judges name pictures whose truth is known.
    fn check_judges(&mut self, session: &Session, run: &mut Run) -> Result<(), Error>;

    /// What judges say of a subject's pictures.
    fn see(
        &self,
        subject: &str,
        pictures: &[(Self::Key, PathBuf)],
        session: &Session,
        run: &mut Run,
    ) -> Result<Self::Seen, Error>;

    /// What there is to learn from, beside prompts: drawn, labelled or read once. Before any
    /// erasure.
    fn prepare(&mut self, _session: &Session, _run: &mut Run) -> Result<(), Error> {
        Ok(())
    }

    /// What is compared with the base's pictures, drawn and judged once.
    fn compare_base(
        &mut self,
        _base: &Self::Seen,
        _session: &Session,
        _run: &mut Run,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// The base's own numbers for a target.
    fn score_base(
        &mut self,
        target: usize,
        base: &Self::Seen,
        session: &Session,
        run: &mut Run,
    ) -> Result<Vec<Score>, Error>;

    /// A method's numbers for a target.
    fn score(
        &self,
        target: usize,
        base: &Self::Seen,
        after: &Self::Seen,
    ) -> Result<Vec<Score>, Error>;

    /// Whether judges say the same of every picture.
    fn same(&self, before: &Self::Seen, after: &Self::Seen) -> bool;

    /// How many pictures after a method show nothing where the base's did not, and of how many.
    fn blank(&self, target: usize, seen: &Self::Seen) -> (usize, usize);

    /// Means over several targets, of the base and of each method.
    fn means(
        &self,
        base: &Self::Seen,
        after: &[(Cell, Self::Seen)],
        scores: &[Score],
    ) -> Vec<Score>;

    /// What the prompts of a target became after a method.
    fn became(&self, _cell: &Cell, _seen: &Self::Seen) -> Option<Became> {
        None
    }

    /// Pictures to learn from, as far as they are needed; drawn into `folder` where the user gives
    /// none.
    fn images(
        &self,
        target: usize,
        demand: ImageDemand,
        session: &Session,
        folder: &Path,
        watch: &mut dyn Watch,
    ) -> Result<TrainingImages, Error>;

    /// Labelled samples to learn from, where there are any.
    fn samples<'s>(
        &'s self,
        _target: usize,
        _session: &Session,
        _watch: &mut dyn Watch,
    ) -> Result<Option<LabelledSamples<'s>>, Error> {
        Ok(None)
    }

    /// Which of [`Self::requests`] are a target's: those that ask for it, and a GAN's that show it.
    fn of_target(&self, target: usize) -> Vec<usize>;

    /// Whether the base's picture of a request shows the target.
    fn shows(&self, target: usize, base: &Self::Seen, request: usize) -> bool;

    /// What an attack is taught the concept with, and the `requests` that tell whether it is back.
    fn exposure(
        &self,
        target: usize,
        requests: Vec<ImageRequest>,
        session: &Session,
        pictures: usize,
        run: &mut Run,
    ) -> Result<Exposure, Error> {
        let folder = run.folder.path("pictures/training");
        let demand = ImageDemand::of_attack(pictures);
        let images = self.images(target, demand, session, &folder, run.watch)?;
        Ok(self.targets()[target].exposure(images, pictures, requests, run.watch))
    }

    /// Which pictures show the target, and whether a second judge says so too.
    fn verdicts(&self, target: usize, pictures: &[Picture]) -> Result<Vec<Verdict>, Error>;

    /// The pictures before, which are in `folder`, and after each method.
    fn grid(
        &self,
        folder: &Path,
        cells: &[Cell],
        base: &Self::Seen,
        after: &[(Cell, Self::Seen)],
    ) -> Result<Picture, Error>;

    /// Who judged, and how good they are.
    fn judges(&self, base: &Self::Seen, after: &[(Cell, Self::Seen)]) -> Result<Judges, Error>;
}
