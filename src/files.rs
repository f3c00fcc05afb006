//! Files that are written whole or not at all.

use std::io::{Error, Result, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Lets `write` fill a temporary file beside `path` and renames it into place. A kill at any moment
/// leaves the old file or the new one.
///
/// # Errors
/// The folder cannot be written, the disk is full, `path` is no regular file (renaming onto a device
/// would replace it); or what `write` says.
pub fn whole<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut tempfile::NamedTempFile) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if fs_err::symlink_metadata(path).is_ok_and(|about| !about.is_file() && !about.is_symlink()) {
        return Err(Error::other(format!("{} is no regular file; name another one", path.display())).into());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs_err::create_dir_all(folder)?;
    let mut half = tempfile::Builder::new().prefix(".half-").tempfile_in(folder).map_err(named)?;
    write(&mut half)?;
    // By its path: a writer may have put another file in its place.
    fs_err::File::open(half.path())?.sync_all()?;
    // A temporary file is private; a result is for everybody who may read the folder.
    fs_err::set_permissions(half.path(), std::fs::Permissions::from_mode(0o644))?;
    half.persist(path).map_err(|error| named(error.error))?;
    Ok(())
}

/// Writes these bytes.
///
/// # Errors
/// As [`whole`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    whole(path, |file| file.write_all(bytes))
}

/// Writes a value as indented JSON.
///
/// # Errors
/// As [`whole`].
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    write(path, format!("{text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_writer_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, b"old").unwrap();
        let failed = whole(&path, |file| {
            file.write_all(b"half of the ne")?;
            Err::<(), Error>(Error::other("no space left"))
        });
        assert!(failed.is_err());
        assert_eq!(fs_err::read(&path).unwrap(), b"old");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_is_not_replaced() {
        assert!(write(Path::new("/dev/null"), b"x").unwrap_err().to_string().contains("no regular file"));
    }
}
