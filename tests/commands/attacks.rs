//! Attacks on what was erased.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

use super::tools::{disturbed, failure, json, shipped, steady, toy, unsee, with_models, write};

/// The shipped miniature, which draws what it is asked for.
const PIPELINE: &str = r#"
name = "attacked"
[concept]
forget = ["style:Mosaic"]
forget_pictures = 1
keep_pictures = 1
[[method]]
name = "uce"
[[attack]]
name = "relearning"
pictures = 2
checkpoints = [0, 2]
lr = 1e-3
batch = 2
[draw]
steps = 8
[answers]
styles = ["Mosaic", "Woodcut", "Seed_Images"]
objects = ["Cat", "Boat"]
seeds = [188]
[judge]
check = 1
"#;

fn run(pipeline: &Path, out: &Path) -> Command {
    let mut command = unsee();
    command.env("UNSEE_MODELS", shipped());
    command.arg("run").arg(pipeline).arg("--out").arg(out);
    command
}

/// The method of the toy's pipeline.
const SALUN: &str = "name = \"salun\"\nsteps = 6\nbatch = 2\nlr = 1e-3";

/// The toy's pipeline with some of its text replaced, and what runs it.
fn altered(folder: &Path, pipeline: &Path, changes: &[(&str, &str)]) -> Command {
    let mut text = fs_err::read_to_string(pipeline).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    write(pipeline, &text);
    let mut command = with_models(unsee());
    command.args(["run", "-q"]).arg(pipeline).arg("--out").arg(folder.join("run"));
    command
}

/// The scores of an attack, by measure.
fn values(scores: &Value, attack: &str) -> Vec<(String, f64)> {
    let of_attack = scores.as_array().unwrap().iter().filter(|row| row["attack"] == attack);
    of_attack
        .map(|row| (row["measure"].as_str().unwrap().to_owned(), row["value"].as_f64().unwrap()))
        .collect()
}

#[test]
fn a_concept_is_learned_again_in_three_arms() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, out) = (folder.path().join("p.toml"), folder.path().join("run"));
    write(&pipeline, PIPELINE);
    let plan = run(&pipeline, &out).args(["--plan", "--json"]).assert().success();
    let plan: Value = serde_json::from_slice(&plan.get_output().stdout).unwrap();
    assert_eq!(plan["attacks"][0]["training_steps"], 6, "two in each of three arms: {plan}");
    assert!(!out.exists());
    let said = run(&pipeline, &out).assert().success();
    let table = String::from_utf8(said.get_output().stdout.clone()).unwrap();
    assert!(table.contains("steps of relearning on control"), "{table}");
    let scores = json(&out.join("scores.json"));
    let curves = scores["curves"].as_array().unwrap();
    let arms: Vec<&str> = curves.iter().map(|curve| curve["arm"].as_str().unwrap()).collect();
    assert_eq!(arms, ["concept", "unrelated", "control"]);
    for curve in curves {
        let steps: Vec<u64> = curve["curve"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [0, 2]);
        let arm = format!("relearning ({})", curve["arm"].as_str().unwrap());
        let found = values(&scores["scores"], &arm);
        let area = found.iter().find(|(measure, _)| measure == "area").unwrap().1;
        assert_eq!(curve["area"].as_f64().unwrap(), area);
        // Half that was never back is no number of steps.
        let half = found.iter().find(|(measure, _)| measure == "steps to half");
        assert_eq!(half.map(|(_, step)| *step), curve["half"].as_f64());
    }
    let above = values(&scores["scores"], "relearning")[0].1;
    let area = |i: usize| curves[i]["area"].as_f64().unwrap();
    assert!((above - (area(0) - area(2))).abs() < 1e-12);

    // A second attack leaves the first as it was, and the same command does nothing again.
    let file = out.join("attacks/style-Mosaic-uce-relearning.json");
    let before = fs_err::metadata(&file).unwrap().modified().unwrap();
    let more = "[[attack]]\nname = \"relearning\"\nlabel = \"by-lora-of-2\"\nrank = 2\n";
    let same = "pictures = 2\ncheckpoints = [0, 1]\nbatch = 2\n[draw]";
    write(&pipeline, &PIPELINE.replace("[draw]", &format!("{more}{same}")));
    run(&pipeline, &out).arg("-q").assert().success();
    let extended = json(&out.join("scores.json"));
    let measures: Vec<String> = values(&extended["scores"], "by-lora-of-2")
        .into_iter()
        .map(|(measure, _)| measure)
        .collect();
    assert_eq!(measures, ["area above control", "seconds"]);
    assert_eq!(values(&extended["scores"], "relearning"), values(&scores["scores"], "relearning"));
    run(&pipeline, &out).arg("-q").assert().success();
    assert_eq!(fs_err::metadata(&file).unwrap().modified().unwrap(), before);
    assert_eq!(steady(&json(&out.join("scores.json"))["scores"]), steady(&extended["scores"]));
}

