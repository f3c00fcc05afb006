//! `unsee attack`: an erasure that comes as a file, whoever made it.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

use super::tools::{failure, json, shipped, unsee};

/// On few pictures of the shipped model with synonyms.
fn command(verb: &str) -> Command {
    let mut command = unsee();
    command.env("UNSEE_MODELS", shipped()).args([verb, "-q"]);
    command.arg("--model").arg(shipped().join("miniature-synonyms"));
    command
}

/// An edit of Mosaic by a method.
fn erased(folder: &Path, method: &str, sets: &[&str]) -> PathBuf {
    let out = folder.join(method);
    let mut command = command("erase");
    command.args(["--forget", "style:Mosaic", "--method", method]).arg("--out").arg(&out);
    for set in sets {
        command.args(["--set", set]);
    }
    command.assert().success();
    out.join(format!("edits/style-Mosaic-{method}.safetensors"))
}

/// What attacks it on six pictures.
fn attacked(edit: &Path, out: &Path, with: &str) -> Command {
    let mut command = command("attack");
    command.args(["--concept", "style:Mosaic", "--with", with]);
    command.arg("--edit").arg(edit).arg("--out").arg(out);
    for set in [
        "answers.styles=[\"Mosaic\", \"Woodcut\", \"Seed_Images\"]",
        "answers.objects=[\"Cat\", \"Boat\"]",
        "answers.seeds=[188]",
        "draw.steps=6",
        "judge.check=1",
    ] {
        command.args(["--set", set]);
    }
    command
}

/// Prompts and seeds of a run's trials, and what brought each back.
fn tried(out: &Path) -> Value {
    json(&out.join("scores.json"))["tried"].clone()
}

#[test]
fn an_edit_a_lora_and_a_whole_model_are_attacked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let edit = erased(folder.path(), "uce", &[]);
    let with = "seeds,encoder-swap";
    attacked(&edit, &at("edit"), with).args(["--set", "attack.seeds.images=2"]).assert().success();
    let found = tried(&at("edit"));
    assert_eq!(found[0]["method"], "style-Mosaic-uce");
    assert_eq!(found[0]["trials"].as_array().unwrap().len(), 2);
    assert!(at("edit/attacks.png").exists() && at("edit/grid.png").exists());

    // The same as a folder in diffusers' layout, at all of its strength.
    let mut export = command("export");
    export.arg(at("erased")).arg("--edit").arg(&edit).assert().success();
    let whole = PathBuf::from(format!("{}@1", at("erased").display()));
    attacked(&whole, &at("folder"), with)
        .args(["--set", "attack.seeds.images=2"])
        .assert()
        .success();
    let same = |one: &Value| {
        let mut one = one.clone();
        for tried in one.as_array_mut().unwrap() {
            for own in ["method", "folder", "model"] {
                tried.as_object_mut().unwrap().remove(own);
            }
        }
        one
    };
    assert_eq!(same(&tried(&at("folder"))), same(&found));

    let lora = erased(folder.path(), "leco", &["method.steps=2"]);
    let few = ["--set", "attack.images=1", "--set", "attack.trials=1"];
    attacked(&lora, &at("lora"), "seeds").args(few).assert().success();
    assert_eq!(tried(&at("lora"))[0]["trials"].as_array().unwrap().len(), 1);
    let run = json(&at("lora/run.json"));
    assert!(run.to_string().contains("a low-rank adapter of"), "{}", run["notes"]);
}

