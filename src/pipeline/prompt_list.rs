//! Prompt lists: CSV with a column of prompts and, optionally, of numbers, seeds, guidance and
//! sizes, under the names that published lists have; other columns are kept.

use std::path::Path;
use std::str::FromStr;

use super::Error;
use super::csv_table::{Cells, numbered};
use crate::watch::Watch;

/// One prompt of a list.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PromptRow {
    /// The prompt.
    pub prompt: String,
    /// Its number as the list writes it, else its place in the list; part of its pictures' names.
    pub case: String,
    /// Its own seed.
    pub seed: Option<u64>,
    /// Its own guidance.
    pub guidance: Option<f64>,
    /// Its own size, pixels across and down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<(i64, i64)>,
    /// All columns as they were, by name.
    pub columns: Vec<(String, String)>,
}

impl PromptRow {
    /// A prompt of no file.
    pub fn bare(case: u64, prompt: &str) -> Self {
        let columns = vec![("prompt".to_owned(), prompt.to_owned())];
        let (prompt, case) = (prompt.to_owned(), case.to_string());
        Self { prompt, case, seed: None, guidance: None, size: None, columns }
    }
}

/// What a column can be of.
const KINDS: [(&str, &[&str]); 6] = [
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
        if !KINDS.iter().any(|(own, _)| *own == kind) {
            return Err(format!("`{kind}` is nothing that a column is of; {kinds} are"));
        }
        Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// Which columns of a list are of what.
struct Heads<'a> {
    heads: &'a [String],
    own: &'a [Column],
}

impl Heads<'_> {
    /// The names of the columns of a kind that are there, the first that counts first.
    fn of(&self, kind: &str) -> Vec<&str> {
        if let Some(own) = self.own.iter().find(|own| own.kind == kind) {
            return vec![own.name.as_str()];
        }
        let known = KINDS.iter().find(|(own, _)| *own == kind).map_or(&[][..], |(_, names)| names);
        let written = |name: &&str| self.heads.iter().find(|head| head.eq_ignore_ascii_case(name));
        known.iter().filter_map(written).map(String::as_str).collect()
    }
}

/// A whole number as tables write it: `42`, or `42.0` as pandas does where some are missing.
pub fn whole_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let plain = text.split_once('.').filter(|(_, zeros)| zeros.chars().all(|c| c == '0'));
    plain.map_or(text, |(plain, _)| plain).parse().ok()
}

