//! Names, and the variables that say where the cache is.

use std::path::{Path, PathBuf};

use super::Error;

/// The branch that is meant where none is named.
pub(super) const DEFAULT_REVISION: &str = "main";

/// A model on the hub and a branch, tag or commit of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `organisation/name`.
    pub id: String,
    /// A branch, tag or commit.
    pub revision: String,
}

/// Repositories that went elsewhere.
const MOVED: [(&str, &str); 1] =
    [("runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5")];

impl std::str::FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Name(text.to_owned());
        let (id, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let (organisation, name) = id.split_once('/').ok_or_else(wrong)?;
        let word = |word: &str| {
            !word.is_empty()
                && !word.starts_with(['.', '-'])
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        // A revision may have a folder in it, refs/pr/1.
        if !word(organisation) || !word(name) || !revision.split('/').all(word) {
            return Err(wrong());
        }
        let moved = MOVED.iter().find(|(old, _)| *old == id).map_or(id, |(_, new)| new);
        Ok(Self { id: moved.to_owned(), revision: revision.to_owned() })
    }
}

impl Name {
    /// The model whose folder in a cache, `models--ORGANISATION--NAME`, a path is.
    pub fn of_folder(path: &Path) -> Option<Self> {
        let (organisation, name) =
            path.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
        let id = format!("{organisation}/{name}");
        path.join("snapshots").is_dir().then(|| Self { id, revision: DEFAULT_REVISION.to_owned() })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id)?;
        if self.revision == DEFAULT_REVISION { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// What Hugging Face's variables say.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The cache's folder: `HF_HUB_CACHE` (of old `HUGGINGFACE_HUB_CACHE`), else `hub` in
    /// `HF_HOME`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// `HF_ENDPOINT`.
    pub endpoint: String,
    /// `HF_TOKEN`, else the token file.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`, of old `TRANSFORMERS_OFFLINE`.
    pub offline: bool,
}

impl HubSettings {
    /// Reads the environment.
    pub fn from_environment() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    /// Reads variables from `get`; an empty one is none.
    fn of(get: impl Fn(&str) -> Option<String>) -> Self {
        let home = get("HOME").unwrap_or_default();
        let get = |name: &str| {
            let text = get(name)?.trim().to_owned();
            // A `~` that no shell has seen, from a service's file for example.
            let text =
                text.strip_prefix("~/").map_or(text.clone(), |rest| format!("{home}/{rest}"));
            Some(text).filter(|text| !text.is_empty())
        };
        let home = get("HF_HOME").map_or_else(
            || {
                let cache = get("XDG_CACHE_HOME").map(PathBuf::from);
                let cache = cache.unwrap_or_else(|| PathBuf::from(&home).join(".cache"));
                cache.join("huggingface")
            },
            PathBuf::from,
        );
        let file = get("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = get("HF_TOKEN")
            .or_else(|| get("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| fs_err::read_to_string(file).ok().map(|text| text.trim().to_owned()))
            .filter(|token| !token.is_empty());
        let yes = |text: String| ["1", "true", "yes", "on"].contains(&text.to_lowercase().as_str());
        Self {
            cache: get("HF_HUB_CACHE")
                .or_else(|| get("HUGGINGFACE_HUB_CACHE"))
                .map_or_else(|| home.join("hub"), PathBuf::from),
            endpoint: get("HF_ENDPOINT").map_or_else(
                || "https://huggingface.co".to_owned(),
                |url| url.trim_end_matches('/').to_owned(),
            ),
            token,
            offline: get("HF_HUB_OFFLINE").or_else(|| get("TRANSFORMERS_OFFLINE")).is_some_and(yes),
        }
    }

    /// The folder of a model.
    pub(super) fn folder(&self, name: &Name) -> PathBuf {
        self.cache.join(format!("models--{}", name.id.replace('/', "--")))
    }
}

/// Whether a text is a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |text: &str| text.parse::<Name>();
        assert_eq!(
            name("a/b").unwrap(),
            Name { id: "a/b".to_owned(), revision: "main".to_owned() }
        );
        assert_eq!(name("a/b-c.d_e@refs/pr/1").unwrap().to_string(), "a/b-c.d_e@refs/pr/1");
        assert_eq!(
            name("runwayml/stable-diffusion-v1-5").unwrap().id,
            "stable-diffusion-v1-5/stable-diffusion-v1-5"
        );
        for wrong in ["a", "a/b/c", "../b", "/a/b", "a/..", "a/b@", "a/b@../x", "a b/c", "~/b", ""]
        {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            HubSettings::of(move |name| {
                pairs.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.clone())
            })
        };
        assert_eq!(of(&[("HOME", "/h")]).cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(of(&[("HF_HOME", "/x"), ("HOME", "/h")]).cache, Path::new("/x/hub"));
        assert_eq!(of(&[("HF_HOME", "/x"), ("HF_HUB_CACHE", "/y")]).cache, Path::new("/y"));
        assert_eq!(of(&[("HF_HOME", "~/x"), ("HOME", "/h")]).cache, Path::new("/h/x/hub"));
        assert_eq!(
            of(&[("HF_HOME", "/x"), ("HUGGINGFACE_HUB_CACHE", "/z")]).cache,
            Path::new("/z")
        );
        assert_eq!(
            of(&[("HF_HUB_CACHE", "/y"), ("HUGGINGFACE_HUB_CACHE", "/z")]).cache,
            Path::new("/y")
        );
        assert_eq!(of(&[("HF_ENDPOINT", "")]).endpoint, "https://huggingface.co");
        assert_eq!(of(&[("HF_ENDPOINT", "http://m/")]).endpoint, "http://m");
        assert!(of(&[("HF_HUB_OFFLINE", "ON")]).offline && !of(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(of(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        let home = tempfile::tempdir().unwrap();
        crate::files::write(&home.path().join("token"), b"from-file\n").unwrap();
        let home = home.path().to_str().unwrap();
        assert_eq!(of(&[("HF_HOME", home)]).token.as_deref(), Some("from-file"));
        assert_eq!(of(&[("HF_HOME", home), ("HF_TOKEN", "t")]).token.as_deref(), Some("t"));
    }
}
