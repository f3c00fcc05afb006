//! Brings a model into the cache: which files, each whole and checked, then the links that make a
//! snapshot.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::Method;

use super::cache::is_commit;
use super::request::{Client, Failure, HttpResponse, bad_response, header, is_relative, transient};
use super::snapshot::{Lacking, is_there};
use super::{Error, HubSettings, Name, cached};
use crate::watch::Watch;

/// A model that lies in the cache.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its folder.
    pub path: PathBuf,
    /// Its commit.
    pub commit: String,
    /// Bytes that came over the network.
    pub loaded: u64,
}

/// The hub's answer about a model.
#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What a file's headers say.
struct FileHeaders {
    etag: String,
    size: Option<u64>,
}

/// Brings a model's files into the cache, of all that the repository has those that `choose` names;
/// those that are there are not loaded again, half ones are gone on with. Where the network is not
/// to be touched, the model must be there, and `lacking` says whether it is whole.
///
/// # Errors
/// No such model, no permission, a network that fails again and again, a disk that is full,
/// interruption.
pub fn pull(
    settings: &HubSettings,
    name: &Name,
    choose: impl Fn(&[String]) -> Vec<String>,
    lacking: Lacking<'_>,
    watch: &mut dyn Watch,
) -> Result<Pulled, Error> {
    if settings.offline {
        let found = cached(settings, name, lacking)?
            .ok_or_else(|| Error::Offline(name.to_string(), settings.cache.clone()))?;
        let commit = super::commit_of(&found).unwrap_or_default();
        return Ok(Pulled { path: found, commit, loaded: 0 });
    }
    let repository = Repository { client: Client::new(settings), settings, name };
    let info = repository.info(watch)?;
    let files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
    let wanted = choose(&files);
    if wanted.is_empty() {
        return Err(Error::Absent {
            what: format!("weights of a Stable Diffusion in {name}"),
            url: format!("{}/{}", settings.endpoint, name.id),
        });
    }
    let mut loaded = 0;
    for file in wanted {
        loaded += repository.fetch(&info.sha, &file, watch)?;
    }
    let folder = settings.folder(name);
    if !is_commit(&name.revision) {
        crate::files::write(&folder.join("refs").join(&name.revision), info.sha.as_bytes())?;
    }
    Ok(Pulled { path: folder.join("snapshots").join(&info.sha), commit: info.sha, loaded })
}

/// A model on the hub, and with what it is asked for.
struct Repository<'a> {
    client: Client,
    settings: &'a HubSettings,
    name: &'a Name,
}

