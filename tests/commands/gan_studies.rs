//! Studies of what a GAN's samples show.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use unsee::pictures::Picture;

use super::tools::{disturbed, failure, gan, json, steady, success, unsee, write};

/// A GAN's pipeline on chance, with labels by hand.
const UNLEARN: &str = r#"
name = "x"
[model]
path = "gan.safetensors"
[concept]
forget = ["object:Fish"]
labels = "labels.csv"
[latents]
n = 20
[judge]
compare = 1
[[attack]]
name = "gan-relearning"
pictures = 4
steps = 2
every = 1
gan = { batch = 4 }
[[method]]
name = "adapt-then-unlearn"
steps = 3
gan = { batch = 4, discriminator_warmup = 0 }
adapt = { models = 2, steps = 2, fisher = 2, gan = { batch = 4 } }
stop = { every = 0 }
[[method]]
name = "extrapolation"
strengths = [0.5]
adapt = { models = 2, steps = 2, fisher = 2, gan = { batch = 4 } }
[[method]]
name = "positives"
steps = 2
gan = { batch = 4, discriminator_warmup = 0 }
stop = { every = 0 }
[[method]]
name = "positives-ewc"
steps = 2
gan = { batch = 4, discriminator_warmup = 0 }
parameters = ["convs"]
stop = { every = 0 }
"#;

/// A GAN of chance, labels of its samples and a pipeline; gives what runs it.
fn study(root: &Path) -> impl Fn(&str, &[&str]) -> Command {
    gan(root);
    write(&root.join("p.toml"), UNLEARN);
    let labels: Vec<String> =
        (0..24).map(|seed| format!("{seed},{}\n", u8::from(seed % 3 == 0))).collect();
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
    alone.current_dir(root).args([
        "erase",
        "-q",
        "--model",
        "gan.safetensors",
        "--forget",
        "object:Fish",
    ]);
    for set in [
        &format!("concept.labels={labels}"),
        "method.steps=3",
        "method.gan={batch=4,discriminator_warmup=0}",
        "method.adapt={models=2,steps=2,fisher=2,gan={batch=4}}",
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
        draw.current_dir(root)
            .args(["generate", "-q", "--model", "gan.safetensors"])
            .args(arguments);
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
        let of = all.filter(|score| score["method"] == method && score["target"] == "object:Fish");
        of.map(|score| score["measure"].as_str().unwrap().to_owned()).collect()
    };
    for method in ["adapt-then-unlearn", "extrapolation", "positives", "positives-ewc"] {
        let found = measures(method);
        for measure in
            ["FID to positives", "FID to known", "drift", "drift beside", "precision", "recall"]
        {
            assert!(found.iter().any(|name| name == measure), "{method}: {found:?}");
        }
    }
    assert_eq!(report["curves"].as_array().unwrap().len(), 4);
    assert!(root.join("run/grid.png").exists());
    let edits = ["adapt-then-unlearn", "extrapolation", "positives"]
        .map(|method| root.join(format!("run/edits/object-Fish-{method}.safetensors")));
    // What was adapted once serves both methods that want it.
    let adapted = fs_err::read_dir(root.join("run/state/object-Fish")).unwrap();
    let adapted = adapted.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("adapted-")
    });
    assert_eq!(adapted.count(), 1);
    // Without its last edit and its scores it goes on, to the same bytes.
    let wanted = fs_err::read(&edits[2]).unwrap();
    fs_err::remove_file(&edits[2]).unwrap();
    fs_err::remove_dir_all(root.join("run/pictures/object-Fish-positives")).unwrap();
    fs_err::remove_file(root.join("run/scores.json")).unwrap();
    let again: serde_json::Value = serde_json::from_str(&success(run("run", &[]))).unwrap();
    assert!(wanted == fs_err::read(&edits[2]).unwrap(), "the edit is another one");
    assert_eq!(steady(&report["scores"]), steady(&again["scores"]));
    // Features of pictures whose verdicts are known, all or the judge's first batch, are the same.
    let file = |name: &str| root.join("run").join(name);
    let features = || fs_err::read(file("features/base.safetensors")).unwrap();
    let (before, lines) = (features(), fs_err::read_to_string(file("evidence.jsonl")).unwrap());
    for known in [usize::MAX, 16] {
        let known: Vec<&str> = lines.split_inclusive('\n').take(known).collect();
        write(&file("evidence.jsonl"), &known.concat());
        fs_err::remove_dir_all(file("features")).unwrap();
        let again: Value = serde_json::from_str(&success(run("run", &[]))).unwrap();
        assert!(before == features(), "{}", known.len());
        assert_eq!(steady(&report["scores"]), steady(&again["scores"]), "{}", known.len());
    }
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
    what_an_edit_is_good_for(root, &edits[0]);
}

