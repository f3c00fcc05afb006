//! A run is a folder: `run.json` says what was run, on what, and how far it got.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::Error;
use super::hashes::content_hash;
use super::record::{Artifact, Ending, Machine, Phase, Record, SCHEMA, Status, build, now};
use crate::files::write_json;
use crate::torch::{Device, Peak};
use crate::watch::Watch;

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

impl RunFolder {
    /// Opens a folder for this recipe: a new one, or one that the same recipe has begun. Of the
    /// tables in `growing` (paths of keys) entries may be added or left out; those that are on both
    /// sides must be the same.
    ///
    /// # Errors
    /// Another process holds it, or it belongs to another recipe, or to no run at all.
    pub fn open(
        root: &Path,
        recipe: Value,
        growing: &[&str],
        machine: Machine,
    ) -> Result<Self, Error> {
        let lock = locked(root)?;
        crate::files::sweep(root, true)?;
        let (record, moved) = match earlier(root)? {
            Some(old) => gone_on_with(root, old, recipe, growing, machine)?,
            None => (Record::new(recipe, machine), Vec::new()),
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
        growing: &[&str],
        machine: Machine,
        watch: &mut dyn Watch,
        work: impl FnOnce(&mut Self, &mut dyn Watch) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let recipe = serde_json::to_value(recipe).map_err(std::io::Error::other)?;
        let mut run = Self::open(root, recipe, growing, machine)?;
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
    pub fn ending(&self, grid: PathBuf) -> Ending {
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

    /// The hash of a file that the run made before; notes it where the record has none.
    ///
    /// # Errors
    /// It is another file than the record says.
    pub fn unchanged(&mut self, inside: &str) -> Result<String, Error> {
        let hash = content_hash(&self.root.join(inside))?.to_hex().to_string();
        match self.record.artifacts.iter().find(|old| old.path == inside) {
            Some(known) if known.hash != hash => Err(Error::Unknown(format!(
                "{} is another file than the one that this run made (run.json has its hash); put \
                 that one back, or remove it, and the run makes it again",
                self.root.join(inside).display()
            ))),
            Some(_) => Ok(hash),
            None => {
                self.note_artifact(inside, &hash);
                Ok(hash)
            }
        }
    }

    /// Notes a file that the run made, and returns its hash.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn artifact(&mut self, inside: &str) -> Result<String, Error> {
        let hash = content_hash(&self.root.join(inside))?.to_hex().to_string();
        self.note_artifact(inside, &hash);
        Ok(hash)
    }

    fn note_artifact(&mut self, inside: &str, hash: &str) {
        let artifact = Artifact { path: inside.to_owned(), hash: hash.to_owned() };
        match self.record.artifacts.iter_mut().find(|old| old.path == inside) {
            Some(old) => *old = artifact,
            None => self.record.artifacts.push(artifact),
        }
    }
}

/// Makes the folder and takes it: no other process can open it meanwhile.
fn locked(root: &Path) -> Result<fs_err::File, Error> {
    let is_new = !root.join("run.json").exists();
    if is_new && root.exists() && fs_err::read_dir(root)?.next().is_some() {
        return Err(Error::OtherRun {
            path: root.to_path_buf(),
            why: "there is no run.json, but other files".to_owned(),
        });
    }
    crate::files::create_folder(root)?;
    let lock = fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join(".lock"))?;
    if lock.file().try_lock().is_err() {
        return Err(Error::Locked(root.to_path_buf()));
    }
    Ok(lock)
}

/// The record that a run left here.
fn earlier(root: &Path) -> Result<Option<Record>, Error> {
    let file = root.join("run.json");
    if !file.exists() {
        return Ok(None);
    }
    let other = |why: String| Error::OtherRun { path: root.to_path_buf(), why };
    let text = fs_err::read_to_string(&file)?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| other(format!("its run.json cannot be read: {error}")))?;
    if json["schema"] != SCHEMA {
        return Err(other(format!(
            "version {} of unsee began it, whose record is another one; it can be looked at and \
             judged, but not gone on with",
            json["build"].as_str().unwrap_or("?")
        )));
    }
    let record = serde_json::from_value(json)
        .map_err(|error| other(format!("its run.json cannot be read: {error}")))?;
    Ok(Some(record))
}

