//! Run folders: what decides a result is part of the run, what lies on the disk is checked before
//! it counts, settings mean one thing or are refused.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};
use unsee::weights::Weights;

use super::tools::{Copy, done, fails, has, json, steady, unsee};

pub(crate) const PIPELINE: &str = r#"
name = "short"
[concept]
forget = ["style:Mosaic"]
forget_pictures = 1
keep_pictures = 1
[[method]]
name = "salun"
steps = 3
batch = 2
lr = 1e-5
[draw]
steps = 2
batch = 4
[answers]
styles = ["Mosaic", "Woodcut", "Seed_Images"]
objects = ["Cat", "Boat"]
seeds = [1]
[judge]
check = 1
"#;

/// A pipeline in a folder of its own, where its run goes.
pub(crate) struct Study {
    pub(crate) folder: Copy,
    pub(crate) out: PathBuf,
}

impl Study {
    pub(crate) fn new(text: &str) -> Self {
        let folder = Copy::empty("study.toml");
        fs_err::write(&folder.path, text).unwrap();
        let out = folder.beside("run");
        Self { folder, out }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = unsee();
        command.arg("run").arg(&self.folder.path).arg("--out").arg(&self.out).args(more);
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> String {
        done(&mut self.command(more)).1
    }

    pub(crate) fn fails(&self, more: &[&str]) -> String {
        fails(&mut self.command(more), 1)
    }

    /// The edit's tensors and the scores.
    fn outcome(&self) -> (String, Value) {
        (
            hash(&self.out.join("edits/style-Mosaic-salun.safetensors")),
            steady(&json(&self.out.join("scores.json"))["scores"]),
        )
    }
}

pub(crate) fn hash(file: &Path) -> String {
    Weights::open(file).unwrap().hash().unwrap().to_hex().to_string()
}

fn with_model(model: &Copy) -> String {
    PIPELINE
        .replace("[concept]", &format!("[model]\npath = \"{}\"\n[concept]", model.path.display()))
}

/// All that makes no sense is refused before anything is done.
#[test]
fn settings_that_make_no_sense_are_refused_at_once() {
    for (from, to, words) in [
        ("seeds = [1]", "seeds = []", "answers.seeds"),
        ("seeds = [1]", "seeds = [1, 2, 1]", "1"),
        ("[\"style:Mosaic\"]", "[\"style:Mosaic\", \"style:Mosaic\"]", "style:Mosaic"),
        ("[\"style:Mosaic\"]", "[\"style:Mosaic\"]\nstyle_anchor = \"Mosaic\"", "Mosaic"),
        ("[\"style:Mosaic\"]", "[\"object:Cat\"]\nobject_anchor = \"Cat\"", "Cat"),
        ("[\"style:Mosaic\"]", "[\"style:Mosaic\"]\nstyle_anchor = \"Monet\"", "Monet"),
        ("[\"style:Mosaic\"]", "[\"style:Mosaic\"]\nobject_anchor = \"Cat\"", "object_anchor"),
        ("check = 1", "check = 1\nteach = 3", "judge.teach"),
        ("check = 1", "check = 1\nreference = \"none\"", "judge.check"),
        ("[\"Cat\", \"Boat\"]", "[\"Cat\", \"Boat\", \"Cat\"]", "Cat"),
        ("[\"Mosaic\", \"Woodcut\", \"Seed_Images\"]", "[\"Mosaic\"]", "Mosaic"),
        ("lr = 1e-5", "lr = -1e-5", "lr"),
        ("lr = 1e-5", "lr = nan", "lr"),
        ("batch = 4", "batch = 4\nguidance = inf", "guidance"),
        ("batch = 4", "batch = 4\nguidance = -1", "guidance"),
    ] {
        let study = Study::new(&PIPELINE.replace(from, to));
        has(&study.fails(&[]), &[words]);
        assert!(!study.out.join("pictures").exists(), "{to}");
    }
}

/// Options without effect are refused or said, and a setting means the same wherever it is given.
#[test]
fn options_have_one_meaning_or_are_refused() {
    let study = Study::new(PIPELINE);
    has(&study.fails(&["--show-sensitive"]), &["--show-sensitive"]);
    has(&study.fails(&["--inception", "/nowhere"]), &["--inception"]);
    has(&study.fails(&["--seed", "5", "--set", "seed=6"]), &["seed"]);
    let erase = |more: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        let mut command = unsee();
        command.args(["erase", "--forget", "style:Mosaic", "--out"]).arg(out.path().join("o"));
        for set in [
            "method.steps=2",
            "method.batch=2",
            "draw.steps=1",
            "concept.forget_pictures=1",
            "concept.keep_pictures=1",
        ] {
            command.args(["--set", set]);
        }
        done(command.args(more));
        (
            hash(&out.path().join("o/edits/style-Mosaic-salun.safetensors")),
            json(&out.path().join("o/run.json"))["recipe"]["seed"].clone(),
        )
    };
    let (plain, one, other) = (erase(&[]), erase(&["--set", "seed=5"]), erase(&["--seed", "5"]));
    assert_eq!(one, other);
    assert_eq!(one.1, 5);
    assert_ne!(plain.0, one.0);
}