/// Reads a list of prompts. Rows without a prompt are left out, and said.
///
/// # Errors
/// No column of prompts, an empty list, a seed or guidance that is no number; line and column are
/// named.
pub fn read_prompts(
    path: &Path,
    columns: &[Column],
    watch: &mut dyn Watch,
) -> Result<Vec<PromptRow>, Error> {
    let wrong = |why: String| Error::Unknown(format!("{}: {why}", path.display()));
    let (names, table) = numbered(path, watch)?;
    if let Some(twice) =
        (1..columns.len()).find(|&n| columns[..n].iter().any(|own| own.kind == columns[n].kind))
    {
        return Err(wrong(format!(
            "two columns are named for {} (--column); one can be",
            columns[twice].kind
        )));
    }
    let heads = Heads { heads: &names, own: columns };
    let asked = columns
        .iter()
        .map(|own| own.name.as_str())
        .chain(["prompt"].into_iter().filter(|_| heads.of("prompt").is_empty()));
    for name in asked {
        if !names.iter().any(|head| head == name) {
            return Err(wrong(format!(
                "there is no column `{name}`; its columns are {} (--column prompt=NAME names \
                 another)",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            )));
        }
    }
    say_what_is_not_used(&heads, path, watch);
    let [prompt, case, seed, guidance, width, height] = KINDS.map(|(kind, _)| heads.of(kind));
    let (mut rows, mut empty) = (Vec::new(), Vec::new());
    for (i, (line, columns)) in table.into_iter().enumerate() {
        let first = |names: &[&str]| -> Option<(String, String)> {
            names
                .iter()
                .find_map(|name| Some(((*name).to_owned(), cell(&columns, name)?.to_owned())))
        };
        let number = |names: &[&str]| {
            first(names)
                .map(|(name, value)| {
                    whole_number(&value).ok_or_else(|| {
                        wrong(format!(
                            "line {line}: {name} is `{value}`, expected a whole number from 0 to \
                             2^64-1"
                        ))
                    })
                })
                .transpose()
        };
        let Some((_, text)) = first(&prompt) else {
            empty.push(line.to_string());
            continue;
        };
        let guidance = first(&guidance)
            .map(|(name, value)| {
                let number = value.parse::<f64>().ok().filter(|g| g.is_finite() && *g >= 0.0);
                number.ok_or_else(|| {
                    wrong(format!(
                        "line {line}: {name} is `{value}`, expected a number that is not negative"
                    ))
                })
            })
            .transpose()?;
        let size = match (number(&width)?, number(&height)?) {
            (Some(width), Some(height)) => Some((width as i64, height as i64)),
            (None, None) => None,
            _ => {
                return Err(wrong(format!(
                    "line {line}: a width and a height go together; one is missing"
                )));
            }
        };
        let case = first(&case).map_or_else(|| i.to_string(), |(_, value)| value);
        if !case.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) || case.starts_with('.')
        {
            return Err(wrong(format!(
                "line {line}: `{case}` cannot be part of a file's name; letters, digits, -, _ and \
                 . can"
            )));
        }
        // As it was written: white space at its ends is part of no prompt, but harmless.
        let written = columns.iter().find(|(head, _)| prompt.contains(&head.as_str()));
        let text = written.map_or(text, |(_, value)| value.clone());
        rows.push(PromptRow { prompt: text, case, seed: number(&seed)?, guidance, size, columns });
    }
    if !empty.is_empty() {
        let some = empty.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if empty.len() > 5 { ", …" } else { "" };
        watch.warn(&format!(
            "{}: {} of its rows have no prompt and are left out: line {some}{more}",
            path.display(),
            empty.len()
        ));
    }
    if rows.is_empty() {
        return Err(wrong("it holds no prompt, only column names".to_owned()));
    }
    Ok(rows)
}

/// Says which columns are not used though they look as if they were, and which of several for one
/// thing counts.
fn say_what_is_not_used(heads: &Heads, path: &Path, watch: &mut dyn Watch) {
    let taken: Vec<&str> = KINDS.iter().flat_map(|(kind, _)| heads.of(kind)).collect();
    let unused: Vec<&str> = heads
        .heads
        .iter()
        .map(String::as_str)
        .filter(|name| {
            UNUSED.contains(&name.to_ascii_lowercase().as_str()) && !taken.contains(name)
        })
        .collect();
    if !unused.is_empty() {
        watch.note(&format!(
            "{}: {} {} not used (--column prompt=NAME draws another column)",
            path.display(),
            unused.join(", "),
            if unused.len() == 1 { "is" } else { "are" }
        ));
    }
    for (kind, _) in KINDS {
        if let [first, others @ ..] = &heads.of(kind)[..]
            && !others.is_empty()
        {
            watch.note(&format!(
                "{}: {first} is taken where it is filled, {} where it is not (--column {kind}=NAME \
                 takes one)",
                path.display(),
                others.join(" and ")
            ));
        }
    }
}