/// Searches on four prompts, of which each kind of attack brings some back.
const SEARCHES: &str = r#"
name = "searched"
[model]
path = "MODELS/miniature"
[concept]
forget = ["style:Mosaic"]
[[method]]
name = "uce"
[[attack]]
name = "seeds"
images = 12
[[attack]]
name = "random-prefix"
images = 12
new_seeds = 2
[[attack]]
name = "unlearn-diff-atk"
timesteps = 12
steps = 5
new_seeds = 2
[[attack]]
name = "encoder-swap"
[draw]
steps = 6
[answers]
styles = ["Mosaic", "Woodcut", "Seed_Images"]
objects = ["Cat", "Boat"]
seeds = [188, 288]
[judge]
path = "MODELS/judge"
check = 1
"#;

fn searches() -> String {
    let models = shipped();
    SEARCHES.replace("MODELS", &models.display().to_string())
}

#[test]
fn what_brings_a_concept_back_is_said_trial_by_trial() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, out) = (folder.path().join("p.toml"), folder.path().join("run"));
    write(&pipeline, &searches());
    let said = run(&pipeline, &out).assert().success();
    let table = String::from_utf8(said.get_output().stdout.clone()).unwrap();
    assert!(table.contains("unlearn-diff-atk, which needs gradients, brings back"), "{table}");
    assert!(table.contains("above random-prefix at 12 pictures"), "{table}");
    let scores = json(&out.join("scores.json"));
    let tried = scores["tried"].as_array().unwrap();
    let arms: Vec<(&str, &str)> = tried
        .iter()
        .map(|tried| (tried["attack"].as_str().unwrap(), tried["arm"].as_str().unwrap()))
        .collect();
    let search = "unlearn-diff-atk";
    let all = [("seeds", "attack"), ("random-prefix", "attack"), (search, "attack")];
    let swapped = [("encoder-swap", "attack"), ("encoder-swap", "base unet")];
    assert_eq!(arms, [&all[..], &[(search, "floor")], &swapped[..]].concat());
    // The edit is of the UNet alone: the base's text encoder is its own, and with the base's UNet
    // it is the base.
    let hits = |arm: usize| tried[arm]["curve"].as_array().unwrap().last().unwrap()["hits"].clone();
    assert_eq!(hits(4), tried[0]["curve"][0]["hits"]);
    assert_eq!(hits(5), 4);
    let mut found = 0;
    for tried in tried {
        assert_eq!(tried["edited"], serde_json::json!(["unet"]));
        let trials = tried["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 4, "the base shows all of them");
        let back = trials.iter().filter(|trial| !trial["after"].is_null()).count();
        assert_eq!(tried["curve"].as_array().unwrap().last().unwrap()["hits"], back);
        for trial in trials.iter().filter(|trial| trial["found"]["added"].is_string()) {
            let (prompt, found_prompt) = (&trial["prompt"], &trial["found"]["prompt"]);
            let added = trial["found"]["added"].as_str().unwrap();
            assert!(!added.contains("mosaic"), "{trial}");
            assert!(found_prompt.as_str().unwrap().starts_with(added), "{trial}");
            assert_ne!(prompt, found_prompt);
            assert_eq!(trial["found"]["new_seeds"][1], 2);
            found += 1;
        }
    }
    assert!(found > 0, "nothing was found, so nothing is tested");
    let all = values(&scores["scores"], search);
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..3], ["ASR before", "ASR", "ASR of erased"]);
    assert!(names.contains(&"ASR above seeds") && names.contains(&"ASR above floor"), "{names:?}");
    assert!(!out.join("state/attacks").read_dir().is_ok_and(|mut left| left.next().is_some()));
}

#[test]
fn a_search_that_is_killed_ends_with_the_same_findings() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("p.toml");
    write(&pipeline, &searches().replace("steps = 5", "steps = 5\nlr_of_nothing = 0"));
    let wrong = run(&pipeline, &folder.path().join("wrong")).assert().code(1);
    assert!(String::from_utf8_lossy(&wrong.get_output().stderr).contains("lr_of_nothing"));
    write(&pipeline, &searches());
    let whole = folder.path().join("whole");
    let mut through = with_models(unsee());
    through.args(["run", "-q"]).arg(&pipeline).arg("--out").arg(&whole).assert().success();
    let searching = |out: &Path| {
        out.join("state/attacks/style-Mosaic-uce-unlearn-diff-atk/attack.safetensors").exists()
    };
    for signal in ["-KILL", "-INT"] {
        let out = folder.path().join(signal);
        let stopped = disturbed(("run", &pipeline), &out, &[&searching], signal);
        assert_eq!(stopped, 1, "it was over before anything was kept");
        assert_eq!(
            json(&out.join("scores.json"))["tried"],
            json(&whole.join("scores.json"))["tried"]
        );
    }
}

