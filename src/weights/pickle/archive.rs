//! Where the records of a zip archive lie. `torch.save` stores them as they are, so nothing is
//! unpacked and no archive can be larger in memory than on the disk.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

/// Each record's bytes, by its name without the archive's own folder.
///
/// # Errors
/// An archive that is damaged, whose records are compressed or lie outside it.
pub(super) fn records(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, String> {
    let damaged = |error: zip::result::ZipError| format!("its zip archive is damaged ({error})");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut records = BTreeMap::new();
    for i in 0..archive.len() {
        let record = archive.by_index_raw(i).map_err(damaged)?;
        let name = record.name().map_err(damaged)?.into_owned();
        let Some((_, inside)) = name.split_once('/') else { continue };
        // A TorchScript's program lies beside its tensors; it is not looked at.
        if !(inside == "data.pkl" || inside == "byteorder" || inside.starts_with("data/")) {
            continue;
        }
        if record.compression() != CompressionMethod::Stored || record.encrypted() {
            return Err(format!(
                "`{name}` in its zip archive is compressed or encrypted, torch.save does neither"
            ));
        }
        let range = record
            .data_start()
            .and_then(|start| {
                let start = usize::try_from(start).ok()?;
                Some(start..start.checked_add(usize::try_from(record.size()).ok()?)?)
            })
            .filter(|range| range.end <= bytes.len())
            .ok_or_else(|| format!("`{name}` in its zip archive lies outside the file"))?;
        if records.insert(inside.to_owned(), range).is_some() {
            return Err(format!("`{name}` is in its zip archive twice"));
        }
    }
    Ok(records)
}
