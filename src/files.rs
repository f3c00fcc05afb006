//! Files that are written whole or not at all.

use std::collections::BTreeSet;
use std::io::{Error, Result, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is written just now and not whole yet.
static PARTIAL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn partial_files() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PARTIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the names of half-written files and folders begin with: behind it the number of the process
/// that writes.
const PREFIX: &str = ".half-";

/// A path in the list of what is half written.
struct PartialFile(PathBuf);

impl PartialFile {
    /// Makes something by `make` and puts it onto the list; nobody can abandon it between the two.
    /// Bound in this order, it leaves the list only after it is gone.
    fn made<T>(
        make: impl FnOnce(&str) -> Result<T>,
        path: impl Fn(&T) -> PathBuf,
    ) -> Result<(Self, T)> {
        let mut all = partial_files();
        let made = make(&format!("{PREFIX}{}-", std::process::id()))?;
        let path = path(&made);
        all.insert(path.clone());
        Ok((Self(path), made))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        partial_files().remove(&self.0);
    }
}

/// Removes everything that is half written, because the process ends now. Nothing can be begun
/// after that.
pub fn abandon() {
    let all = partial_files();
    for path in all.iter() {
        // Again, because another thread may put one more file into the folder meanwhile.
        for _ in 0..100 {
            if fs_err::remove_file(path).or_else(|_| fs_err::remove_dir_all(path)).is_ok()
                || !path.exists()
            {
                break;
            }
        }
    }
    std::mem::forget(all);
}

/// Removes what processes that have ended left half written in a folder, and in the folders inside
/// where `deep`.
///
/// # Errors
/// A folder that cannot be read.
pub fn sweep(folder: &Path, deep: bool) -> Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix(PREFIX) {
            // Files of versions before have no number.
            let process = rest.split_once('-').and_then(|(process, _)| process.parse::<u32>().ok());
            let alive =
                process.is_some_and(|process| Path::new(&format!("/proc/{process}")).exists());
            if !alive {
                fs_err::remove_file(&path).or_else(|_| fs_err::remove_dir_all(&path))?;
            }
        } else if deep && path.is_dir() && !path.is_symlink() {
            sweep(&path, deep)?;
        }
    }
    Ok(())
}

/// An error with the file in it that was to be written.
pub fn at(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The folder that a file is to be written in, made where it is not there.
fn folder_of_file(path: &Path) -> Result<&Path> {
    if fs_err::symlink_metadata(path).is_ok_and(|about| !about.is_file() && !about.is_symlink()) {
        let why = format!("{} is no regular file; name another one", path.display());
        return Err(Error::other(why));
    }
    folder_of(path)
}

/// As [`folder_of_file`], whatever is to be written.
fn folder_of(path: &Path) -> Result<&Path> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folder(folder)?;
    Ok(folder)
}

/// Makes a folder and those above it, where they are not there. Not after [`abandon`]: what that
/// has removed would come back, empty, between it and the end of the process.
///
/// # Errors
/// A folder that cannot be made.
pub fn create_folder(folder: &Path) -> Result<()> {
    let _nobody_abandons = partial_files();
    fs_err::create_dir_all(folder)
}

/// Lets `write` fill a temporary file beside `path` and renames it into place. A kill at any moment
/// leaves the old file or the new one.
///
/// # Errors
/// The folder cannot be written, the disk is full, `path` is no regular file (renaming onto a
/// device would replace it); or what `write` says.
pub fn whole<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut tempfile::NamedTempFile) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let folder = folder_of_file(path)?;
    let named = |error: Error| at(path, &error);
    let make = |prefix: &str| tempfile::Builder::new().prefix(prefix).tempfile_in(folder);
    let (_listed, mut half) =
        PartialFile::made(make, |half| half.path().to_path_buf()).map_err(named)?;
    write(&mut half)?;
    // By its path: a writer may have put another file in its place.
    fs_err::File::open(half.path())?.sync_all()?;
    // A temporary file is private; a result is for everybody who may read the folder.
    fs_err::set_permissions(half.path(), std::fs::Permissions::from_mode(0o644))?;
    half.persist(path).map_err(|error| named(error.error))?;
    Ok(())
}

/// [`whole`] for writers that want to open the file themselves, and may put others beside it.
///
/// # Errors
/// As [`whole`].
pub fn whole_by_path<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let folder = folder_of_file(path)?;
    let named = |error: Error| at(path, &error);
    let make = |prefix: &str| tempfile::Builder::new().prefix(prefix).tempdir_in(folder);
    let (_listed, half) =
        PartialFile::made(make, |half| half.path().to_path_buf()).map_err(named)?;
    let file = half.path().join("file");
    write(&file)?;
    fs_err::File::open(&file)?.sync_all()?;
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    fs_err::rename(&file, path).map_err(named)?;
    Ok(())
}

/// [`whole`] for a folder: nothing may be at `path`.
///
/// # Errors
/// As [`whole`].
pub fn whole_folder<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let parent = folder_of(path)?;
    let make = |prefix: &str| tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
    let (_listed, half) = PartialFile::made(make, |half| half.path().to_path_buf())?;
    write(half.path())?;
    fs_err::set_permissions(half.path(), std::fs::Permissions::from_mode(0o755))?;
    {
        let _nobody_abandons_half_of_it = partial_files();
        fs_err::rename(half.path(), path)?;
    }
    // It is at its place under its own name.
    drop(half.keep());
    Ok(())
}

/// Writes these bytes.
///
/// # Errors
/// As [`whole`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    whole(path, |file| file.write_all(bytes).map_err(|error| at(path, &error)))
}

/// Writes a table as CSV, whole or not at all; its heads are the first record.
///
/// # Errors
/// Records of different lengths, a file that cannot be written.
pub fn write_csv<R: AsRef<[String]>>(
    path: &Path,
    records: impl IntoIterator<Item = R>,
) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for record in records {
        table.write_record(record.as_ref()).map_err(Error::other)?;
    }
    let bytes = table.into_inner().map_err(|error| Error::other(error.to_string()))?;
    write(path, &bytes)
}

/// Writes a value as indented JSON.
///
/// # Errors
/// As [`whole`].
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    write(path, format!("{text}\n").as_bytes())
}

/// What [`write_json`] wrote; `None` where there is nothing, or something else.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&fs_err::read_to_string(path).ok()?).ok()
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
    fn what_ended_processes_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| fs_err::File::create(folder.path().join(name)).unwrap();
        fs_err::create_dir(folder.path().join("inside")).unwrap();
        let running = format!(".half-{}-x", std::process::id());
        // No process has so large a number.
        for name in
            [".half-4294967295-x", ".half-abcdef", &running, "kept", "inside/.half-4294967295-y"]
        {
            make(name);
        }
        fs_err::create_dir(folder.path().join(".half-4294967295-z")).unwrap();
        sweep(folder.path(), true).unwrap();
        let mut left: Vec<_> =
            fs_err::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [running.as_str(), "inside", "kept"]);
        assert_eq!(fs_err::read_dir(folder.path().join("inside")).unwrap().count(), 0);
    }

    #[test]
    fn a_device_is_not_replaced() {
        assert!(
            write(Path::new("/dev/null"), b"x")
                .unwrap_err()
                .to_string()
                .contains("no regular file")
        );
    }
}
