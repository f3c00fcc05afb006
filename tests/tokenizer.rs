//! The tokenizer against transformers' `CLIPTokenizer` (`tests/golden/tokenizer.py`).

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use unsee::text::Tokenizer;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs_err::read_to_string(root().join(path)).unwrap()
}

fn gives_transformers_ids(tokenizer: &Tokenizer) {
    let rows: Vec<Value> = serde_json::from_str(&read("tests/golden/tokenizer.json")).unwrap();
    assert!(rows.len() > 200);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<i64> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).ids, ids, "{text:?}");
    }
}

#[test]
fn ids_are_transformers() {
    gives_transformers_ids(
        &Tokenizer::open(&root().join("models/miniature/tokenizer"), 32, &mut Vec::new()).unwrap(),
    );
}

/// transformers 5 writes one `tokenizer.json` and neither `vocab.json` nor `merges.txt`.
#[test]
fn from_a_single_file_too() {
    let vocab: Value =
        serde_json::from_str(&read("models/miniature/tokenizer/vocab.json")).unwrap();
    let merges: Vec<Vec<String>> = read("models/miniature/tokenizer/merges.txt")
        .lines()
        .skip(1)
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect();
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": "<|endoftext|>",
        "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": false,
        "byte_fallback": false, "ignore_merges": false,
        "vocab": vocab, "merges": merges,
    });
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": model,
    });
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs_err::File::create(folder.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    };
    write("tokenizer.json", &whole.to_string());
    write("tokenizer_config.json", r#"{"model_max_length": 32, "pad_token": "<|endoftext|>"}"#);
    gives_transformers_ids(&Tokenizer::open(folder.path(), 77, &mut Vec::new()).unwrap());

    write(
        "tokenizer.json",
        r#"{"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}}"#,
    );
    let error = Tokenizer::open(folder.path(), 77, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("byte-pair"), "{error}");
}
