//! What users write: a study as a TOML file, with its defaults and all checks that need no model.
//! No tensors.
//!
//! There is one schema. `[model]` is edited, `[concept]` is to be forgotten, by each `[[method]]`
//! and under each `[[attack]]`; `[draw]` says how pictures are drawn, `[judge]` who looks at them.
//! Which pictures those are is said by one of three tables: `[answers]`, styles × objects;
//! `[prompts]`, lists of prompts; `[latents]`, a GAN's.

mod answers;
mod batch;
mod concept;
mod csv_table;
mod draw;
mod file;
mod judge;
mod latents;
mod list_columns;
mod methods;
mod model;
mod naming;
mod prompt_list;
mod prompts;
mod ranges;
mod renamed;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use answers::AnswerSettings;
pub(crate) use answers::known_class;
pub use batch::Batch;
pub use concept::ConceptSettings;
pub use csv_table::{Cells, CsvTable, numbered, rows};
pub use draw::DrawSettings;
pub use file::{overridden, parse_toml};
pub use judge::{ALIGNED_CANVAS, CANVAS, JudgeSettings, NONE};
pub use latents::LatentSettings;
pub(crate) use latents::{EVALUATED, LABELLED, MEASURED, SECOND_DRAW};
pub use list_columns::Column;
pub use methods::{AttackSetting, MethodSetting};
pub use model::ModelSettings;
pub use naming::{file_of, lacking, located, needs_no_prompt, shipped, shipped_or_path};
pub use prompt_list::{PromptRow, read_prompts, whole_number};
pub use prompts::{Only, PromptList, PromptSettings};
pub use ranges::range;

use crate::generator::ModelKind;

/// Why a pipeline cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline file.
    #[error("{0}")]
    Pipeline(String),
    /// Something that was asked for does not exist.
    #[error("{0}")]
    Unknown(String),
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// The hub's cache.
    #[error(transparent)]
    Hub(#[from] crate::hub::Error),
    /// The measures.
    #[error(transparent)]
    Measure(#[from] crate::measure::Error),
}

/// A pipeline file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Name of the run folder in `outputs/`.
    pub name: String,
    /// The seed of erasures and attacks; seeds of pictures are in `answers` or `prompts`.
    #[serde(default)]
    pub seed: u64,
    /// What is edited; `miniature`, and where latents are measured `miniature-gan`, where nothing
    /// is said.
    #[serde(default)]
    pub model: ModelSettings,
    /// What is to be forgotten.
    pub concept: ConceptSettings,
    /// How: each by itself; the usual one for the model where there is none.
    #[serde(default)]
    pub method: Vec<MethodSetting>,
    /// What tries to bring it back after each method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attack: Vec<AttackSetting>,
    /// How pictures are drawn.
    #[serde(default)]
    pub draw: DrawSettings,
    /// Which pictures are judged: styles × objects; the canvas' where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerSettings>,
    /// Which pictures are judged: lists of prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PromptSettings>,
    /// Which pictures are judged: a GAN's latents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents: Option<LatentSettings>,
    /// Who judges.
    #[serde(default)]
    pub judge: JudgeSettings,
}

