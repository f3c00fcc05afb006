//! A toy to try the program on, made once by itself in seconds, and what every test does with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
use unsee::model::Builder;
use unsee::model::stylegan2::{Discriminator, GeneratorNetwork, StyleGan2Config};
use unsee::torch::Tensor;
use unsee::weights::{Weights, save};

pub(crate) const RECIPE: &str = r#"
seed = 5
canvas_seed = 1
judge_canvas_seed = 2
tokens = 16
[clip]
training = { steps = 2, batch = 8, lr = 1e-3, per_cell = 1 }
text = [32, 1]
vision = [32, 1]
patch = 16
[vae]
training = { steps = 2, batch = 4, lr = 1e-3, per_cell = 1 }
channels = [8, 8, 8]
latent = 4
kl = 1e-4
[unet]
training = { steps = 2, batch = 4, lr = 1e-3, per_cell = 1 }
channels = [32, 32]
attends = [false, true]
layers = 1
heads = 2
ema = 0.9
prediction = "v_prediction"
[judge]
training = { steps = 2, batch = 8, lr = 1e-3, per_cell = 1 }
text = [32, 1]
vision = [32, 1]
patch = 16
"#;

pub(crate) const PIPELINE: &str = r#"
name = "toy"
[concept]
forget = ["style:Mosaic"]
forget_pictures = 2
keep_pictures = 1
[[method]]
name = "salun"
steps = 6
batch = 2
lr = 1e-3
[draw]
steps = 2
batch = 4
[answers]
styles = ["Mosaic", "Woodcut", "Seed_Images"]
objects = ["Cat", "Boat"]
seeds = [1, 2]
[judge]
check = 1
"#;

pub(crate) fn unsee() -> Command {
    let mut command = Command::cargo_bin("unsee").unwrap();
    command.args(["--device", "cpu", "--precision", "f32", "--threads", "1"]);
    command
}

/// A toy `models` folder with `miniature` and `judge`; made once.
pub(crate) fn models() -> &'static Path {
    static MODELS: OnceLock<PathBuf> = OnceLock::new();
    MODELS.get_or_init(|| {
        let root =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("toy-{}", std::process::id()));
        let recipe = root.with_extension("toml");
        write(&recipe, RECIPE);
        unsee().args(["train", "-q"]).arg(&recipe).arg("--out").arg(&root).assert().success();
        root
    })
}

/// The `models` folder that is shipped.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

pub(crate) fn write(path: &Path, text: &str) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A folder of one's own with the pipeline in it.
pub(crate) fn toy() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("toy.toml");
    write(&file, PIPELINE);
    (folder, file)
}

pub(crate) fn with_models(mut command: Command) -> Command {
    command.env("UNSEE_MODELS", models());
    command
}

/// What a command that succeeds says.
pub(crate) fn success(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// The error of a command that must fail with this code, and print one clear error.
pub(crate) fn failure(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked") && !text.contains("frame #"), "{text}");
    text
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

/// The edit's tensors and the scores: what must not depend on how a run was disturbed.
pub(crate) fn outcome(run: &Path) -> (String, Value) {
    let edit = Weights::open(&run.join("edits/style-Mosaic-salun.safetensors")).unwrap();
    (edit.hash().unwrap().to_hex().to_string(), steady(&json(&run.join("scores.json"))["scores"]))
}

/// Scores without what the machine took, which is never the same twice.
pub(crate) fn steady(scores: &Value) -> Value {
    let of_machine =
        |score: &&Value| score["measure"] == "seconds" || score["measure"] == "peak memory";
    scores.as_array().unwrap().iter().filter(|score| !of_machine(score)).cloned().collect()
}

/// Kills a run when one after the other of `moments` has come, and starts it again until it is
/// done; says how often it was stopped before its end.
pub(crate) fn disturbed(
    (command, pipeline): (&str, &Path),
    out: &Path,
    moments: &[&dyn Fn(&Path) -> bool],
    signal: &str,
) -> usize {
    let mut stopped = 0;
    for ready in moments {
        let mut child = Process::new(assert_cmd::cargo::cargo_bin("unsee"))
            .args(["--device", "cpu", "--precision", "f32", "--threads", "1"])
            // As often as it can, so that on no machine a part is over before it has a checkpoint.
            .args(["--checkpoint-seconds", "0", command])
            .arg(pipeline)
            .arg("--out")
            .arg(out)
            .env("UNSEE_MODELS", models())
            .current_dir(pipeline.parent().unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !ready(out)
            && child.try_wait().unwrap().is_none()
            && began.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(Process::new("kill").args([signal, &child.id().to_string()]).status());
        let status = child.wait().unwrap();
        if signal == "-INT" && !status.success() {
            assert_eq!(status.code(), Some(130));
        }
        stopped += usize::from(!status.success());
    }
    let mut last = with_models(unsee());
    last.current_dir(pipeline.parent().unwrap())
        .args([command, "-q"])
        .arg(pipeline)
        .arg("--out")
        .arg(out);
    last.assert().success();
    stopped
}

pub(crate) fn pictures(folder: &Path) -> usize {
    fs_err::read_dir(folder).map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "png"))
            .count()
    })
}

/// A copy of the toy generator with one file changed.
pub(crate) fn spoiled(file: &str, spoil: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let status = Process::new("cp")
        .arg("-r")
        .arg(models().join("miniature"))
        .arg(folder.path().join("m"))
        .status();
    assert!(status.unwrap().success());
    spoil(&folder.path().join("m").join(file));
    folder
}

pub(crate) type Spoil = Box<dyn FnOnce(&Path)>;

pub(crate) fn draw_with(model: &Path, out: &Path) -> Command {
    let mut command = unsee();
    command.args(["generate", "a cat", "--steps", "1", "--model"]).arg(model).arg("--out").arg(out);
    command
}

/// A small `StyleGAN2` by chance, generator and discriminator, under rosinality's names.
pub(crate) fn gan(folder: &Path) -> PathBuf {
    let config = StyleGan2Config {
        size: 16,
        style_dim: 8,
        mapping_layers: 2,
        channels: vec![16, 16, 8],
        group: 4,
        clamp: None,
    };
    let network =
        GeneratorNetwork::new(&config, Builder::fresh(1, unsee::torch::Device::CPU)).unwrap();
    let tensors: Vec<(String, Tensor)> = network
        .parameters()
        .named()
        .into_iter()
        .map(|(name, tensor)| {
            let noise = name.ends_with("noise.weight");
            (name, if noise { tensor + 0.05 } else { tensor })
        })
        .collect();
    let against =
        Discriminator::new(&config, Builder::fresh(2, unsee::torch::Device::CPU)).unwrap();
    let named = |network: &'static str, tensors: Vec<(String, Tensor)>| {
        tensors.into_iter().map(move |(name, tensor)| (format!("{network}.{name}"), tensor))
    };
    let all: Vec<_> =
        named("g_ema", tensors).chain(named("d", against.parameters().named())).collect();
    let file = folder.join("gan.safetensors");
    save(&file, &all, &[]).unwrap();
    file
}