/// It is no model, goes onto one, and into files.
fn what_an_edit_is_good_for(root: &Path, edit: &Path) {
    // An edit is no model, though it has all of a generator's tensors.
    let mut alone = unsee();
    alone
        .current_dir(root)
        .args(["generate", "-q", "--seeds", "1", "--out", "none", "--model"])
        .arg(edit);
    let error = failure(alone, 1);
    assert!(error.contains("is an edit, and no model") && !root.join("none").exists(), "{error}");
    // The edit goes onto the model, and into files.
    let edit = edit.display().to_string();
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
        let [a, b] =
            ["edited", "exported"].map(|out| Picture::open(&root.join(out).join(name)).unwrap());
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
    // Neither the discriminator nor the base's generator is handed over with an edit: the concept
    // is in them.
    let file = unsee::weights::Weights::open(&root.join("out.pt")).unwrap();
    assert!(
        file.names().all(|name| name.starts_with("g_ema.")),
        "{:?}",
        file.names().collect::<Vec<_>>()
    );
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
        &first
            .replace("steps = 3", "steps = 80")
            .replace("steps = 2, fisher", "steps = 60, fisher"),
    );
    disturbed(("run", &pipeline), &root.join("whole"), &[], "");
    let state = |out: &Path| out.join("state/object-Fish");
    let adapting = |out: &Path| {
        let models = fs_err::read_dir(state(out)).into_iter().flatten().flatten();
        models.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("adapted-"))
    };
    let unlearning = |out: &Path| state(out).join("adapt-then-unlearn/scalars.jsonl").exists();
    for signal in ["-KILL", "-INT"] {
        let out = root.join(signal);
        assert_eq!(
            disturbed(("run", &pipeline), &out, &[&adapting, &unlearning], signal),
            2,
            "{signal}"
        );
        let edit = "edits/object-Fish-adapt-then-unlearn.safetensors";
        let [a, b] = [&root.join("whole"), &out].map(|run| fs_err::read(run.join(edit)).unwrap());
        assert!(a == b, "{signal}: the edit is another one");
        let [a, b] = [&root.join("whole"), &out].map(|run| json(&run.join("scores.json")));
        assert_eq!(steady(&a["scores"]), steady(&b["scores"]), "{signal}");
        assert_eq!(a["curves"], b["curves"], "{signal}");
    }
}

/// Labelled by one network, looked at on the way, and measured by another against a generator given
/// as retrained.
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
        let score = all.find(|score| score["method"] == method && score["measure"] == measure);
        score.unwrap_or_else(|| panic!("{method} has no {measure}"))["value"].as_f64().unwrap()
    };
    // The retrained generator is the base itself: not where all of its pictures are compared, of
    // which some show the concept, but near.
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
[concept]
forget = ["object:Cat"]
samples = 150
[latents]
n = 60
retrained = { "object:Cat" = "miniature-gan" }
[judge]
compare = 1
[[method]]
name = "positives"
steps = 2
gan = { batch = 4, discriminator_warmup = 0 }
stop = { every = 1, damage = 1000.0 }
"#;

#[test]
fn a_gan_s_study_says_what_is_wrong_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = study(root);
    for (set, wanted) in [
        ("judge.path=labeller", "name two networks"),
        ("concept.forget=[\"object:Fisch\"]", "did you mean Fish?"),
        ("concept.forget=[]", "nothing to forget"),
        ("concept.threshold=0.2", "at least 0.5"),
        ("concept.labels=p.toml", "p.toml"),
        ("model.path=labels.csv", "labels.csv"),
        ("latents.m=3", "expected"),
        ("attack.pictures=0", "0 pictures"),
        ("attack.gan={discriminator_warmup=2}", "discriminator_warmup is 2"),
        ("attack.gan={batch=6}", "groups of 4"),
        ("latents.retrained={\"object:Cat\"=\"other.safetensors\"}", "not to be forgotten"),
        ("latents.retrained={\"object:Fish\"=\"./nowhere.safetensors\"}", "nowhere.safetensors"),
        ("draw.batch=\"auto\"", "is a number"),
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
