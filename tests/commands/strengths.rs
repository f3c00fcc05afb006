//! How much of an edit is on the model, and how an edit wants to be sampled.

use std::path::{Path, PathBuf};

use unsee::generator::Checkpoint;
use unsee::pictures::Picture;
use unsee::weights::{Edit, Sampling};

use super::tools::{failure, shipped, unsee};

fn miniature() -> PathBuf {
    shipped().join("miniature")
}

/// Moves one tensor so far that every picture shows it.
fn edit(path: &Path, sampling: Option<Sampling>) {
    let base = Checkpoint::open(&miniature().as_path().into()).unwrap();
    let name = "unet.conv_out.bias".to_owned();
    let moved = base.tensor(&name).unwrap() + 0.1;
    let hash = base.hash().unwrap().to_hex().to_string();
    let edit = Edit { base: hash, tensors: vec![(name, moved)], sampling, ..Edit::default() };
    edit.save(path).unwrap();
}

fn draw(arguments: &[&str], out: &Path) -> assert_cmd::Command {
    let mut command = unsee();
    command.args(["generate", "A Cat image in Mosaic style.", "--model"]).arg(miniature());
    command.args(["--seeds", "1,2", "--precision", "f32"]).args(arguments).arg("--out").arg(out);
    command
}

#[test]
fn a_strip_over_strengths() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let file = at("e.safetensors");
    edit(&file, None);
    let given = file.to_string_lossy().into_owned();
    let with = ["--steps", "3", "-q", "--edit", &given];
    draw(&[&with[..], &["--strengths", "-1,0,0.5,1"]].concat(), &at("strip")).assert().success();
    draw(&["--steps", "3", "-q"], &at("base")).assert().success();
    draw(&with, &at("whole")).assert().success();
    let half = format!("{given}@0.5");
    draw(&["--steps", "3", "-q", "--edit", &half], &at("half")).assert().success();

    let rgb = |path: PathBuf| Picture::open(&path).unwrap().rgb;
    let strip = |strength: &str| rgb(at("strip").join(format!("strength {strength}_1.png")));
    assert_eq!(strip("0"), rgb(at("base").join("0_1.png")));
    // The sums are rounded in another order.
    let half = rgb(at("half").join("0_1.png"));
    assert!(strip("0.5").iter().zip(&half).all(|(a, b)| a.abs_diff(*b) <= 1));
    assert_eq!(strip("1"), rgb(at("whole").join("0_1.png")));
    assert!(strip("-1") != strip("1") && strip("-1") != strip("0"));
    let table = fs_err::read_to_string(at("strip").join("pictures.csv")).unwrap();
    assert!(table.starts_with("file,seed,strength"), "{table}");
    assert!(table.contains("strength -1_0.png,1,-1"), "{table}");
    let mut grid = unsee();
    grid.arg("grid").arg(at("strip")).args(["--rows", "seed", "--out"]).arg(at("strip.png"));
    grid.assert().success();

    let error = failure(draw(&["--strengths", "0,1"], &at("none")), 1);
    assert!(error.contains("--edit"), "{error}");
    let twice = [&with[..], &["--strengths", "1,1"]].concat();
    assert!(failure(draw(&twice, &at("none")), 1).contains("has 1 twice"));
    assert!(!at("none").exists());
}

#[test]
fn an_edit_is_drawn_as_it_asks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("e.safetensors");
    edit(&file, Some(Sampling { steps: 2, guidance: 1.5 }));
    let given = file.to_string_lossy().into_owned();
    let parameters = |arguments: &[&str], name: &str| {
        let out = folder.path().join(name);
        let output = draw(arguments, &out).output().unwrap();
        assert!(output.status.success());
        let texts = Picture::texts(&out.join("0_0.png")).unwrap();
        let (_, text) = texts.into_iter().find(|(key, _)| key == "parameters").unwrap();
        (text, String::from_utf8(output.stderr).unwrap())
    };
    let (text, said) = parameters(&["--edit", &given], "asked");
    assert!(text.contains("Steps: 2,") && text.contains("CFG scale: 1.5,"), "{text}");
    assert!(said.contains("in 2 steps with guidance 1.5"), "{said}");
    let (text, _) = parameters(&["--edit", &given, "--steps", "3"], "told");
    assert!(text.contains("Steps: 3,") && text.contains("CFG scale: 1.5,"), "{text}");
}
