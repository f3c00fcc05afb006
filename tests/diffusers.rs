//! Python's diffusers loads the miniature's folder and draws the same pictures; unsee loads what
//! Python saves.
//!
//! Runs where a Python with diffusers is found (`UNSEE_PYTHON`, else `.venv/bin/python`, else
//! `python3`).

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use assert_cmd::Command;
use unsee::generator::{Checkpoint, Edited, Format};
use unsee::pictures::Picture;
use unsee::torch::{Kind, Rng, Tensor};
use unsee::watch::Quiet;
use unsee::weights::{Dialect, Edit};

/// unsee's name and diffusers' class. PNDM, Heun and LMS of diffusers do not know the miniature's
/// schedule, whose last step has no signal left; `networks.rs` holds them to numbers on Stable
/// Diffusion's.
const SAMPLERS: [(&str, &str); 5] = [
    ("ddim", "DDIMScheduler"),
    ("dpm++", "DPMSolverMultistepScheduler"),
    ("dpm++karras", "DPMSolverMultistepScheduler+karras"),
    ("euler", "EulerDiscreteScheduler"),
    ("euler_a", "EulerAncestralDiscreteScheduler"),
];

/// A Python that has the peers; where there is none, it is said that the test is skipped.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [
        std::env::var_os("UNSEE_PYTHON").map(PathBuf::from),
        Some(root.join(".venv/bin/python")),
        Some(PathBuf::from("python3")),
    ];
    let found = candidates.into_iter().flatten().find(|python| {
        Process::new(python)
            .args(["-c", "import diffusers, transformers, torch"])
            .output()
            .is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        println!("skipped: no Python with diffusers, transformers, torch; set UNSEE_PYTHON to one");
    }
    found
}

fn unsee(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("unsee").unwrap();
    command.args(args).args(["-q", "--device", "cpu", "--precision", "f32"]);
    command
}

