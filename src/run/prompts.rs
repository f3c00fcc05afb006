//! Prompt lists: CSV with a column `prompt` and, optionally, `case_number`, `evaluation_seed`, `evaluation_guidance`,
//! or as I2P was published `sd_seed`, `sd_guidance_scale`, `sd_image_width` and `sd_image_height`; other columns are
//! kept.

use std::path::Path;

use super::Error;

/// One prompt of a list.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PromptRow {
    /// The prompt.
    pub prompt: String,
    /// Its number: `case_number`, else the place in the list.
    pub case: u64,
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
        Self { prompt: prompt.to_owned(), case, seed: None, guidance: None, size: None, columns }
    }
}

/// A row of a table: its cells by column name.
pub(super) type Cells = Vec<(String, String)>;

/// Reads a CSV. Quoted newlines, CRLF and a byte order mark are fine.
///
/// # Errors
/// A file that cannot be read, or rows of different lengths.
pub(super) fn read_table(path: &Path) -> Result<Vec<Cells>, Error> {
    Ok(numbered(path)?.1.into_iter().map(|(_, cells)| cells).collect())
}

/// The column names, and each row with its line.
#[expect(clippy::type_complexity, reason = "read in two places, both here")]
fn numbered(path: &Path) -> Result<(Vec<String>, Vec<(u64, Cells)>), Error> {
    let wrong = |error: csv::Error| Error::Unknown(format!("{}: {error}", path.display()));
    let bytes = fs_err::read(path)?;
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let mut reader = csv::Reader::from_reader(text);
    let heads: Vec<String> =
        reader.headers().map_err(wrong)?.iter().map(|head| head.trim().to_owned()).collect();
    let rows = reader
        .records()
        .map(|record| {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, csv::Position::line);
            Ok((line, heads.iter().cloned().zip(record.iter().map(str::to_owned)).collect()))
        })
        .collect::<Result<_, Error>>()?;
    Ok((heads, rows))
}

/// Reads a list of prompts.
///
/// # Errors
/// No column `prompt`, an empty list, a seed or guidance that is no number; line and column are named.
pub fn read_prompts(path: &Path) -> Result<Vec<PromptRow>, Error> {
    let wrong = |why: String| Error::Unknown(format!("{}: {why}", path.display()));
    let (heads, table) = numbered(path)?;
    if !heads.iter().any(|head| head == "prompt") {
        return Err(wrong(format!(
            "there is no column `prompt`; its columns are {}",
            if heads.is_empty() { "none".to_owned() } else { heads.join(", ") }
        )));
    }
    let mut rows = Vec::new();
    for (i, (line, columns)) in table.into_iter().enumerate() {
        let cell = |name: &str| {
            columns
                .iter()
                .find(|(head, _)| head == name)
                .map(|(_, value)| value.trim())
                .filter(|v| !v.is_empty())
        };
        let whole = |name: &str| {
            cell(name)
                .map(|value| {
                    value.parse::<u64>().map_err(|_| {
                        wrong(format!(
                            "line {line}: {name} is `{value}`, expected a whole number from 0 to 2^64-1"
                        ))
                    })
                })
                .transpose()
        };
        let first = |names: [&'static str; 2]| names.into_iter().find(|name| cell(name).is_some());
        let guidance = first(["evaluation_guidance", "sd_guidance_scale"])
            .and_then(|name| Some((name, cell(name)?)))
            .map(|(name, value)| {
                value
                    .parse::<f64>()
                    .ok()
                    .filter(|g| g.is_finite())
                    .ok_or_else(|| wrong(format!("line {line}: {name} is `{value}`, expected a number")))
            })
            .transpose()?;
        let seed = first(["evaluation_seed", "sd_seed"]).map(whole).transpose()?.flatten();
        let size = match (whole("sd_image_width")?, whole("sd_image_height")?) {
            (Some(width), Some(height)) => Some((width as i64, height as i64)),
            _ => None,
        };
        let case = whole("case_number")?.unwrap_or(i as u64);
        let prompt = columns.iter().find(|(head, _)| head == "prompt").map(|(_, v)| v.clone());
        rows.push(PromptRow { prompt: prompt.unwrap_or_default(), case, seed, guidance, size, columns });
    }
    if rows.is_empty() {
        return Err(wrong("it holds no prompt, only column names".to_owned()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<PromptRow>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        crate::files::write(file.path(), text.as_bytes()).unwrap();
        read_prompts(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_people_s_files_look_like() {
        let text = "\u{feff},prompt,evaluation_seed,evaluation_guidance,source\r\n0,\"two\nlines, one prompt\",4290749014,7.5,i2p\r\n1,plain,18446744073709551615,,x\r\n";
        let rows = read(text).unwrap();
        assert_eq!(rows[0].prompt, "two\nlines, one prompt");
        assert_eq!(rows[0].seed, Some(4_290_749_014));
        assert_eq!(rows[1].seed, Some(u64::MAX));
        assert_eq!((rows[0].guidance, rows[1].guidance), (Some(7.5), None));
        assert_eq!((rows[1].case, rows[1].columns[4].1.as_str()), (1, "x"));
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
        assert_eq!((rows[1].seed, rows[1].guidance, rows[1].case), (Some(5), Some(15.0), 1));
        let error = read("prompt,sd_seed\na,x\n").unwrap_err();
        assert!(error.contains("sd_seed is `x`"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(
            read("text,seed\na,1\n").unwrap_err().contains("no column `prompt`; its columns are text, seed")
        );
        assert!(read("prompt\n").unwrap_err().contains("no prompt"));
        assert!(read("").unwrap_err().contains("no column"));
        let error = read("prompt,evaluation_seed\na,1\nb,-3\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("`-3`"), "{error}");
        assert!(read("prompt,evaluation_guidance\na,NaN\n").is_err());
    }
}