impl Repository<'_> {
    /// The revision's commit and its files.
    fn info(&self, watch: &mut dyn Watch) -> Result<ModelInfo, Error> {
        let (endpoint, id) = (&self.settings.endpoint, &self.name.id);
        let revision = self.name.revision.replace('/', "%2F");
        let url = format!("{endpoint}/api/models/{id}/revision/{revision}");
        let info: ModelInfo = Client::with_retries(&url, &|| watch.interrupted(), || {
            let mut answer = self.client.once(&Method::GET, &url, 0, &|_| true)?;
            self.accept(&answer, &self.name.to_string(), &url)?;
            let mut text = String::new();
            let limit = 64 << 20;
            answer
                .body_mut()
                .as_reader()
                .take(limit)
                .read_to_string(&mut text)
                .map_err(|error| transient(error.to_string()))?;
            serde_json::from_str(&text).map_err(|error| {
                bad_response(&url, format!("the answer is not about a model: {error}"))
            })
        })?;
        if !is_commit(&info.sha) {
            return Err(Error::HttpResponse { url, why: format!("`{}` is no commit", info.sha) });
        }
        Ok(info)
    }

    /// Turns the hub's refusals into errors.
    fn accept(&self, answer: &HttpResponse, what: &str, url: &str) -> Result<(), Failure> {
        let page = || format!("{}/{}", self.settings.endpoint, self.name.id);
        match answer.status().as_u16() {
            // A redirect to the storage is one that was not followed.
            200 | 206 | 300..=399 => Ok(()),
            // The hub says so of what does not exist, too.
            401 if header(answer, "x-error-code").is_none_or(|code| code == "RepoNotFound")
                && self.settings.token.is_none() =>
            {
                let name = self.name.to_string();
                Err(Failure::Final(Error::Unauthorized { name, page: page() }))
            }
            status @ (401 | 403) => {
                let name = self.name.to_string();
                Err(Failure::Final(Error::Forbidden { name, status, page: page() }))
            }
            404 => {
                let (what, url) = (what.to_owned(), url.to_owned());
                Err(Failure::Final(Error::Absent { what, url }))
            }
            status => Err(bad_response(url, format!("the answer is {status}"))),
        }
    }

    /// Brings one file of a commit into the cache; how many bytes that took.
    fn fetch(&self, commit: &str, file: &str, watch: &mut dyn Watch) -> Result<u64, Error> {
        let url = format!("{}/{}/resolve/{commit}/{file}", self.settings.endpoint, self.name.id);
        let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || file.contains(['\\', '\0']) {
            return Err(Error::HttpResponse {
                url,
                why: format!("`{file}` is no path inside a repository"),
            });
        }
        let folder = self.settings.folder(self.name);
        let link = folder.join("snapshots").join(commit).join(file);
        if is_there(&link) {
            return Ok(0);
        }
        let headers =
            Client::with_retries(&url, &|| watch.interrupted(), || self.headers(file, &url))?;
        let blob = folder.join("blobs").join(&headers.etag);
        let mut loaded = 0;
        // As huggingface_hub does: another program may be loading the same file.
        let locks = self.settings.cache.join(".locks").join(folder.file_name().unwrap_or_default());
        crate::files::create_folder(&locks)?;
        let lock = fs_err::File::create(locks.join(format!("{}.lock", headers.etag)))?;
        lock.file().lock()?;
        if !blob.exists() {
            loaded = self.download(&url, file, &headers, &blob, watch)?;
        }
        if let Some(parent) = link.parent() {
            crate::files::create_folder(parent)?;
        }
        // A link that leads elsewhere, or its text.
        if link.symlink_metadata().is_ok() {
            fs_err::remove_file(&link)?;
        }
        let up = "../".repeat(Path::new(file).components().count() + 1);
        match std::os::unix::fs::symlink(format!("{up}blobs/{}", headers.etag), &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(loaded),
        }
    }

    /// A file's hash and size.
    fn headers(&self, file: &str, url: &str) -> Result<FileHeaders, Failure> {
        // Only redirects inside the hub: what lies behind the others says nothing of the file's
        // hash.
        let answer = self.client.once(&Method::HEAD, url, 0, &is_relative)?;
        self.accept(&answer, &format!("file {file} in {}", self.name), url)?;
        let etag = header(&answer, "x-linked-etag").or_else(|| header(&answer, "etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        let sound = |etag: &String| {
            !etag.is_empty()
                && etag.len() < 100
                && etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        let etag = etag
            .filter(sound)
            .ok_or_else(|| bad_response(url, "the answer has no etag".to_owned()))?;
        let size = header(&answer, "x-linked-size").or_else(|| {
            // The length of a redirect is its own.
            header(&answer, "content-length").filter(|_| answer.status().as_u16() == 200)
        });
        Ok(FileHeaders { etag, size: size.and_then(|size| size.parse().ok()) })
    }

    /// Loads a file into `blob`, from where an earlier attempt stopped; how many bytes came.
    fn download(
        &self,
        url: &str,
        file: &str,
        headers: &FileHeaders,
        blob: &Path,
        watch: &mut dyn Watch,
    ) -> Result<u64, Error> {
        crate::files::create_folder(blob.parent().unwrap_or(Path::new(".")))?;
        let partial = blob.with_extension("incomplete");
        let mut out = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(&partial)?;
        watch.begin(&format!("loading {file}"), headers.size.unwrap_or(0));
        let mut loaded = 0;
        let stopped = std::cell::Cell::new(false);
        let mut attempt = |watch: &mut dyn Watch| -> Result<(), Failure> {
            let mut at = out.seek(SeekFrom::End(0)).map_err(io)?;
            if headers.size.is_some_and(|size| at > size) {
                at = 0;
            }
            if headers.size != Some(at) || at == 0 {
                let mut answer = self.client.once(&Method::GET, url, at, &|_| true)?;
                // A server that does not know ranges, or has none left, begins again.
                if answer.status().as_u16() != 206 {
                    at = 0;
                    if answer.status().as_u16() == 416 {
                        answer = self.client.once(&Method::GET, url, 0, &|_| true)?;
                    }
                }
                self.accept(&answer, &format!("file {file} in {}", self.name), url)?;
                out.file_mut().set_len(at).map_err(io)?;
                out.seek(SeekFrom::Start(at)).map_err(io)?;
                let mut reader = answer.body_mut().as_reader();
                let mut buffer = vec![0; 1 << 18];
                loop {
                    let n =
                        reader.read(&mut buffer).map_err(|error| transient(error.to_string()))?;
                    if n == 0 {
                        break;
                    }
                    out.write_all(&buffer[..n]).map_err(io)?;
                    at += n as u64;
                    loaded += n as u64;
                    watch.at(at, "");
                    if watch.interrupted() {
                        stopped.set(true);
                        return Err(Failure::Final(Error::Interrupted));
                    }
                }
            }
            headers.check(&mut out, at)
        };
        Client::with_retries(url, &|| stopped.get(), || attempt(watch))?;
        watch.end();
        out.file().sync_all()?;
        fs_err::rename(&partial, blob)?;
        Ok(loaded)
    }
}

impl FileHeaders {
    /// Whether a file of `length` bytes is the one that was meant.
    ///
    /// # Errors
    /// Another length, or another hash.
    fn check(&self, file: &mut fs_err::File, length: u64) -> Result<(), Failure> {
        if let Some(size) = self.size.filter(|&size| length != size) {
            return Err(transient(format!("{length} of {size} bytes came")));
        }
        // Large files are named by their hash.
        if self.etag.len() == 64 {
            file.seek(SeekFrom::Start(0)).map_err(io)?;
            let mut hasher = Sha256::new();
            std::io::copy(file, &mut hasher).map_err(io)?;
            let found = format!("{:x}", hasher.finalize());
            if found != self.etag.to_lowercase() {
                file.file_mut().set_len(0).map_err(io)?;
                return Err(transient(format!("its sha256 is {found}, not {}", self.etag)));
            }
        }
        Ok(())
    }
}

fn io(error: std::io::Error) -> Failure {
    Failure::Final(error.into())
}
