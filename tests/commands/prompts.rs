//! Studies of a concept that prompts bring out.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use unsee::model::Builder;
use unsee::model::safety::SafetyChecker;
use unsee::pictures::Picture;
use unsee::weights::save;

use super::tools::{failure, spoiled, unsee, with_models, write};

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
[[method]]
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
[judge]
checker = "model"
path = "judge"
shows = ["a picture of a cat"]
clear = ["a picture of a boat", "a picture of a car"]
reference = "known"
"#;

/// A model with a safety checker, which is random, in a folder of one's own with a pipeline,
/// prompts and known pictures.
fn study() -> (tempfile::TempDir, Command) {
    let folder = spoiled("miniature", |_| {});
    let root = folder.path();
    let config = serde_json::json!({
        "projection_dim": 8,
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2,
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
    command.current_dir(root).args([
        "run",
        "p.toml",
        "--out",
        "run",
        "-q",
        "--set",
        "model.path=m",
    ]);
    (folder, command)
}

#[test]
fn a_concept_is_erased_and_screened() {
    let (folder, mut command) = study();
    let run = folder.path().join("run");
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Two prompts of the CSV are left, with a seed each; two to keep have two seeds each.
    let score = |subject: &str, judge: &str, method: &str| {
        let all = said["scores"].as_array().unwrap();
        let wanted = |score: &&Value| {
            score["subject"] == subject
                && score["judge"] == judge
                && score["method"] == method
                && score["measure"] == "shown"
        };
        all.iter().find(wanted).unwrap().clone()
    };
    for detector in ["checker", "clip"] {
        assert_eq!(score("concept", detector, "base")["n"], 2);
        assert_eq!(score("keep", detector, "salun")["n"], 4);
        let evidence =
            fs_err::read_to_string(run.join(format!("evidence-{detector}.jsonl"))).unwrap();
        // And the known pictures: two of each kind.
        assert_eq!(evidence.lines().count(), 12 + 4);
    }
    assert_eq!(said["agreement"]["n"], 12);
    assert_eq!(said["detectors"][0]["sensitivity"]["n"], 2);
    let evidence = fs_err::read_to_string(run.join("evidence-checker.jsonl")).unwrap();
    let line: Value = evidence
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|line: &Value| line["prompt"] == "a cat")
        .unwrap();
    assert_eq!(line["seed"], 4_290_749_014_u64);
    assert_eq!(line["logits"]["concept"].as_object().unwrap().len(), 17);
    // I2P's row is drawn in its own size, with its own guidance, and marked as sensitive.
    let picture = run.join("pictures/cats-salun/concept/1_0.png");
    let (_, about) =
        Picture::texts(&picture).unwrap().into_iter().find(|(key, _)| key == "unsee").unwrap();
    let about: Value = serde_json::from_str(&about).unwrap();
    assert_eq!(about["request"]["size"], serde_json::json!([32, 64]));
    assert_eq!((&about["request"]["guidance"], &about["sensitive"]), (&1.0.into(), &true.into()));

    // The grid is blurred until someone asks to see it; everything else stays as it is.
    let detail = |path: &Path| {
        let picture = Picture::open(path).unwrap();
        let side = |i: usize| i64::from(picture.rgb[i]).abs_diff(i64::from(picture.rgb[i + 3]));
        (0..picture.rgb.len() - 3).map(side).sum::<u64>()
    };
    let grid = run.join("grid.png");
    let blurred = detail(&grid);
    let (evidence, edit) =
        (run.join("evidence-clip.jsonl"), run.join("edits/cats-salun.safetensors"));
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
fn studies_that_are_wrong() {
    for (sets, wanted) in [
        (&["concept.draw_forget=false"][..], "concept.draw_forget = true"),
        (
            &[
                "method=[{name=\"uce\"}]",
                "attack=[{name=\"relearning\"}]",
                "concept.draw_forget=false",
            ],
            "concept.draw_forget = true",
        ),
        (&["concept.pairs=[]"], "concept.pairs is empty"),
        (&["judge.path=none", "judge.checker=none"], "nobody judges"),
        (&["judge.shows=[]"], "judge.shows"),
        (&["judge.reference=nowhere"], "nowhere/shows"),
        (&["judge.checker=miniature"], "holds no safety checker"),
        (&["prompts.concept=gone.csv"], "gone.csv"),
        (
            &["prompts.only.column=hardness"],
            "no column `hardness`; the columns are prompt, sd_seed",
        ),
        (&["prompts.only.least=99"], "at least one prompt"),
        (&["prompts.seeds=[]"], "prompts.seeds is empty"),
        (&["concept.pictures=known"], "known/forget"),
        (&["method.steps=0"], "steps are 0"),
        (&["concept.nam=x"], "unknown field `nam`"),
        (&["judge.engine=onnx"], "use candle or libtorch"),
        (&["draw.side=61"], "61x61 pixels cannot be drawn"),
        (&["concept.keep=[]"], "needs pictures to keep"),
        (&["concept.forget_pictures=0"], "forget_pictures is 0"),
    ] {
        let (_folder, mut command) = study();
        for set in sets {
            command.args(["--set", set]);
        }
        let error = failure(command, 1);
        assert!(error.contains(wanted), "{sets:?}: {error}");
    }
}

#[test]
fn a_concept_is_learned_from_captioned_pictures() {
    let (folder, mut command) = study();
    let root = folder.path();
    for (what, caption) in [("forget", "A Cat image in Mosaic style.\n"), ("keep", "a boat")] {
        Picture::filled(64, 64, [9, 99, 7])
            .save(&root.join("mine").join(what).join("1.png"), &[])
            .unwrap();
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
    assert!(!root.join("run/pictures/training").exists());
}
