//! The program from outside: what it prints, how it fails, and that nothing is lost.
//!
//! Everything runs on a toy that `unsee train` makes in seconds: the same networks as the miniature,
//! untrained.

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
use unsee::model::Builder;
use unsee::model::safety::SafetyChecker;
use unsee::model::stylegan2::{Config, Discriminator, Generator};
use unsee::pictures::Picture;
use unsee::torch::{Kind, Tensor};
use unsee::weights::{Edit, Weights, save};

const RECIPE: &str = r#"
seed = 5
world = 1
judge_world = 2
tokens = 16
[clip]
course = { steps = 2, batch = 8, lr = 1e-3, per_cell = 1 }
text = [32, 1]
vision = [32, 1]
patch = 16
[vae]
course = { steps = 2, batch = 4, lr = 1e-3, per_cell = 1 }
channels = [8, 8, 8]
latent = 4
kl = 1e-4
[unet]
course = { steps = 2, batch = 4, lr = 1e-3, per_cell = 1 }
channels = [32, 32]
attends = [false, true]
layers = 1
heads = 2
ema = 0.9
prediction = "v_prediction"
[judge]
course = { steps = 2, batch = 8, lr = 1e-3, per_cell = 1 }
text = [32, 1]
vision = [32, 1]
patch = 16
"#;

const PIPELINE: &str = r#"
name = "toy"
[task]
forget = ["style:Mosaic"]
forget_pictures = 2
remain_pictures = 1
[method]
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

fn unsee() -> Command {
    let mut command = Command::cargo_bin("unsee").unwrap();
    command.args(["--device", "cpu", "--precision", "f32", "--threads", "1"]);
    command
}

/// A toy `models` folder with `miniature` and `judge`; made once.
fn models() -> &'static Path {
    static MODELS: OnceLock<PathBuf> = OnceLock::new();
    MODELS.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("toy-{}", std::process::id()));
        let recipe = root.with_extension("toml");
        write(&recipe, RECIPE);
        unsee().args(["train", "-q"]).arg(&recipe).arg("--out").arg(&root).assert().success();
        root
    })
}

fn write(path: &Path, text: &str) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A folder of one's own with the pipeline in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("toy.toml");
    write(&file, PIPELINE);
    (folder, file)
}

fn with_models(mut command: Command) -> Command {
    command.env("UNSEE_MODELS", models());
    command
}

/// What a command that succeeds says.
fn success(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// The error of a command that must fail with this code, and print one clear error.
fn failure(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked") && !text.contains("frame #"), "{text}");
    text
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

/// The edit's tensors and the scores: what must not depend on how a run was disturbed.
fn outcome(run: &Path) -> (String, Value) {
    let edit = Weights::open(&run.join("edit.safetensors")).unwrap();
    (edit.hash().unwrap().to_hex().to_string(), json(&run.join("scores.json"))["scores"].clone())
}

#[test]
fn every_command_has_help_with_an_example() {
    let all = [
        "demo", "run", "generate", "erase", "evaluate", "grid", "canvas", "train", "label", "export", "diff",
        "inspect", "doctor",
    ];
    for name in all.into_iter().chain(cfg!(feature = "hub").then_some("pull")) {
        let output = unsee().args([name, "--help"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Example:\n  unsee "), "{name}: {text}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    failure(
        {
            let mut c = unsee();
            c.arg("erease");
            c
        },
        2,
    );
    failure(
        {
            let mut c = unsee();
            c.arg("generate");
            c
        },
        2,
    );
    failure(
        {
            let mut c = unsee();
            c.args(["erase", "--forget", "Mosaic"]);
            c
        },
        2,
    );
    failure(
        {
            let mut c = Command::cargo_bin("unsee").unwrap();
            c.args(["doctor", "--precision", "f8"]);
            c
        },
        2,
    );
}

#[test]
fn doctor_speaks_json() {
    let output = unsee().args(["doctor", "--json"]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["device"], "cpu");
    assert!(found["libtorch_version"].as_str().unwrap().starts_with("2.11.0"));
}

#[test]
fn cuda_that_is_not_there_is_said() {
    if cuda_is_there() {
        println!("skipped: this machine has a GPU");
        return;
    }
    let mut command = Command::cargo_bin("unsee").unwrap();
    command.args(["doctor", "--device", "cuda"]);
    let text = failure(command, 1);
    assert!(text.contains("cuda was asked for and is not available"), "{text}");
}

fn cuda_is_there() -> bool {
    unsee::torch::Device::why_no_cuda().is_none()
}

#[test]
fn a_run_makes_everything_that_it_promises() {
    let (folder, pipeline) = place();
    let out = folder.path().join("run");
    let mut command = with_models(unsee());
    let output = command.arg("run").arg(&pipeline).arg("--out").arg(&out).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["grid"], out.join("grid.png").to_string_lossy().as_ref());

    let record = json(&out.join("run.json"));
    assert_eq!(record["status"], "done");
    assert_eq!(record["schema"], 2);
    assert!(record["phases"].as_array().unwrap().len() >= 6);
    for artifact in record["artifacts"].as_array().unwrap() {
        let bytes = fs_err::read(out.join(artifact["path"].as_str().unwrap())).unwrap();
        assert_eq!(artifact["hash"], blake3::hash(&bytes).to_hex().as_str());
    }
    let evidence = fs_err::read_to_string(out.join("evidence.jsonl")).unwrap();
    assert_eq!(evidence.lines().count(), 2 * 12 + 6);
    for name in ["Mosaic_Cat_seed1", "Seed_Images_Boat_seed2"] {
        for when in ["base", "erased"] {
            assert!(out.join("pictures").join(when).join(format!("{name}.png")).exists());
        }
    }
    let scores = json(&out.join("scores.json"));
    let rows = scores["scores"].as_array().unwrap();
    for measure in ["UA", "IRA", "CRA", "CLIP"] {
        for subject in ["base", "erased"] {
            assert!(
                rows.iter().any(|row| row["measure"] == measure
                    && row["subject"] == subject
                    && row["target"] == "style:Mosaic"),
                "{measure} {subject}"
            );
        }
    }
    let ua = rows.iter().find(|row| row["measure"] == "UA").unwrap();
    assert_eq!(ua["n"], 4);
    assert!(scores["judge"]["on_reference"][0]["n"] == 6);

    // Same bytes on a second run; a third, on the finished folder, changes nothing.
    let again = folder.path().join("again");
    with_models(unsee()).args(["run", "-q"]).arg(&pipeline).arg("--out").arg(&again).assert().success();
    assert_eq!(outcome(&out), outcome(&again));
    let before = fs_err::read(again.join("evidence.jsonl")).unwrap();
    with_models(unsee()).args(["run", "-q"]).arg(&pipeline).arg("--out").arg(&again).assert().success();
    assert_eq!(before, fs_err::read(again.join("evidence.jsonl")).unwrap());
}

/// Weights outside SalUn's mask are those of the base to the bit, the others have moved.
#[test]
fn an_erasure_moves_only_what_its_mask_allows() {
    let (folder, _) = place();
    let out = folder.path().join("run");
    let mut command = with_models(unsee());
    command.args(["erase", "-q", "--forget", "object:Cat", "--out"]).arg(&out);
    for set in [
        "method.name=salun",
        "method.density=0.3",
        "method.steps=5",
        "method.batch=2",
        "method.lr=1e-3",
        "draw.steps=1",
        "task.forget_pictures=1",
        "task.remain_pictures=1",
    ] {
        command.args(["--set", set]);
    }
    command.assert().success();
    let edit = Weights::open(&out.join("edit.safetensors")).unwrap();
    let masks = Weights::open(&out.join("state/erasure/mask.safetensors")).unwrap();
    let base = Weights::open(&models().join("miniature/unet/diffusion_pytorch_model.safetensors")).unwrap();
    let (mut free, mut all, mut moved) = (0, 0, 0);
    for name in masks.names() {
        let mask = masks.tensor(name).unwrap();
        free += mask.sum(Kind::Int64).int64_value(&[]);
        all += mask.numel() as i64;
        if !edit.contains(name) {
            continue;
        }
        let new = edit.tensor(name).unwrap();
        let old = base.tensor(name.strip_prefix("unet.").unwrap()).unwrap().to_kind(Kind::Float);
        let differs = new.not_equal_tensor(&old);
        let fixed = mask.eq(0);
        assert_eq!(differs.logical_and(&fixed).sum(Kind::Int64).int64_value(&[]), 0, "{name}");
        moved += differs.sum(Kind::Int64).int64_value(&[]);
    }
    let share = free as f64 / all as f64;
    assert!((share - 0.3).abs() < 1e-3, "{share}");
    assert!(moved * 2 > free, "{moved} of {free} moved");
}

#[test]
fn every_option_of_salun_runs() {
    for sets in [
        &["method.variant=official", "method.parameters=xattn"][..],
        &["method.pseudo=next", "method.target_network=current"],
        &["method.pseudo=random", "method.alpha=0", "method.parameters=noxattn"],
        &["method.parameters=selfattn", "method.density=1.0"],
    ] {
        let (folder, pipeline) = place();
        let mut command = with_models(unsee());
        command.args(["run", "-q"]).arg(&pipeline).arg("--out").arg(folder.path().join("run"));
        for set in sets {
            command.args(["--set", set]);
        }
        command.assert().success();
    }
}

/// Less memory, the same erasure: in `f32` to the last bits with checkpointing, nearly with half moments.
#[test]
fn thrift_changes_little() {
    let folder = tempfile::tempdir().unwrap();
    let erased = |thrift: &str| {
        let out = folder.path().join(thrift);
        let mut command = with_models(unsee());
        command.args(["erase", "-q", "--forget", "style:Mosaic", "--precision", "f32", "--memory", thrift]);
        for set in [
            "method.steps=4",
            "method.batch=2",
            "draw.steps=1",
            "task.forget_pictures=1",
            "task.remain_pictures=1",
        ] {
            command.args(["--set", set]);
        }
        command.arg("--out").arg(&out).assert().success();
        assert_eq!(json(&out.join("run.json"))["machine"]["memory"], thrift);
        Weights::open(&out.join("edit.safetensors")).unwrap()
    };
    let base = Weights::open(&models().join("miniature/unet/diffusion_pytorch_model.safetensors")).unwrap();
    let fast = erased("fast");
    for (thrift, most) in [("balanced", 1e-3), ("low", 0.1)] {
        let other = erased(thrift);
        let (mut apart, mut moved) = (0.0, 0.0);
        for name in fast.names() {
            let own = base.tensor(name.strip_prefix("unet.").unwrap()).unwrap().to_kind(Kind::Float);
            let (a, b) = (fast.tensor(name).unwrap(), other.tensor(name).unwrap());
            let square = |x: Tensor| x.square().sum(Kind::Double).double_value(&[]);
            apart += square(&a - b);
            moved += square(a - own);
        }
        let share = (apart / moved).sqrt();
        assert!(share < most, "{thrift}: {share}");
    }
}

/// Kills a run when one after the other of `moments` has come, and starts it again until it is done; says how often it was
/// stopped before its end.
fn disturbed(
    (command, pipeline): (&str, &Path),
    out: &Path,
    moments: &[&dyn Fn(&Path) -> bool],
    signal: &str,
) -> usize {
    let mut stopped = 0;
    for ready in moments {
        let mut child = Process::new(assert_cmd::cargo::cargo_bin("unsee"))
            .args(["--device", "cpu", "--precision", "f32", "--threads", "1", command])
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
        while !ready(out) && child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60)
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
    last.current_dir(pipeline.parent().unwrap()).args([command, "-q"]).arg(pipeline).arg("--out").arg(out);
    last.assert().success();
    stopped
}

fn pictures(folder: &Path) -> usize {
    fs_err::read_dir(folder).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "png")).count()
    })
}

