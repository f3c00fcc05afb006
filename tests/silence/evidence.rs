//! Verdicts that are kept: each is of one picture's content, one judge and its questions.

use std::path::Path;
use std::process::Stdio;

use super::tools::{Copy, evaluate, fails, has, judged, pictures, score, shipped};

fn swap(folder: &Path, one: &str, other: &str) {
    let [one, other] = [one, other].map(|name| folder.join(format!("{name}_seed1.png")));
    let between = folder.join("between");
    fs_err::rename(&one, &between).unwrap();
    fs_err::rename(&other, &one).unwrap();
    fs_err::rename(&between, &other).unwrap();
}

fn forgotten(folder: &Path, more: &[&str]) -> (f64, String) {
    let (verdict, said) = judged(folder, &[&["--forget", "style:Mosaic"], more].concat());
    (score(&verdict, "UA", "erased").unwrap(), said)
}

/// Other pictures under the same names, and back.
#[test]
fn overwritten_pictures_are_judged_anew() {
    let folder = pictures();
    assert_eq!(forgotten(&folder.path, &[]).0, 0.0);
    let (ua, said) = forgotten(&folder.path, &[]);
    assert_eq!(ua, 0.0);
    has(&said, &["4 of 4"]);
    swap(&folder.path, "Mosaic_Cat", "Woodcut_Cat");
    swap(&folder.path, "Mosaic_Boat", "Woodcut_Boat");
    assert_eq!(forgotten(&folder.path, &[]).0, 1.0);
    swap(&folder.path, "Mosaic_Cat", "Woodcut_Cat");
    assert_eq!(forgotten(&folder.path, &[]).0, 0.5);
}

/// Another order of the questions, another decision, other wordings of a judge's texts.
#[test]
fn other_questions_are_asked_anew() {
    let folder = pictures();
    let first = forgotten(&folder.path, &[]).0;
    for more in [
        &["--styles", "Woodcut,Mosaic"][..],
        &["--objects", "Boat,Cat"],
        &["--decide", "prototypes"],
        &["--decide", "probe"],
    ] {
        assert_eq!(forgotten(&folder.path, more).0, first, "{more:?}");
    }
    // Another judge: the first one's verdicts are not its own. Its words are exchanged, so that it
    // is wrong of all.
    let judge = Copy::of("judge").json("vocab.json", |words| {
        let (one, two) = (words["mosaic</w>"].clone(), words["woodcut</w>"].clone());
        words["mosaic</w>"] = two;
        words["woodcut</w>"] = one;
    });
    let (ua, said) = forgotten(&folder.path, &["--judge", judge.path.to_str().unwrap()]);
    assert_eq!(ua, 1.0, "{said}");
    assert_eq!(forgotten(&folder.path, &[]).0, first);
}

/// A row of the model before is of the pictures that are named as its pictures.
#[test]
fn a_base_is_the_one_that_is_named() {
    let (after, before) = (pictures(), pictures());
    let (verdict, _) = judged(&after.path, &["--forget", "style:Mosaic"]);
    assert!(verdict["judge"]["on_base"].as_array().unwrap().is_empty());
    assert_eq!(score(&verdict, "UA", "base"), None);
    let base = |folder: &Path| {
        let (verdict, _) =
            judged(&after.path, &["--forget", "style:Mosaic", "--base", folder.to_str().unwrap()]);
        assert!(!verdict["judge"]["on_base"].as_array().unwrap().is_empty());
        score(&verdict, "UA", "base").unwrap()
    };
    assert_eq!(base(&before.path), 0.0);
    swap(&before.path, "Mosaic_Cat", "Woodcut_Cat");
    assert_eq!(base(&before.path), 0.5);
    let other = pictures();
    assert_eq!(base(&other.path), 0.0);
}

/// Logits carry their names, so that no reader needs the order of the options.
#[test]
fn logits_have_names() {
    let folder = pictures();
    judged(&folder.path, &[]);
    let lines = fs_err::read_to_string(folder.beside("p-evidence.jsonl")).unwrap();
    let mut ours = 0;
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let named = |domain: &str| -> Vec<String> {
            line["logits"][domain].as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            (named("style"), named("object")),
            (vec!["Mosaic".into(), "Woodcut".into()], vec!["Cat".into(), "Boat".into()])
        );
        ours += usize::from(line["subject"] == "pictures");
    }
    assert_eq!(ours, 4);
}

/// Only what is evidence is ever written over.
#[test]
fn a_file_of_one_s_own_is_not_emptied() {
    let folder = pictures();
    for text in ["picture,label\na.png,1\n", "", "{\"subject\": 1}\n"] {
        let labels = folder.beside("labels.csv");
        fs_err::write(&labels, text).unwrap();
        let option = ["--evidence", labels.to_str().unwrap()];
        if text.is_empty() {
            // An empty file is whoever made it for this.
            judged(&folder.path, &option);
            continue;
        }
        has(
            &fails(&mut evaluate(&folder.path, &option), 1),
            &["is no evidence file", "nothing is written"],
        );
        assert_eq!(fs_err::read_to_string(&labels).unwrap(), text);
    }
}

/// What an older version wrote is left out with a sentence; a line that was cut off too.
#[test]
fn older_evidence_is_said_to_be_left_out() {
    let folder = pictures();
    let file = folder.beside("p-evidence.jsonl");
    let old = [
        r#"{"subject":"pictures","style":"Mosaic","object":"Cat","seed":1,"judge":"ae40","#,
        r#""evidence":{"logits":[[1.0,2.0],[3.0,4.0]],"clip_score":null}}"#,
    ]
    .concat();
    fs_err::write(&file, format!("{old}\n{}", &old[..50])).unwrap();
    let (verdict, said) = judged(&folder.path, &["--forget", "style:Mosaic"]);
    has(&said, &["1 verdicts of an older version"]);
    assert_eq!(score(&verdict, "UA", "erased"), Some(0.0));
    assert!(!fs_err::read_to_string(&file).unwrap().contains("ae40"));
}

/// Two programs in one file would mix their lines.
#[test]
fn an_evidence_file_is_locked() {
    let folder = pictures();
    let file = folder.beside("e.jsonl");
    let held = fs_err::OpenOptions::new().create(true).append(true).open(&file).unwrap();
    held.file().try_lock().unwrap();
    let option = ["--evidence", file.to_str().unwrap()];
    has(&fails(&mut evaluate(&folder.path, &option), 1), &["e.jsonl", "another"]);
    drop(held);
    judged(&folder.path, &option);
}

/// What cannot be printed is no success.
#[test]
fn a_full_pipe_is_a_failure() {
    let folder = pictures();
    let judging = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_unsee"));
        command.arg("evaluate").arg(&folder.path).args([
            "-q",
            "--styles",
            "Mosaic,Woodcut",
            "--objects",
            "Cat,Boat",
        ]);
        command
            .args(["--check", "1", "--threads", "1"])
            .env("UNSEE_MODELS", shipped("judge").parent().unwrap());
        command
    };
    for json in [&["--json"][..], &[]] {
        let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = judging()
            .args(json)
            .stdout(full.into_parts().0)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        has(&String::from_utf8_lossy(&output.stderr), &["No space left"]);
    }
}