#[test]
fn the_same_latent_gives_the_same_picture() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    let text = "prompt,evaluation_seed\nA Cat image in Mosaic style.,188\nA Boat image in Neon \
        Lines style.,4290749014\n\"Fish, Woodcut\",7\n";
    {
        fs_err::File::create(&list).unwrap().write_all(text.as_bytes()).unwrap();
    }
    let draw = |model: &Path, sampler: &str, out: &Path| {
        Command::cargo_bin("unsee")
            .unwrap()
            .args([
                "generate",
                "-q",
                "--device",
                "cpu",
                "--precision",
                "f32",
                "--steps",
                "20",
                "--guidance",
                "3",
            ])
            .args(["--sampler", sampler, "--model"])
            .arg(model)
            .arg("--csv")
            .arg(&list)
            .arg("--out")
            .arg(out)
            .assert()
            .success();
    };
    let theirs = folder.path().join("theirs");
    let output = Process::new(python)
        .arg(root.join("tests/golden/draw.py"))
        .arg(root.join("models/miniature"))
        .arg(&list)
        .args(["20", "3"])
        .arg(&theirs)
        .args(SAMPLERS.map(|(name, class)| format!("{name}={class}")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (sampler, _) in SAMPLERS {
        let ours = folder.path().join(sampler);
        draw(&root.join("models/miniature"), sampler, &ours);
        for i in 0..3 {
            let open = |folder: &Path| Picture::open(&folder.join(format!("{i}_0.png"))).unwrap();
            let (a, b) = (open(&ours), open(&theirs.join(sampler)));
            let apart = a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            println!("{sampler}, picture {i}: at most {apart}/255 apart");
            assert!(apart <= 2, "{sampler}, picture {i}: {apart}/255");
        }
    }
    // What Python saved of the model is the same model.
    let again = folder.path().join("again");
    draw(&theirs.join("model"), "ddim", &again);
    for i in 0..3 {
        let read = |folder: &Path| Picture::open(&folder.join(format!("{i}_0.png"))).unwrap();
        assert!(read(&again) == read(&folder.path().join("ddim")), "picture {i}");
    }
}

#[test]
fn python_draws_the_same_with_what_is_exported() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let miniature = root.join("models/miniature");
    let base = Checkpoint::open(&miniature.as_path().into()).unwrap();
    // A change that a LoRA can hold, and that shows.
    let mut rng = Rng::new(1);
    let tensors: Vec<(String, Tensor)> = base
        .names()
        .into_iter()
        .filter(|name| {
            name.starts_with("unet.") && name.contains(".ff.net.") && name.ends_with(".weight")
        })
        .map(|name| {
            let weight = base.tensor(&name).unwrap().to_kind(Kind::Float);
            let change =
                rng.normal(&[weight.size()[0], 2]).matmul(&rng.normal(&[2, weight.size()[1]]))
                    * 0.01;
            (name, weight + change)
        })
        .collect();
    let edit = Edit {
        base: base.hash().unwrap().to_hex().to_string(),
        recipe: String::new(),
        tensors,
        ..Edit::default()
    };
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    for (name, format) in [
        ("folder", Format::Folder),
        ("single.safetensors", Format::SingleFile),
        ("lora.safetensors", Format::Lora { dialect: Dialect::Kohya, rank: Some(2) }),
    ] {
        let edited = Edited { base: &base, edit: &edit, kind: Some(Kind::Float) };
        let kept = edited.export(&at(name), format, &mut Quiet).unwrap();
        assert!(kept.iter().all(|part| part.energy > 0.9999), "{kept:?}");
    }
    let output = Process::new(python)
        .arg(root.join("tests/golden/exchange.py"))
        .args([
            at("folder"),
            at("single.safetensors"),
            miniature.clone(),
            miniature,
            at("lora.safetensors"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("255ths from the exported folder's picture: {found}");
    assert_eq!(found["single_file"], 0);
    assert!(found["base"].as_i64().unwrap() > 20, "the change does not show");
    assert!(found["lora"].as_i64().is_none_or(|apart| apart <= 2));
}

/// What UCE and ESD changed, and LECO's `LoRA`, by the files that `unsee erase` wrote.
#[test]
fn python_draws_the_same_with_what_methods_changed() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let miniature = root.join("models/miniature");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let methods = [
        ("uce", vec![]),
        ("esd", vec!["method.steps=8", "method.sampling_steps=4", "method.lr=3e-3"]),
        (
            "leco",
            vec![
                "method.steps=8",
                "method.sampling_steps=4",
                "method.network=c3lier",
                "method.lr=1e-2",
            ],
        ),
    ];
    let edits: Vec<PathBuf> = methods
        .iter()
        .map(|(method, settings)| {
            let mut command = unsee(&["erase", "--forget", "style:Mosaic", "--method", method]);
            for setting in settings {
                command.args(["--set", setting]);
            }
            command.arg("--out").arg(at(method)).assert().success();
            let edit = at(method).join(format!("edits/style-Mosaic-{method}.safetensors"));
            let mut command = unsee(&["generate", "A Cat image in Mosaic style.", "--seeds", "3"]);
            command.args(["--steps", "5", "--guidance", "2", "--model", "miniature"]);
            let drawn = command.arg("--edit").arg(&edit).arg("--out").arg(at("drawn").join(method));
            drawn.assert().success();
            edit
        })
        .collect();
    let theirs = at("theirs");
    fs_err::create_dir_all(&theirs).unwrap();
    let mut script = Process::new(python);
    script.arg(root.join("tests/golden/erased.py")).args([&miniature, &theirs]).args(&edits);
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let difference = |a: &Path, b: &Path| {
        let (a, b) = (Picture::open(a).unwrap(), Picture::open(b).unwrap());
        a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    };
    for (method, _) in methods {
        let named = theirs.join(format!("style-Mosaic-{method}.png"));
        let ours = fs_err::read_dir(at("drawn").join(method)).unwrap().map(|e| e.unwrap().path());
        let ours = ours.into_iter().find(|path| path.extension().is_some_and(|end| end == "png"));
        let (apart, shows) =
            (difference(&ours.unwrap(), &named), difference(&theirs.join("base.png"), &named));
        println!("{method}: at most {apart}/255 from diffusers', {shows}/255 from the base's");
        assert!(apart <= 2 && shows > 20, "{method}: {apart} and {shows}");
    }
}

/// A text encoder that was trained is one that transformers loads, with the weights of the edit in
/// the base's type.
#[test]
fn python_loads_a_text_encoder_that_has_forgotten() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut command = unsee(&["erase", "--forget", "style:Mosaic", "--method", "adv-unlearn"]);
    for setting in ["steps=2", "warmup=1", "lr=1e-3", "sampling_steps=2", "pool=2"] {
        command.args(["--set", &format!("method.{setting}")]);
    }
    command.args(["--set", "method.retain.pool=2", "--set", "method.attack.steps=1"]);
    command.arg("--out").arg(at("run")).assert().success();
    let edit = at("run/edits/style-Mosaic-adv-unlearn.safetensors");
    let mut command = Command::cargo_bin("unsee").unwrap();
    command.args(["export", "-q", "--as", "text-encoder", "--edit"]).arg(&edit);
    command.arg(at("text")).assert().success();
    let script = r"
import sys, torch
from safetensors.torch import load_file
from transformers import CLIPTextModel
base, ours, edit = sys.argv[1:]
model, info = CLIPTextModel.from_pretrained(ours, output_loading_info=True)
assert not info['missing_keys'] and not info['unexpected_keys'], info
edited = {name.split('text_model.')[1]: value for name, value in load_file(edit).items()}
own = {name.split('text_model.')[-1]: value for name, value in model.state_dict().items()}
assert edited
for name, value in edited.items():
    assert torch.equal(own[name], value.to(own[name].dtype)), name
ids = torch.arange(1, 11)[None]
with torch.no_grad():
    before = CLIPTextModel.from_pretrained(base, subfolder='text_encoder').float()(ids)
    apart = (model.float()(ids).last_hidden_state - before.last_hidden_state).abs().max()
assert apart > 1e-3, apart
";
    let miniature = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/miniature");
    let mut python = Process::new(python);
    let output = python.args(["-c", script]).arg(miniature).arg(at("text")).arg(edit).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A `StyleGAN2` that was NVIDIA's is read by `torch.load`, which executes nothing either.
#[test]
fn python_reads_the_checkpoints_that_are_written() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gan");
    let to = folder.path().join("c.pt");
    Command::cargo_bin("unsee")
        .unwrap()
        .args(["export", "-q", "--as", "rosinality", "--model"])
        .arg(golden.join("nvidia4.pkl"))
        .arg(&to)
        .assert()
        .success();
    let script = r"
import sys, torch
ours, theirs = (torch.load(path, weights_only=True) for path in sys.argv[1:3])
assert set(ours) == {'g_ema', 'g', 'd', 'latent_avg'}, set(ours)
for network in ['g_ema', 'd']:
    assert set(ours[network]) == set(theirs[network]), set(ours[network]) ^ set(theirs[network])
    for name, tensor in ours[network].items():
        if not name.endswith('kernel'):
            assert torch.equal(tensor, theirs[network][name]), name
assert torch.equal(ours['latent_avg'], theirs['latent_avg'])
print('equal')
";
    // rosinality's own file holds an argparse.Namespace, which Python's strict reader wants to be
    // told of.
    let script = format!(
        "import argparse, \
         torch\ntorch.serialization.add_safe_globals([argparse.Namespace])\n{script}"
    );
    let output = Process::new(python)
        .args(["-c", &script])
        .arg(&to)
        .arg(golden.join("zip.pt"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