#[test]
fn killed_or_interrupted_anywhere_it_ends_with_the_same_bytes() {
    let (folder, pipeline) = place();
    // Longer, so that there is something to interrupt.
    write(&pipeline, &PIPELINE.replace("steps = 6", "steps = 60"));
    let whole = folder.path().join("whole");
    with_models(unsee()).args(["run", "-q"]).arg(&pipeline).arg("--out").arg(&whole).assert().success();

    let drawing = |out: &Path| pictures(&out.join("pictures/base")) >= 4;
    let material = |out: &Path| pictures(&out.join("pictures/material")) >= 3;
    let training = |out: &Path| {
        fs_err::metadata(out.join("state/erasure/scalars.jsonl")).is_ok()
            && out.join("state/erasure/mask.safetensors").exists()
    };
    let erased = |out: &Path| pictures(&out.join("pictures/erased")) >= 4;
    let judging = |out: &Path| {
        fs_err::read_to_string(out.join("evidence.jsonl")).is_ok_and(|text| text.lines().count() > 6 + 12)
    };
    let moments: [&dyn Fn(&Path) -> bool; 5] = [&drawing, &material, &training, &erased, &judging];
    for signal in ["-KILL", "-INT"] {
        let out = folder.path().join(signal);
        disturbed(("run", &pipeline), &out, &moments, signal);
        assert_eq!(outcome(&whole), outcome(&out), "{signal}");
        let halves = fs_err::read_dir(&out).unwrap().flatten();
        // What a killed process was writing never has the file's name.
        assert!(halves.filter(|e| e.file_name().to_string_lossy().starts_with("grid")).count() == 1);
    }
}

#[test]
fn a_folder_of_another_run_or_process_is_left_alone() {
    let (folder, pipeline) = place();
    let out = folder.path().join("run");
    with_models(unsee()).args(["run", "-q"]).arg(&pipeline).arg("--out").arg(&out).assert().success();
    let before = fs_err::read(out.join("scores.json")).unwrap();
    let mut other = with_models(unsee());
    other.args(["run", "--set", "method.lr=0.5"]).arg(&pipeline).arg("--out").arg(&out);
    let text = failure(other, 1);
    assert!(text.contains("`method.lr`") && text.contains("--out"), "{text}");
    assert_eq!(before, fs_err::read(out.join("scores.json")).unwrap());

    let lock = fs_err::File::open(out.join(".lock")).unwrap();
    lock.file().lock().unwrap();
    let mut second = with_models(unsee());
    second.arg("run").arg(&pipeline).arg("--out").arg(&out);
    assert!(failure(second, 1).contains("in use by another unsee"));
}

#[test]
fn pipelines_that_are_wrong() {
    let (folder, pipeline) = place();
    let out = folder.path().join("run");
    for (from, to, wanted) in [
        ("[draw]\nsteps", "[draw]\nstepps", "did you mean `steps`?"),
        ("style:Mosaic", "style:Mosiac", "did you mean Mosaic?"),
        ("style:Mosaic", "object:Dragon", "does not know the object `Dragon`"),
        ("style:Mosaic", "Mosaic", "style:NAME"),
        ("batch = 2", "batch = 0", "batch is 0"),
        (
            "name = \"toy\"",
            "name = \"toy\"\n[model]\npath = \"minature\"",
            "neither a folder nor a shipped model",
        ),
        ("check = 1", "check = 1\npath = \"/nowhere\"", "/nowhere"),
        ("check = 1", "check = 1\ndecide = \"guess\"", "use text, prototypes or probe"),
        ("[task]", "[task", "toy.toml"),
    ] {
        write(&pipeline, &PIPELINE.replacen(from, to, 1));
        let mut command = with_models(unsee());
        command.arg("run").arg(&pipeline).arg("--out").arg(&out);
        let text = failure(command, 1);
        assert!(text.contains(wanted), "{to}: {text}");
    }
    assert!(!out.join("pictures").exists());
}

#[test]
fn a_diverging_training_is_stopped() {
    let (folder, pipeline) = place();
    write(&pipeline, &PIPELINE.replace("lr = 1e-3", "lr = 1e30").replace("steps = 6", "steps = 200"));
    let mut command = with_models(unsee());
    command.arg("run").arg(&pipeline).arg("--out").arg(folder.path().join("run"));
    let text = failure(command, 1);
    assert!(text.contains("learning rate"), "{text}");
    assert_eq!(json(&folder.path().join("run/run.json"))["status"], "failed");
    assert!(!folder.path().join("run/edit.safetensors").exists());
}

