//! A hub and its storage on two ports of this machine.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use sha2::{Digest as _, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server did, and what it is still to do wrong.
#[derive(Default)]
pub(crate) struct Log {
    /// Method, path, range, token of each request.
    pub(crate) requests: Vec<(String, String, Option<String>, Option<String>)>,
    /// Answers in place of the next ones: a status, or 0 for a connection that is cut in the middle
    /// of a body.
    pub(crate) troubles: Vec<u16>,
}

/// A hub and its storage, on two ports of this machine.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    pub(crate) asked: Arc<Mutex<Log>>,
    pub(crate) storage: Arc<Mutex<Log>>,
    pub(crate) home: tempfile::TempDir,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

impl Hub {
    /// Serves files; those of a megabyte or more lie in the storage.
    pub(crate) fn serving(files: &[(&str, Vec<u8>)]) -> Self {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub_port, storage_port) = (listen(), listen());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (endpoint, storage_url) = (address(&hub_port), address(&storage_port));
        let (hub, storage) =
            (Arc::new(Mutex::new(Log::default())), Arc::new(Mutex::new(Log::default())));
        let stored: BTreeMap<String, Vec<u8>> =
            files.values().map(|bytes| (format!("/{}", sha256(bytes)), bytes.clone())).collect();
        serve(storage_port, storage.clone(), move |path, _| match stored.get(path) {
            Some(bytes) => (200, Vec::new(), bytes.clone()),
            None => (404, Vec::new(), Vec::new()),
        });
        serve(hub_port, hub.clone(), move |path, token| {
            let json = |value: serde_json::Value| (200, Vec::new(), value.to_string().into_bytes());
            if path.starts_with("/api/models/private/model/") && token != Some("Bearer secret") {
                return (401, Vec::new(), b"no".to_vec());
            }
            if path.starts_with("/api/models/") {
                let known =
                    ["/api/models/a/model/revision/main", "/api/models/private/model/revision/v1"];
                if !known.contains(&path) {
                    return (404, Vec::new(), b"{}".to_vec());
                }
                let siblings: Vec<_> =
                    files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
                return json(serde_json::json!({"sha": COMMIT, "siblings": siblings}));
            }
            let file = [COMMIT, "main"]
                .iter()
                .find_map(|revision| Some(path.split_once(&format!("/resolve/{revision}/"))?.1));
            let Some(bytes) = file.and_then(|file| files.get(file)) else {
                return (404, Vec::new(), Vec::new());
            };
            if bytes.len() < 1 << 20 {
                let etag = ("etag".to_owned(), format!("\"{}\"", &sha256(bytes)[..40]));
                return (200, vec![etag, commit()], bytes.clone());
            }
            let hash = sha256(bytes);
            let headers = vec![
                ("location".to_owned(), format!("{storage_url}/{hash}")),
                ("x-linked-etag".to_owned(), format!("\"{hash}\"")),
                ("x-linked-size".to_owned(), bytes.len().to_string()),
                commit(),
            ];
            (302, headers, b"moved".to_vec())
        });
        Self { endpoint, asked: hub, storage, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn unsee(&self) -> Command {
        let mut command = Command::cargo_bin("unsee").unwrap();
        command
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", self.home.path())
            .env_remove("HF_HUB_CACHE")
            .env_remove("HF_TOKEN")
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("TRANSFORMERS_OFFLINE")
            .env_remove("HUGGINGFACE_HUB_CACHE")
            .env("no_proxy", "127.0.0.1");
        command
    }

    pub(crate) fn pull(&self, name: &str) -> Result<serde_json::Value, String> {
        self.pull_with(name, &[])
    }

    pub(crate) fn pull_with(
        &self,
        name: &str,
        variables: &[(&str, &str)],
    ) -> Result<serde_json::Value, String> {
        let mut command = self.unsee();
        let output = command
            .args(["pull", "-q", "--json", name])
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).unwrap());
        }
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        Err(text)
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.home.path().join("hub/models--a--model/snapshots").join(COMMIT)
    }
}

fn commit() -> (String, String) {
    ("x-repo-commit".to_owned(), COMMIT.to_owned())
}

/// Status, headers, body.
type Reply = (u16, Vec<(String, String)>, Vec<u8>);

fn serve(
    listener: TcpListener,
    log: Arc<Mutex<Log>>,
    answer: impl Fn(&str, Option<&str>) -> Reply + Send + Sync + 'static,
) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that went away is no trouble.
            drop(reply(stream, &log, &answer));
        }
    });
}

fn reply(
    stream: TcpStream,
    log: &Mutex<Log>,
    answer: &impl Fn(&str, Option<&str>) -> Reply,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(first) = lines.first() else { return Ok(()) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (head, value) = line.split_once(':')?;
            head.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let (range, token) = (header("range"), header("authorization"));
    let trouble = {
        let mut log = log.lock().unwrap();
        log.requests.push((method.clone(), path.clone(), range.clone(), token.clone()));
        // Only bodies can be cut.
        let now = log.troubles.first().is_some_and(|&status| status != 0 || method == "GET");
        now.then(|| log.troubles.remove(0))
    };
    let (mut status, mut headers, mut body) = answer(&path, token.as_deref());
    if let Some(status_now) = trouble.filter(|&status| status > 0) {
        (status, headers, body) =
            (status_now, vec![("retry-after".to_owned(), "0".to_owned())], Vec::new());
    }
    let from = range
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    if let Some(from) = from.filter(|&from| status == 200 && from < body.len()) {
        status = 206;
        body = body.split_off(from);
    }
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    )?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    if method != "HEAD" {
        let end = if trouble == Some(0) { body.len() / 2 } else { body.len() };
        stream.write_all(&body[..end])?;
    }
    stream.flush()?;
    if trouble == Some(0) {
        stream.shutdown(std::net::Shutdown::Both)?;
    }
    Ok(())
}

/// The miniature as a repository, with what a real one has beside it.
pub(crate) fn repository() -> Vec<(&'static str, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/miniature");
    let mut files: Vec<(&'static str, Vec<u8>)> = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    .into_iter()
    .map(|file| (file, fs_err::read(root.join(file)).unwrap()))
    .collect();
    for extra in [
        "README.md",
        "v1-5-pruned.ckpt",
        "unet/diffusion_pytorch_model.bin",
        "text_encoder/flax_model.msgpack",
    ] {
        files.push((extra, b"not wanted".to_vec()));
    }
    files
}
