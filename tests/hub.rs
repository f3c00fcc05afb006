//! `unsee pull` against a server that speaks as the Hugging Face hub does: redirects to a storage,
//! ranges, refusals, connections that are cut.
#![cfg(feature = "hub")]
#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use sha2::{Digest as _, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server did, and what it is still to do wrong.
#[derive(Default)]
struct Log {
    /// Method, path, range, token of each request.
    requests: Vec<(String, String, Option<String>, Option<String>)>,
    /// Answers in place of the next ones: a status, or 0 for a connection that is cut in the middle
    /// of a body.
    troubles: Vec<u16>,
}

/// A hub and its storage, on two ports of this machine.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Log>>,
    storage: Arc<Mutex<Log>>,
    home: tempfile::TempDir,
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

impl Hub {
    /// Serves files; those of a megabyte or more lie in the storage.
    fn serving(files: &[(&str, Vec<u8>)]) -> Self {
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

    fn unsee(&self) -> Command {
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

    fn pull(&self, name: &str) -> Result<serde_json::Value, String> {
        self.pull_with(name, &[])
    }

    fn pull_with(
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

    fn snapshot(&self) -> PathBuf {
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
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
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
fn repository() -> Vec<(&'static str, Vec<u8>)> {
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

#[test]
fn a_model_is_pulled_once_and_drawn_with_by_name() {
    let hub = Hub::serving(&repository());
    let pulled = hub.pull("a/model").unwrap();
    assert_eq!(pulled["commit"], COMMIT);
    assert_eq!(Path::new(pulled["path"].as_str().unwrap()), hub.snapshot());
    // Python's layout: links to blobs that are named by etag, and the branch's commit.
    let weights = hub.snapshot().join("unet/diffusion_pytorch_model.safetensors");
    let to = fs_err::read_link(&weights).unwrap();
    assert!(to.starts_with("../../../blobs"), "{}", to.display());
    assert_eq!(sha256(&fs_err::read(&weights).unwrap()), to.file_name().unwrap().to_str().unwrap());
    let refs = hub.home.path().join("hub/models--a--model/refs/main");
    assert_eq!(fs_err::read_to_string(refs).unwrap(), COMMIT);
    for absent in ["README.md", "v1-5-pruned.ckpt", "unet/diffusion_pytorch_model.bin"] {
        assert!(!hub.snapshot().join(absent).exists(), "{absent}");
    }
    // A second time nothing is loaded, and without a network the cache is enough.
    assert_eq!(hub.pull("a/model").unwrap()["loaded"], 0);
    let before = hub.asked.lock().unwrap().requests.len();
    assert_eq!(hub.pull_with("a/model", &[("HF_HUB_OFFLINE", "1")]).unwrap()["commit"], COMMIT);
    let out = hub.home.path().join("out");
    let mut command = hub.unsee();
    command.args([
        "generate",
        "-q",
        "A Cat image in Mosaic style.",
        "--model",
        "a/model",
        "--steps",
        "1",
        "--out",
    ]);
    command.arg(&out).assert().success();
    assert_eq!(hub.asked.lock().unwrap().requests.len(), before, "drawing touched the network");
    let run: serde_json::Value =
        serde_json::from_slice(&fs_err::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["hashes"]["commit"], COMMIT);
}

#[test]
fn what_may_pass_is_tried_again_and_a_cut_download_goes_on() {
    let hub = Hub::serving(&repository());
    hub.asked.lock().unwrap().troubles = vec![429, 503];
    hub.storage.lock().unwrap().troubles = vec![0, 500, 0];
    hub.pull("a/model").unwrap();
    let storage = hub.storage.lock().unwrap();
    assert!(
        storage.requests.iter().any(|(_, _, range, _)| range.is_some()),
        "nothing was gone on with"
    );
    let weights = hub.snapshot().join("unet/diffusion_pytorch_model.safetensors");
    let name = fs_err::read_link(&weights).unwrap();
    assert_eq!(
        sha256(&fs_err::read(&weights).unwrap()),
        name.file_name().unwrap().to_str().unwrap()
    );
}

#[test]
fn a_pull_that_failed_goes_on_where_it_stopped() {
    let hub = Hub::serving(&repository());
    hub.storage.lock().unwrap().troubles = [vec![0], vec![500; 5]].concat();
    let error = hub.pull("a/model").unwrap_err();
    assert!(error.contains("500") && error.contains("goes on"), "{error}");
    let blobs = hub.home.path().join("hub/models--a--model/blobs");
    let half: Vec<_> = fs_err::read_dir(&blobs)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "incomplete"))
        .collect();
    assert_eq!(half.len(), 1);
    let kept = half[0].metadata().unwrap().len();
    assert!(kept > 0);
    // Before it is whole, it is no model.
    let mut command = hub.unsee();
    command.args(["generate", "-q", "x", "--model", "a/model"]).assert().failure();
    hub.pull("a/model").unwrap();
    let range = format!("bytes={kept}-");
    assert!(
        hub.storage
            .lock()
            .unwrap()
            .requests
            .iter()
            .any(|(_, _, own, _)| own.as_ref() == Some(&range))
    );
    // A half file of other bytes is noticed by its hash and loaded anew.
    let weights =
        fs_err::canonicalize(hub.snapshot().join("vae/diffusion_pytorch_model.safetensors"))
            .unwrap();
    let bytes = fs_err::read(&weights).unwrap();
    fs_err::remove_file(&weights).unwrap();
    fs_err::remove_file(hub.snapshot().join("vae/diffusion_pytorch_model.safetensors")).unwrap();
    let mut file = fs_err::File::create(weights.with_extension("incomplete")).unwrap();
    file.write_all(&vec![7; 1000]).unwrap();
    hub.pull("a/model").unwrap();
    assert!(fs_err::read(&weights).unwrap() == bytes);
}

#[test]
fn refusals_say_what_to_do_and_the_token_stays_with_the_hub() {
    let hub = Hub::serving(&repository());
    let error = hub.pull("private/model@v1").unwrap_err();
    assert!(
        error.contains("HF_TOKEN") && error.contains("401") && error.contains("/private/model"),
        "{error}"
    );
    let error = hub.pull("a/nothing").unwrap_err();
    assert!(error.contains("a/nothing") && error.contains("404"), "{error}");
    let error = hub.pull_with("a/model", &[("HF_HUB_OFFLINE", "true")]).unwrap_err();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    let error = hub.pull_with("a/model", &[("HF_ENDPOINT", "http://127.0.0.1:1")]).unwrap_err();
    assert!(error.contains("127.0.0.1:1"), "{error}");
    hub.pull_with("private/model@v1", &[("HF_TOKEN", "secret")]).unwrap();
    let told = |log: &Arc<Mutex<Log>>| {
        log.lock().unwrap().requests.iter().any(|(_, _, _, token)| token.is_some())
    };
    assert!(told(&hub.asked));
    assert!(!told(&hub.storage), "the storage was told the token");
    // A name that was not pulled touches no network.
    let before = hub.asked.lock().unwrap().requests.len();
    let mut command = hub.unsee();
    let output = command.args(["generate", "x", "--model", "a/model"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("unsee pull a/model"));
    assert_eq!(hub.asked.lock().unwrap().requests.len(), before);
}

#[test]
fn names_from_the_hub_cannot_leave_the_cache() {
    let mut files = repository();
    files.push(("unet/../../../../escape.json", b"{}".to_vec()));
    let hub = Hub::serving(&files);
    // It is no file of a component, so nothing asks for it.
    hub.pull("a/model").unwrap();
    assert!(!hub.home.path().join("escape.json").exists());
    let mut command = hub.unsee();
    let output = command.args(["pull", "../../etc"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// What people's copies of caches are like: what is whole is used and said, what is not is named,
/// and `pull` mends it.
#[test]
fn copies_of_caches_are_read_or_said_to_be_incomplete() {
    let hub = Hub::serving(&repository());
    hub.pull("a/model").unwrap();
    let model = hub.home.path().join("hub/models--a--model");
    let inspected = |name: &str| {
        let output = hub.unsee().args(["inspect", name]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    // Drawn with, since that is where notes are said; no picture is needed.
    let drawn = |name: &str| {
        let out = hub.home.path().join("out");
        drop(fs_err::remove_dir_all(&out));
        let mut command = hub.unsee();
        command.args(["generate", "x", "--steps", "1", "--model", name, "--out"]).arg(&out);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };

    // Without refs, the only whole snapshot is taken, and that is said; a model's folder in a cache
    // is a model, too.
    fs_err::remove_dir_all(model.join("refs")).unwrap();
    for name in ["a/model", model.to_str().unwrap()] {
        let (fine, said) = drawn(name);
        assert!(
            fine && said.contains(COMMIT) && said.contains("no branch in the cache names"),
            "{said}"
        );
    }
    // A newest snapshot of which only the configurations came: the whole one is taken, and said.
    let newer = "f".repeat(40);
    fs_err::create_dir_all(model.join("snapshots").join(&newer).join("unet")).unwrap();
    fs_err::create_dir_all(model.join("refs")).unwrap();
    fs_err::write(model.join("refs/main"), &newer).unwrap();
    fs_err::copy(
        hub.snapshot().join("model_index.json"),
        model.join("snapshots").join(&newer).join("model_index.json"),
    )
    .unwrap();
    let (fine, said) = drawn("a/model");
    assert!(fine && said.contains(COMMIT), "{said}");
    // By its commit it is what it is, incomplete.
    let (fine, said) = inspected(&format!("a/model@{newer}"));
    let wanted = "unet/diffusion_pytorch_model.safetensors";
    assert!(!fine && said.contains("incomplete") && said.contains(wanted), "{said}");
    assert!(said.contains("unsee pull a/model"), "{said}");
    // A revision that is not there is not another one; nor is the usual branch what another one
    // names.
    for revision in ["fp16", "v1.1", "abc1234"] {
        let (fine, said) = inspected(&format!("a/model@{revision}"));
        assert!(!fine && said.contains(&format!("unsee pull a/model@{revision}")), "{said}");
    }
    fs_err::write(model.join("refs/fp16"), COMMIT).unwrap();
    let (fine, said) = inspected("a/model");
    assert!(!fine && said.contains("incomplete") && said.contains(wanted), "{said}");
    assert!(inspected("a/model@fp16").0);
    fs_err::remove_file(model.join("refs/fp16")).unwrap();
    // Two whole ones, and neither is named.
    let second = "e".repeat(40);
    for folder in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        fs_err::create_dir_all(model.join("snapshots").join(&second).join(folder)).unwrap();
        for entry in fs_err::read_dir(hub.snapshot().join(folder)).unwrap().flatten() {
            if entry.path().is_file() {
                let to = model.join("snapshots").join(&second).join(folder).join(entry.file_name());
                fs_err::copy(entry.path(), to).unwrap();
            }
        }
    }
    let (fine, said) = inspected("a/model");
    assert!(!fine && said.contains(&format!("a/model@{second}")), "{said}");
    assert!(said.contains(&format!("a/model@{COMMIT}")), "{said}");
    // A copy with files in place of links is as good.
    assert!(drawn(&format!("a/model@{second}")).0);
    fs_err::remove_dir_all(model.join("snapshots").join(&second)).unwrap();
    fs_err::remove_dir_all(model.join("snapshots").join(&newer)).unwrap();
    fs_err::write(model.join("refs/main"), COMMIT).unwrap();

    // Links that lead nowhere, and the text of a link: named, and mended by another pull.
    let weights = hub.snapshot().join("unet/diffusion_pytorch_model.safetensors");
    let to = fs_err::read_link(&weights).unwrap();
    let blob = fs_err::canonicalize(&weights).unwrap();
    let bytes = fs_err::read(&blob).unwrap();
    for as_text in [false, true] {
        fs_err::remove_file(if as_text { &weights } else { &blob }).unwrap();
        if as_text {
            fs_err::write(&weights, to.to_str().unwrap()).unwrap();
        }
        let (fine, said) = drawn("a/model");
        assert!(!fine && said.contains("incomplete") && said.contains(wanted), "{said}");
        hub.pull("a/model").unwrap();
        assert!(fs_err::read(&weights).unwrap() == bytes);
    }

    // The variables of old.
    let before = hub.asked.lock().unwrap().requests.len();
    hub.pull_with("a/model", &[("TRANSFORMERS_OFFLINE", "1")]).unwrap();
    let cache = hub.home.path().join("hub");
    let of_old = [("HF_HOME", "/nowhere"), ("HUGGINGFACE_HUB_CACHE", cache.to_str().unwrap())];
    hub.pull_with("a/model", &[of_old[0], of_old[1], ("HF_HUB_OFFLINE", "1")]).unwrap();
    assert_eq!(hub.asked.lock().unwrap().requests.len(), before, "the network was touched");
    // git's word in place of a file.
    fs_err::remove_file(&weights).unwrap();
    fs_err::write(&weights, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        .unwrap();
    let (fine, said) = drawn("a/model");
    assert!(!fine && said.contains("git lfs pull"), "{said}");
}

/// Python's own library fills a cache from the same server, and unsee draws from it.
#[test]
fn a_cache_that_python_wrote_is_read() {
    let python =
        std::env::var_os("UNSEE_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let there = std::process::Command::new(&python).args(["-c", "import huggingface_hub"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: no Python with huggingface_hub; set UNSEE_PYTHON to one");
        return;
    }
    let hub = Hub::serving(&repository());
    let script = format!(
        "from huggingface_hub import hf_hub_download\nfor f in {:?}:\n    \
         hf_hub_download('a/model', f)",
        repository().iter().map(|(file, _)| *file).take(12).collect::<Vec<_>>()
    );
    let mut child = std::process::Command::new(&python)
        .args(["-c", &script])
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_HOME", hub.home.path())
        .env("HF_HUB_DISABLE_XET", "1")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    hub.pull_with("a/model", &[("HF_HUB_OFFLINE", "1")]).unwrap();
    let mut command = hub.unsee();
    command.args(["inspect", "--json", hub.snapshot().to_str().unwrap()]).assert().success();
}
