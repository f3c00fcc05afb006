//! The commits of a model that lie in the cache, and which of them is meant.

use std::path::{Component, Path, PathBuf};

use super::cache::{DEFAULT_REVISION, is_commit};
use super::{Error, HubSettings, Name};

/// Says of the names of files what a whole model would have beside them.
pub(super) type Lacking<'a> = &'a dyn Fn(&[String]) -> Vec<String>;

/// The folder of a model in the cache; `None` where there is nothing of it.
///
/// # Errors
/// As [`snapshot`].
pub fn cached(
    settings: &HubSettings,
    name: &Name,
    lacking: Lacking<'_>,
) -> Result<Option<PathBuf>, Error> {
    snapshot(&settings.folder(name), name, lacking)
}

/// The snapshot that is meant, in a model's folder of a cache: the one that the revision names
/// where it is whole; for the usual branch, where the cache does not know it or has not all of it,
/// the only one that is whole and that no other branch names. `None` where there is none.
///
/// # Errors
/// A snapshot of which files are missing, several whole ones of which none is named.
pub fn snapshot(
    folder: &Path,
    name: &Name,
    lacking: Lacking<'_>,
) -> Result<Option<PathBuf>, Error> {
    let snapshots = folder.join("snapshots");
    let named = if is_commit(&name.revision) {
        Some(name.revision.clone())
    } else {
        reference(folder, name)
    };
    let named = named.map(|commit| snapshots.join(commit)).filter(|path| path.is_dir());
    let missing = |path: &Path| lacking(&files(path));
    if let Some(path) = named.as_ref().filter(|path| missing(path).is_empty()) {
        return Ok(Some(path.clone()));
    }
    let incomplete = |path: &Path| Error::Incomplete {
        name: name.to_string(),
        folder: path.to_path_buf(),
        lacking: missing(path).join(", "),
    };
    // Another revision than the usual one was asked for on purpose: nothing else can stand for it.
    if name.revision != DEFAULT_REVISION {
        return named.map_or(Ok(None), |path| Err(incomplete(&path)));
    }
    let refs = folder.join("refs");
    let others: Vec<String> = names(&refs)
        .into_iter()
        .filter(|branch| *branch != name.revision)
        .filter_map(|branch| fs_err::read_to_string(refs.join(branch)).ok())
        .map(|commit| commit.trim().to_owned())
        .collect();
    let mut all: Vec<PathBuf> = std::fs::read_dir(&snapshots)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| commit_of(path).is_some_and(|commit| !others.contains(&commit)))
        .collect();
    all.sort_unstable();
    let whole: Vec<&PathBuf> = all.iter().filter(|path| missing(path).is_empty()).collect();
    match (whole.as_slice(), named.or_else(|| all.first().cloned())) {
        ([], Some(path)) => Err(incomplete(&path)),
        ([], None) => Ok(None),
        ([only], _) => Ok(Some((*only).clone())),
        (several, _) => Err(Error::Several {
            folder: folder.to_path_buf(),
            revision: name.revision.clone(),
            choices: (several.iter().filter_map(|path| commit_of(path)))
                .map(|commit| format!("{}@{commit}", name.id))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// The commit that a branch or tag names.
fn reference(folder: &Path, name: &Name) -> Option<String> {
    let commit = fs_err::read_to_string(folder.join("refs").join(&name.revision)).ok()?;
    Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
}

/// What should be said of a snapshot that is used: no branch names it.
pub fn remark(path: &Path) -> Option<String> {
    let commit = commit_of(path)?;
    let folder = path.parent()?.parent()?;
    let refs = folder.join("refs");
    let named = |file: &String| {
        fs_err::read_to_string(refs.join(file)).is_ok_and(|text| text.trim() == commit)
    };
    let named = names(&refs).iter().any(named);
    (!named).then(|| {
        format!(
            "{} is taken at commit {commit}, which no branch in the cache names",
            folder.display()
        )
    })
}

/// The commit of a model that lies in a cache, from its path.
pub fn commit_of(path: &Path) -> Option<String> {
    let mut parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let commit = parts.next()?;
    (is_commit(commit) && parts.next() == Some("snapshots")).then(|| commit.to_owned())
}

/// The files of a snapshot that can be read, as a repository names them.
fn files(snapshot: &Path) -> Vec<String> {
    names(snapshot).into_iter().filter(|file| is_there(&snapshot.join(file))).collect()
}

/// The names of the files in a folder and the folders in it, as a repository has them.
fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(names(&entry.path()).iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found
}

/// Whether a file of a snapshot is there: not where a link leads nowhere, nor where a copy wrote
/// the link's text.
pub(super) fn is_there(file: &Path) -> bool {
    let Ok(about) = std::fs::metadata(file) else { return false };
    let short = about.is_file() && about.len() < 300;
    !short
        || !std::fs::read(file).is_ok_and(|text| text.starts_with(b"../") && !text.contains(&b'\n'))
}