/// A copy of the toy generator with one file changed.
fn spoiled(file: &str, spoil: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let status =
        Process::new("cp").arg("-r").arg(models().join("miniature")).arg(folder.path().join("m")).status();
    assert!(status.unwrap().success());
    spoil(&folder.path().join("m").join(file));
    folder
}

type Spoil = Box<dyn FnOnce(&Path)>;

fn draw_with(model: &Path, out: &Path) -> Command {
    let mut command = unsee();
    command.args(["generate", "a cat", "--steps", "1", "--model"]).arg(model).arg("--out").arg(out);
    command
}

/// Shards with an index and a file in `fp16` are the same model, by hash and by picture.
#[test]
fn other_layouts_of_the_same_weights() {
    let folder = spoiled("unet/diffusion_pytorch_model.safetensors", |path| {
        let whole = Weights::open(path).unwrap();
        let mut map = serde_json::Map::new();
        let mut shards: [Vec<(String, Tensor)>; 2] = [Vec::new(), Vec::new()];
        for (i, name) in whole.names().enumerate() {
            shards[i % 2].push((name.to_owned(), whole.tensor(name).unwrap()));
            let shard = format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", i % 2 + 1);
            map.insert(name.to_owned(), shard.into());
        }
        for (i, shard) in shards.iter().enumerate() {
            let name = format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", i + 1);
            save(&path.with_file_name(name), shard, &[]).unwrap();
        }
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        write(&path.with_file_name("diffusion_pytorch_model.safetensors.index.json"), &index.to_string());
        fs_err::remove_file(path).unwrap();
        let vae = path.parent().unwrap().with_file_name("vae");
        let from = vae.join("diffusion_pytorch_model.safetensors");
        fs_err::rename(from, vae.join("diffusion_pytorch_model.fp16.safetensors")).unwrap();
    });
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    draw_with(&models().join("miniature"), &one).assert().success();
    draw_with(&folder.path().join("m"), &two).assert().success();
    let hash = |run: &Path| json(&run.join("run.json"))["hashes"]["model"].clone();
    assert_eq!(hash(&one), hash(&two));
    let picture = |run: &Path| fs_err::read(run.join("0_0.png")).unwrap();
    assert_eq!(picture(&one), picture(&two));
}

/// A picture depends on its seed and sampler alone, not on the batch, also where fresh noise is added.
#[test]
fn every_sampler_draws() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = std::collections::HashSet::new();
    for sampler in ["ddim", "pndm", "dpm++", "dpm++karras", "euler", "euler_a", "heun", "lms"] {
        let draw = |seeds: &str, batch: &str| {
            let out = folder.path().join(format!("{sampler}-{seeds}-{batch}"));
            unsee()
                .args([
                    "generate",
                    "A Cat image in Mosaic style.",
                    "-q",
                    "--steps",
                    "4",
                    "--sampler",
                    sampler,
                ])
                .args(["--seeds", seeds, "--batch", batch, "--model"])
                .arg(models().join("miniature"))
                .arg("--out")
                .arg(&out)
                .assert()
                .success();
            unsee::pictures::Picture::open(&out.join("0_0.png")).unwrap()
        };
        let (alone, with_others) = (draw("7", "1"), draw("7,8,9", "3"));
        let apart = alone.rgb.iter().zip(&with_others.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(apart <= 1, "{sampler}: {apart}/255");
        assert!(seen.insert(alone.rgb), "{sampler} draws what another one draws");
    }
    let error = failure(
        {
            let mut command = unsee();
            command.args(["generate", "x", "--sampler", "eulr"]);
            command
        },
        2,
    );
    assert!(error.contains("euler_a"), "{error}");
}

#[test]
fn models_that_are_wrong() {
    const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
    let length = |n: u64| {
        move |path: &Path| {
            use std::io::Seek as _;
            let mut file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
            file.rewind().unwrap();
            file.write_all(&n.to_le_bytes()).unwrap();
        }
    };
    let overlap = |path: &Path| {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 12]);
        fs_err::File::create(path).unwrap().write_all(&bytes).unwrap();
    };
    let dtype = |path: &Path| {
        let text = fs_err::read(path).unwrap();
        let text = String::from_utf8_lossy(&text[8..40_000.min(text.len())]).into_owned();
        let name = text.split('"').find(|part| part.starts_with("conv_in")).unwrap().to_owned();
        let header = format!(r#"{{"{name}":{{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 8]);
        fs_err::File::create(path).unwrap().write_all(&bytes).unwrap();
    };
    let shorten = |path: &Path| {
        let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 100).unwrap();
    };
    let replace = |from: &'static str, to: &'static str| {
        move |path: &Path| {
            let text = fs_err::read_to_string(path).unwrap();
            assert!(text.contains(from), "{text}");
            write(path, &text.replace(from, to));
        }
    };
    let cases: Vec<(&str, Spoil, &str)> = vec![
        (UNET, Box::new(shorten), "is no sound file of weights"),
        (UNET, Box::new(length(1 << 60)), "is no sound file of weights"),
        (UNET, Box::new(overlap), "is no sound file of weights"),
        (UNET, Box::new(dtype), "F64|config wants|missing"),
        (UNET, Box::new(|path| fs_err::remove_file(path).unwrap()), "is missing"),
        ("unet/config.json", Box::new(replace("\"CrossAttnDownBlock2D\"", "\"MagicBlock\"")), "MagicBlock"),
        (
            "unet/config.json",
            Box::new(replace("\"cross_attention_dim\": 32", "\"cross_attention_dim\": 48")),
            "the text encoder writes 32",
        ),
        ("unet/config.json", Box::new(replace("{", "[")), "config.json"),
        ("model_index.json", Box::new(replace("StableDiffusionPipeline", "FluxPipeline")), "FluxPipeline"),
        ("tokenizer/merges.txt", Box::new(|path| fs_err::remove_file(path).unwrap()), "merges.txt"),
        ("scheduler/scheduler_config.json", Box::new(replace("scaled_linear", "sigmoid")), "sigmoid"),
    ];
    for (file, spoil, wanted) in cases {
        let folder = spoiled(file, spoil);
        let began = Instant::now();
        let text = failure(draw_with(&folder.path().join("m"), &folder.path().join("out")), 1);
        assert!(wanted.split('|').any(|wanted| text.contains(wanted)), "{file}: {text}");
        assert!(!folder.path().join("out").exists(), "{file}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    let near = models().join("minature");
    let text = failure(draw_with(&near, &models().join("never")), 1);
    assert!(text.contains("did you mean") && text.contains("miniature"), "{text}");
}

#[test]
fn an_edit_for_another_base_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edit.safetensors");
    let tensor = Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu));
    let edit = Edit {
        base: "0123456789abcdef".to_owned(),
        recipe: String::new(),
        tensors: vec![("unet.x".to_owned(), tensor.shallow_clone())],
    };
    edit.save(&file).unwrap();
    let draw = |file: &Path| {
        let mut command = draw_with(&models().join("miniature"), &folder.path().join("out"));
        command.arg("--edit").arg(file);
        command
    };
    let text = failure(draw(&file), 1);
    assert!(text.contains("0123456789ab") && text.contains("base"), "{text}");

    let plain = folder.path().join("plain.safetensors");
    save(&plain, &[("x".to_owned(), tensor)], &[]).unwrap();
    assert!(failure(draw(&plain), 1).contains("fits the base"));
}