/// The model's settings, the list of questions, the judge's preprocessing: all of them decide the
/// result.
#[test]
fn a_changed_model_or_judge_is_another_run() {
    let model = Copy::of("miniature");
    let judge = Copy::of("judge");
    let text = with_model(&model)
        .replace("check = 1", &format!("check = 1\npath = \"{}\"", judge.path.display()));
    let study = Study::new(&text);
    study.run(&[]);
    let outcome = study.outcome();
    let said = study.run(&[]);
    assert_eq!(study.outcome(), outcome, "{said}");
    let scheduler = "scheduler/scheduler_config.json";
    let model = model.field(scheduler, "timestep_spacing", json!("leading"));
    has(&study.fails(&[]), &["the base's configuration has changed", "--out"]);
    let model = model.field(scheduler, "timestep_spacing", json!("trailing"));
    study.run(&[]);
    let _judge = judge.field("preprocessor_config.json", "image_mean", json!([0.1, 0.1, 0.1]));
    has(&study.fails(&[]), &["judge's settings and questions has changed", "--out"]);
    drop(model);
}

/// A picture that was cut off, or changed, counts as none.
#[test]
fn pictures_on_the_disk_are_checked_before_they_count() {
    let study = Study::new(PIPELINE);
    study.run(&[]);
    let outcome = study.outcome();
    let file = study.out.join("pictures/style-Mosaic-salun/Woodcut_Boat_seed1.png");
    let whole = fs_err::read(&file).unwrap();
    fs_err::write(&file, &whole[..100]).unwrap();
    let said = study.run(&[]);
    assert_eq!(fs_err::read(&file).unwrap(), whole, "{said}");
    has(&said, &["Woodcut_Boat_seed1"]);
    assert_eq!(study.outcome(), outcome);
    // In a drawing's folder too.
    let out = study.folder.beside("drawn");
    let draw = || {
        let mut command = unsee();
        command.args(["generate", "a cat", "--steps", "1", "--seeds", "0,1", "--out"]).arg(&out);
        done(&mut command).1
    };
    draw();
    let file = out.join("0_1.png");
    let whole = fs_err::read(&file).unwrap();
    fs_err::write(&file, &whole[..whole.len() - 30]).unwrap();
    has(&draw(), &["0_1.png"]);
    assert_eq!(fs_err::read(&file).unwrap(), whole);
}

/// A bit flipped on the disk: the file is named, and what may be removed; then the run ends as it
/// would have.
#[test]
fn damaged_states_are_named_and_can_be_removed() {
    // Stopped behind the mask by a rate that fails would change the run: stop it by the edit's
    // absence instead.
    let study = Study::new(PIPELINE);
    study.run(&[]);
    let outcome = study.outcome();
    let flip = |name: &str| {
        let file = study.out.join(name);
        let mut bytes = fs_err::read(&file).unwrap();
        let middle = bytes.len() - bytes.len() / 4;
        bytes[middle] ^= 0x40;
        fs_err::write(&file, bytes).unwrap();
        file
    };
    let remove = |file: &Path| {
        if file.is_dir() {
            fs_err::remove_dir_all(file).unwrap();
        } else {
            fs_err::remove_file(file).unwrap();
        }
    };
    for name in
        ["edits/style-Mosaic-salun.safetensors", "state/style-Mosaic/salun/mask.safetensors"]
    {
        let file = flip(name);
        if name.ends_with("mask.safetensors") {
            fs_err::remove_file(study.out.join("edits/style-Mosaic-salun.safetensors")).unwrap();
        }
        let text = study.fails(&[]);
        has(&text, &[name.rsplit('/').next().unwrap(), "remove"]);
        remove(&file);
        study.run(&[]);
        assert_eq!(study.outcome(), outcome, "{name}");
    }
    // Cut off instead.
    let file = study.out.join("edits/style-Mosaic-salun.safetensors");
    let bytes = fs_err::read(&file).unwrap();
    fs_err::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    has(&study.fails(&[]), &["edits/style-Mosaic-salun.safetensors", "remove"]);
}

/// A rate that is far too high leaves no edit, or pictures of which it is said that they show
/// nothing.
#[test]
fn a_rate_far_too_high_is_no_success() {
    let study = Study::new(&PIPELINE.replace("lr = 1e-5", "lr = 1e39"));
    let text = study.fails(&[]);
    has(&text, &["NaN at step 1", "learning rate"]);
    assert!(!study.out.join("edits/style-Mosaic-salun.safetensors").exists());
    let study = Study::new(&PIPELINE.replace("lr = 1e-5", "lr = 2.0"));
    let said = study.run(&[]);
    has(&said, &["show nothing", "style:Mosaic"]);
    has(&json(&study.out.join("scores.json")).to_string(), &["blank"]);
    has(&json(&study.out.join("run.json"))["remarks"].to_string(), &["show nothing"]);
}

/// What a killed process was writing does not stay.
#[test]
fn leftovers_are_swept() {
    let study = Study::new(PIPELINE);
    study.run(&[]);
    let half = study.out.join("state/style-Mosaic/salun/.half-mask.safetensors-1234");
    fs_err::create_dir_all(half.parent().unwrap()).unwrap();
    fs_err::write(&half, "x").unwrap();
    study.run(&[]);
    assert!(!half.exists());
}

/// A run folder of before this layout is refused with a sentence.
#[test]
fn older_run_folders_are_refused_with_a_sentence() {
    let study = Study::new(PIPELINE);
    study.run(&[]);
    let file = study.out.join("run.json");
    let mut record = json(&file);
    record["schema"] = json!(1);
    record.as_object_mut().unwrap().remove("remarks");
    fs_err::write(&file, record.to_string()).unwrap();
    has(&study.fails(&[]), &["another run", "whose record is another one", "--out"]);
    let (printed, _) = done(unsee().arg("inspect").arg(&study.out));
    has(&printed, &["run"]);
}
