//! Which pictures are judged: styles × objects × seeds, as `UnlearnCanvas` has them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::canvas;
use crate::measure::{AnswerSet, Domain};
use crate::torch::bits_of_seed;

/// Styles × objects × seeds.
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

impl Default for AnswerSettings {
    fn default() -> Self {
        Self { styles: Vec::new(), objects: Vec::new(), seeds: vec![188, 288] }
    }
}

impl AnswerSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.seeds.is_empty() {
            return Err("answers.seeds is empty; nothing would be drawn and judged".to_owned());
        }
        Ok(())
    }

    /// The answer set; the canvas' names where the settings give none.
    ///
    /// # Errors
    /// A name or a seed that is there twice: its pictures would count twice.
    pub fn set(&self) -> Result<AnswerSet, Error> {
        let or_canvas = |given: &[String], canvas: Vec<&str>| {
            if given.is_empty() {
                canvas.into_iter().map(str::to_owned).collect()
            } else {
                given.to_vec()
            }
        };
        let styles = canvas::Style::ALL.iter().map(|style| style.name()).collect();
        let objects = canvas::Object::ALL.iter().map(|object| object.name()).collect();
        let set = AnswerSet {
            styles: or_canvas(&self.styles, styles),
            objects: or_canvas(&self.objects, objects),
            seeds: self.seeds.clone(),
        };
        nothing_twice(&set)?;
        no_common_file_names(&set)?;
        Ok(set)
    }
}

/// Names are texts to the judge, where an underscore is a space and capitals are none; of a seed
/// not all bits count.
fn nothing_twice(set: &AnswerSet) -> Result<(), Error> {
    let as_read = |names: &[String]| -> Vec<String> {
        names.iter().map(|name| name.replace('_', " ").to_lowercase()).collect()
    };
    let drawn: Vec<String> = set.seeds.iter().map(|seed| bits_of_seed(*seed).to_string()).collect();
    let seeds: Vec<String> = set.seeds.iter().map(u64::to_string).collect();
    for (what, keys, written) in [
        ("styles", as_read(&set.styles), &set.styles),
        ("objects", as_read(&set.objects), &set.objects),
        ("seeds", drawn, &seeds),
    ] {
        let Some(second) = (1..keys.len()).find(|&i| keys[..i].contains(&keys[i])) else {
            continue;
        };
        let first = keys.iter().position(|key| *key == keys[second]).unwrap_or(0);
        let same = if written[first] == written[second] {
            format!("{} twice", written[second])
        } else {
            format!("{} and {}, which are the same", written[first], written[second])
        };
        return Err(Error::Pipeline(format!(
            "the {what} have {same}; its pictures would count twice"
        )));
    }
    Ok(())
}

fn no_common_file_names(set: &AnswerSet) -> Result<(), Error> {
    let mut stems = HashMap::new();
    for answer in (AnswerSet { seeds: vec![0], ..set.clone() }).answers() {
        let names = format!("{} × {}", answer.style, answer.object);
        if let Some(other) = stems.insert(answer.stem(), names.clone()) {
            return Err(Error::Pipeline(format!(
                "pictures of {other} and of {names} would have the same file names; name one of \
                 them otherwise"
            )));
        }
    }
    Ok(())
}

/// Whether a name is one of the set's classes.
///
/// # Errors
/// It is none; the nearest and all are named.
pub(crate) fn known_class(set: &AnswerSet, domain: Domain, name: &str) -> Result<(), Error> {
    let classes = set.classes(domain);
    if classes.iter().any(|class| class == name) {
        return Ok(());
    }
    let nearest = classes
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
        .map(|nearest| format!("; did you mean {nearest}?"))
        .unwrap_or_default();
    Err(Error::Unknown(format!(
        "the judge does not know the {} `{name}`{nearest} It knows {}",
        domain.name(),
        classes.join(", ")
    )))
}