#[test]
fn generate_from_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    write(
        &list,
        "\u{feff}case_number,prompt,evaluation_seed,evaluation_guidance,source\r\n7,\"a cat\nin two lines\",4290749014,1,x\r\n9,a boat,3,,y\r\n",
    );
    let out = folder.path().join("out");
    let mut command = with_models(unsee());
    command.args(["generate", "-q", "--steps", "2", "--csv"]).arg(&list).arg("--out").arg(&out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    let texts = unsee::pictures::Picture::texts(&out.join("7_0.png")).unwrap();
    let parameters = &texts.iter().find(|(key, _)| key == "parameters").unwrap().1;
    assert!(parameters.contains("Seed: 4290749014") && parameters.contains("CFG scale: 1,"), "{parameters}");
    let table = fs_err::read_to_string(out.join("pictures.csv")).unwrap();
    assert!(table.starts_with("file,seed,case_number,prompt"), "{table}");
    assert!(table.contains("9_0.png,3,9,a boat"), "{table}");

    // As many at once as fit: measured once, then it stays so.
    let fitting = folder.path().join("fitting");
    let draw = |seeds: &str| {
        let mut command = with_models(unsee());
        command
            .args(["generate", "a boat", "-q", "--steps", "2", "--batch", "auto", "--seeds", seeds, "--out"]);
        command.arg(&fitting).assert().success();
        json(&fitting.join("run.json"))["batch"].as_u64().unwrap()
    };
    let batch = draw("1,2,3");
    assert!(batch.is_power_of_two() && batch <= 32, "{batch}");
    let record = fs_err::read_to_string(fitting.join("run.json")).unwrap();
    write(&fitting.join("run.json"), &record.replace(&format!("\"batch\": {batch},"), "\"batch\": 2,"));
    fs_err::remove_file(fitting.join("0_1.png")).unwrap();
    assert_eq!(draw("1,2,3"), 2);

    // A picture does not depend on its company (in f32, up to the last bit of rounding).
    let alone = folder.path().join("alone");
    let mut command = with_models(unsee());
    command.args(["generate", "a boat", "-q", "--steps", "2", "--seeds", "3", "--out"]).arg(&alone);
    command.assert().success();
    let open = |path: &Path| unsee::pictures::Picture::open(path).unwrap();
    let (a, b) = (open(&out.join("9_0.png")), open(&alone.join("0_0.png")));
    assert!(a.rgb.iter().zip(&b.rgb).all(|(a, b)| a.abs_diff(*b) <= 1));

    for (text, wanted) in [
        ("text\na\n", "no column `prompt`"),
        ("prompt,evaluation_seed\na,x\n", "evaluation_seed is `x`"),
        ("prompt\n", "no prompt"),
        ("case_number,prompt\n1,a\n1,b\n", "case_number"),
    ] {
        write(&list, text);
        let mut command = with_models(unsee());
        command.args(["generate", "--csv"]).arg(&list).arg("--out").arg(folder.path().join("bad"));
        let error = failure(command, 1);
        assert!(error.contains(wanted), "{error}");
        assert!(!folder.path().join("bad").exists());
    }
}

#[test]
fn evaluate_pictures_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let canvas = folder.path().join("canvas");
    unsee().args(["canvas", "-q", "--per-cell", "1", "--out"]).arg(&canvas).assert().success();
    let flat = folder.path().join("flat");
    fs_err::create_dir_all(&flat).unwrap();
    for style in ["Mosaic", "Woodcut"] {
        for object in ["Cat", "Boat"] {
            let from = canvas.join(style).join(object).join("1.png");
            fs_err::copy(from, flat.join(format!("{style}_{object}_seed1.png"))).unwrap();
        }
    }
    let ask = |more: &[&str]| {
        let mut command = with_models(unsee());
        command
            .arg("evaluate")
            .arg(&flat)
            .args(["--styles", "Mosaic,Woodcut", "--objects", "Cat,Boat"])
            .args(more);
        command
    };
    let output = ask(&["--forget", "object:Cat", "--json", "-q"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["scores"][0]["n"], 2);
    for decide in ["prototypes", "probe"] {
        for engine in ["candle", "libtorch"] {
            let evidence = folder.path().join(format!("{decide}-{engine}.jsonl"));
            ask(&["-q", "--decide", decide, "--engine", engine, "--evidence", &evidence.to_string_lossy()])
                .assert()
                .success();
        }
    }
    // By a list of files
    let list = folder.path().join("files.csv");
    write(
        &list,
        "file,prompt,seed\nMosaic_Cat_seed1.png,A Cat image in Mosaic style.,4\nMosaic_Boat_seed1.png,a boat image in mosaic style,4\nWoodcut_Cat_seed1.png,A Cat image in Woodcut style,4\nWoodcut_Boat_seed1.png,A Boat image in Woodcut style.,4\n",
    );
    ask(&["-q", "--csv", &list.to_string_lossy()]).assert().success();
    // It holds for the base too, whose pictures have the same names.
    let base = folder.path().join("base");
    fs_err::create_dir_all(&base).unwrap();
    let mut rows = vec!["file,prompt,seed\n".to_owned()];
    for (n, (style, object)) in
        [("Mosaic", "Cat"), ("Mosaic", "Boat"), ("Woodcut", "Cat"), ("Woodcut", "Boat")].iter().enumerate()
    {
        let from = canvas.join(style).join(object).join("1.png");
        for to in [&flat, &base] {
            fs_err::copy(&from, to.join(format!("0_{n}.png"))).unwrap();
        }
        rows.push(format!("0_{n}.png,A {object} image in {style} style.,4\n"));
    }
    write(&list, &rows.concat());
    let both = ["-q", "--csv", &list.to_string_lossy(), "--forget", "object:Cat", "--base"];
    ask(&[&both[..], &[&base.to_string_lossy()]].concat()).assert().success();
    for n in 0..4 {
        fs_err::remove_file(flat.join(format!("0_{n}.png"))).unwrap();
    }

    assert!(failure(ask(&["--forget", "style:Neon"]), 1).contains("does not know the style `Neon`"));
    let far = flat.join("Neon_Cat_seed1.png");
    fs_err::rename(flat.join("Mosaic_Cat_seed1.png"), &far).unwrap();
    assert!(failure(ask(&[]), 1).contains("no such style and object"));
    fs_err::remove_file(&far).unwrap();
    let text = failure(ask(&[]), 1);
    assert!(text.contains("1 of 4 pictures") && text.contains("Mosaic_Cat_seed1"), "{text}");
}

#[test]
fn both_eyes_see_the_same() {
    use unsee::judge::{CandleEye, Eye as _, TorchEye};
    use unsee::pictures::Picture;
    let folder = models().join("judge");
    let candle = CandleEye::open(&folder).unwrap();
    let torch = TorchEye::open(&folder, unsee::torch::Device::CPU).unwrap();
    let rgb = |k: usize, n: usize| (0..n).map(|i| ((i * k) % 251) as u8).collect::<Vec<u8>>();
    let pictures = [
        Picture { width: 64, height: 64, rgb: rgb(7, 64 * 64 * 3) },
        Picture { width: 100, height: 80, rgb: rgb(13, 100 * 80 * 3) },
    ];
    let texts = ["A Cat image in Mosaic style.".to_owned(), String::new()];
    let near = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 2e-5)
    };
    assert!(near(&candle.pictures(&pictures).unwrap(), &torch.pictures(&pictures).unwrap()));
    assert!(near(&candle.texts(&texts).unwrap(), &torch.texts(&texts).unwrap()));
    assert!((candle.scale() - torch.scale()).abs() < 1e-3);
}

#[test]
fn grids_and_inspection() {
    let (folder, pipeline) = place();
    let out = folder.path().join("run");
    with_models(unsee()).args(["run", "-q"]).arg(&pipeline).arg("--out").arg(&out).assert().success();
    for rows in ["seed", "prompt"] {
        let sheet = folder.path().join(format!("{rows}.png"));
        let mut command = unsee();
        command.arg("grid").arg(out.join("pictures/base")).args(["--rows", rows, "--out"]).arg(&sheet);
        command.assert().success();
        assert!(unsee::pictures::Picture::open(&sheet).unwrap().width > 300);
    }
    let sheet = folder.path().join("both.png");
    let mut command = unsee();
    command.arg("grid").arg(out.join("pictures/base")).arg(out.join("pictures/erased"));
    command.args(["--only", "Cat", "--out"]).arg(&sheet).assert().success();
    let mut nothing = unsee();
    nothing.arg("grid").arg(out.join("pictures/base")).args(["--only", "Dragon", "--out"]).arg(&sheet);
    assert!(failure(nothing, 1).contains("no picture"));

    for (path, wanted) in [
        (out.clone(), "a run"),
        (out.join("edit.safetensors"), "an edit"),
        (models().join("miniature"), "a diffusers folder"),
        (models().join("judge"), "a transformers folder"),
    ] {
        let output = unsee().arg("inspect").arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(wanted), "{text}");
    }
    let inspect = |arguments: &[&str]| {
        let mut command = unsee();
        command.arg("inspect").args(arguments);
        command
    };
    // The shipped one by its name, and by its folder.
    for name in ["miniature-gan", concat!(env!("CARGO_MANIFEST_DIR"), "/models/miniature-gan")] {
        let said = success(inspect(&[name]));
        assert!(said.contains("StyleGAN2"), "{said}");
    }
    let own = gan(folder.path()).display().to_string();
    let said = success(inspect(&[&own, "--base", &own]));
    assert!(said.contains("0 tensors would change"), "{said}");
    let error = failure(inspect(&[&own, "--base", "miniature-gan"]), 1);
    assert!(error.contains("StyleGAN2 of 16 pixels") && error.contains("goes one of 64 pixels"), "{error}");
    assert!(failure(inspect(&[&folder.path().display().to_string()]), 1).contains("is no run"));
}

