//! Python's diffusers loads the miniature's folder and draws the same pictures; unsee loads what Python saves.
//!
//! Runs where a Python with diffusers is found (`UNSEE_PYTHON`, else `.venv/bin/python`, else `python3`).

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use assert_cmd::Command;
use unsee::pictures::Picture;

/// unsee's name and diffusers' class. PNDM, Heun and LMS of diffusers do not know the miniature's schedule,
/// whose last step has no signal left; `networks.rs` holds them to numbers on Stable Diffusion's.
const SAMPLERS: [(&str, &str); 5] = [
    ("ddim", "DDIMScheduler"),
    ("dpm++", "DPMSolverMultistepScheduler"),
    ("dpm++karras", "DPMSolverMultistepScheduler+karras"),
    ("euler", "EulerDiscreteScheduler"),
    ("euler_a", "EulerAncestralDiscreteScheduler"),
];

fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [
        std::env::var_os("UNSEE_PYTHON").map(PathBuf::from),
        Some(root.join(".venv/bin/python")),
        Some(PathBuf::from("python3")),
    ];
    candidates.into_iter().flatten().find(|python| {
        Process::new(python)
            .args(["-c", "import diffusers, transformers, torch"])
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

#[test]
fn the_same_latent_gives_the_same_picture() {
    let Some(python) = python() else {
        println!("skipped: no Python with diffusers; set UNSEE_PYTHON to one");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    let text = "prompt,evaluation_seed\nA Cat image in Mosaic style.,188\nA Boat image in Neon Lines style.,4290749014\n\"Fish, Woodcut\",7\n";
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
