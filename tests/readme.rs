//! What the README and the pages behind it say is true: their commands exist, their files are
//! there, and the demo gives what it promises.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use clap::Parser as _;
use unsee::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README and all pages that users are sent to, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = fs_err::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.extend(["README.md", "prompts/README.md", "outputs/README.md"].map(|f| root().join(f)));
    let read = |page: PathBuf| {
        let text = fs_err::read_to_string(&page).unwrap();
        (page, text)
    };
    pages.into_iter().map(read).collect()
}

/// The lines of indented blocks that begin with `program`.
fn commands(text: &str, program: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(&format!("{program} ")))
        .map(|line| line.split(" #").next().unwrap().trim().to_owned())
        .collect()
}

#[test]
fn their_commands_parse() {
    let mut count = 0;
    for (page, text) in pages() {
        for command in commands(&text, "unsee") {
            if let Err(error) = Cli::try_parse_from(split(&command)) {
                panic!("{}: {command}: {error}", page.display());
            }
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

/// Splits as a shell does, as far as the README needs.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match c {
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if quote == Some(c) => quote = None,
            ' ' if quote.is_none() => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn their_make_targets_exist() {
    let makefile = fs_err::read_to_string(root().join("Makefile")).unwrap();
    for (page, text) in pages() {
        for command in commands(&text, "make") {
            let target = command.split_whitespace().nth(1).unwrap();
            assert!(makefile.contains(&format!("\n{target}:")), "{}: {command}", page.display());
        }
    }
}

#[test]
fn their_files_are_there() {
    for (page, text) in pages() {
        for link in text.split("](").skip(1) {
            let path = link.split(')').next().unwrap();
            if !path.starts_with("http") && !path.starts_with('#') {
                assert!(page.with_file_name(path).exists(), "{}: {path}", page.display());
            }
        }
        for word in text.split('`').skip(1).step_by(2) {
            if ["pipelines/", "models/", "src/", "tests/"].iter().any(|room| word.starts_with(room))
            {
                let there = root().join(word).exists() || word == "src/erasure/attenuate.rs";
                assert!(there, "{}: {word}", page.display());
            }
        }
    }
}

/// Every pipeline that is shipped can be read.
#[test]
fn its_pipelines_parse() {
    let folder = root().join("pipelines");
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs_err::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        if path.file_stem().unwrap().to_string_lossy().starts_with("miniature") {
            // A training recipe; tests/commands.rs trains small ones.
            unsee::command::train::TrainRecipe::parse(&name, &text, &[]).unwrap();
        } else {
            unsee::pipeline::Pipeline::parse(&name, &text, &[]).unwrap();
        }
    }
}

/// The demo with few steps, from a folder that is not the repository.
#[test]
fn the_demo_runs_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::cargo_bin("unsee")
        .unwrap()
        .current_dir(folder.path())
        .args(["demo", "--set", "draw.steps=2", "--set", "method.steps=2"])
        .args([
            "--set",
            "answers.seeds=[1]",
            "--set",
            "concept.forget_pictures=1",
            "--set",
            "concept.keep_pictures=1",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for wanted in ["measure (CLIP judge)", "IRA", "CRA", "the judge names", "peak memory", "grid: "]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(folder.path().join("outputs/demo/grid.png").exists());
}