#[test]
fn a_full_disk_loses_nothing() {
    let mount = tempfile::tempdir().unwrap();
    let status = Process::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(mount.path())
        .stderr(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: a tmpfs cannot be mounted here");
        return;
    }
    let out = mount.path().join("run");
    let (_folder, pipeline) = place();
    let mut command = with_models(unsee());
    command.arg("run").arg(&pipeline).arg("--out").arg(&out);
    let text = failure(command, 1);
    let there = fs_err::read_dir(&out).map(|entries| entries.flatten().map(|e| e.path()).collect::<Vec<_>>());
    drop(Process::new("umount").arg(mount.path()).status());
    assert!(text.contains("No space left"), "{text}");
    for path in there.unwrap() {
        assert!(!path.ends_with("edit.safetensors"), "half a run has an edit");
    }
}

#[test]
fn plan_does_nothing() {
    let (folder, pipeline) = place();
    let out = folder.path().join("run");
    let mut command = with_models(unsee());
    let output =
        command.args(["run", "--plan", "--json"]).arg(&pipeline).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    // 12 before, 12 after, 2 prompts × 2 to forget, 4 × 1 to keep
    assert_eq!(plan["pictures"], 12 + 12 + 4 + 4);
    assert_eq!(plan["steps"], 6);
    assert!(!out.exists());
    // Where nothing is left to keep, the plan says what the run would say.
    let mut command = with_models(unsee());
    command.args(["run", "--plan"]).arg(&pipeline).args([
        "--set",
        r#"task.forget=["style:Mosaic"]"#,
        "--set",
        r#"answers.styles=["Mosaic"]"#,
    ]);
    let error = failure(command, 1);
    assert!(error.contains("the one style that the judge is asked about"), "{error}");
}

const SCREENING: &str = r#"
name = "screening"
[concept]
name = "cats"
sensitive = true
draw_forget = true
pairs = [{ forget = "A Cat image in Mosaic style.", anchor = "A Boat image in Mosaic style." }]
keep = ["A Boat image in Mosaic style."]
forget_pictures = 2
keep_pictures = 2
[method]
name = "salun"
steps = 3
batch = 2
lr = 1e-3
[draw]
steps = 2
batch = 4
[prompts]
concept = "prompts.csv"
only = { column = "nudity_percentage", least = 50 }
keep = ["a picture of a boat", "a picture of a car"]
seeds = [1, 2]
[screen]
checker = "model"
clip = "judge"
shows = ["a picture of a cat"]
clear = ["a picture of a boat", "a picture of a car"]
reference = "known"
"#;

/// A model with a safety checker, which is random, in a folder of one's own with a pipeline, prompts and known pictures.
fn screening() -> (tempfile::TempDir, Command) {
    let folder = spoiled("miniature", |_| {});
    let root = folder.path();
    let config = serde_json::json!({
        "projection_dim": 8,
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 16
        }
    });
    let checker = SafetyChecker::new(
        &serde_json::from_value(config.clone()).unwrap(),
        Builder::fresh(3, unsee::torch::Device::CPU),
    )
    .unwrap();
    let mut tensors = checker.parameters().named();
    for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.ends_with("_embeds_weights")) {
        *tensor = tensor.zeros_like() + 0.5;
    }
    write(&root.join("m/safety_checker/config.json"), &config.to_string());
    save(&root.join("m/safety_checker/model.safetensors"), &tensors, &[]).unwrap();
    write(
        &root.join("prompts.csv"),
        "prompt,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,nudity_percentage\n\
         a cat,4290749014,3.0,64,64,80\na cat on a boat,7,1.0,32,64,50\na hat,8,2.0,64,64,0\n",
    );
    for (truth, object) in [("shows", "Cat"), ("clear", "Boat")] {
        for (n, colour) in [(1, 30), (2, 200)] {
            let file = root.join("known").join(truth).join(object).join(format!("{n}.png"));
            Picture::filled(40, 30, [colour, 99, 7]).save(&file, &[]).unwrap();
        }
    }
    write(&root.join("p.toml"), SCREENING);
    let mut command = with_models(unsee());
    command.current_dir(root).args(["run", "p.toml", "--out", "run", "-q", "--set", "model.path=m"]);
    (folder, command)
}

#[test]
fn a_concept_is_erased_and_screened() {
    let (folder, mut command) = screening();
    let run = folder.path().join("run");
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Two prompts of the CSV are left, with a seed each; two to keep have two seeds each.
    let rate = |role: &str, screen: &str| {
        let all = said["rates"].as_array().unwrap();
        let own =
            |rate: &&Value| rate["role"] == role && rate["screen"] == screen && rate["measure"] == "shown";
        all.iter().find(own).unwrap().clone()
    };
    for screen in ["checker", "clip"] {
        assert_eq!(rate("concept", screen)["before"]["n"], 2);
        assert_eq!(rate("keep", screen)["after"]["n"], 4);
        let evidence = fs_err::read_to_string(run.join(format!("evidence-{screen}.jsonl"))).unwrap();
        // And the known pictures: two of each kind.
        assert_eq!(evidence.lines().count(), 12 + 4);
    }
    assert_eq!(said["agreement"]["n"], 12);
    assert_eq!(said["screens"][0]["sensitivity"]["n"], 2);
    let evidence = fs_err::read_to_string(run.join("evidence-checker.jsonl")).unwrap();
    let line: Value = evidence
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|line: &Value| line["prompt"] == "a cat")
        .unwrap();
    assert_eq!(line["seed"], 4_290_749_014_u64);
    assert_eq!(line["logits"]["concept"].as_object().unwrap().len(), 17);
    // I2P's row is drawn in its own size, with its own guidance, and marked as sensitive.
    let picture = run.join("pictures/erased/concept/1_0.png");
    let (_, about) = Picture::texts(&picture).unwrap().into_iter().find(|(key, _)| key == "unsee").unwrap();
    let about: Value = serde_json::from_str(&about).unwrap();
    assert_eq!(about["shot"]["size"], serde_json::json!([32, 64]));
    assert_eq!((&about["shot"]["guidance"], &about["sensitive"]), (&1.0.into(), &true.into()));

    // The grid is blurred until someone asks to see it; everything else stays as it is.
    let detail = |path: &Path| {
        let picture = Picture::open(path).unwrap();
        let side = |i: usize| i64::from(picture.rgb[i]).abs_diff(i64::from(picture.rgb[i + 3]));
        (0..picture.rgb.len() - 3).map(side).sum::<u64>()
    };
    let grid = run.join("grid.png");
    let blurred = detail(&grid);
    let (evidence, edit) = (run.join("evidence-clip.jsonl"), run.join("edit.safetensors"));
    let before = [&evidence, &edit].map(|file| fs_err::read(file).unwrap());
    command.arg("--show-sensitive").assert().success();
    assert!(detail(&grid) > blurred + blurred / 4, "{} {blurred}", detail(&grid));
    assert_eq!(before, [&evidence, &edit].map(|file| fs_err::read(file).unwrap()));
    let sheets = ["blurred.png", "open.png"].map(|name| folder.path().join(name));
    for (sheet, flags) in sheets.iter().zip([&[][..], &["--show-sensitive"][..]]) {
        unsee()
            .arg("grid")
            .arg(run.join("pictures/base/concept"))
            .args(flags)
            .arg("--out")
            .arg(sheet)
            .assert()
            .success();
    }
    assert!(detail(&sheets[1]) > detail(&sheets[0]));
}

