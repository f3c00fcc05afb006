//! The pipeline of a concept that prompts bring out (nudity, a person, a brand): what to forget is
//! pairs of prompts, what is judged is lists of prompts, and screens say whether the concept is in
//! a picture.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pipeline::{DrawSettings, Method, ModelSettings, overridden};
use super::prompts::{Column, PromptRow, read_prompts};
use super::screens::pictures_in;
use super::{Error, shipped_or_path};
use crate::erasure::{Pair, Task};
use crate::torch::bits_of_seed;
use crate::watch::Watch;

/// A pipeline file with a table `[concept]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Screening {
    /// Name of the run folder in `outputs/`.
    pub name: String,
    /// The seed of the erasure.
    #[serde(default)]
    pub seed: u64,
    /// What is edited.
    #[serde(default)]
    pub model: ModelSettings,
    /// What is to be forgotten.
    pub concept: ConceptSettings,
    /// How.
    #[serde(default)]
    pub method: Method,
    /// How pictures are drawn.
    #[serde(default)]
    pub draw: DrawSettings,
    /// Which pictures are judged.
    pub prompts: PromptSettings,
    /// Who judges.
    pub screen: ScreenSettings,
}

/// What is to be forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConceptSettings {
    /// Its name, for tables.
    pub name: String,
    /// Whether its pictures are not for every eye: they are blurred wherever they are laid out, and
    /// the model draws none to learn from unless `draw_forget` says so.
    #[serde(default)]
    pub sensitive: bool,
    /// Prompts that bring it out, each with what it is to become.
    pub pairs: Vec<Pair>,
    /// Prompts whose pictures are to stay.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Pictures of each prompt to forget that the method learns from.
    #[serde(default = "hundred")]
    pub forget_pictures: usize,
    /// Pictures of each prompt to keep.
    #[serde(default = "hundred")]
    pub keep_pictures: usize,
    /// A folder with those pictures, `forget/` and `keep/` in it; what each shows is said in a text
    /// file beside it (`1.png`, `1.txt`), which may be missing where there is one prompt. Without
    /// it the model draws them.
    #[serde(default)]
    pub pictures: Option<PathBuf>,
    /// Whether the model may draw sensitive pictures to learn from into the run's folder.
    #[serde(default)]
    pub draw_forget: bool,
}

/// Which pictures are judged.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSettings {
    /// Prompts that bring the concept out: a CSV, such as I2P's, or a list.
    pub concept: PromptList,
    /// Prompts that have nothing to do with it.
    pub keep: PromptList,
    /// Columns of the CSVs under other names than the usual: `{ prompt = "adv_prompt" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Seeds for prompts without one of their own.
    #[serde(default = "first_seed")]
    pub seeds: Vec<u64>,
    /// Only rows of the concept's CSV with at least so much in a column.
    #[serde(default)]
    pub only: Option<Only>,
    /// At most so many of the concept's prompts, the first ones.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Prompts in a file or right here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PromptList {
    /// A CSV as `generate --csv` reads it.
    File(PathBuf),
    /// The prompts themselves.
    Here(Vec<String>),
}

/// A condition on a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    /// The column, `nudity_percentage` for example.
    pub column: String,
    /// The least that is taken.
    pub least: f64,
}

/// Who says whether the concept is in a picture: the safety checker, a CLIP, or both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScreenSettings {
    /// `model` for the safety checker in the model's own folder, another folder that holds one, or
    /// `none`.
    pub checker: String,
    /// Added to the distance of every one of its concepts from its threshold: above 0 it finds
    /// more. At 0 the verdicts are diffusers'; there a special concept's 0.01 would stand for this
    /// number, here both are added.
    pub adjustment: f64,
    /// A Hugging Face CLIP folder that compares pictures with the texts below, or `none`.
    pub clip: String,
    /// Texts of pictures that show the concept.
    pub shows: Vec<String>,
    /// Texts of pictures that do not.
    pub clear: Vec<String>,
    /// `candle`, `libtorch`, or `auto`: libtorch on a GPU, candle on a CPU.
    pub engine: String,
    /// A folder of pictures whose truth is known, `shows/` and `clear/` in it: they measure the
    /// screens.
    pub reference: Option<PathBuf>,
}

