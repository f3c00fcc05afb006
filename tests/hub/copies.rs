//! What people's copies of caches are like: what is whole is used and said, what is not is named,
//! and `pull` mends it.

use std::io::Read as _;
use std::path::PathBuf;

use super::server::{COMMIT, Hub, repository};

impl Hub {
    /// Whether a model can be looked into, and what is said.
    fn inspected(&self, name: &str) -> (bool, String) {
        let output = self.unsee().args(["inspect", name]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    /// Whether it can be drawn with, since that is where notes are said; no picture is needed.
    fn drawn(&self, name: &str) -> (bool, String) {
        let out = self.home.path().join("out");
        drop(fs_err::remove_dir_all(&out));
        let mut command = self.unsee();
        command.args(["generate", "x", "--steps", "1", "--model", name, "--out"]).arg(&out);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    /// The model's folder in the cache.
    fn model(&self) -> PathBuf {
        self.home.path().join("hub/models--a--model")
    }

    /// Adds a newest snapshot of which only the configurations came.
    fn add_incomplete(&self) -> String {
        let model = self.model();
        let newer = "f".repeat(40);
        fs_err::create_dir_all(model.join("snapshots").join(&newer).join("unet")).unwrap();
        fs_err::create_dir_all(model.join("refs")).unwrap();
        fs_err::write(model.join("refs/main"), &newer).unwrap();
        fs_err::copy(
            self.snapshot().join("model_index.json"),
            model.join("snapshots").join(&newer).join("model_index.json"),
        )
        .unwrap();
        newer
    }
}

/// A hub from which the model was pulled.
fn pulled() -> Hub {
    let hub = Hub::serving(&repository());
    hub.pull("a/model").unwrap();
    hub
}

#[test]
fn the_only_whole_snapshot_is_taken_and_another_is_said_to_be_incomplete() {
    let hub = pulled();
    let model = hub.model();
    // Without refs, the only whole snapshot is taken, and that is said; a model's folder in a cache
    // is a model, too.
    fs_err::remove_dir_all(model.join("refs")).unwrap();
    for name in ["a/model", model.to_str().unwrap()] {
        let (fine, said) = hub.drawn(name);
        assert!(
            fine && said.contains(COMMIT) && said.contains("no branch in the cache names"),
            "{said}"
        );
    }
    // A newest snapshot of which only the configurations came: the whole one is taken, and said.
    let newer = hub.add_incomplete();
    let (fine, said) = hub.drawn("a/model");
    assert!(fine && said.contains(COMMIT), "{said}");
    // By its commit it is what it is, incomplete.
    let (fine, said) = hub.inspected(&format!("a/model@{newer}"));
    let wanted = "unet/diffusion_pytorch_model.safetensors";
    assert!(!fine && said.contains("incomplete") && said.contains(wanted), "{said}");
    assert!(said.contains("unsee pull a/model"), "{said}");
    // A revision that is not there is not another one; nor is the usual branch what another one
    // names.
    for revision in ["fp16", "v1.1", "abc1234"] {
        let (fine, said) = hub.inspected(&format!("a/model@{revision}"));
        assert!(!fine && said.contains(&format!("unsee pull a/model@{revision}")), "{said}");
    }
    fs_err::write(model.join("refs/fp16"), COMMIT).unwrap();
    let (fine, said) = hub.inspected("a/model");
    assert!(!fine && said.contains("incomplete") && said.contains(wanted), "{said}");
    assert!(hub.inspected("a/model@fp16").0);
    fs_err::remove_file(model.join("refs/fp16")).unwrap();
}

#[test]
fn of_two_whole_snapshots_neither_is_taken_for_the_other() {
    let hub = pulled();
    let model = hub.model();
    // Two whole ones, and neither is named.
    hub.add_incomplete();
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
    let (fine, said) = hub.inspected("a/model");
    assert!(!fine && said.contains(&format!("a/model@{second}")), "{said}");
    assert!(said.contains(&format!("a/model@{COMMIT}")), "{said}");
    // A copy with files in place of links is as good.
    assert!(hub.drawn(&format!("a/model@{second}")).0);
}

#[test]
fn what_leads_nowhere_is_named_and_mended() {
    let hub = pulled();
    let wanted = "unet/diffusion_pytorch_model.safetensors";
    // Links that lead nowhere, and the text of a link: named, and mended by another pull.
    let weights = hub.snapshot().join(wanted);
    let to = fs_err::read_link(&weights).unwrap();
    let blob = fs_err::canonicalize(&weights).unwrap();
    let bytes = fs_err::read(&blob).unwrap();
    for as_text in [false, true] {
        fs_err::remove_file(if as_text { &weights } else { &blob }).unwrap();
        if as_text {
            fs_err::write(&weights, to.to_str().unwrap()).unwrap();
        }
        let (fine, said) = hub.drawn("a/model");
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
    let (fine, said) = hub.drawn("a/model");
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
