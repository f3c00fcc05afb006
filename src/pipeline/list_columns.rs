//! Which columns of a prompt list are of what: under the names that published lists have, or as the
//! user names them.

use std::str::FromStr;

/// What a column can be of.
pub(super) const KINDS: [(&str, &[&str]); 6] = [
    ("prompt", &["prompt"]),
    ("case", &["case_number", "case_num", "image_id"]),
    ("seed", &["evaluation_seed", "sd_seed", "seed"]),
    ("guidance", &["evaluation_guidance", "sd_guidance_scale", "guidance", "guidance_scale"]),
    ("width", &["sd_image_width", "width"]),
    ("height", &["sd_image_height", "height"]),
];

/// Columns that mean something to other programs and nothing here.
const UNUSED: [&str; 13] = [
    "cfg",
    "cfg_scale",
    "scale",
    "seeds",
    "adv_prompt",
    "negative",
    "negative_prompt",
    "steps",
    "num_inference_steps",
    "sampler",
    "scheduler",
    "strength",
    "lora",
];

/// A column of the user's own: `prompt=adv_prompt`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// What it is of: `prompt`, `case`, `seed`, `guidance`, `width` or `height`.
    pub kind: String,
    /// Its name in the list.
    pub name: String,
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = KINDS.map(|(kind, _)| kind).join(", ");
        let Some((kind, name)) = text.split_once('=') else {
            return Err(format!(
                "`{text}` names no column; write prompt=adv_prompt ({kinds} can be named)"
            ));
        };
        if !KINDS.iter().any(|(known, _)| *known == kind) {
            return Err(format!("`{kind}` is nothing that a column is of; {kinds} are"));
        }
        Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// Which columns of a list are of what.
pub(super) struct Heads<'a> {
    pub(super) heads: &'a [String],
    pub(super) columns: &'a [Column],
}

impl Heads<'_> {
    /// The names of the columns of a kind that are there, the first that counts first.
    pub(super) fn of(&self, kind: &str) -> Vec<&str> {
        if let Some(column) = self.columns.iter().find(|column| column.kind == kind) {
            return vec![column.name.as_str()];
        }
        let known =
            KINDS.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, names)| names);
        let written = |name: &&str| self.heads.iter().find(|head| head.eq_ignore_ascii_case(name));
        known.iter().filter_map(written).map(String::as_str).collect()
    }
    /// Says what is wrong with the columns that are asked for.
    pub(super) fn check(&self) -> Result<(), String> {
        let columns = self.columns;
        if let Some(twice) = (1..columns.len())
            .find(|&n| columns[..n].iter().any(|column| column.kind == columns[n].kind))
        {
            return Err(format!(
                "two columns are named for {} (--column); one can be",
                columns[twice].kind
            ));
        }
        let asked = columns
            .iter()
            .map(|column| column.name.as_str())
            .chain(["prompt"].into_iter().filter(|_| self.of("prompt").is_empty()));
        for name in asked {
            if !self.heads.iter().any(|head| head == name) {
                return Err(format!(
                    "there is no column `{name}`; its columns are {} (--column prompt=NAME names \
                     another)",
                    if self.heads.is_empty() { "none".to_owned() } else { self.heads.join(", ") }
                ));
            }
        }
        Ok(())
    }

    /// Says which columns are not used though they look as if they were, and which of several for
    /// one thing counts.
    pub(super) fn unused(&self, mut say: impl FnMut(String)) {
        let taken: Vec<&str> = KINDS.iter().flat_map(|(kind, _)| self.of(kind)).collect();
        let looks_used = |name: &&str| {
            UNUSED.contains(&name.to_ascii_lowercase().as_str()) && !taken.contains(name)
        };
        let unused: Vec<&str> = self.heads.iter().map(String::as_str).filter(looks_used).collect();
        if !unused.is_empty() {
            say(format!(
                "{} {} not used (--column prompt=NAME draws another column)",
                unused.join(", "),
                if unused.len() == 1 { "is" } else { "are" }
            ));
        }
        for (kind, _) in KINDS {
            if let [first, others @ ..] = &self.of(kind)[..]
                && !others.is_empty()
            {
                say(format!(
                    "{first} is taken where it is filled, {} where it is not (--column \
                     {kind}=NAME takes one)",
                    others.join(" and ")
                ));
            }
        }
    }
}