/// The record of a run that goes on, and what is other than when it was left.
fn gone_on_with(
    root: &Path,
    old: Record,
    recipe: Value,
    growing: &[&str],
    machine: Machine,
) -> Result<(Record, Vec<String>), Error> {
    let other = |why: String| Error::OtherRun { path: root.to_path_buf(), why };
    if let Some(why) = difference("", &old.recipe, &recipe, growing) {
        return Err(other(why));
    }
    // Bits depend on these: pictures of two machines must not be mixed in one run.
    let device_of = |machine: &Machine| {
        let Machine { device, precision, threads, memory, .. } = machine;
        let memory = format!("{memory:?}").to_lowercase();
        format!("{device} in {precision} with {threads} threads and --memory {memory}")
    };
    if device_of(&old.machine) != device_of(&machine) {
        return Err(other(format!(
            "it began on {}, this is {}",
            device_of(&old.machine),
            device_of(&machine)
        )));
    }
    let build = build();
    let changes = [
        ("unsee", &old.build, &build),
        ("libtorch", &old.machine.libtorch, &machine.libtorch),
        ("the processor", &old.machine.processor, &machine.processor),
    ];
    // These may move last bits only, and a run must be able to move on.
    let moved = changes
        .into_iter()
        .filter(|(_, was, is)| was != is)
        .map(|(what, was, is)| {
            format!("the run goes on with another version or machine: {what} was {was}, is {is}")
        })
        .collect();
    let mut recipe = recipe;
    for path in growing {
        keep_entries(&mut recipe, &old.recipe, path);
    }
    Ok((Record { status: Status::Running, build, machine, recipe, ..old }, moved))
}

/// Adds the entries of an old recipe's table that the new one leaves out: what was done for them is
/// still there.
fn keep_entries(recipe: &mut Value, old: &Value, path: &str) {
    let pointer = format!("/{}", path.replace('.', "/"));
    let Some(Value::Object(old)) = old.pointer(&pointer) else { return };
    if let Some(Value::Object(new)) = recipe.pointer_mut(&pointer) {
        for (key, value) in old {
            new.entry(key).or_insert_with(|| value.clone());
        }
    } else if let Some((above, key)) = pointer.rsplit_once('/')
        && let Some(Value::Object(above)) = recipe.pointer_mut(above)
    {
        above.insert(key.to_owned(), Value::Object(old.clone()));
    }
}

/// The first key in which two recipes differ.
fn difference(path: &str, old: &Value, new: &Value, growing: &[&str]) -> Option<String> {
    // A table that may grow is not there while it has no entries.
    let grown = growing.contains(&path) && (old.is_null() || new.is_null());
    if old == new || grown {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let grows = growing.contains(&path);
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        return keys
            .into_iter()
            .filter(|key| !grows || (a.contains_key(*key) && b.contains_key(*key)))
            .find_map(|key| {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let value = |table: &serde_json::Map<String, Value>| {
                    table.get(key).cloned().unwrap_or(Value::Null)
                };
                difference(&inner, &value(a), &value(b), growing)
            });
    }
    Some(format!("`{path}` is {old} there and {new} now"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Compute, Precision};
    use crate::watch::Quiet;
    use serde_json::json;

    fn open(root: &Path, recipe: Value) -> Result<RunFolder, Error> {
        RunFolder::open(
            root,
            recipe,
            &["method"],
            Machine::here(Compute::new(Device::CPU, Precision::F32)),
        )
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
    fn a_run_is_extended_and_what_is_on_both_sides_stays() {
        let root = tempfile::tempdir().unwrap();
        let recipe = |methods: Value| json!({"method": methods, "seed": 1});
        drop(open(root.path(), recipe(json!({"a": {"steps": 1}}))).unwrap());
        drop(open(root.path(), recipe(json!({"b": {"steps": 2}}))).unwrap());
        let both = json!({"a": {"steps": 1}, "b": {"steps": 2}});
        assert_eq!(earlier(root.path()).unwrap().unwrap().recipe["method"], both);
        let error = open(root.path(), recipe(json!({"a": {"steps": 3}}))).unwrap_err().to_string();
        assert!(error.contains("`method.a.steps` is 1 there and 3 now"), "{error}");
        // The first entry, and none: the table is not there then.
        let bare = json!({"seed": 1});
        drop(open(root.path(), bare.clone()).unwrap());
        assert_eq!(earlier(root.path()).unwrap().unwrap().recipe["method"], both);
        let other = tempfile::tempdir().unwrap();
        drop(open(other.path(), bare).unwrap());
        drop(open(other.path(), recipe(both.clone())).unwrap());
        assert_eq!(earlier(other.path()).unwrap().unwrap().recipe["method"], both);
    }

    #[test]
    fn a_folder_of_other_files_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs_err::File::create(root.path().join("thesis.tex")).unwrap();
        assert!(matches!(open(root.path(), json!({})), Err(Error::OtherRun { .. })));
    }

    #[test]
    fn another_model_is_refused_at_every_session() {
        let root = tempfile::tempdir().unwrap();
        let machine = || Machine::here(Compute::new(Device::CPU, Precision::F32));
        let session = |hash: &str| {
            RunFolder::within(root.path(), &json!({}), &[], machine(), &mut Quiet, |run, _| {
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
            RunFolder::within(root.path(), &json!({}), &[], machine(), &mut Quiet, |run, _| {
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