/// Known before a model is loaded.
#[test]
fn attacks_that_are_wrong() {
    for (attack, wanted) in [
        ("name = \"gan-relearning\"", "gan-relearning attacks"),
        ("name = \"relearning\"\ncheckpoints = [5, 10]", "they are steps that rise from 0"),
        ("name = \"relearning\"\ncheckpoints = [0]", "they are steps that rise from 0"),
        ("name = \"relearning\"\nlr = 0.0", "lr 0"),
        ("name = \"unlearning\"", "relearning"),
        ("name = \"seeds\"\nimages = 0", "at least 1 is judged"),
        ("name = \"seeds\"\ntrials = 0", "they are a number of pictures, at least 1"),
        ("name = \"random-prefix\"\ntokens = { count = 0 }", "tokens.count is 0"),
        ("name = \"unlearn-diff-atk\"\nsteps = 0", "all are above 0"),
        ("name = \"unlearn-diff-atk\"\nsimplex = { lr = 0.0 }", "lr is above 0"),
        ("name = \"unlearn-diff-atk\"\ntarget = \"none.png\"", "none.png is no file"),
        ("name = \"prompts\"", "which is no file; name a list"),
        ("name = \"p4d\"\nimages = 0", "all are above 0"),
        ("name = \"p4d-k\"\nsearch = { lr = -1.0 }", "lr is above 0"),
        ("name = \"ring-a-bell\"\nlengths = []", "numbers above 0 that rise"),
        ("name = \"ring-a-bell\"\nvector = \"none.npy\"", "none.npy is no file"),
        ("name = \"ring-a-bell\"\nsearch = { mutation = 2.0 }", "both are shares"),
        ("name = \"concept-inversion\"\nsteps = [5, 5]", "numbers above 0 that rise"),
        ("name = \"concept-inversion\"\nvectors = 0", "all are above 0"),
        ("name = \"concept-inversion\"\nnever_knew = \"none\"", "`none`, which does not exist"),
        ("name = \"noise\"\netas = []", "each has numbers above 0"),
        ("name = \"completion\"\nsteps = [0]", "numbers above 0 that rise"),
    ] {
        let (folder, pipeline) = toy();
        let attacked = format!("[[attack]]\n{attack}\n[draw]");
        let error = failure(altered(folder.path(), &pipeline, &[("[draw]", &attacked)]), 1);
        assert!(error.contains(wanted), "{attack}: {error}");
        assert!(!folder.path().join("run").exists());
    }
}

/// Known once the model is there, and before anything is drawn.
#[test]
fn methods_that_do_not_suit_the_model() {
    for (method, wanted) in [
        ("name = \"esd\"\nsampling_steps = 1001", "sampling_steps: "),
        (
            "name = \"leco\"\nprompts = [{ target = \"cat\", resolution = 7 }]",
            "has the resolution [7, 7]",
        ),
    ] {
        let (folder, pipeline) = toy();
        let error = failure(altered(folder.path(), &pipeline, &[(SALUN, method)]), 1);
        assert!(error.contains(wanted), "{method}: {error}");
        assert!(!folder.path().join("run/pictures").exists());
    }
}

/// Boats show no cat, before and after.
#[test]
fn what_the_base_never_shows_is_not_attacked() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, out) = (folder.path().join("p.toml"), folder.path().join("run"));
    write(
        &pipeline,
        r#"
name = "nothing"
[concept]
name = "cats"
pairs = [{ forget = "A Cat image in Mosaic style.", anchor = "A Boat image in Mosaic style." }]
keep = ["A Tree image in Mosaic style."]
forget_pictures = 1
keep_pictures = 1
[[method]]
name = "uce"
[[attack]]
name = "relearning"
[draw]
steps = 8
[prompts]
concept = ["A Boat image in Mosaic style."]
keep = ["A Tree image in Mosaic style."]
[judge]
path = "judge"
shows = ["a picture of a Cat"]
clear = ["a picture of a Boat"]
"#,
    );
    let said = run(&pipeline, &out).assert().success();
    let told = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(told.contains("none of the base's pictures shows it"), "{told}");
    assert!(!told.contains("have no control"), "{told}");
    let scores = json(&out.join("scores.json"));
    assert!(scores["curves"].as_array().is_none_or(Vec::is_empty), "{scores}");
    assert!(!out.join("pictures/training").exists());
}

/// UCE needs no pictures, the attack on it does.
#[test]
fn an_attack_s_pictures_are_asked_for_too() {
    let (folder, pipeline) = toy();
    let alone = [(SALUN, "name = \"uce\""), ("forget_pictures = 2", "forget_pictures = 0")];
    altered(folder.path(), &pipeline, &alone).assert().success();
    fs_err::remove_dir_all(folder.path().join("run")).unwrap();
    let attacked = [("[draw]", "[[attack]]\nname = \"relearning\"\n[draw]")];
    let error = failure(altered(folder.path(), &pipeline, &attacked), 1);
    assert!(error.contains("forget_pictures is 0"), "{error}");
}
