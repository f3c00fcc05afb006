//! Each room uses only what stands before it (see the README's map of the house).

use std::path::{Path, PathBuf};

/// The rooms in their order; each may use what stands before it and is named.
const ROOMS: &[(&str, &[&str])] = &[
    ("watch", &[]),
    ("files", &[]),
    ("checkpoint_timer", &[]),
    ("settings", &[]),
    ("fields", &[]),
    ("torch", &[]),
    ("canvas", &[]),
    ("pictures", &["files"]),
    ("text", &["files", "fields"]),
    ("weights", &["torch", "files", "fields"]),
    ("hub", &["files", "watch"]),
    ("model", &["torch", "weights", "fields"]),
    ("sampler", &["torch", "fields"]),
    (
        "generator",
        &["torch", "weights", "model", "sampler", "text", "pictures", "watch", "files", "fields"],
    ),
    ("training", &["torch", "weights", "model", "watch", "files", "checkpoint_timer"]),
    ("prompt_search", &["torch", "generator"]),
    (
        "miniature",
        &[
            "torch", "weights", "model", "sampler", "text", "pictures", "watch", "canvas", "files",
            "training",
        ],
    ),
    (
        "erasure",
        &[
            "checkpoint_timer",
            "settings",
            "files",
            "torch",
            "weights",
            "model",
            "sampler",
            "pictures",
            "watch",
            "generator",
            "training",
            "prompt_search",
        ],
    ),
    (
        "attack",
        &[
            "checkpoint_timer",
            "settings",
            "torch",
            "weights",
            "model",
            "sampler",
            "pictures",
            "watch",
            "files",
            "generator",
            "training",
            "prompt_search",
        ],
    ),
    ("judge", &["torch", "weights", "model", "text", "pictures", "fields"]),
    ("measure", &["torch"]),
    ("report", &["pictures"]),
    (
        "pipeline",
        &[
            "settings",
            "torch",
            "weights",
            "sampler",
            "generator",
            "hub",
            "erasure",
            "attack",
            "judge",
            "measure",
            "canvas",
            "watch",
        ],
    ),
    (
        "run",
        &[
            "torch",
            "weights",
            "generator",
            "hub",
            "training",
            "erasure",
            "attack",
            "judge",
            "measure",
            "pictures",
            "watch",
            "files",
            "pipeline",
        ],
    ),
    (
        "study",
        &[
            "torch",
            "weights",
            "generator",
            "training",
            "erasure",
            "attack",
            "judge",
            "measure",
            "report",
            "canvas",
            "pictures",
            "watch",
            "files",
            "pipeline",
            "run",
        ],
    ),
    (
        "command",
        &[
            "torch",
            "weights",
            "sampler",
            "generator",
            "hub",
            "miniature",
            "judge",
            "measure",
            "report",
            "canvas",
            "pictures",
            "watch",
            "files",
            "fields",
            "model",
            "text",
            "pipeline",
            "run",
            "study",
        ],
    ),
    (
        "cli",
        &[
            "checkpoint_timer",
            "torch",
            "weights",
            "sampler",
            "generator",
            "measure",
            "hub",
            "pictures",
            "watch",
            "files",
            "fields",
            "pipeline",
            "run",
            "study",
            "command",
        ],
    ),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_room_uses_one_that_stands_behind_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let mut wrong = Vec::new();
    for file in all {
        let inside = file.strip_prefix(&source).unwrap();
        let room = inside.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if room == "lib" || room == "main" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{room} is no known room"));
            continue;
        };
        // A room's own tests may look further.
        let text = fs_err::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for part in text.split("crate::").skip(1) {
            let used: String =
                part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    for file in all {
        let inside = file.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let text = fs_err::read_to_string(&file).unwrap();
        let allowed = inside.starts_with("torch/")
            || ["weights/map.rs", "weights/save.rs", "judge/candle_encoder.rs"]
                .contains(&inside.as_str());
        assert!(allowed || !text.contains("unsafe"), "{inside} has unsafe code");
    }
}

/// What others' programs wrote is read by `fields` alone, where every field has a rule.
#[test]
fn no_configuration_is_read_by_another_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for room in ["generator", "judge", "model", "sampler", "text"] {
        let mut all = Vec::new();
        files(&source.join(room), &mut all);
        for file in all {
            let text = fs_err::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            assert!(
                !text.contains("serde_json::from_"),
                "{} reads JSON past its rules",
                file.display()
            );
        }
    }
}
