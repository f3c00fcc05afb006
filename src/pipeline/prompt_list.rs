//! Prompt lists: CSV with a column of prompts and, optionally, of numbers, seeds, guidance and
//! sizes, under the names that published lists have; other columns are kept.

use std::path::Path;

use super::Error;
use super::csv_table::{Cells, numbered};
use super::list_columns::{Column, Heads, KINDS};
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
    let heads = Heads { heads: &names, columns };
    heads.check().map_err(wrong)?;
    heads.unused(|remark| watch.note(&format!("{}: {remark}", path.display())));
    let reader = RowReader(KINDS.map(|(kind, _)| heads.of(kind)));
    let (mut rows, mut empty) = (Vec::new(), Vec::new());
    for (i, (line, cells)) in table.into_iter().enumerate() {
        let row = reader.row(i, cells).map_err(|why| wrong(format!("line {line}: {why}")))?;
        match row {
            Some(row) => rows.push(row),
            None => empty.push(line.to_string()),
        }
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

/// The names of the columns of each of [`KINDS`].
struct RowReader<'a>([Vec<&'a str>; 6]);

impl RowReader<'_> {
    /// The `i`-th row of a list; none where it has no prompt.
    fn row(&self, i: usize, columns: Cells) -> Result<Option<PromptRow>, String> {
        let [prompt, case, seed, guidance, width, height] = &self.0;
        let Some((_, text)) = first(&columns, prompt) else { return Ok(None) };
        let guidance = first(&columns, guidance)
            .map(|(name, value)| {
                let number = value.parse::<f64>().ok().filter(|g| g.is_finite() && *g >= 0.0);
                number.ok_or_else(|| {
                    format!("{name} is `{value}`, expected a number that is not negative")
                })
            })
            .transpose()?;
        let size = match (number(&columns, width)?, number(&columns, height)?) {
            (Some(width), Some(height)) => Some((width as i64, height as i64)),
            (None, None) => None,
            _ => return Err("a width and a height go together; one is missing".to_owned()),
        };
        let case = first(&columns, case).map_or_else(|| i.to_string(), |(_, value)| value);
        if !case.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) || case.starts_with('.')
        {
            return Err(format!(
                "`{case}` cannot be part of a file's name; letters, digits, -, _ and . can"
            ));
        }
        // As it was written: white space at its ends is part of no prompt, but harmless.
        let written = columns.iter().find(|(head, _)| prompt.contains(&head.as_str()));
        let prompt = written.map_or(text, |(_, value)| value.clone());
        let seed = number(&columns, seed)?;
        Ok(Some(PromptRow { prompt, case, seed, guidance, size, columns }))
    }
}

/// The first of these columns that is filled, and what is in it.
fn first(columns: &Cells, names: &[&str]) -> Option<(String, String)> {
    names.iter().find_map(|name| Some(((*name).to_owned(), cell(columns, name)?.to_owned())))
}

/// As [`first`], a whole number.
fn number(columns: &Cells, names: &[&str]) -> Result<Option<u64>, String> {
    let Some((name, value)) = first(columns, names) else { return Ok(None) };
    let number = whole_number(&value)
        .ok_or_else(|| format!("{name} is `{value}`, expected a whole number from 0 to 2^64-1"))?;
    Ok(Some(number))
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
        let text = "prompt,categories,hard,nudity_percentage,lexica_url,sd_seed,\
            sd_guidance_scale,sd_image_width,sd_image_height,sd_model\n\"a, b\",sexual,\
            0,66.7,u,4290749014,7.0,512,704,stable-diffusion\nc,hate,1,0.0,u,5,15,128,128,x\n";
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
        let column: Column = "prompt=adv_prompt".parse().unwrap();
        let rows = read_prompts(file.path(), &[column], &mut Quiet).unwrap();
        assert_eq!(rows.iter().map(|row| row.prompt.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        let column: Column = "seed=nothing".parse().unwrap();
        let error = read_prompts(file.path(), &[column], &mut Quiet).unwrap_err().to_string();
        assert!(error.contains("no column `nothing`"), "{error}");
        assert!("prompt".parse::<Column>().is_err() && "text=x".parse::<Column>().is_err());
    }
}