fn hundred() -> usize {
    100
}
fn first_seed() -> Vec<u64> {
    vec![0]
}

impl Default for ScreenSettings {
    fn default() -> Self {
        Self {
            checker: NONE.to_owned(),
            adjustment: 0.0,
            clip: NONE.to_owned(),
            shows: Vec::new(),
            clear: Vec::new(),
            engine: "auto".to_owned(),
            reference: None,
        }
    }
}

/// What a setting says that names no folder.
pub(super) const NONE: &str = "none";

impl Screening {
    /// Reads a pipeline; `path` is for messages, `sets` are `key=value` pairs that come last.
    ///
    /// # Errors
    /// What is no TOML, an unknown key, a value of the wrong type, settings that contradict each
    /// other.
    pub fn parse(path: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        let mut pipeline: Self = overridden(path, text, sets)?;
        pipeline.method = pipeline.method.effective();
        let wrong = |why: &str| Err(Error::Pipeline(format!("{path}: {why}")));
        if pipeline.concept.pairs.is_empty() {
            return wrong(
                "concept.pairs is empty; give at least one { forget = \"…\", anchor = \"…\" }",
            );
        }
        if pipeline.screen.checker == NONE && pipeline.screen.clip == NONE {
            return wrong(
                "nobody judges: set screen.checker (\"model\", or a folder) or screen.clip",
            );
        }
        if pipeline.screen.clip != NONE
            && (pipeline.screen.shows.is_empty() || pipeline.screen.clear.is_empty())
        {
            return wrong("screen.clip compares with texts: give screen.shows and screen.clear");
        }
        if pipeline.screen.checker == NONE && pipeline.screen.adjustment != 0.0 {
            return wrong(
                "screen.adjustment is the safety checker's, and there is none (screen.checker)",
            );
        }
        if pipeline.concept.draw_forget && !pipeline.concept.sensitive {
            return wrong(
                "concept.draw_forget is for what is sensitive; other concepts are drawn anyway",
            );
        }
        if pipeline.prompts.seeds.is_empty() {
            return wrong("prompts.seeds is empty");
        }
        let seeds: BTreeSet<u32> =
            pipeline.prompts.seeds.iter().copied().map(bits_of_seed).collect();
        if seeds.len() < pipeline.prompts.seeds.len() {
            return wrong("prompts.seeds has a seed twice; each picture would count twice");
        }
        if let Some(pair) =
            pipeline.concept.pairs.iter().find(|pair| pair.forget.trim() == pair.anchor.trim())
        {
            let same = format!(
                "concept.pairs: «{}» is to become itself; name another anchor",
                pair.forget
            );
            return wrong(&same);
        }
        let screen = &pipeline.screen;
        if let Some(text) = screen.shows.iter().find(|text| screen.clear.contains(text)) {
            return wrong(&format!(
                "«{text}» is in screen.shows and in screen.clear; it can be one of them"
            ));
        }
        let concept = &pipeline.concept;
        if let Some(pair) = concept.pairs.iter().find(|pair| concept.keep.contains(&pair.forget)) {
            return wrong(&format!(
                "«{}» is to be forgotten and to be kept (concept.keep)",
                pair.forget
            ));
        }
        if let Some(empty) = pipeline.prompts.empty() {
            return wrong(empty);
        }
        pipeline.draw.check().map_err(|error| Error::Pipeline(format!("{path}: {error}")))?;
        let Method::SalUn(method) = &pipeline.method;
        method.check()?;
        Ok(pipeline)
    }

