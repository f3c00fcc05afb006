//! Pipelines: a study as a TOML file. Unknown keys are refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::concept::Screening;
use super::gan::Unlearning;
use super::{Batch, Error};
use crate::erasure::{SalUn, Task};
use crate::measure::Target;
use crate::sampler::{Prediction, Solver};
use crate::weights::EmaChoice;

/// A pipeline file of either kind.
#[derive(Debug, Clone)]
pub enum Job {
    /// Styles and objects, by UnlearnCanvas' measures.
    Classes(Pipeline),
    /// A concept that prompts bring out.
    Concept(Screening),
    /// What labelled samples of a GAN show.
    Gan(Unlearning),
}

impl Job {
    /// Reads a pipeline; a table `[concept]` makes it one of prompts, a table `[feedback]` one of a
    /// GAN.
    ///
    /// # Errors
    /// As [`Pipeline::parse`], [`Screening::parse`] and [`Unlearning::parse`].
    pub fn parse(path: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        let table: toml::Table = parse_toml(path, text)?;
        Ok(if table.contains_key("concept") {
            Self::Concept(Screening::parse(path, text, sets)?)
        } else if table.contains_key("feedback") {
            Self::Gan(Unlearning::parse(path, text, sets)?)
        } else {
            Self::Classes(Pipeline::parse(path, text, sets)?)
        })
    }

    /// Sets the seed of the erasure.
    pub fn set_seed(&mut self, seed: u64) {
        match self {
            Self::Classes(pipeline) => pipeline.seed = seed,
            Self::Concept(pipeline) => pipeline.seed = seed,
            Self::Gan(pipeline) => pipeline.seed = seed,
        }
    }

    /// Compares pictures by the features of the Inception-v3 in this file.
    ///
    /// # Errors
    /// A pipeline that compares none.
    pub fn set_inception(&mut self, file: PathBuf) -> Result<(), Error> {
        match self {
            Self::Gan(pipeline) => {
                pipeline.measure.inception = Some(file);
                Ok(())
            }
            Self::Classes(_) | Self::Concept(_) => Err(Error::Pipeline(
                "--inception is for a GAN's pipeline; this one compares no sets of pictures"
                    .to_owned(),
            )),
        }
    }
}

/// A pipeline file of styles and objects.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Name of the run folder in `outputs/`.
    pub name: String,
    /// The seed of erasures; seeds of pictures are in `answers`.
    #[serde(default)]
    pub seed: u64,
    /// What is edited.
    #[serde(default)]
    pub model: ModelSettings,
    /// What is to be forgotten.
    pub task: TaskSettings,
    /// How.
    #[serde(default)]
    pub method: Method,
    /// How pictures are drawn.
    #[serde(default)]
    pub draw: DrawSettings,
    /// Which pictures are judged.
    #[serde(default)]
    pub answers: AnswerSettings,
    /// Who judges.
    #[serde(default)]
    pub judge: JudgeSettings,
}

/// The generator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// `miniature`, a diffusers folder, or a single file.
    pub path: String,
    /// Whether a single file's averaged weights are taken, `yes` or `no`; `auto` takes the last
    /// ones, as diffusers does.
    #[serde(skip_serializing_if = "is_default")]
    pub ema: EmaChoice,
    /// A diffusers folder whose configuration and tokenizer belong to a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// What the UNet predicts, `epsilon` or `v_prediction`, where its files do not say it or say it
    /// wrongly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is to be forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSettings {
    /// `style:NAME` or `object:NAME`; each is erased from the base by itself.
    pub forget: Vec<String>,
    /// The style that an erased style becomes; `Seed_Images` where none is named, and for that the
    /// next one.
    #[serde(default)]
    pub style_anchor: Option<String>,
    /// The object that an erased object becomes; the next one where none is named.
    #[serde(default)]
    pub object_anchor: Option<String>,
    /// Pictures that are drawn of each prompt to forget, when no folder is given.
    #[serde(default = "eight")]
    pub forget_pictures: usize,
    /// Pictures that are drawn of each prompt to keep, when no folder is given.
    #[serde(default = "four")]
    pub remain_pictures: usize,
    /// Folder with pictures of the concept, in `UnlearnCanvas`' layout `STYLE/OBJECT/n.png`;
    /// without it the model draws them.
    #[serde(default)]
    pub pictures: Option<String>,
}

/// The method; its settings have their own defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Method {
    /// Saliency unlearning.
    SalUn(SalUn),
}

/// How pictures are drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrawSettings {
    /// `ddim`, `pndm`, `dpm++`, `dpm++karras`, `euler`, `euler_a`, `heun` or `lms`.
    pub sampler: Solver,
    /// Sampling steps.
    pub steps: usize,
    /// Scale of classifier-free guidance.
    pub guidance: f64,
    /// Pictures in a batch, or `auto`: as many as fit into free memory.
    pub batch: Batch,
    /// Pixels on a side; the model's own when it is missing.
    pub side: Option<i64>,
}