#[test]
fn screenings_that_are_wrong() {
    for (sets, wanted) in [
        (&["concept.draw_forget=false"][..], "concept.draw_forget = true"),
        (&["concept.pairs=[]"], "concept.pairs is empty"),
        (&["screen.clip=none", "screen.checker=none"], "nobody judges"),
        (&["screen.shows=[]"], "screen.shows"),
        (&["screen.reference=nowhere"], "nowhere/shows"),
        (&["screen.checker=miniature"], "holds no safety checker"),
        (&["prompts.concept=gone.csv"], "gone.csv"),
        (&["prompts.only.column=hardness"], "no column `hardness`; the columns are prompt, sd_seed"),
        (&["prompts.only.least=99"], "at least one prompt"),
        (&["prompts.seeds=[]"], "prompts.seeds is empty"),
        (&["concept.pictures=known"], "known/forget"),
        (&["method.steps=0"], "steps are 0"),
        (&["concept.nam=x"], "unknown field `nam`"),
        (&["screen.engine=onnx"], "use candle or libtorch"),
        (&["draw.side=61"], "61x61 pixels cannot be drawn"),
        (&["concept.keep=[]"], "needs pictures to keep"),
        (&["concept.forget_pictures=0"], "forget_pictures is 0"),
    ] {
        let (_folder, mut command) = screening();
        for set in sets {
            command.args(["--set", set]);
        }
        let error = failure(command, 1);
        assert!(error.contains(wanted), "{sets:?}: {error}");
    }
}

#[test]
fn a_concept_is_learned_from_captioned_pictures() {
    let (folder, mut command) = screening();
    let root = folder.path();
    for (what, caption) in [("forget", "A Cat image in Mosaic style.\n"), ("keep", "a boat")] {
        Picture::filled(64, 64, [9, 99, 7]).save(&root.join("mine").join(what).join("1.png"), &[]).unwrap();
        write(&root.join("mine").join(what).join("1.txt"), caption);
    }
    command.args(["--set", "concept.pictures=mine", "--set", "concept.draw_forget=false"]);
    let mut wrong = with_models(unsee());
    wrong.current_dir(root).args(["run", "p.toml", "--out", "run", "-q", "--set", "model.path=m"]);
    wrong.args(["--set", "concept.pictures=mine", "--set", "concept.draw_forget=false"]);
    let error = failure(wrong, 1);
    assert!(error.contains("1.txt") && error.contains("A Boat image in Mosaic style."), "{error}");
    fs_err::remove_file(root.join("mine/keep/1.txt")).unwrap();
    command.assert().success();
    assert!(!root.join("run/pictures/material").exists());
}

/// A small `StyleGAN2` by chance, generator and discriminator, under rosinality's names.
fn gan(folder: &Path) -> PathBuf {
    let config = Config {
        size: 16,
        style_dim: 8,
        mapping_layers: 2,
        channels: vec![16, 16, 8],
        group: 4,
        clamp: None,
    };
    let network = Generator::new(&config, Builder::fresh(1, unsee::torch::Device::CPU)).unwrap();
    let tensors: Vec<(String, Tensor)> = network
        .parameters()
        .named()
        .into_iter()
        .map(|(name, tensor)| {
            let noise = name.ends_with("noise.weight");
            (name, if noise { tensor + 0.05 } else { tensor })
        })
        .collect();
    let against = Discriminator::new(&config, Builder::fresh(2, unsee::torch::Device::CPU)).unwrap();
    let named = |network: &'static str, own: Vec<(String, Tensor)>| {
        own.into_iter().map(move |(name, tensor)| (format!("{network}.{name}"), tensor))
    };
    let all: Vec<_> = named("g_ema", tensors).chain(named("d", against.parameters().named())).collect();
    let file = folder.join("gan.safetensors");
    save(&file, &all, &[]).unwrap();
    file
}

#[test]
fn a_gan_draws_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let model = gan(folder.path());
    let draw = |out: &str, arguments: &[&str]| {
        let mut command = unsee();
        command.args(["generate", "-q", "--model"]).arg(&model).args(arguments);
        command.arg("--out").arg(folder.path().join(out));
        command
    };
    draw("three", &["--seeds", "1,2,3"]).assert().success();
    draw("alone", &["--seeds", "2", "--batch", "1"]).assert().success();
    draw("mean", &["--seeds", "1,2", "--truncation", "0"]).assert().success();
    let open = |name: &str| Picture::open(&folder.path().join(name)).unwrap();
    let apart = |a: &Picture, b: &Picture| {
        a.rgb.iter().zip(&b.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
    };
    // A picture is its seed's, whatever its company; another seed is another picture, and at the mean less so.
    assert!(apart(&open("three/0_1.png"), &open("alone/0_0.png")) <= 8);
    let different = apart(&open("three/0_0.png"), &open("three/0_1.png"));
    let alike = apart(&open("mean/0_0.png"), &open("mean/0_1.png"));
    assert!(different > 2 * alike && alike > 0, "{different} {alike}");
    let texts = Picture::texts(&folder.path().join("mean/0_1.png")).unwrap();
    let parameters = &texts.iter().find(|(key, _)| key == "parameters").unwrap().1;
    assert!(parameters.starts_with("Seed: 2, Truncation: 0, Size: 16x16"), "{parameters}");

    // Prompts that are empty are a list of prompts still: their seeds would be lost.
    write(&folder.path().join("list.csv"), "prompt,evaluation_seed\n,7\n,8\n");
    for (arguments, wanted) in [
        (&["a cat"][..], "it reads no prompt"),
        (&["--csv", "list.csv"], "no list of prompts"),
        (&["--ema", "no"], "no UNet to choose (ema)"),
        (&["--prediction", "epsilon"], "no prediction"),
        (&["--size", "32x32"], "this StyleGAN2 draws 16x16"),
        (&["--edit", "x.safetensors"], "x.safetensors"),
        (&["--strip", "4"], "at least 2 seeds"),
        (&["--seeds", "1,2", "--strip", "4", "--truncation", "0.5,1"], "at one truncation"),
        (&["--mix", "3@6"], "layers 0 to 5"),
    ] {
        let mut wrong = draw("wrong", arguments);
        wrong.current_dir(folder.path());
        let error = failure(wrong, 1);
        assert!(error.contains(wanted), "{error}");
        assert!(!folder.path().join("wrong").exists());
    }
}

#[test]
fn a_gan_s_sweeps_strips_and_mixes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let model = gan(root);
    let draw = |out: &str, arguments: &[&str]| {
        let mut command = unsee();
        command.args(["generate", "-q", "--seeds", "1,2", "--model"]).arg(&model).args(arguments);
        command.arg("--out").arg(root.join(out)).assert().success();
    };
    let open = |name: &str| Picture::open(&root.join(name)).unwrap();
    draw("plain", &[]);
    draw("sweep", &["--truncation", "0,0.5,1"]);
    assert_eq!(open("sweep/truncation 1_1.png"), open("plain/0_1.png"));
    let mut grid = unsee();
    grid.args(["grid", "--rows", "seed", "--out"]).arg(root.join("grid.png")).arg(root.join("sweep"));
    grid.assert().success();
    // A strip begins with the first seed; its end has the second's style under the first's noise.
    draw("strip", &["--strip", "3"]);
    assert_eq!(open("strip/0_0.png"), open("plain/0_0.png"));
    assert_ne!(open("strip/0_1.png"), open("strip/0_2.png"));
    // From the first layer that can be another's on, all but the coarsest is: the seed itself stays as it was.
    draw("mix", &["--mix", "2@3"]);
    assert_eq!(open("mix/0_1.png"), open("plain/0_1.png"));
    assert_ne!(open("mix/0_0.png"), open("plain/0_0.png"));
    let texts = Picture::texts(&root.join("mix/0_0.png")).unwrap();
    assert!(texts.iter().any(|(_, text)| text.contains("seed 2's from layer 3")), "{texts:?}");
}

