//! Python's diffusers loads the miniature's folder and draws the same pictures; unsee loads what Python saves.
//!
//! Runs where a Python with diffusers is found (`UNSEE_PYTHON`, else `.venv/bin/python`, else `python3`).

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use assert_cmd::Command;
use unsee::pictures::Picture;

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
    let draw = |model: &Path, out: &Path| {
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
            .arg("--model")
            .arg(model)
            .arg("--csv")
            .arg(&list)
            .arg("--out")
            .arg(out)
            .assert()
            .success();
    };
    let ours = folder.path().join("ours");
    draw(&root.join("models/miniature"), &ours);
    let theirs = folder.path().join("theirs");
    let output = Process::new(python)
        .arg(root.join("tests/golden/draw.py"))
        .arg(root.join("models/miniature"))
        .arg(&list)
        .args(["20", "3"])
        .arg(&theirs)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = folder.path().join("again");
    draw(&theirs.join("model"), &again);
    for i in 0..3 {
        let open = |folder: &Path| Picture::open(&folder.join(format!("{i}_0.png"))).unwrap();
        let (a, b) = (open(&ours), open(&theirs));
        let apart = a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        println!("picture {i}: at most {apart}/255 apart");
        assert!(apart <= 2, "picture {i}: {apart}/255");
        assert!(open(&again) == a, "picture {i} differs from a folder that Python saved");
    }
}