/// A text encoder that has forgotten takes the concept from a UNet that it was not trained with.
#[test]
fn a_text_encoder_goes_onto_another_unet_and_erases_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sets = ["method.steps=40", "method.warmup=40", "method.lr=1e-4", "method.base=anchor"];
    let sampled = ["method.sampling_steps=8", "method.pool=24", "method.retain.pool=32"];
    let edit = erased(folder.path(), "adv-unlearn", &[&sets[..], &sampled].concat());
    let mut text = command("export");
    text.args(["--as", "text-encoder"]).arg(at("text")).arg("--edit").arg(&edit);
    text.assert().success();

    let mut other = command("erase");
    other.args(["--forget", "object:Umbrella", "--method", "uce"]).arg("--out").arg(at("umbrella"));
    other.assert().success();
    let umbrella = at("umbrella/edits/object-Umbrella-uce.safetensors");
    command("export").arg(at("other")).arg("--edit").arg(&umbrella).assert().success();

    let mut command = unsee();
    command.env("UNSEE_MODELS", shipped()).args(["attack", "-q", "--concept", "style:Mosaic"]);
    command.arg("--model").arg(at("other")).arg("--out").arg(at("run"));
    command.args(["--with", "seeds", "--set", "attack.images=1"]);
    command.arg("--edit").arg(at("text/model.safetensors"));
    for set in [
        "answers.styles=[\"Mosaic\", \"Woodcut\", \"Seed_Images\"]",
        "answers.objects=[\"Cat\", \"Boat\", \"House\", \"Tree\", \"Fish\"]",
        "answers.seeds=[188]",
        "judge.check=1",
        "draw.steps=10",
    ] {
        command.args(["--set", set]);
    }
    command.assert().success();
    let scores = json(&at("run/scores.json"));
    let value = |method: &str, measure: &str| {
        let all = scores["scores"].as_array().unwrap();
        let of = |score: &&Value| score["method"] == method && score["measure"] == measure;
        all.iter().find(of).and_then(|score| score["value"].as_f64()).unwrap()
    };
    // The style is there before.
    assert!(value("base", "UA") <= 0.2, "{}", value("base", "UA"));
    assert!(value("model", "UA") >= 0.8, "{}", value("model", "UA"));
}

/// What the base hands over after all but one of its steps shows the concept, to both judges.
#[test]
fn a_second_judge_confirms_what_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let edit = erased(folder.path(), "uce", &[]);
    let run = |second: &str| {
        let mut command = attacked(&edit, &folder.path().join("run"), "completion");
        let second = format!("judge.second={second}");
        command.args(["--set", "attack.steps=[5]", "--set", &second]);
        command
    };
    let said = run("labeller").assert().success();
    let table = String::from_utf8(said.get_output().stdout.clone()).unwrap();
    assert!(table.contains("ASR confirmed, completion"), "{table}");
    assert!(table.contains("confirmed by"), "{table}");
    let scores = json(&folder.path().join("run/scores.json"));
    let accuracy = scores["second"]["on_reference"].as_array().unwrap();
    assert_eq!(accuracy.len(), 2, "styles and objects: {accuracy:?}");
    let found = &scores["tried"][0]["trials"][0]["found"];
    assert!(found["confirmed"].is_boolean(), "{found}");
    // Another judge is another run; the same network twice is none.
    assert!(failure(run("judge"), 1).contains("the same network"));
    let mut unattacked = command("erase");
    unattacked.args(["--forget", "style:Mosaic", "--set", "judge.second=labeller"]);
    let error = failure(unattacked, 1);
    assert!(error.contains("judge.second is for what attacks bring back"), "{error}");
}

/// The search's seconds are in it, and nothing is written.
#[test]
fn what_an_attack_costs_is_said_before() {
    let folder = tempfile::tempdir().unwrap();
    let edit = erased(folder.path(), "uce", &[]);
    let mut command = attacked(&edit, &folder.path().join("run"), "seeds,unlearn-diff-atk,p4d");
    let said = command.args(["--plan", "--json"]).assert().success();
    let plan: Value = serde_json::from_slice(&said.get_output().stdout).unwrap();
    let attacks = plan["attacks"].as_array().unwrap();
    // Two pictures of the concept; a search of 50 × 40 steps and its floor.
    assert_eq!(attacks[1]["search_steps"], 2 * 2 * 2000);
    assert_eq!(attacks[1]["pictures"], 2 * 2 * (1 + 50 + 10));
    assert_eq!(attacks[0]["search_steps"], 0);
    let minutes = |i: usize| attacks[i]["minutes"].as_f64().unwrap();
    assert!(minutes(1) > minutes(0), "{plan}");
    let sum = minutes(0) + minutes(1) + minutes(2);
    assert!(plan["minutes"].as_f64().unwrap() > sum, "{plan}");
    assert!(!folder.path().join("run").exists());
}