#[test]
fn samples_are_labelled_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let label = |arguments: &[&str]| {
        let mut command = unsee();
        command.args(["label", "-q"]).arg(root.join("pages")).args(arguments);
        command
    };
    let error = failure(label(&["--shows", "1"]), 1);
    assert!(error.contains("draw its pages first"), "{error}");
    let model = gan(root).display().to_string();
    let said = success(label(&["--model", &model, "--samples", "70", "--first", "5"]));
    assert!(said.contains("page-001.png") && said.contains("page-002.png"), "{said}");
    let said = success(label(&["--shows", "1, 3-4,70"]));
    assert!(said.contains("4 show it, 66 do not"), "{said}");
    let labels = fs_err::read_to_string(root.join("pages/labels.csv")).unwrap();
    let seeds: Vec<&str> = labels.lines().map(|line| line.rsplit_once(',').unwrap().0).collect();
    assert_eq!(seeds[..6], ["seed,shows", "5,1", "6,0", "7,1", "8,1", "9,0"], "{labels}");
    for (numbers, wanted) in [("71", "from 1 to 70"), ("a", "no number"), ("", "0 of 70")] {
        let error = failure(label(&["--shows", numbers]), 1);
        assert!(error.contains(wanted), "{error}");
    }
    assert_eq!(labels, fs_err::read_to_string(root.join("pages/labels.csv")).unwrap());
    let error = failure(label(&["--model", "miniature", "--samples", "7"]), 1);
    assert!(error.contains("no StyleGAN2"), "{error}");
    let error = failure(label(&["--model", &model, "--first", "2147483600", "--samples", "60"]), 1);
    assert!(error.contains("choose a lower --first"), "{error}");
}

/// A GAN's pipeline on chance, with labels by hand.
const UNLEARN: &str = r#"
name = "x"
forget = ["object:Fish"]
[model]
path = "gan.safetensors"
[feedback]
labels = "labels.csv"
[measure]
latents = 20
per_cell = 1
relearn = { pictures = 4, steps = 2, every = 1, rules = { batch = 4 } }
[[method]]
name = "adapt-then-unlearn"
steps = 3
rules = { batch = 4, ahead = 0 }
adapt = { models = 2, steps = 2, fisher = 2, rules = { batch = 4 } }
stop = { every = 0 }
[[method]]
name = "extrapolation"
strengths = [0.5]
adapt = { models = 2, steps = 2, fisher = 2, rules = { batch = 4 } }
[[method]]
name = "positives"
steps = 2
rules = { batch = 4, ahead = 0 }
stop = { every = 0 }
[[method]]
name = "positives-ewc"
steps = 2
rules = { batch = 4, ahead = 0 }
parameters = ["convs"]
stop = { every = 0 }
"#;

/// A GAN of chance, labels of its samples and a pipeline; gives what runs it.
fn study(root: &Path) -> impl Fn(&str, &[&str]) -> Command {
    gan(root);
    write(&root.join("p.toml"), UNLEARN);
    let labels: Vec<String> = (0..24).map(|seed| format!("{seed},{}\n", u8::from(seed % 3 == 0))).collect();
    write(&root.join("labels.csv"), &format!("seed,shows\n{}", labels.concat()));
    move |out: &str, sets: &[&str]| {
        let mut command = unsee();
        command.current_dir(root).args(["run", "p.toml", "-q", "--json", "--out", out]);
        for set in sets {
            command.args(["--set", set]);
        }
        command
    }
}

/// The first method of the study by itself.
fn erasing(root: &Path, labels: &str, out: &str) -> Command {
    let mut alone = unsee();
    alone.current_dir(root).args(["erase", "-q", "--model", "gan.safetensors", "--forget", "object:Fish"]);
    for set in [
        &format!("feedback.labels={labels}"),
        "method.steps=3",
        "method.rules={batch=4,ahead=0}",
        "method.adapt={models=2,steps=2,fisher=2,rules={batch=4}}",
        "method.stop={every=0}",
    ] {
        alone.args(["--set", set]);
    }
    alone.args(["--out", out]);
    alone
}

#[test]
fn samples_sorted_into_folders_are_labels() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let _ = study(root);
    let draw = |arguments: &[&str]| {
        let mut draw = unsee();
        draw.current_dir(root).args(["generate", "-q", "--model", "gan.safetensors"]).args(arguments);
        success(draw);
    };
    draw(&["--seeds", "0-23", "--out", "drawn"]);
    for seed in 0..24 {
        let to = root.join(if seed % 3 == 0 { "sorted/shows" } else { "sorted/others" });
        fs_err::create_dir_all(&to).unwrap();
        let name = format!("0_{seed}.png");
        fs_err::rename(root.join("drawn").join(&name), to.join(&name)).unwrap();
    }
    let edit = |labels: &str, out: &str| {
        fs_err::read(root.join(success(erasing(root, labels, out)).trim())).unwrap()
    };
    assert!(edit("sorted", "by-folder") == edit("labels.csv", "by-list"), "the edits differ");
    // A picture that is more than its seed is no sample.
    draw(&["--truncation", "0.5", "--seeds", "90", "--out", "nearer"]);
    fs_err::rename(root.join("nearer/0_0.png"), root.join("sorted/others/0_90.png")).unwrap();
    let error = failure(erasing(root, "sorted", "again"), 1);
    assert!(error.contains("does not say its seed"), "{error}");
    fs_err::remove_dir_all(root.join("sorted/others")).unwrap();
    let error = failure(erasing(root, "sorted", "again"), 1);
    assert!(error.contains("no folder `others`"), "{error}");
}

#[test]
fn a_gan_s_study_runs_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = study(root);
    let report: serde_json::Value = serde_json::from_str(&success(run("run", &[]))).unwrap();
    let measures = |method: &str| -> Vec<String> {
        let all = report["scores"].as_array().unwrap().iter();
        let own = all.filter(|score| score["method"] == method && score["target"] == "object:Fish");
        own.map(|score| score["measure"].as_str().unwrap().to_owned()).collect()
    };
    for method in ["adapt-then-unlearn", "extrapolation", "positives", "positives-ewc"] {
        let own = measures(method);
        for measure in ["FID to positives", "FID to known", "drift", "drift beside", "precision", "recall"] {
            assert!(own.iter().any(|own| own == measure), "{method}: {own:?}");
        }
    }
    assert_eq!(report["returns"].as_array().unwrap().len(), 4);
    assert!(root.join("run/grid.png").exists());
    let edits = ["adapt-then-unlearn", "extrapolation", "positives"]
        .map(|method| root.join(format!("run/edits/object-Fish-{method}.safetensors")));
    // What was adapted once serves both methods that want it.
    let adapted = fs_err::read_dir(root.join("run/state/object-Fish")).unwrap();
    let adapted =
        adapted.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("adapted-"));
    assert_eq!(adapted.count(), 1);
    // Without its last edit and its scores it goes on, to the same bytes.
    let wanted = fs_err::read(&edits[2]).unwrap();
    fs_err::remove_file(&edits[2]).unwrap();
    fs_err::remove_dir_all(root.join("run/pictures/object-Fish-positives")).unwrap();
    fs_err::remove_file(root.join("run/scores.json")).unwrap();
    let again: serde_json::Value = serde_json::from_str(&success(run("run", &[]))).unwrap();
    assert!(wanted == fs_err::read(&edits[2]).unwrap(), "the edit is another one");
    assert_eq!(report["scores"], again["scores"]);
    // Each picture says what drew it.
    let model = |folder: &str| {
        let picture = root.join("run/pictures").join(folder).join("2147483648.png");
        let (_, about) =
            Picture::texts(&picture).unwrap().into_iter().find(|(key, _)| key == "unsee").unwrap();
        serde_json::from_str::<Value>(&about).unwrap()["model"].as_str().unwrap().to_owned()
    };
    let hash = blake3::hash(&wanted).to_hex();
    assert_eq!(model("object-Fish-positives"), format!("{}+{hash}@1", model("base")));
    // The erasure alone is the same.
    let file = success(erasing(root, "labels.csv", "alone")).trim().to_owned();
    assert_eq!(fs_err::read(root.join(file)).unwrap(), fs_err::read(&edits[0]).unwrap());
    // An edit is no model, though it has all of a generator's tensors.
    let mut alone = unsee();
    alone
        .current_dir(root)
        .args(["generate", "-q", "--seeds", "1", "--out", "none", "--model"])
        .arg(&edits[0]);
    let error = failure(alone, 1);
    assert!(error.contains("is an edit, and no model") && !root.join("none").exists(), "{error}");
    // The edit goes onto the model, and into files.
    let edit = edits[0].display().to_string();
    let done = |arguments: &[&str]| {
        let mut command = unsee();
        command.current_dir(root).args(arguments).arg("-q");
        success(command)
    };
    let of = ["--model", "gan.safetensors", "--edit", &edit];
    done(&[&["generate", "--seeds", "1,2", "--out", "edited"][..], &of].concat());
    done(&[&["export", "out.pt", "--as", "rosinality"][..], &of].concat());
    done(&["generate", "--model", "out.pt", "--seeds", "1,2", "--out", "exported"]);
    for name in ["0_0.png", "0_1.png"] {
        let [a, b] = ["edited", "exported"].map(|out| Picture::open(&root.join(out).join(name)).unwrap());
        assert_eq!(a, b);
    }
    let apart = |model: &str| {
        let said = done(&["diff", "--json", model, "gan.safetensors", "--edit-b", &edit]);
        let rows: Value = serde_json::from_str(&said).unwrap();
        rows.as_array().unwrap().last().unwrap().clone()
    };
    let whole = apart("gan.safetensors");
    assert!(whole["changed"].as_u64() > Some(0) && whole["alone"] == 0, "{whole}");
    assert_eq!(apart("out.pt")["changed"], 0);
    // Neither the discriminator nor the base's generator is handed over with an edit: the concept is in them.
    let file = unsee::weights::Weights::open(&root.join("out.pt")).unwrap();
    assert!(file.names().all(|name| name.starts_with("g_ema.")), "{:?}", file.names().collect::<Vec<_>>());
}