    /// Whether there is something to learn from; asked before a model is loaded.
    ///
    /// # Errors
    /// Folders without pictures, captions that are no prompts, a method that needs more; sensitive
    /// pictures that nobody gave, and that the model may not draw.
    pub(super) fn check_material(&self, watch: &mut dyn Watch) -> Result<(), Error> {
        let concept = &self.concept;
        let task = self.task();
        let Method::SalUn(method) = &self.method;
        let keeps =
            !concept.keep.is_empty() && (concept.pictures.is_some() || concept.keep_pictures > 0);
        method.check_task(&task, keeps)?;
        if let Some(folder) = &concept.pictures {
            let forget: Vec<&str> = task.pairs.iter().map(|pair| pair.forget.as_str()).collect();
            captioned(&folder.join("forget"), &forget, watch)?;
            if !task.remain.is_empty() {
                let keep: Vec<&str> = task.remain.iter().map(String::as_str).collect();
                captioned(&folder.join("keep"), &keep, watch)?;
            }
        } else if concept.forget_pictures == 0 {
            return Err(Error::Pipeline(
                "concept.forget_pictures is 0; at least 1 is needed".to_owned(),
            ));
        }
        if concept.sensitive && concept.pictures.is_none() && !concept.draw_forget {
            return Err(Error::Pipeline(format!(
                "there are no pictures of {} to learn from: set concept.pictures to a folder of \
                 them, or concept.draw_forget = true to let the model draw them into the run's \
                 folder",
                concept.name
            )));
        }
        Ok(())
    }

    /// What a method is asked.
    pub(super) fn task(&self) -> Task {
        let concept = &self.concept;
        Task {
            concept: concept.name.clone(),
            pairs: concept.pairs.clone(),
            remain: concept.keep.clone(),
            seed: self.seed,
        }
    }
}

impl PromptSettings {
    /// Whether a list that stands in the pipeline has a prompt of no words.
    fn empty(&self) -> Option<&'static str> {
        let lists = [
            (&self.concept, "prompts.concept has an empty prompt"),
            (&self.keep, "prompts.keep has an empty prompt"),
        ];
        let is_empty = |list: &PromptList| matches!(list, PromptList::Here(all) if all.iter().any(|one| one.trim().is_empty()));
        lists.into_iter().find(|(list, _)| is_empty(list)).map(|(_, why)| why)
    }

    /// The prompts that bring the concept out, and those to keep.
    ///
    /// # Errors
    /// A list that cannot be read, a column that is not there, nothing that is left.
    pub(super) fn rows(&self, watch: &mut dyn Watch) -> Result<[Vec<PromptRow>; 2], Error> {
        let mut concept = self.concept.rows(&self.columns, watch)?;
        let all = concept.len();
        if let Some(only) = &self.only {
            let mut taken = Vec::new();
            for row in concept {
                let cell = row.columns.iter().find(|(head, _)| *head == only.column);
                let Some((_, text)) = cell else {
                    let heads: Vec<&str> =
                        row.columns.iter().map(|(head, _)| head.as_str()).collect();
                    return Err(Error::Unknown(format!(
                        "prompts.only: there is no column `{}`; the columns are {}",
                        only.column,
                        heads.join(", ")
                    )));
                };
                let value: f64 = text.trim().parse().ok().filter(|value: &f64| !value.is_nan()).ok_or_else(|| {
                    Error::Unknown(format!(
                        "prompts.only: `{}` of case {} is `{text}`, which is no number; correct \
                         the list, or leave the row out",
                        only.column, row.case
                    ))
                })?;
                if value >= only.least {
                    taken.push(row);
                }
            }
            concept = taken;
        }
        concept.truncate(self.limit.unwrap_or(usize::MAX));
        if concept.len() < all {
            watch.note(&format!(
                "{} of {all} prompts in prompts.concept are taken (only, limit)",
                concept.len()
            ));
        }
        let keep = self.keep.rows(&self.columns, watch)?;
        if concept.is_empty() || keep.is_empty() {
            return Err(Error::Unknown(
                "prompts.concept and prompts.keep must each leave at least one prompt".to_owned(),
            ));
        }
        for (what, rows) in [("concept", &concept), ("keep", &keep)] {
            let mut seen = HashMap::new();
            for row in rows {
                // The same prompt with another seed is another picture.
                let key = (row.prompt.trim(), row.seed, row.size, row.guidance.map(f64::to_bits));
                if let Some(first) = seen.insert(key, &row.case) {
                    return Err(Error::Unknown(format!(
                        "prompts.{what}: cases {first} and {} are the same picture, «{}»; it would \
                         count twice",
                        row.case,
                        row.prompt.trim()
                    )));
                }
            }
        }
        let texts = |rows: &[PromptRow]| {
            rows.iter().map(|row| row.prompt.trim().to_owned()).collect::<HashSet<_>>()
        };
        if let Some(both) = texts(&concept).intersection(&texts(&keep)).next() {
            return Err(Error::Unknown(format!(
                "«{both}» is in prompts.concept and in prompts.keep; it can be one of them"
            )));
        }
        Ok([concept, keep])
    }
}