/// Whatever is wrong is said before anything is drawn.
#[test]
fn an_attack_on_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let edit = erased(folder.path(), "uce", &[]);
    let out = folder.path().join("run");
    let missing = folder.path().join("none.safetensors");
    let error = failure(attacked(&missing, &out, "seeds"), 1);
    assert!(error.contains("none.safetensors does not exist"), "{error}");
    let error = failure(attacked(&edit, &out, "seed"), 1);
    assert!(error.contains("did you mean `seeds`?"), "{error}");
    let mut command = attacked(&edit, &out, "seeds");
    command.args(["--anchor", "a picture"]);
    let error = failure(command, 1);
    assert!(error.contains("--anchor is for words"), "{error}");
    for said in ["concept.forget=[\"style:Woodcut\"]", "method.files=[]", "attack.name=\"noise\""] {
        let mut twice = attacked(&edit, &out, "seeds");
        twice.args(["--set", said]);
        let error = failure(twice, 1);
        assert!(error.contains("say the same thing; leave one of them out"), "{error}");
    }
    let mut words = command_of_words(&edit, &out);
    words.args(["--set", "judge.shows=[\"a mosaic\"]"]);
    let error = failure(words, 1);
    assert!(error.contains("judge.shows and judge.clear"), "{error}");
    let error = failure(command_of_words(&edit, &out), 1);
    assert!(error.contains("nobody judges"), "{error}");
    assert!(!out.exists());

    // Of another base.
    let mut other = attacked(&edit, &out, "seeds");
    other.args(["--model", "miniature"]);
    let error = failure(other, 2);
    assert!(error.contains("--model"), "{error}");
    let mut other = unsee();
    other.env("UNSEE_MODELS", shipped()).args(["attack", "-q", "--concept", "style:Mosaic"]);
    other.args(["--with", "seeds"]).arg("--edit").arg(&edit).arg("--out").arg(&out);
    let error = failure(other, 1);
    assert!(error.contains("was made for the base model"), "{error}");
    assert!(!out.exists());
}

fn command_of_words(edit: &Path, out: &Path) -> Command {
    let mut command = command("attack");
    command.args(["--concept", "a mosaic", "--with", "seeds"]);
    command.arg("--edit").arg(edit).arg("--out").arg(out);
    command
}

/// What is too long already is no reason to attack nothing else.
#[test]
fn prompts_without_room_are_left_out_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let edit = erased(folder.path(), "uce", &[]);
    let short = "A Cat image in Mosaic style.";
    let long = format!("{short} {short} {short} {short}");
    let run = |prompts: &[&str], out: &str| {
        let mut command = command("attack");
        command.args(["--concept", "a mosaic", "--with", "random-prefix", "--edit"]).arg(&edit);
        command.arg("--out").arg(folder.path().join(out));
        for set in [
            &format!("prompts.concept={prompts:?}"),
            "judge.shows=[\"Mosaic style\"]",
            "judge.clear=[\"Woodcut style\", \"Seed Images style\"]",
            "attack.images=1",
            "attack.new_seeds=0",
            "draw.steps=6",
        ] {
            command.args(["--set", set]);
        }
        command
    };
    run(&[short, &long], "run").assert().success();
    let trials = tried(&folder.path().join("run"))[0]["trials"].clone();
    assert_eq!(trials.as_array().unwrap().len(), 1, "{trials}");
    assert_eq!(trials[0]["prompt"], short);
    let notes = json(&folder.path().join("run/run.json")).to_string();
    assert!(notes.contains("1 of 2 pictures are left out of random-prefix"), "{notes}");
    let error = failure(run(&[&long], "none"), 1);
    assert!(error.contains("random-prefix suits none of the 1 pictures"), "{error}");
    assert!(error.contains("the text encoder reads 30"), "{error}");
}

/// A run goes on with the file that it began with, or says that it is another.
#[test]
fn a_file_that_changed_since_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let edit = erased(folder.path(), "uce", &[]);
    let out = folder.path().join("run");
    let run = || {
        let mut command = attacked(&edit, &out, "seeds");
        command.args(["--set", "attack.images=1"]);
        command
    };
    run().assert().success();
    let first = tried(&out);
    run().assert().success();
    assert_eq!(tried(&out), first);
    let weaker = folder.path().join("weaker");
    let mut command = command("erase");
    command.args(["--forget", "style:Mosaic", "--method", "uce", "--set", "method.lambda=5.0"]);
    command.arg("--out").arg(&weaker).assert().success();
    fs_err::copy(weaker.join("edits/style-Mosaic-uce.safetensors"), &edit).unwrap();
    let error = failure(run(), 1);
    assert!(error.contains("has changed since this run began"), "{error}");
    assert_eq!(tried(&out), first);
}
