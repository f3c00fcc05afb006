//! Copies of the shipped models to change, and the program to try them on.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};

use assert_cmd::Command;
use serde_json::Value;
use unsee::pictures::Picture;
use unsee::torch::Tensor;
use unsee::weights::{Weights, save};

pub(crate) const PROMPT: &str = "A Cat image in Mosaic style.";

/// A shipped model.
pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

/// A file or folder to change, gone when it is dropped.
pub(crate) struct Copy {
    folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Copy {
    /// Of a shipped model.
    pub(crate) fn of(name: &str) -> Self {
        let copy = Self::empty("m");
        let status =
            Process::new("cp").arg("-r").arg(shipped(name)).arg(&copy.path).status().unwrap();
        assert!(status.success());
        copy
    }

    /// The miniature as one file in CompVis' names.
    pub(crate) fn single_file() -> Self {
        let copy = Self::empty("m.safetensors");
        done(
            unsee()
                .args(["export", "--as", "single-file", "--model"])
                .arg(shipped("miniature"))
                .arg(&copy.path),
        );
        copy
    }

    /// Nothing yet.
    pub(crate) fn empty(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        Self { folder, path }
    }

    /// Something beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes a JSON file in it, which is made if there is none.
    pub(crate) fn json(self, file: &str, change: impl FnOnce(&mut Value)) -> Self {
        let path = self.path.join(file);
        let mut value = match fs_err::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).unwrap(),
            Err(_) => Value::Object(serde_json::Map::new()),
        };
        change(&mut value);
        fs_err::write(path, value.to_string()).unwrap();
        self
    }

    /// Sets one field of a JSON file in it.
    pub(crate) fn field(self, file: &str, field: &str, to: Value) -> Self {
        self.json(file, |all| all[field] = to)
    }

    /// Changes a file of weights in it, or itself.
    pub(crate) fn weights(
        self,
        file: &str,
        change: impl FnOnce(&mut Vec<(String, Tensor)>),
    ) -> Self {
        let path = if file.is_empty() { self.path.clone() } else { self.path.join(file) };
        let mut tensors = tensors(&path);
        change(&mut tensors);
        save(&path, &tensors, &[]).unwrap();
        self
    }

    /// A drawing with it as model.
    pub(crate) fn draw(&self, options: &[&str]) -> Result<Drawn, String> {
        draw(&self.path, options)
    }

    /// Why it cannot be drawn with.
    pub(crate) fn refused(&self, options: &[&str]) -> String {
        match self.draw(options) {
            Err(text) => text,
            Ok(drawn) => panic!("it was drawn, and this was said: {}", drawn.said),
        }
    }
}

/// All tensors of a file.
pub(crate) fn tensors(path: &Path) -> Vec<(String, Tensor)> {
    let file = Weights::open(path).unwrap();
    file.names().map(|name| (name.to_owned(), file.tensor(name).unwrap().copy())).collect()
}

/// Changes the tensor of this name.
pub(crate) fn with(
    name: &str,
    change: impl FnOnce(&mut Tensor),
) -> impl FnOnce(&mut Vec<(String, Tensor)>) {
    move |all| {
        let (_, tensor) =
            all.iter_mut().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name}"));
        change(tensor);
    }
}

/// The program, on one thread of the CPU.
pub(crate) fn unsee() -> Command {
    let mut command = Command::cargo_bin("unsee").unwrap();
    command.timeout(std::time::Duration::from_secs(120));
    command.args(["--device", "cpu", "--precision", "f32", "--threads", "1"]);
    command.env("UNSEE_MODELS", shipped("miniature").parent().unwrap());
    command
}

/// A picture, and what was said of it.
pub(crate) struct Drawn {
    pub(crate) picture: Picture,
    pub(crate) said: String,
    pub(crate) run: Value,
}

/// One picture of seed 0 in two steps.
pub(crate) fn draw(model: &Path, options: &[&str]) -> Result<Drawn, String> {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("out");
    let mut command = unsee();
    command.args(["generate", PROMPT, "--steps", "2", "--model"]).arg(model).args(options);
    let output = command.arg("--out").arg(&folder).output().unwrap();
    let said = said(&output);
    if output.status.code() != Some(0) {
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
        assert!(!folder.join("0_0.png").exists(), "{said}");
        return Err(said);
    }
    Ok(Drawn {
        picture: Picture::open(&folder.join("0_0.png")).unwrap(),
        said,
        run: json(&folder.join("run.json")),
    })
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked") && !text.contains("frame #"), "{text}");
    text
}

/// What a command that must succeed prints, and what it says on stderr.
pub(crate) fn done(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// What a command that must fail with this code says.
pub(crate) fn fails(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

#[track_caller]
pub(crate) fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// A folder of four pictures of the canvas, `{style}_{object}_seed1.png`, which the shipped judge
/// names rightly.
pub(crate) fn pictures() -> Copy {
    let copy = Copy::empty("p");
    done(unsee().args(["canvas", "-q", "--per-cell", "1", "--out"]).arg(copy.beside("canvas")));
    fs_err::create_dir(&copy.path).unwrap();
    for (style, object) in
        [("Mosaic", "Cat"), ("Mosaic", "Boat"), ("Woodcut", "Cat"), ("Woodcut", "Boat")]
    {
        let from = copy.beside("canvas").join(style).join(object).join("1.png");
        fs_err::copy(from, copy.path.join(format!("{style}_{object}_seed1.png"))).unwrap();
    }
    copy
}

/// Judging them, with as few pictures of the judge's own as can be.
pub(crate) fn evaluate(folder: &Path, options: &[&str]) -> Command {
    let mut command = unsee();
    command.arg("evaluate").arg(folder).arg("--json");
    let options_of_toy =
        [("--styles", "Mosaic,Woodcut"), ("--objects", "Cat,Boat"), ("--check", "1")];
    for (option, usual) in options_of_toy.iter().filter(|(option, _)| !options.contains(option)) {
        command.args([option, usual]);
    }
    command.args(options);
    command
}

/// The verdict, and what was said.
pub(crate) fn judged(folder: &Path, options: &[&str]) -> (Value, String) {
    let (printed, said) = done(&mut evaluate(folder, options));
    (serde_json::from_str(&printed).unwrap(), said)
}

/// A score by measure and subject.
pub(crate) fn score(verdict: &Value, measure: &str, subject: &str) -> Option<f64> {
    let all = verdict["scores"].as_array().unwrap();
    all.iter().find(|score| score["measure"] == measure && score["method"] == subject)?["value"]
        .as_f64()
}

/// Scores without what the machine took, which is never the same twice.
pub(crate) fn steady(scores: &Value) -> Value {
    let of_machine =
        |score: &&Value| score["measure"] == "seconds" || score["measure"] == "peak memory";
    scores.as_array().unwrap().iter().filter(|score| !of_machine(score)).cloned().collect()
}
