//! Lists of prompts as people write them.

use super::tools::{Copy, done, fails, has, json, unsee};

/// Draws a list; what was said, and the pictures with their seeds.
fn listed(bytes: &[u8], more: &[&str]) -> (String, Vec<(String, u64, String)>, Copy) {
    let copy = Copy::empty("list.csv");
    fs_err::write(&copy.path, bytes).unwrap();
    let mut command = unsee();
    command.args(["generate", "--steps", "1", "--json", "--csv"]).arg(&copy.path).args(more);
    let (printed, said) = done(command.arg("--out").arg(copy.beside("out")));
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let drawn = printed["pictures"].as_array().unwrap().iter();
    let drawn = drawn.map(|one| {
        let file = one["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (file, one["seed"].as_u64().unwrap(), one["prompt"].as_str().unwrap().to_owned())
    });
    (said, drawn.collect(), copy)
}

fn refused(bytes: &[u8], more: &[&str]) -> String {
    let copy = Copy::empty("list.csv");
    fs_err::write(&copy.path, bytes).unwrap();
    let mut command = unsee();
    command.args(["generate", "--steps", "1", "--csv"]).arg(&copy.path).args(more);
    let text = fails(command.arg("--out").arg(copy.beside("out")), 1);
    assert!(!copy.beside("out").exists(), "{text}");
    text
}

#[test]
fn rows_without_a_prompt_are_left_out_and_said() {
    let (said, drawn, copy) = listed(b"prompt,seed\na cat,1\n,2\n  ,3\na boat,4\n", &[]);
    assert_eq!(drawn.iter().map(|one| one.1).collect::<Vec<_>>(), [1, 4]);
    has(&said, &["2 of its rows have no prompt", "line 3, 4"]);
    has(&json(&copy.beside("out/run.json"))["remarks"].to_string(), &["2 of its rows"]);
    has(&refused(b"prompt,seed\n,1\n", &[]), &["no prompt"]);
}

#[test]
fn a_column_seed_is_the_seed_and_ids_stay_as_they_are() {
    let (_, drawn, _) = listed(b"case_num,prompt,seed\n000000203564,a cat,42.0\n7,a boat,\n", &[]);
    assert_eq!((drawn[0].0.as_str(), drawn[0].1), ("000000203564_0.png", 42));
    assert_eq!((drawn[1].0.as_str(), drawn[1].1), ("7_0.png", 0));
    let (_, drawn, _) = listed(b"image_id,prompt\n000042,a cat\n", &[]);
    assert_eq!(drawn[0].0, "000042_0.png");
    for wrong in ["-1", "42.5", "x", "1e3"] {
        has(
            &refused(format!("prompt,seed\na,{wrong}\n").as_bytes(), &[]),
            &["line 2", "seed", wrong],
        );
    }
}

#[test]
fn columns_that_are_not_drawn_are_said_and_can_be_named() {
    let list = b"prompt,adv_prompt\na cat,a boat\n";
    let (said, drawn, _) = listed(list, &[]);
    assert_eq!(drawn[0].2, "a cat");
    has(&said, &["adv_prompt", "not used", "--column"]);
    let (_, drawn, _) = listed(list, &["--column", "prompt=adv_prompt"]);
    assert_eq!(drawn[0].2, "a boat");
    has(&refused(list, &["--column", "prompt=nothing"]), &["no column `nothing`", "adv_prompt"]);
    // Two columns of one kind, and one name twice.
    let (said, drawn, _) = listed(b"prompt,evaluation_seed,seed\na cat,3,4\n", &[]);
    assert_eq!(drawn[0].1, 3);
    has(&said, &["evaluation_seed", "seed"]);
    has(&refused(b"prompt,prompt\na cat,a boat\n", &[]), &["`prompt` twice"]);
    has(&refused(b"prompt,width\na cat,64\n", &[]), &["line 2", "height"]);
}

#[test]
fn encodings_and_separators_are_recognised() {
    let wide: Vec<u8> =
        "\u{feff}prompt,seed\na caf\u{e9},5\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, word) in [
        (&wide[..], "UTF-16"),
        (b"prompt,seed\na caf\xe9,5\n", "Windows-1252"),
        ("prompt;seed\na café;5\n".as_bytes(), "`;`"),
        ("prompt\tseed\na café\t5\n".as_bytes(), "tabs"),
    ] {
        let (said, drawn, _) = listed(bytes, &[]);
        assert_eq!((drawn[0].1, drawn[0].2.as_str()), (5, "a café"));
        has(&said, &[word]);
    }
    has(&refused(b"\xef\xbb\xbfprompt\na caf\xe9\n", &[]), &["line 2", "UTF-8"]);
}

#[test]
fn what_does_not_fit_a_prompt_is_said() {
    let long = "cat ".repeat(60);
    let (said, _, _) = listed(format!("prompt\n{long}\n").as_bytes(), &[]);
    has(&said, &["longer than the text encoder reads"]);
}
