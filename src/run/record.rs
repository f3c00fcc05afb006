//! `run.json`: what was run, on what, with which weights, and how far it got.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use crate::generator::ModelCard;
use crate::hub::commit_of;
use crate::torch::{Compute, MemoryMode, Peak};

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

/// Version 3 has one recipe for every study.
pub(super) const SCHEMA: u32 = 3;

/// Version and commit of this program.
pub(super) fn build() -> String {
    concat!(env!("CARGO_PKG_VERSION"), "+", env!("UNSEE_COMMIT")).to_owned()
}

/// The time, UTC.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Record {
    /// Of a run that begins now.
    pub(super) fn new(recipe: Value, machine: Machine) -> Self {
        Self {
            schema: SCHEMA,
            status: Status::Running,
            recipe,
            build: build(),
            machine,
            hashes: BTreeMap::new(),
            batch: None,
            phases: Vec::new(),
            artifacts: Vec::new(),
            remarks: Vec::new(),
            began: now(),
            updated: now(),
        }
    }

    /// Notes which model this is: its hash, and its commit where it came from the hub.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn sign(&mut self, role: &str, card: &ModelCard) -> Result<(), Error> {
        self.bind(role, &card.hash)?;
        self.bind(&format!("{role}'s configuration"), &card.settings)?;
        if let Some(commit) = commit_of(&card.path) {
            self.hashes.insert("commit".to_owned(), commit);
        }
        Ok(())
    }

    /// Adds what was said, each once.
    pub(super) fn remember(&mut self, said: &[String]) {
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
    pub fn bind(&mut self, role: &str, hash: &str) -> Result<(), Error> {
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
