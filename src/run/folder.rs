//! A run is a folder: `run.json` says what was run, on what, and how far it got.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use super::opening::content_hash;
use crate::files::write_json;
use crate::generator::ModelCard;
use crate::hub::commit_of;
use crate::torch::{Compute, Device, MemoryMode, Peak};
use crate::watch::Watch;

/// How far a run got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is running, or was killed.
    Running,
    /// It is complete.
    Done,
    /// It stopped with an error.
    Failed,
    /// The user stopped it.
    Interrupted,
}

/// What ran it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// `f32`, `tf32`, `bf16` or `f16`.
    pub precision: String,
    /// What was given up for memory in training.
    #[serde(default)]
    pub memory: MemoryMode,
    /// Threads inside an operation.
    pub threads: usize,
    /// The processor's name.
    pub processor: String,
    /// libtorch's version.
    pub libtorch: String,
}

/// A part of the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// Seconds, over all sessions.
    pub seconds: f64,
    /// Peak memory in bytes.
    pub peak: Peak,
}

/// A file of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Path inside the folder.
    pub path: String,
    /// blake3 of its content.
    pub hash: String,
}

/// What a run ends with beside its numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ending {
    /// The run's folder.
    pub folder: PathBuf,
    /// The grid.
    pub grid: PathBuf,
    /// Seconds of work in all.
    pub seconds: f64,
    /// Peak memory of the host, bytes.
    pub peak_host: u64,
    /// Peak memory of the device, bytes.
    pub peak_device: u64,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this layout.
    pub schema: u32,
    /// How far it got.
    pub status: Status,
    /// What was asked for, every default filled in.
    pub recipe: Value,
    /// blake3 of the recipe.
    pub recipe_hash: String,
    /// Version and commit of this program.
    pub build: String,
    /// What ran it.
    pub machine: Machine,
    /// Hashes of models, judge and edits.
    pub hashes: BTreeMap<String, String>,
    /// Pictures that are drawn at once, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// The parts of the work, in order.
    pub phases: Vec<Phase>,
    /// The files that it made.
    pub artifacts: Vec<Artifact>,
    /// What the user was told: what was chosen, assumed, ignored or left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// When it began, UTC.
    pub began: String,
    /// When `run.json` was written last, UTC.
    pub updated: String,
}

impl Record {
    /// Notes which model this is: its hash, and its commit where it came from the hub.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub(super) fn sign(&mut self, role: &str, card: &ModelCard) -> Result<(), Error> {
        self.bind(role, &card.hash)?;
        self.bind(&format!("{role}'s configuration"), &card.settings)?;
        if let Some(commit) = commit_of(&card.path) {
            self.hashes.insert("commit".to_owned(), commit);
        }
        Ok(())
    }

    /// Adds what was said, each once.
    fn remember(&mut self, said: &[String]) {
        for remark in said {
            if !self.remarks.contains(remark) {
                self.remarks.push(remark.clone());
            }
        }
    }

    /// Notes the hash of something that must be the same at every session.
    ///
    /// # Errors
    /// It was another one at an earlier session.
    pub(super) fn bind(&mut self, role: &str, hash: &str) -> Result<(), Error> {
        match self.hashes.get(role) {
            Some(old) if old != hash => {
                // Where both begin alike, from where they differ.
                let same = old.chars().zip(hash.chars()).take_while(|(a, b)| a == b).count();
                let skip = if same < 8 { 0 } else { same };
                let short = |hash: &str| {
                    let dots = if skip > 0 { "…" } else { "" };
                    format!("{dots}{}", hash.chars().skip(skip).take(12).collect::<String>())
                };
                Err(Error::Unknown(format!(
                    "the {role} has changed since this run began: it was {}, it is {}, and what \
                     was done came of the old one; put the old one back, or begin anew in another \
                     folder (--out)",
                    short(old),
                    short(hash)
                )))
            }
            _ => {
                self.hashes.insert(role.to_owned(), hash.to_owned());
                Ok(())
            }
        }
    }
}

/// An open run folder; no other process can open it meanwhile.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// What `run.json` will say.
    pub record: Record,
    /// What is other than at the session before.
    moved: Vec<String>,
    _lock: fs_err::File,
}

/// Since version 2 all that decides a picture or a verdict is in the record.
const SCHEMA: u32 = 2;

impl Machine {
    /// This one.
    pub fn here(compute: Compute) -> Self {
        let cpuinfo = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
        Self {
            device: compute.device.to_string(),
            precision: compute.precision.to_string(),
            memory: compute.memory,
            threads: crate::torch::threads(),
            processor: processor.to_owned(),
            libtorch: crate::torch::VERSION.to_owned(),
        }
    }
}

