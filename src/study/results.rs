//! What a study found, as `scores.json` keeps it and other commands read it back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attack_results::AttackResults;
use super::protocol::{Cell, Protocol, Run};
use super::session::Session;
use super::{ATTACKED_GRID, BASE_PICTURES, Judges, Relearned, Study, Tried};
use crate::files::write_json;
use crate::measure::{BASE, Became, Score};
use crate::run::Error;
use crate::run::folder::RunFolder;
use crate::run::record::Ending;

/// The file in a run's folder.
const FILE: &str = "scores.json";

/// Version of `scores.json`; 3 says of each attack what it has access to and whether it adapts.
const SCHEMA: u32 = 3;

/// What a study found: `scores.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Version of this layout.
    pub schema: u32,
    /// Who judged, and how good they are.
    #[serde(flatten)]
    pub judges: Judges,
    /// All numbers.
    pub scores: Vec<Score>,
    /// What erased prompts became.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub became: Vec<Became>,
    /// How attacks by training went, step by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Relearned>,
    /// Which prompts and seeds attacks brought back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// Where each target's own pictures lie.
    #[serde(default)]
    pub pictures: Vec<TargetPictures>,
}

/// A target's own pictures, by which runs are laid out beside each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetPictures {
    /// What was to be forgotten.
    pub target: String,
    /// Of the base and after each method.
    pub folders: Vec<PictureFolder>,
    /// Those in each folder that ask for it; a GAN's that showed it before.
    pub files: Vec<PathBuf>,
}

/// Where pictures of the base lie, or those after a method.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PictureFolder {
    /// The method's label, or `base`.
    pub method: String,
    /// Inside the run.
    pub folder: PathBuf,
}

/// What a study ends with.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it found.
    #[serde(flatten)]
    pub results: Results,
    /// Where its results are, and what it took.
    #[serde(flatten)]
    pub ending: Ending,
}

impl Results {
    pub(super) fn new(
        judges: Judges,
        scores: Vec<Score>,
        became: Vec<Became>,
        attacks: AttackResults,
        pictures: Vec<TargetPictures>,
    ) -> Self {
        let AttackResults { curves, tried, .. } = attacks;
        Self { schema: SCHEMA, judges, scores, became, curves, tried, pictures }
    }

    /// Whether a folder is a run's that is finished.
    pub fn are_in(root: &Path) -> bool {
        root.join(FILE).is_file()
    }

    /// Reads what a finished run found.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another version.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join(FILE);
        let wrong = |why: String| Error::Unknown(format!("{}: {why}", path.display()));
        let text = fs_err::read_to_string(&path)?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if json["schema"] != SCHEMA {
            return Err(wrong(format!(
                "its schema is {}, and {SCHEMA} is read; run its pipeline again: what is drawn \
                 stays, and the file is written anew",
                json["schema"]
            )));
        }
        serde_json::from_value(json).map_err(|error| wrong(error.to_string()))
    }

    /// Writes it into its run.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn save(&self, run: &mut RunFolder) -> Result<(), Error> {
        write_json(&run.path(FILE), self)?;
        let evidence = fs_err::read_dir(run.root())?
            .filter_map(Result::ok)
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "jsonl"))
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut artifacts: Vec<String> = evidence.collect();
        artifacts.sort();
        artifacts.extend([FILE, "grid.png"].map(str::to_owned));
        let attacked = run.path(ATTACKED_GRID).exists();
        artifacts.extend(attacked.then(|| ATTACKED_GRID.to_owned()));
        artifacts.iter().try_for_each(|artifact| run.artifact(artifact).map(drop))
    }
}

impl<P: Protocol> Study<'_, P> {
    /// Where each target's own pictures lie.
    pub(super) fn pictures(
        &self,
        cells: &[Cell],
        session: &Session,
        run: &Run,
    ) -> Vec<TargetPictures> {
        let requests = self.protocol.requests(session);
        let targets = self.protocol.targets().iter().enumerate();
        targets
            .map(|(i, target)| {
                let after = cells.iter().filter(|cell| cell.target == i).map(|cell| {
                    let folder = cell.folder.strip_prefix(run.folder.root());
                    let folder = folder.unwrap_or(&cell.folder).to_path_buf();
                    PictureFolder { method: cell.method.clone(), folder }
                });
                let base_folder =
                    PictureFolder { method: BASE.to_owned(), folder: BASE_PICTURES.into() };
                let of_target = self.protocol.of_target(i).into_iter();
                let file = |at: usize| self.protocol.path(Path::new(""), &requests[at].0);
                TargetPictures {
                    target: target.concept.clone(),
                    folders: std::iter::once(base_folder).chain(after).collect(),
                    files: of_target.map(file).collect(),
                }
            })
            .collect()
    }
}