/// Which pictures are judged: styles × objects × seeds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerSettings {
    /// The styles; empty means the canvas'.
    pub styles: Vec<String>,
    /// The objects; empty means the canvas'.
    pub objects: Vec<String>,
    /// The seeds.
    pub seeds: Vec<u64>,
}

/// Who judges.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeSettings {
    /// `judge`, or a Hugging Face CLIP folder.
    pub path: String,
    /// `text`, `prototypes` or `probe`.
    pub decide: String,
    /// `candle`, `libtorch`, or `auto`: libtorch on a GPU, candle on a CPU.
    pub engine: String,
    /// Pictures whose truth is known: `canvas` and `aligned-canvas` draw them, or a folder in
    /// `UnlearnCanvas`' layout, or `none`. They measure the judge, and teach it where it decides by
    /// prototypes or a probe.
    pub reference: Option<String>,
    /// Reference pictures of each style × object that measure the judge.
    pub check: u32,
    /// Reference pictures of each style × object that teach it.
    pub teach: u32,
}

fn eight() -> usize {
    8
}
fn four() -> usize {
    4
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self { path: "miniature".to_owned(), ema: EmaChoice::Auto, config: None, prediction: None }
    }
}

impl Method {
    /// Its settings with all that their variant decides.
    #[must_use]
    pub(super) fn effective(self) -> Self {
        let Self::SalUn(method) = self;
        Self::SalUn(method.effective())
    }

    /// What an edit of it says of how it was made.
    pub(super) fn recipe(&self, task: &Task) -> String {
        let Self::SalUn(method) = self;
        method.recipe(task)
    }
}

impl Default for Method {
    fn default() -> Self {
        Self::SalUn(SalUn::default())
    }
}

impl DrawSettings {
    /// Says what cannot be drawn.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.guidance.is_finite() || self.guidance < 0.0 {
            return Err(format!(
                "draw.guidance is {}; it is a number and not negative",
                self.guidance
            ));
        }
        if self.steps == 0 {
            return Err("draw.steps is 0; at least 1 is needed".to_owned());
        }
        Ok(())
    }
}

impl Default for DrawSettings {
    fn default() -> Self {
        Self { sampler: Solver::Ddim, steps: 20, guidance: 2.0, batch: Batch::Of(26), side: None }
    }
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self { styles: Vec::new(), objects: Vec::new(), seeds: vec![188, 288] }
    }
}

impl Default for JudgeSettings {
    fn default() -> Self {
        Self {
            path: "judge".to_owned(),
            decide: "text".to_owned(),
            engine: "auto".to_owned(),
            reference: Some("canvas".to_owned()),
            check: 8,
            teach: 10,
        }
    }
}

impl JudgeSettings {
    /// Settings without effect: each is for another than the one that stands beside it.
    fn check(&self) -> Result<(), String> {
        let usual = Self::default();
        if self.decide == "text" && self.teach != usual.teach {
            return Err(
                "judge.teach is for a judge that is shown pictures (decide = \"prototypes\" \
                 or \"probe\")"
                    .to_owned(),
            );
        }
        let nobody = self.reference.as_deref() == Some("none");
        if nobody && self.check != usual.check {
            return Err("judge.check counts pictures whose truth is known, and there are none \
                 (judge.reference)"
                .to_owned());
        }
        Ok(())
    }
}

impl Pipeline {
    /// Reads a pipeline; `path` is for messages, `sets` are `key=value` pairs that come last.
    ///
    /// # Errors
    /// What is no TOML, an unknown key, a value of the wrong type, a target that is none.
    pub fn parse(path: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        let mut pipeline: Self = overridden(path, text, sets)?;
        pipeline.method = pipeline.method.effective();
        let wrong = |why: String| Error::Pipeline(format!("{path}: {why}"));
        pipeline.targets().map_err(|error| wrong(error.to_string()))?;
        if pipeline.answers.seeds.is_empty() {
            return Err(wrong(
                "answers.seeds is empty; nothing would be drawn and judged".to_owned(),
            ));
        }
        pipeline.draw.check().map_err(wrong)?;
        pipeline.judge.check().map_err(wrong)?;
        Ok(pipeline)
    }

    /// What is to be forgotten.
    ///
    /// # Errors
    /// Nothing, a target that is none, one that is there twice.
    pub fn targets(&self) -> Result<Vec<Target>, Error> {
        targets_of("task.forget", &self.task.forget)
    }
}