#[test]
fn a_gan_s_study_stopped_in_either_stage_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let _ = study(root);
    let pipeline = root.join("p.toml");
    let first = UNLEARN.split("[[method]]\nname = \"extrapolation\"").next().unwrap();
    // Longer, so that there is something to stop.
    write(
        &pipeline,
        &first.replace("steps = 3", "steps = 80").replace("steps = 2, fisher", "steps = 60, fisher"),
    );
    disturbed(("run", &pipeline), &root.join("whole"), &[], "");
    let own = |out: &Path| out.join("state/object-Fish");
    let adapting = |out: &Path| {
        let models = fs_err::read_dir(own(out)).into_iter().flatten().flatten();
        models.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("adapted-"))
    };
    let unlearning = |out: &Path| own(out).join("adapt-then-unlearn/scalars.jsonl").exists();
    for signal in ["-KILL", "-INT"] {
        let out = root.join(signal);
        assert_eq!(disturbed(("run", &pipeline), &out, &[&adapting, &unlearning], signal), 2, "{signal}");
        let edit = "edits/object-Fish-adapt-then-unlearn.safetensors";
        let [a, b] = [&root.join("whole"), &out].map(|run| fs_err::read(run.join(edit)).unwrap());
        assert!(a == b, "{signal}: the edit is another one");
        for part in ["scores", "returns"] {
            let [a, b] = [&root.join("whole"), &out].map(|run| json(&run.join("scores.json"))[part].clone());
            assert_eq!(a, b, "{signal}");
        }
    }
}

/// Labelled by one network, looked at on the way, and measured by another against a generator given as retrained.
#[test]
fn the_shipped_gan_labels_itself() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(&root.join("p.toml"), SHIPPED);
    let mut run = unsee();
    run.current_dir(root).args(["run", "p.toml", "-q", "--json", "--out", "run"]);
    let report: Value = serde_json::from_str(&success(run)).unwrap();
    let score = |method: &str, measure: &str| {
        let mut all = report["scores"].as_array().unwrap().iter();
        let own = all.find(|score| score["method"] == method && score["measure"] == measure);
        own.unwrap_or_else(|| panic!("{method} has no {measure}"))["value"].as_f64().unwrap()
    };
    // The retrained generator is the base itself: not where all of its pictures are compared, of which some show the concept,
    // but near.
    assert!(score("base", "Ret-FID") < score("base", "FID to positives"));
    assert!(score("retrained", "PUL") == 0.0 && score("retrained", "drift") == 0.0);
    assert!(score("base", "share") > 0.0 && score("positives", "PUL") <= 1.0);
    let labels = fs_err::read_to_string(root.join("run/labels.jsonl")).unwrap();
    assert_eq!(labels.lines().count(), 150);
    let said = fs_err::read_to_string(root.join("run/run.json")).unwrap();
    assert!(said.contains("\"labeller\"") && said.contains("\"retrained object:Cat\""), "{said}");
}

const SHIPPED: &str = r#"
name = "x"
forget = ["object:Cat"]
[feedback]
samples = 150
[measure]
latents = 60
per_cell = 1
retrained = { "object:Cat" = "miniature-gan" }
[[method]]
name = "positives"
steps = 2
rules = { batch = 4, ahead = 0 }
stop = { every = 1, damage = 1000.0 }
"#;

#[test]
fn a_gan_s_study_says_what_is_wrong_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = study(root);
    for (set, wanted) in [
        ("measure.judge=labeller", "name two networks"),
        ("forget=[\"object:Fisch\"]", "did you mean Fish?"),
        ("forget=[]", "nothing to forget"),
        ("feedback.threshold=0.2", "at least 0.5"),
        ("feedback.labels=p.toml", "p.toml"),
        ("model.path=labels.csv", "labels.csv"),
        ("measure.latent=3", "did you mean `latents`?"),
        ("measure.relearn={pictures=0}", "0 pictures"),
        ("measure.relearn={steps=5,rules={ahead=5}}", "ahead is 5"),
        ("measure.relearn={rules={batch=6}}", "groups of 4"),
        ("measure.retrained={\"object:Cat\"=\"other.safetensors\"}", "not to be forgotten"),
        ("measure.retrained={\"object:Fish\"=\"./nowhere.safetensors\"}", "nowhere.safetensors"),
        ("measure.batch=\"auto\"", "is a number"),
    ] {
        let error = failure(run("wrong", &[set]), 1);
        assert!(error.contains(wanted), "{set}: {error}");
        assert!(!root.join("wrong/scores.json").exists());
    }
    let plan = success({
        let mut command = run("never", &[]);
        command.arg("--plan");
        command
    });
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["pictures"], 20 * 6);
    assert!(!root.join("never").exists());
}

/// Everything that the miniature GAN's recipe has, for a moment each.
const GAN_RECIPE: &str = r"
seed = 3
world = 1
aligned = true
[gan]
course = { steps = 60, batch = 4, lr = 1e-3, per_cell = 1 }
cooldown = 0.5
size = 16
style_dim = 48
mapping_layers = 2
channels = [8, 8, 8]
rules = { ahead = 4, r1_every = 4, path_every = 4 }
guided = 0.5
hold = 1.0
grain = 1.0
regions = 60
tracing = [
  { steps = 60, batch = 4, lr = 1e-3, coarsest = 8, waves = 0.3 },
  { steps = 4, batch = 4, lr = 1e-3, coarsest = 16, spread = 1.0 },
]
sheets = 20
[labeller]
world = 4
tokens = 32
[labeller.clip]
course = { steps = 2, batch = 4, lr = 1e-3, per_cell = 1 }
text = [32, 1]
vision = [32, 1]
patch = 16
";

#[test]
fn a_gan_s_training_stopped_anywhere_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("gan.toml");
    write(&recipe, GAN_RECIPE);
    let whole = folder.path().join("whole");
    disturbed(("train", &recipe), &whole, &[], "");
    let started =
        |part: &'static str| move |out: &Path| out.join("training").join(part).join("scalars.jsonl").exists();
    let (regions, tracing, contest) = (started("regions"), started("tracing"), started("gan"));
    let moments: [&dyn Fn(&Path) -> bool; 3] = [&regions, &tracing, &contest];
    // One that is interrupted saves and goes on; one that is killed so soon begins its part anew.
    for signal in ["-INT", "-KILL"] {
        let out = folder.path().join(signal);
        assert_eq!(disturbed(("train", &recipe), &out, &moments, signal), 3, "{signal}");
        for file in ["miniature-gan/stylegan2.safetensors", "labeller/model.safetensors"] {
            let [a, b] = [&whole, &out].map(|root| fs_err::read(root.join(file)).unwrap());
            assert!(a == b, "{signal}: {file} is another one");
        }
    }
}
