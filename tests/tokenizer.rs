//! The tokenizer against transformers' `CLIPTokenizer` (`tests/golden/tokenizer.py`).

use std::path::Path;

use unsee::text::Tokenizer;

#[test]
fn ids_are_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tokenizer = Tokenizer::open(&root.join("models/miniature/tokenizer")).unwrap();
    let text = fs_err::read_to_string(root.join("tests/golden/tokenizer.json")).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(rows.len() > 200);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<i64> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).ids, ids, "{text:?}");
    }
}