/// What the setting `field` says is to be forgotten.
///
/// # Errors
/// Nothing, a target that is none, one that is there twice.
pub(super) fn targets_of(field: &str, forget: &[String]) -> Result<Vec<Target>, Error> {
    let targets: Vec<Target> = forget
        .iter()
        .map(|text| text.parse().map_err(Error::Pipeline))
        .collect::<Result<_, _>>()?;
    if targets.is_empty() {
        return Err(Error::Pipeline(format!("{field} names nothing to forget")));
    }
    match (1..targets.len()).find(|&n| targets[..n].contains(&targets[n])) {
        Some(twice) => Err(Error::Pipeline(format!(
            "{field} has {} twice; it would count twice in means",
            targets[twice]
        ))),
        None => Ok(targets),
    }
}

/// Reads a pipeline with settings that were changed on the command line.
pub(super) fn overridden<T: serde::de::DeserializeOwned>(
    path: &str,
    text: &str,
    sets: &[String],
) -> Result<T, Error> {
    let pipeline = parse_toml(path, text)?;
    if sets.is_empty() {
        return Ok(pipeline);
    }
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| Error::Pipeline(format!("{path}: {error}")))?;
    if !table.contains_key("method") && sets.iter().any(|set| set.starts_with("method.")) {
        // So that a setting of the default method can be changed without naming it.
        assign(&mut table, "method.name=salun")?;
    }
    for set in sets {
        assign(&mut table, set)?;
    }
    let text = toml::to_string(&table).map_err(|error| Error::Pipeline(error.to_string()))?;
    parse_toml("--set", &text)
}

/// Reads TOML; an unknown key is an error with line and caret, and the nearest known key.
///
/// # Errors
/// As said.
pub fn parse_toml<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let message = error.message();
        let nearest =
            nearest_key(message).map(|key| format!("\ndid you mean `{key}`?")).unwrap_or_default();
        Error::Pipeline(format!("{path}: {}{nearest}", error.to_string().trim_end()))
    })
}

/// Of «unknown field `x`, expected one of `a`, `b`» the known key that is nearest to x.
fn nearest_key(message: &str) -> Option<String> {
    let (unknown, known) = message.strip_prefix("unknown field `")?.split_once("`, expected")?;
    let mut known = known.split('`').skip(1).step_by(2);
    let first = known.next()?;
    let best = known.chain([first]).max_by(|a, b| {
        strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown))
    })?;
    (strsim::jaro_winkler(best, unknown) > 0.7).then(|| best.to_owned())
}

/// Applies `a.b=value` to a table; the value is TOML, or a string where it is none.
fn assign(table: &mut toml::Table, set: &str) -> Result<(), Error> {
    let wrong = |why: &str| Error::Pipeline(format!("--set {set}: {why}"));
    let (key, value) = set
        .split_once('=')
        .ok_or_else(|| wrong("write key=value, for example method.steps=100"))?;
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut table = table;
    for part in parts {
        table = table
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| wrong(&format!("`{part}` is a value, not a table")))?;
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = 'x'\n[task]\nforget = ['style:Mosaic']\n";

    #[test]
    fn defaults_are_filled_in() {
        let pipeline = Pipeline::parse("p.toml", SMALL, &[]).unwrap();
        assert_eq!(pipeline.model.path, "miniature");
        assert_eq!(pipeline.targets().unwrap()[0].name, "Mosaic");
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_caret_and_the_nearest() {
        let text = format!("{SMALL}[draw]\nguidence = 2\n");
        let error = Pipeline::parse("p.toml", &text, &[]).unwrap_err().to_string();
        assert!(error.contains("line 5"), "{error}");
        assert!(error.contains("^^^"), "{error}");
        assert!(error.contains("did you mean `guidance`?"), "{error}");
    }

    #[test]
    fn method_settings_are_checked_too() {
        let text = format!("{SMALL}[method]\nname = 'salun'\ndensty = 0.2\n");
        let error = Pipeline::parse("p.toml", &text, &[]).unwrap_err().to_string();
        assert!(error.contains("density"), "{error}");
    }

    #[test]
    fn set_overrides() {
        let sets = ["draw.steps=7", "model.path=/a/b", "method.steps=9"].map(str::to_owned);
        let pipeline = Pipeline::parse("p.toml", SMALL, &sets).unwrap();
        let Method::SalUn(method) = &pipeline.method;
        assert_eq!((pipeline.draw.steps, method.steps), (7, 9));
        assert_eq!(pipeline.model.path, "/a/b");
        assert!(Pipeline::parse("p.toml", SMALL, &["draw.stepps=7".to_owned()]).is_err());
        assert!(Pipeline::parse("p.toml", SMALL, &["draw".to_owned()]).is_err());
    }

    #[test]
    fn a_target_that_is_none() {
        let text = "name = 'x'\n[task]\nforget = ['Mosaic']\n";
        assert!(Pipeline::parse("p.toml", text, &[]).is_err());
    }
}