/// Which pictures a study draws and judges.
#[derive(Debug, Clone, Copy)]
pub enum Judged<'a> {
    /// Styles × objects.
    Answers(&'a AnswerSettings),
    /// Lists of prompts.
    Prompts(&'a PromptSettings),
    /// A GAN's latents.
    Latents(&'a LatentSettings),
}

impl Pipeline {
    /// Reads a pipeline; `path` is for messages, `sets` are `key=value` pairs that come last.
    ///
    /// # Errors
    /// What is no TOML, an unknown key, a key of old, a value of the wrong type, settings that
    /// cannot work, that contradict each other or that are without effect.
    pub fn parse(path: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        Self::read(path, text, sets, true)
    }

    /// Reads a pipeline of which only the erasure is run: nobody needs to judge.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_erasure(path: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        Self::read(path, text, sets, false)
    }

    fn read(path: &str, text: &str, sets: &[String], judged: bool) -> Result<Self, Error> {
        let mut pipeline: Self = overridden(path, text, sets)?;
        pipeline.fill_in();
        pipeline.check(judged).map_err(|error| match error {
            Error::Pipeline(why) => Error::Pipeline(format!("{path}: {why}")),
            other => other,
        })?;
        Ok(pipeline)
    }

    /// Defaults that depend on which pictures are judged.
    fn fill_in(&mut self) {
        if self.prompts.is_none() && self.latents.is_none() {
            self.answers.get_or_insert_default();
        }
        if self.latents.is_some() && self.model.path.is_empty() {
            "miniature-gan".clone_into(&mut self.model.path);
        } else if self.model.path.is_empty() {
            "miniature".clone_into(&mut self.model.path);
        }
        if self.method.is_empty() {
            self.method.extend(MethodSetting::usual(self.kind()));
        }
        self.concept.fill_in(self.prompts.is_some());
        if self.prompts.is_some() {
            self.judge.of_prompts();
        }
        if let Some(latents) = &self.latents {
            self.judge.of_latents(latents);
        }
    }

    /// The kind of model that it edits.
    pub fn kind(&self) -> ModelKind {
        if self.latents.is_some() { ModelKind::Gan } else { ModelKind::Diffusion }
    }

    /// Which pictures it draws and judges.
    pub fn judged(&self) -> Judged<'_> {
        match (&self.prompts, &self.latents, &self.answers) {
            (Some(prompts), ..) => Judged::Prompts(prompts),
            (_, Some(latents), _) => Judged::Latents(latents),
            (_, _, Some(answers)) => Judged::Answers(answers),
            // `fill_in` leaves none without.
            _ => unreachable!("a pipeline that judges nothing"),
        }
    }

    fn check(&self, judged: bool) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::Pipeline(why));
        let tables = [
            ("answers", self.answers.is_some()),
            ("prompts", self.prompts.is_some()),
            ("latents", self.latents.is_some()),
        ];
        let given: Vec<&str> =
            tables.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        if given.len() > 1 {
            return wrong(format!(
                "[{}] are there; one of them says which pictures are judged",
                given.join("] and [")
            ));
        }
        self.draw.check(self.kind()).map_err(Error::Pipeline)?;
        self.check_methods()?;
        match self.judged() {
            Judged::Answers(answers) => {
                answers.check().map_err(Error::Pipeline)?;
                self.concept.check_classes()?;
                self.judge.check_answers(!self.attack.is_empty()).map_err(Error::Pipeline)
            }
            Judged::Prompts(prompts) => {
                prompts.check().map_err(Error::Pipeline)?;
                self.concept.check_pairs()?;
                if judged { self.judge.check_prompts().map_err(Error::Pipeline) } else { Ok(()) }
            }
            Judged::Latents(latents) => {
                let targets = self.concept.check_samples(&self.judge)?;
                latents.check(&targets).map_err(Error::Pipeline)?;
                self.judge.check_latents().map_err(Error::Pipeline)
            }
        }
    }

    /// Whether a method or an attack is to be shown pictures of the concept.
    pub fn learns_from_pictures(&self) -> bool {
        let needs = self.method.iter().map(|method| method.value.needs());
        let methods = needs.map(|needs| needs.forget_images || needs.keep_images);
        let attacks = self.attack.iter().map(|attack| attack.value.needs().training_images > 0);
        methods.chain(attacks).any(|learns| learns)
    }

    fn check_methods(&self) -> Result<(), Error> {
        let kind = self.kind();
        for (i, method) in self.method.iter().enumerate() {
            method.value.check().map_err(Error::Pipeline)?;
            if let Some(edits) = method.value.needs().model.filter(|edits| *edits != kind) {
                return Err(Error::Pipeline(format!(
                    "{} edits {edits}, and this pipeline is of {kind}",
                    method.name()
                )));
            }
            if self.method[..i].iter().any(|other| other.label == method.label) {
                return Err(Error::Pipeline(format!(
                    "two methods are called `{0}` in tables and files; give one of them another \
                     name there with label = \"…\"",
                    method.label
                )));
            }
        }
        let mut labels = HashSet::new();
        for attack in &self.attack {
            attack.value.check().map_err(Error::Pipeline)?;
            let attacks = attack.value.needs().model;
            if attacks != kind {
                return Err(Error::Pipeline(format!(
                    "{} attacks {attacks}, and this pipeline is of {kind}",
                    attack.value.name()
                )));
            }
            if !labels.insert(&attack.label) {
                return Err(Error::Pipeline(format!(
                    "two attacks are called `{0}` in tables and files; give one of them another \
                     name there with label = \"…\"",
                    attack.label
                )));
            }
        }
        let mut files = HashSet::new();
        for method in &self.method {
            for attack in &self.attack {
                if !files.insert(format!("{}-{}", method.label, attack.label)) {
                    return Err(Error::Pipeline(format!(
                        "two attacks on two methods would be called `{}-{}` in files; give one \
                         of them another name there with label = \"…\"",
                        method.label, attack.label
                    )));
                }
            }
        }
        Ok(())
    }
}