impl PromptList {
    fn rows(
        &self,
        columns: &BTreeMap<String, String>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<PromptRow>, Error> {
        match self {
            Self::File(path) => {
                let columns = columns.iter().map(|(kind, name)| format!("{kind}={name}").parse());
                let columns =
                    columns.collect::<Result<Vec<Column>, String>>().map_err(Error::Pipeline)?;
                read_prompts(path, &columns, watch)
            }
            Self::Here(prompts) => {
                Ok((0..).zip(prompts).map(|(n, text)| PromptRow::bare(n, text)).collect())
            }
        }
    }
}

impl ScreenSettings {
    /// The folder of the safety checker and the folder that says how pictures are prepared for it,
    /// in a model's folder or where the settings say.
    ///
    /// # Errors
    /// A folder that has none.
    pub(super) fn checker_folders(
        &self,
        model: &ModelSettings,
    ) -> Result<Option<[PathBuf; 2]>, Error> {
        let root = match self.checker.as_str() {
            NONE => return Ok(None),
            "model" => shipped_or_path(&model.path)?,
            other => shipped_or_path(other)?,
        };
        let inside = root.join("safety_checker");
        if inside.is_dir() {
            return Ok(Some([inside, root.join("feature_extractor")]));
        }
        if self.checker == "model" {
            return Err(Error::Pipeline(format!(
                "{} has no safety_checker folder; name a folder that has one with screen.checker, \
                 or set it to none and let a CLIP judge (screen.clip)",
                root.display()
            )));
        }
        let beside = root.parent().map(|parent| parent.join("feature_extractor"));
        let features = beside.filter(|folder| folder.is_dir()).unwrap_or_else(|| root.clone());
        Ok(Some([root, features]))
    }
}

/// The pictures in a folder, each with the prompt that the text file beside it names.
pub(super) fn captioned(
    folder: &Path,
    prompts: &[&str],
    watch: &mut dyn Watch,
) -> Result<Vec<(PathBuf, usize)>, Error> {
    let with_prompt = |file: PathBuf| {
        let caption = file.with_extension("txt");
        let prompt = match (prompts, caption.exists()) {
            ([_], false) => 0,
            (_, false) => {
                return Err(Error::Unknown(format!(
                    "{} has no text file beside it that says which of the {} prompts it shows",
                    file.display(),
                    prompts.len()
                )));
            }
            (_, true) => {
                let text = fs_err::read_to_string(&caption)?;
                prompts.iter().position(|prompt| prompt.trim() == text.trim()).ok_or_else(|| {
                    Error::Unknown(format!(
                        "{}: «{}» is none of the pipeline's prompts: {}",
                        caption.display(),
                        text.trim(),
                        prompts.join("; ")
                    ))
                })?
            }
        };
        Ok((file, prompt))
    };
    pictures_in(folder, watch)?.into_iter().map(with_prompt).collect()
}
