//! A model is loaded once and whole, whatever happens on the way.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::server::{COMMIT, Hub, Log, repository, sha256};

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
            .any(|(_, _, asked, _)| asked.as_ref() == Some(&range))
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
