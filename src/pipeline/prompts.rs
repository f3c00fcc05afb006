//! Which pictures are judged: lists of prompts that bring a concept out, and of prompts that have
//! nothing to do with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Column, Error, PromptRow, read_prompts};
use crate::torch::bits_of_seed;
use crate::watch::{WarningRecorder, Watch};

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

fn first_seed() -> Vec<u64> {
    vec![0]
}

impl PromptSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.seeds.is_empty() {
            return Err("prompts.seeds is empty".to_owned());
        }
        let drawn: BTreeSet<u32> = self.seeds.iter().copied().map(bits_of_seed).collect();
        if drawn.len() < self.seeds.len() {
            return Err("prompts.seeds has a seed twice; each picture would count twice".to_owned());
        }
        for (list, name) in [(&self.concept, "concept"), (&self.keep, "keep")] {
            if list.has_empty() {
                return Err(format!("prompts.{name} has an empty prompt"));
            }
        }
        Ok(())
    }

    /// The prompts that bring the concept out, and those to keep.
    ///
    /// # Errors
    /// A list that cannot be read, a column that is not there, nothing that is left.
    pub fn rows(&self, watch: &mut dyn Watch) -> Result<[Vec<PromptRow>; 2], Error> {
        let all = self.concept.rows(&self.columns, watch)?;
        let total = all.len();
        let mut concept = match &self.only {
            Some(only) => only.of(all)?,
            None => all,
        };
        concept.truncate(self.limit.unwrap_or(usize::MAX));
        if concept.len() < total {
            watch.note(&format!(
                "{} of {total} prompts in prompts.concept are taken (only, limit)",
                concept.len()
            ));
        }
        let keep = self.keep.rows(&self.columns, watch)?;
        if concept.is_empty() || keep.is_empty() {
            return Err(Error::Unknown(
                "prompts.concept and prompts.keep must each leave at least one prompt".to_owned(),
            ));
        }
        nothing_twice("concept", &concept)?;
        nothing_twice("keep", &keep)?;
        let texts = |rows: &[PromptRow]| -> HashSet<String> {
            rows.iter().map(|row| row.prompt.trim().to_owned()).collect()
        };
        if let Some(both) = texts(&concept).intersection(&texts(&keep)).next() {
            return Err(Error::Unknown(format!(
                "«{both}» is in prompts.concept and in prompts.keep; it can be one of them"
            )));
        }
        Ok([concept, keep])
    }
}

impl Only {
    /// The rows that fulfil it.
    fn of(&self, rows: Vec<PromptRow>) -> Result<Vec<PromptRow>, Error> {
        let mut taken = Vec::new();
        for row in rows {
            let cell = row.columns.iter().find(|(head, _)| *head == self.column);
            let Some((_, text)) = cell else {
                let heads: Vec<&str> = row.columns.iter().map(|(head, _)| head.as_str()).collect();
                return Err(Error::Unknown(format!(
                    "prompts.only: there is no column `{}`; the columns are {}",
                    self.column,
                    heads.join(", ")
                )));
            };
            let value = text.trim().parse::<f64>().ok().filter(|value| !value.is_nan());
            let value = value.ok_or_else(|| {
                Error::Unknown(format!(
                    "prompts.only: `{}` of case {} is `{text}`, which is no number; correct the \
                     list, or leave the row out",
                    self.column, row.case
                ))
            })?;
            if value >= self.least {
                taken.push(row);
            }
        }
        Ok(taken)
    }
}

/// Reads the texts alone of a list in a file or right here, for settings that a run records as they
/// were read.
///
/// # Errors
/// A list that cannot be read, rows without a prompt.
pub(super) fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let mut warnings = WarningRecorder::default();
    let rows = PromptList::deserialize(from)?.rows(&BTreeMap::new(), &mut warnings);
    let rows = rows.map_err(D::Error::custom)?;
    // Nobody reads warnings here.
    match warnings.0.first() {
        Some(warning) => Err(D::Error::custom(warning)),
        None => Ok(rows.into_iter().map(|row| row.prompt).collect()),
    }
}

/// The same prompt with another seed is another picture.
fn nothing_twice(list: &str, rows: &[PromptRow]) -> Result<(), Error> {
    let mut seen = HashMap::new();
    for row in rows {
        let key = (row.prompt.trim(), row.seed, row.size, row.guidance.map(f64::to_bits));
        if let Some(first) = seen.insert(key, &row.case) {
            return Err(Error::Unknown(format!(
                "prompts.{list}: cases {first} and {} are the same picture, «{}»; it would count \
                 twice",
                row.case,
                row.prompt.trim()
            )));
        }
    }
    Ok(())
}

impl PromptList {
    /// Whether a list that stands in the pipeline has a prompt of no words.
    fn has_empty(&self) -> bool {
        matches!(self, Self::Here(prompts) if prompts.iter().any(|text| text.trim().is_empty()))
    }

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
