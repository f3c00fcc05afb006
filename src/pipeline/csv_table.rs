//! Tables as people write them: CSV in whichever encoding and with whichever separator.

use std::path::Path;

use super::Error;
use crate::watch::Watch;

/// A row of a table: its cells by column name.
pub type Cells = Vec<(String, String)>;

/// A table: the names of its columns, and each row with its line.
pub type CsvTable = (Vec<String>, Vec<(u64, Cells)>);

/// Reads a CSV. Quoted newlines, CRLF and byte order marks are fine; an encoding other than UTF-8
/// and a separator other than a comma are said.
///
/// # Errors
/// A file that cannot be read, rows of different lengths, one name for two columns.
pub fn numbered(path: &Path, watch: &mut dyn Watch) -> Result<CsvTable, Error> {
    let wrong = |error: csv::Error| Error::Unknown(format!("{}: {error}", path.display()));
    let bytes = fs_err::read(path)?;
    let (text, encoding) = decoded(&bytes);
    if let Some((line, _)) =
        (1..).zip(text.lines()).find(|(_, line)| line.contains(char::REPLACEMENT_CHARACTER))
        && !bytes.windows(3).any(|three| three == "\u{fffd}".as_bytes())
    {
        return Err(Error::Unknown(format!(
            "{}: line {line} has letters that are not {}, as the mark at its beginning says; save \
             it as UTF-8",
            path.display(),
            encoding.unwrap_or("UTF-8")
        )));
    }
    if let Some(encoding) = encoding {
        watch.note(&format!(
            "{} is read as {encoding}; save it as UTF-8 if that is wrong",
            path.display()
        ));
    }
    let separator = separator(&text);
    if separator != b',' {
        let name = if separator == b'\t' {
            "tabs".to_owned()
        } else {
            format!("`{}`", char::from(separator))
        };
        watch.note(&format!("{}: its columns are separated by {name}", path.display()));
    }
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
    let heads: Vec<String> =
        reader.headers().map_err(wrong)?.iter().map(|head| head.trim().to_owned()).collect();
    if let Some(twice) =
        (1..heads.len()).find(|&n| !heads[n].is_empty() && heads[..n].contains(&heads[n]))
    {
        return Err(Error::Unknown(format!(
            "{}: it has the column `{}` twice; name one of them otherwise",
            path.display(),
            heads[twice]
        )));
    }
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

/// A table without its lines.
///
/// # Errors
/// As [`numbered`].
pub fn rows(path: &Path, watch: &mut dyn Watch) -> Result<Vec<Cells>, Error> {
    Ok(numbered(path, watch)?.1.into_iter().map(|(_, cells)| cells).collect())
}

/// The text of a file, and its encoding where that is not UTF-8.
fn decoded(bytes: &[u8]) -> (String, Option<&'static str>) {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|&two| unit(two)).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => (String::from_utf8_lossy(rest).into_owned(), None),
        [0xff, 0xfe, rest @ ..] => (wide(rest, u16::from_le_bytes), Some("UTF-16")),
        [0xfe, 0xff, rest @ ..] => (wide(rest, u16::from_be_bytes), Some("UTF-16")),
        // Without a mark: letters of the first alphabet have a zero in every other byte.
        [_, 0, _, 0, ..] => (wide(bytes, u16::from_le_bytes), Some("UTF-16")),
        [0, _, 0, _, ..] => (wide(bytes, u16::from_be_bytes), Some("UTF-16")),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), None),
            Err(_) => (bytes.iter().map(|&byte| windows(byte)).collect(), Some("Windows-1252")),
        },
    }
}

/// A byte of Windows-1252: Latin-1, but for what stands from 0x80 to 0x9f.
fn windows(byte: u8) -> char {
    const SPECIAL: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => SPECIAL[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// What separates the columns: whichever of the usual ones the first line has most of, outside of
/// quotes.
fn separator(text: &str) -> u8 {
    let mut quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    for byte in text.lines().next().unwrap_or_default().bytes() {
        quoted ^= byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(mark, _)| *mark == byte && !quoted) {
            *count += 1;
        }
    }
    // Of equal ones the first; of none the comma.
    counts
        .iter()
        .rev()
        .max_by_key(|(_, count)| *count)
        .map_or(b',', |(mark, count)| if *count == 0 { b',' } else { *mark })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Quiet;

    fn read(bytes: &[u8]) -> CsvTable {
        let file = tempfile::NamedTempFile::new().unwrap();
        crate::files::write(file.path(), bytes).unwrap();
        numbered(file.path(), &mut Quiet).unwrap()
    }

    #[test]
    fn encodings_and_separators() {
        let wanted = read("prompt,seed\nnaïve “cat”,1\n".as_bytes());
        let wide: Vec<u8> = "\u{feff}prompt,seed\nnaïve “cat”,1\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let big: Vec<u8> =
            "prompt,seed\nnaïve “cat”,1\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let windows = b"prompt,seed\nna\xefve \x93cat\x94,1\n";
        for bytes in [
            &wide[..],
            &big,
            windows,
            "prompt;seed\nnaïve “cat”;1\n".as_bytes(),
            "prompt\tseed\nnaïve “cat”\t1\n".as_bytes(),
        ] {
            assert_eq!(read(bytes), wanted);
        }
        // A separator in one cell is none.
        let one = read(b"prompt\n\"a; b, c\"\n");
        assert_eq!(one.1[0].1, [("prompt".to_owned(), "a; b, c".to_owned())]);
    }
}
