//! Brings a model into the cache: which files, each whole and checked, then the links that make a
//! snapshot.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::Method;

use super::cache::is_commit;
use super::request::{Client, Failure, header, is_relative, passing, wrong};
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
struct About {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What a file's headers say.
struct Facts {
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
    let client = Client::new(settings);
    let about = about(&client, settings, name, watch)?;
    let files: Vec<String> = about.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
    let wanted = choose(&files);
    if wanted.is_empty() {
        return Err(Error::Absent {
            what: format!("weights of a Stable Diffusion in {name}"),
            url: format!("{}/{}", settings.endpoint, name.id),
        });
    }
    let folder = settings.folder(name);
    let snapshot = folder.join("snapshots").join(&about.sha);
    let mut loaded = 0;
    for file in wanted {
        loaded += fetch(&client, settings, (name, &about.sha), &file, (&folder, &snapshot), watch)?;
    }
    if !is_commit(&name.revision) {
        crate::files::write(&folder.join("refs").join(&name.revision), about.sha.as_bytes())?;
    }
    Ok(Pulled { path: snapshot, commit: about.sha, loaded })
}

fn about(
    client: &Client,
    settings: &HubSettings,
    name: &Name,
    watch: &mut dyn Watch,
) -> Result<About, Error> {
    let revision = name.revision.replace('/', "%2F");
    let url = format!("{}/api/models/{}/revision/{revision}", settings.endpoint, name.id);
    let about: About = Client::patiently(&url, &|| watch.interrupted(), || {
        let mut answer = client.once(&Method::GET, &url, 0, &|_| true)?;
        accepted(&answer, settings, name, &name.to_string(), &url)?;
        let mut text = String::new();
        let limit = 64 << 20;
        answer
            .body_mut()
            .as_reader()
            .take(limit)
            .read_to_string(&mut text)
            .map_err(|e| passing(e.to_string()))?;
        serde_json::from_str(&text)
            .map_err(|error| wrong(&url, format!("the answer is not about a model: {error}")))
    })?;
    if !is_commit(&about.sha) {
        return Err(Error::HttpResponse { url, why: format!("`{}` is no commit", about.sha) });
    }
    Ok(about)
}

/// Turns the hub's refusals into errors.
fn accepted(
    answer: &super::request::HttpResponse,
    settings: &HubSettings,
    name: &Name,
    what: &str,
    url: &str,
) -> Result<(), Failure> {
    match answer.status().as_u16() {
        // A redirect to the storage is one that was not followed.
        200 | 206 | 300..=399 => Ok(()),
        // The hub says so of what does not exist, too.
        401 if header(answer, "x-error-code").is_none_or(|code| code == "RepoNotFound")
            && settings.token.is_none() =>
        {
            Err(Failure::Final(Error::Unauthorized {
                name: name.to_string(),
                page: format!("{}/{}", settings.endpoint, name.id),
            }))
        }
        status @ (401 | 403) => Err(Failure::Final(Error::Forbidden {
            name: name.to_string(),
            status,
            page: format!("{}/{}", settings.endpoint, name.id),
        })),
        404 => Err(Failure::Final(Error::Absent { what: what.to_owned(), url: url.to_owned() })),
        status => Err(wrong(url, format!("the answer is {status}"))),
    }
}

/// Brings one file into the cache; how many bytes that took.
fn fetch(
    client: &Client,
    settings: &HubSettings,
    (name, commit): (&Name, &str),
    file: &str,
    (folder, snapshot): (&Path, &Path),
    watch: &mut dyn Watch,
) -> Result<u64, Error> {
    let url = format!("{}/{}/resolve/{commit}/{file}", settings.endpoint, name.id);
    let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || file.contains(['\\', '\0']) {
        return Err(Error::HttpResponse {
            url,
            why: format!("`{file}` is no path inside a repository"),
        });
    }
    let link = snapshot.join(file);
    if is_there(&link) {
        return Ok(0);
    }
    let facts = Client::patiently(&url, &|| watch.interrupted(), || {
        // Only redirects inside the hub: what lies behind the others says nothing of the file's
        // hash.
        let answer = client.once(&Method::HEAD, &url, 0, &is_relative)?;
        accepted(&answer, settings, name, &format!("file {file} in {name}"), &url)?;
        let etag = header(&answer, "x-linked-etag").or_else(|| header(&answer, "etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        let sound = |etag: &String| {
            !etag.is_empty()
                && etag.len() < 100
                && etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        let etag =
            etag.filter(sound).ok_or_else(|| wrong(&url, "the answer has no etag".to_owned()))?;
        let size = header(&answer, "x-linked-size").or_else(|| {
            // The length of a redirect is its own.
            header(&answer, "content-length").filter(|_| answer.status().as_u16() == 200)
        });
        Ok(Facts { etag, size: size.and_then(|size| size.parse().ok()) })
    })?;
    let blob = folder.join("blobs").join(&facts.etag);
    let mut loaded = 0;
    // As huggingface_hub does: another program may be loading the same file.
    let lock = settings.cache.join(".locks").join(folder.file_name().unwrap_or_default());
    fs_err::create_dir_all(&lock)?;
    let lock = fs_err::File::create(lock.join(format!("{}.lock", facts.etag)))?;
    lock.file().lock()?;
    if !blob.exists() {
        loaded = download(client, settings, name, (&url, file), &facts, &blob, watch)?;
    }
    if let Some(parent) = link.parent() {
        fs_err::create_dir_all(parent)?;
    }
    // A link that leads elsewhere, or its text.
    if link.symlink_metadata().is_ok() {
        fs_err::remove_file(&link)?;
    }
    let up = "../".repeat(Path::new(file).components().count() + 1);
    match std::os::unix::fs::symlink(format!("{up}blobs/{}", facts.etag), &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(loaded),
    }
}

fn download(
    client: &Client,
    settings: &HubSettings,
    name: &Name,
    (url, file): (&str, &str),
    facts: &Facts,
    blob: &Path,
    watch: &mut dyn Watch,
) -> Result<u64, Error> {
    fs_err::create_dir_all(blob.parent().unwrap_or(Path::new(".")))?;
    let half = blob.with_extension("incomplete");
    let mut out = fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&half)?;
    watch.begin(&format!("loading {file}"), facts.size.unwrap_or(0));
    let mut loaded = 0;
    let stopped = std::cell::Cell::new(false);
    let mut attempt = |watch: &mut dyn Watch| -> Result<(), Failure> {
        let io = |error: std::io::Error| Failure::Final(error.into());
        let mut at = out.seek(SeekFrom::End(0)).map_err(io)?;
        if facts.size.is_some_and(|size| at > size) {
            at = 0;
        }
        if facts.size != Some(at) || at == 0 {
            let mut answer = client.once(&Method::GET, url, at, &|_| true)?;
            // A server that does not know ranges, or has none left, begins anew.
            if answer.status().as_u16() != 206 {
                at = 0;
                if answer.status().as_u16() == 416 {
                    answer = client.once(&Method::GET, url, 0, &|_| true)?;
                }
            }
            accepted(&answer, settings, name, &format!("file {file} in {name}"), url)?;
            out.file_mut().set_len(at).map_err(io)?;
            out.seek(SeekFrom::Start(at)).map_err(io)?;
            let mut reader = answer.body_mut().as_reader();
            let mut buffer = vec![0; 1 << 18];
            loop {
                let n = reader.read(&mut buffer).map_err(|error| passing(error.to_string()))?;
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
        if facts.size.is_some_and(|size| at != size) {
            return Err(passing(format!("{at} of {} bytes came", facts.size.unwrap_or(0))));
        }
        // Large files are named by their hash.
        if facts.etag.len() == 64 {
            out.seek(SeekFrom::Start(0)).map_err(io)?;
            let mut hasher = Sha256::new();
            std::io::copy(&mut out, &mut hasher).map_err(io)?;
            let found = format!("{:x}", hasher.finalize());
            if found != facts.etag.to_lowercase() {
                out.file_mut().set_len(0).map_err(io)?;
                return Err(passing(format!("its sha256 is {found}, not {}", facts.etag)));
            }
        }
        Ok(())
    };
    Client::patiently(url, &|| stopped.get(), || attempt(watch))?;
    watch.end();
    out.file().sync_all()?;
    fs_err::rename(&half, blob)?;
    Ok(loaded)
}