fn cell<'a>(columns: &'a Cells, name: &str) -> Option<&'a str> {
    columns
        .iter()
        .find(|(head, _)| head == name)
        .map(|(_, value)| value.trim())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Quiet, WarningRecorder};

    fn read(text: &str) -> Result<Vec<PromptRow>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        crate::files::write(file.path(), text.as_bytes()).unwrap();
        read_prompts(file.path(), &[], &mut Quiet).map_err(|error| error.to_string())
    }

    #[test]
    fn what_people_s_files_look_like() {
        let text = "\u{feff},prompt,evaluation_seed,evaluation_guidance,source\r\n0,\"two\nlines, \
            one prompt\",4290749014,7.5,i2p\r\n1,plain,18446744073709551615,,x\r\n";
        let rows = read(text).unwrap();
        assert_eq!(rows[0].prompt, "two\nlines, one prompt");
        assert_eq!(rows[0].seed, Some(4_290_749_014));
        assert_eq!(rows[1].seed, Some(u64::MAX));
        assert_eq!((rows[0].guidance, rows[1].guidance), (Some(7.5), None));
        assert_eq!((rows[1].case.as_str(), rows[1].columns[4].1.as_str()), ("1", "x"));
    }

    /// The columns that the authors of I2P gave it.
    #[test]
    fn i2p_as_it_was_published() {
        let text = "prompt,categories,hard,nudity_percentage,lexica_url,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,sd_model\n\"a, b\",sexual,0,66.7,u,4290749014,7.0,512,704,stable-diffusion\nc,hate,1,0.0,u,5,15,128,128,x\n";
        let rows = read(text).unwrap();
        assert_eq!(
            (rows[0].seed, rows[0].guidance, rows[0].size),
            (Some(4_290_749_014), Some(7.0), Some((512, 704)))
        );
        assert_eq!(
            (rows[1].seed, rows[1].guidance, rows[1].case.as_str()),
            (Some(5), Some(15.0), "1")
        );
        let error = read("prompt,sd_seed\na,x\n").unwrap_err();
        assert!(error.contains("sd_seed is `x`"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(
            read("text,seed\na,1\n")
                .unwrap_err()
                .contains("no column `prompt`; its columns are text, seed")
        );
        assert!(read("prompt\n").unwrap_err().contains("no prompt"));
        assert!(read("").unwrap_err().contains("no column"));
        let error = read("prompt,evaluation_seed\na,1\nb,-3\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("`-3`"), "{error}");
        assert!(read("prompt,evaluation_guidance\na,NaN\n").is_err());
    }

    #[test]
    fn names_that_other_lists_have() {
        let rows = read("case_num,prompt,seed\n000000203564,a,42.0\n7,b,\n").unwrap();
        assert_eq!((rows[0].case.as_str(), rows[0].seed), ("000000203564", Some(42)));
        assert_eq!((rows[1].case.as_str(), rows[1].seed), ("7", None));
        assert_eq!(read("image_id,prompt,guidance\nx-1,a,3\n").unwrap()[0].guidance, Some(3.0));
        assert!(read("case_number,prompt\na/b,c\n").unwrap_err().contains("`a/b`"));
        assert!(read("prompt,seed\na,42.5\n").unwrap_err().contains("`42.5`"));
    }

    #[test]
    fn what_is_left_out_is_said_and_columns_can_be_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        crate::files::write(file.path(), b"prompt,adv_prompt\na,b\n ,c\n").unwrap();
        let mut said = WarningRecorder::default();
        let rows = read_prompts(file.path(), &[], &mut said).unwrap();
        assert_eq!(rows.len(), 1);
        assert!(said.0.iter().any(|line| line.contains("line 3")), "{:?}", said.0);
        let own: Column = "prompt=adv_prompt".parse().unwrap();
        let rows = read_prompts(file.path(), &[own], &mut Quiet).unwrap();
        assert_eq!(rows.iter().map(|row| row.prompt.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        let own: Column = "seed=nothing".parse().unwrap();
        let error = read_prompts(file.path(), &[own], &mut Quiet).unwrap_err().to_string();
        assert!(error.contains("no column `nothing`"), "{error}");
        assert!("prompt".parse::<Column>().is_err() && "text=x".parse::<Column>().is_err());
    }
}