impl RunFolder {
    /// Opens a folder for this recipe: a new one, or one that the same recipe has begun.
    ///
    /// # Errors
    /// Another process holds it, or it belongs to another recipe, or to no run at all.
    pub fn open(root: &Path, recipe: Value, machine: Machine) -> Result<Self, Error> {
        let recipe_hash = blake3::hash(recipe.to_string().as_bytes()).to_hex().to_string();
        let file = root.join("run.json");
        if !file.exists() && root.exists() && fs_err::read_dir(root)?.next().is_some() {
            return Err(Error::OtherRun {
                path: root.to_path_buf(),
                why: "there is no run.json, but other files".to_owned(),
            });
        }
        fs_err::create_dir_all(root)?;
        let lock = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join(".lock"))?;
        if lock.file().try_lock().is_err() {
            return Err(Error::Locked(root.to_path_buf()));
        }
        crate::files::sweep(root, true)?;
        let build = concat!(env!("CARGO_PKG_VERSION"), "+", env!("UNSEE_COMMIT")).to_owned();
        let mut moved: Vec<String> = Vec::new();
        let record = if file.exists() {
            let text = fs_err::read_to_string(&file)?;
            let old: Record = serde_json::from_str(&text).map_err(|error| Error::OtherRun {
                path: root.to_path_buf(),
                why: format!("its run.json cannot be read: {error}"),
            })?;
            if old.schema != SCHEMA {
                return Err(Error::OtherRun {
                    path: root.to_path_buf(),
                    why: format!(
                        "version {} of unsee began it, whose record lacks what decides a picture; \
                         it can be looked at and judged, but not gone on with",
                        old.build
                    ),
                });
            }
            if old.recipe_hash != recipe_hash {
                return Err(Error::OtherRun {
                    path: root.to_path_buf(),
                    why: difference("", &old.recipe, &recipe)
                        .unwrap_or_else(|| "another recipe".to_owned()),
                });
            }
            // Bits depend on these: pictures of two machines must not be mixed in one run.
            let device_of = |machine: &Machine| {
                let Machine { device, precision, threads, memory, .. } = machine;
                let memory = format!("{memory:?}").to_lowercase();
                format!("{device} in {precision} with {threads} threads and --memory {memory}")
            };
            if device_of(&old.machine) != device_of(&machine) {
                return Err(Error::OtherRun {
                    path: root.to_path_buf(),
                    why: format!(
                        "it began on {}, this is {}",
                        device_of(&old.machine),
                        device_of(&machine)
                    ),
                });
            }
            let changes = [
                ("unsee", &old.build, &build),
                ("libtorch", &old.machine.libtorch, &machine.libtorch),
                ("the processor", &old.machine.processor, &machine.processor),
            ];
            // These may move last bits only, and a run must be able to move on.
            let remarks =
                changes.into_iter().filter(|(_, was, is)| was != is).map(|(what, was, is)| {
                    format!(
                        "the run goes on with another version or machine: {what} was {was}, is {is}"
                    )
                });
            moved = remarks.collect();
            Record { status: Status::Running, build, machine, ..old }
        } else {
            Record {
                schema: SCHEMA,
                status: Status::Running,
                recipe,
                recipe_hash,
                build,
                machine,
                hashes: BTreeMap::new(),
                batch: None,
                phases: Vec::new(),
                artifacts: Vec::new(),
                remarks: Vec::new(),
                began: now(),
                updated: now(),
            }
        };
        let mut folder = Self { root: root.to_path_buf(), record, moved, _lock: lock };
        folder.record.remember(&folder.moved);
        folder.save()?;
        Ok(folder)
    }

    /// Does `work` in a folder for this recipe and notes how it ended.
    ///
    /// # Errors
    /// Those of [`RunFolder::open`], and the work's.
    pub fn within<T>(
        root: &Path,
        recipe: &impl Serialize,
        machine: Machine,
        watch: &mut dyn Watch,
        work: impl FnOnce(&mut Self, &mut dyn Watch) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let recipe = serde_json::to_value(recipe).map_err(std::io::Error::other)?;
        let mut run = Self::open(root, recipe, machine)?;
        run.moved.iter().for_each(|change| watch.warn(change));
        // What was said while everything was opened; what is said on the way comes at the end.
        run.record.remember(watch.said());
        run.save()?;
        let outcome = work(&mut run, watch);
        run.record.remember(watch.said());
        run.record.status = match &outcome {
            Ok(_) => Status::Done,
            Err(Error::Interrupted) => Status::Interrupted,
            Err(_) => Status::Failed,
        };
        let saved = run.save();
        let value = outcome?; // the work's own error says more than that of run.json
        saved?;
        Ok(value)
    }

    /// The folder's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where its results are and what all of its phases took; `grid` is the grid's file.
    pub(super) fn ending(&self, grid: PathBuf) -> Ending {
        let phases = &self.record.phases;
        Ending {
            folder: self.root.clone(),
            grid,
            seconds: phases.iter().map(|phase| phase.seconds).sum(),
            peak_host: phases.iter().map(|phase| phase.peak.host).max().unwrap_or(0),
            peak_device: phases.iter().map(|phase| phase.peak.device).max().unwrap_or(0),
        }
    }

    /// A path inside it.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.root.join(inside)
    }

    /// Writes `run.json`, whole or not at all.
    ///
    /// # Errors
    /// The disk is full.
    pub fn save(&mut self) -> Result<(), Error> {
        self.record.updated = now();
        Ok(write_json(&self.root.join("run.json"), &self.record)?)
    }

    /// Does a part of the work and notes its time and memory; a part that was begun before adds to
    /// it.
    ///
    /// # Errors
    /// The work's, or that `run.json` cannot be written.
    pub fn phase<T>(
        &mut self,
        name: &str,
        device: Device,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        Peak::reset(device);
        let began = Instant::now();
        let outcome = work(self);
        let (seconds, peak) = (began.elapsed().as_secs_f64(), Peak::read(device));
        match self.record.phases.iter_mut().find(|phase| phase.name == name) {
            Some(phase) => {
                phase.seconds += seconds;
                phase.peak = phase.peak.max(peak);
            }
            None => self.record.phases.push(Phase { name: name.to_owned(), seconds, peak }),
        }
        let saved = self.save();
        let value = outcome?; // the work's own error says more than that of run.json
        saved?;
        Ok(value)
    }

    /// Whether a file is what the record says that it was.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn unchanged(&self, inside: &str) -> Result<(), Error> {
        let known = self.record.artifacts.iter().find(|old| old.path == inside);
        match known {
            Some(known)
                if known.hash != content_hash(&self.root.join(inside))?.to_hex().as_str() =>
            {
                Err(Error::Unknown(format!(
                    "{} is another file than the one that this run made (run.json has its hash); \
                     put that one back, or remove it, and the run makes it again",
                    self.root.join(inside).display()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Notes a file that the run made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn artifact(&mut self, inside: &str) -> Result<(), Error> {
        let hash = content_hash(&self.root.join(inside))?.to_hex().to_string();
        let artifact = Artifact { path: inside.to_owned(), hash };
        match self.record.artifacts.iter_mut().find(|old| old.path == inside) {
            Some(old) => *old = artifact,
            None => self.record.artifacts.push(artifact),
        }
        Ok(())
    }
}

/// The first key in which two recipes differ.
fn difference(path: &str, old: &Value, new: &Value) -> Option<String> {
    if old == new {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        return keys.into_iter().find_map(|key| {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            difference(
                &inner,
                a.get(key).unwrap_or(&Value::Null),
                b.get(key).unwrap_or(&Value::Null),
            )
        });
    }
    Some(format!("`{path}` is {old} there and {new} now"))
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Precision;
    use crate::watch::Quiet;
    use serde_json::json;

    fn open(root: &Path, recipe: Value) -> Result<RunFolder, Error> {
        RunFolder::open(root, recipe, Machine::here(Compute::new(Device::CPU, Precision::F32)))
    }

    #[test]
    fn one_process_and_one_recipe() {
        let root = tempfile::tempdir().unwrap();
        let first = open(root.path(), json!({"a": {"b": 1}})).unwrap();
        assert!(matches!(open(root.path(), json!({"a": {"b": 1}})), Err(Error::Locked(_))));
        drop(first);
        assert!(open(root.path(), json!({"a": {"b": 1}})).is_ok());
        let error = open(root.path(), json!({"a": {"b": 2}})).unwrap_err().to_string();
        assert!(error.contains("`a.b` is 1 there and 2 now"), "{error}");
    }

    #[test]
    fn a_folder_of_other_files_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs_err::File::create(root.path().join("thesis.tex")).unwrap();
        assert!(matches!(open(root.path(), json!({})), Err(Error::OtherRun { .. })));
    }

    #[test]
    fn another_model_is_refused_at_every_sitting() {
        let root = tempfile::tempdir().unwrap();
        let machine = || Machine::here(Compute::new(Device::CPU, Precision::F32));
        let session = |hash: &str| {
            RunFolder::within(root.path(), &json!({}), machine(), &mut Quiet, |run, _| {
                run.record.bind("base", hash)
            })
        };
        session("one").unwrap();
        for _ in 0..2 {
            let error = session("two").unwrap_err().to_string();
            assert!(error.contains("it was one, it is two"), "{error}");
        }
        session("one").unwrap();
    }

    #[test]
    fn phases_add_up_and_the_end_is_noted() {
        let root = tempfile::tempdir().unwrap();
        let machine = || Machine::here(Compute::new(Device::CPU, Precision::F32));
        let session = |outcome: fn() -> Result<(), Error>| {
            RunFolder::within(root.path(), &json!({}), machine(), &mut Quiet, |run, _| {
                run.phase("drawing", Device::CPU, |_| outcome())
            })
        };
        let record = || -> Record {
            serde_json::from_str(&fs_err::read_to_string(root.path().join("run.json")).unwrap())
                .unwrap()
        };
        assert!(session(|| Err(Error::Interrupted)).is_err());
        assert_eq!(record().status, Status::Interrupted);
        assert!(session(|| Err(Error::Unknown("a test".to_owned()))).is_err());
        assert_eq!(record().status, Status::Failed);
        session(|| Ok(())).unwrap();
        assert_eq!((record().status, record().phases.len()), (Status::Done, 1));
    }
}
