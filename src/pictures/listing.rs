//! The pictures in a folder, and what lies there that looks like one and is not read.

use std::path::{Path, PathBuf};

use super::Error;

/// Ends of the names of files that are read as pictures.
const READ: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Ends of pictures that are not read.
const NOT_READ: [&str; 10] =
    ["gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "psd"];

/// A folder's pictures.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that are read, sorted.
    pub files: Vec<PathBuf>,
    /// What looks like a picture and is left out: hidden files, other formats, pictures in folders
    /// inside.
    left: Vec<PathBuf>,
}

impl Listing {
    /// What the user should know.
    pub fn note(&self) -> Option<String> {
        let first = self.left.first()?;
        let names: Vec<String> =
            self.left.iter().take(3).map(|path| path.display().to_string()).collect();
        let more = if self.left.len() > names.len() { ", …" } else { "" };
        Some(format!(
            "{} file{} left out (hidden, in a folder inside, or of a format that is not read): \
             {}{more}",
            self.left.len(),
            if self.left.len() == 1 { " is" } else { "s are" },
            if names.is_empty() { first.display().to_string() } else { names.join(", ") }
        ))
    }
}

/// Whether a file is a picture that is read, by its name. Hidden files are none: systems and
/// editors leave them.
pub fn is_picture(path: &Path) -> bool {
    !is_hidden(path) && READ.contains(&extension(path).as_str())
}

/// Whether a file is a picture by the end of its name, read or not.
fn looks_like_picture(path: &Path) -> bool {
    let extension = extension(path);
    READ.contains(&extension.as_str()) || NOT_READ.contains(&extension.as_str())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap_or_default().to_string_lossy().starts_with('.')
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// The pictures that lie right in a folder.
///
/// # Errors
/// A folder that cannot be read.
pub fn list(folder: &Path) -> Result<Listing, Error> {
    collect(folder, false)
}

/// The pictures in a folder and the folders in it.
///
/// # Errors
/// A folder that cannot be read.
pub fn list_deep(folder: &Path) -> Result<Listing, Error> {
    collect(folder, true)
}

fn collect(root: &Path, deep: bool) -> Result<Listing, Error> {
    let mut found = Listing::default();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // Of a hidden folder, and of one inside where that is not asked for, pictures are only
        // counted.
        let inside = folder.strip_prefix(root).unwrap_or(&folder);
        let hidden = inside.iter().any(|part| part.to_string_lossy().starts_with('.'));
        let read = !hidden && (deep || folder == root);
        for entry in fs_err::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if read && is_picture(&path) {
                found.files.push(path);
            } else if looks_like_picture(&path) {
                found.left.push(path);
            }
        }
    }
    found.files.sort();
    found.left.sort();
    Ok(found)
}

/// The one picture with this path but for its end.
///
/// # Errors
/// There is none, or there are two.
pub fn sole(stem: &Path) -> Result<PathBuf, Error> {
    let with = |end: String| {
        let mut name = stem.as_os_str().to_owned();
        name.push(".");
        name.push(end);
        PathBuf::from(name)
    };
    let ends = READ.iter().flat_map(|end| [(*end).to_owned(), end.to_uppercase()]);
    let mut there = ends.map(with).filter(|path| path.exists());
    let first = there.next().ok_or_else(|| Error::Missing(stem.to_path_buf()))?;
    // Some file systems do not tell capitals from others.
    let same = |a: &Path, b: &Path| fs_err::canonicalize(a).ok() == fs_err::canonicalize(b).ok();
    match there.find(|other| !same(&first, other)) {
        Some(second) => Err(Error::Twice { first, second }),
        None => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_strange_files_are_left_out_and_counted() {
        let root = tempfile::tempdir().unwrap();
        let names = [
            "b.png",
            "a.JPEG",
            "c.webp",
            "._b.png",
            "d.gif",
            "notes.txt",
            "Thumbs.db",
            ".ipynb_checkpoints/b.png",
            "inner/e.png",
        ];
        for name in names {
            crate::files::write(&root.path().join(name), b"").unwrap();
        }
        let flat = list(root.path()).unwrap();
        let stems = |files: &[PathBuf]| {
            files
                .iter()
                .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(stems(&flat.files), ["a.JPEG", "b.png", "c.webp"]);
        assert!(flat.note().unwrap().starts_with("4 files are left out"), "{:?}", flat.note());
        let deep = list_deep(root.path()).unwrap();
        assert_eq!(stems(&deep.files), ["a.JPEG", "b.png", "c.webp", "e.png"]);
        assert!(deep.note().unwrap().starts_with("3 files"));
    }

    #[test]
    fn one_picture_has_one_file() {
        let root = tempfile::tempdir().unwrap();
        let stem = root.path().join("Mosaic_Cat_seed1.5");
        assert!(matches!(sole(&stem), Err(Error::Missing(_))));
        let file = root.path().join("Mosaic_Cat_seed1.5.JPG");
        crate::files::write(&file, b"").unwrap();
        assert_eq!(sole(&stem).unwrap(), file);
        crate::files::write(&root.path().join("Mosaic_Cat_seed1.5.webp"), b"").unwrap();
        assert!(matches!(sole(&stem), Err(Error::Twice { .. })));
    }
}
