//! Lets the judge look at a folder of pictures, and keeps all it says as JSON lines.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::judge::{BATCH, Evidence, Look, Question};
use crate::measure::{Answer, Domain, Seen};
use crate::pictures::Picture;
use crate::watch::Watch;

/// One line of `evidence.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked<A> {
    /// Whose pictures: `base`, or `erased` with the target.
    pub subject: String,
    /// What was asked for.
    #[serde(flatten)]
    pub asked: A,
    /// Hash of the judge's weights, its first twelve digits.
    pub judge: String,
    /// What the judge said, one list of logits for each question.
    pub evidence: Evidence,
}

/// What a picture was asked to show.
pub trait Asked: Clone + Eq + Hash + Serialize + DeserializeOwned {
    /// In words.
    fn prompt(&self) -> String;
}

impl Asked for Answer {
    fn prompt(&self) -> String {
        Self::prompt(self)
    }
}

impl Looked<Answer> {
    /// What the judge called the picture.
    pub fn seen(&self, questions: &[Question]) -> Seen {
        let named = |domain: Domain| {
            questions
                .iter()
                .zip(&self.evidence.logits)
                .find(|(question, _)| question.domain == domain.name())
                .and_then(|(question, logits)| {
                    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))?;
                    question.classes.get(best).cloned()
                })
                .unwrap_or_default()
        };
        Seen {
            answer: self.asked.clone(),
            style: named(Domain::Style),
            object: named(Domain::Object),
            clip_score: self.evidence.clip_score,
        }
    }
}

/// Reads evidence; a last line that was cut off is left out.
///
/// # Errors
/// The file cannot be read.
pub fn read_evidence<A: DeserializeOwned>(path: &Path) -> Result<Vec<Looked<A>>, Error> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = std::io::BufReader::new(fs_err::File::open(path)?);
    let mut all = Vec::new();
    for line in file.lines() {
        if let Ok(looked) = serde_json::from_str(&line?) {
            all.push(looked);
        }
    }
    Ok(all)
}

/// Judges the pictures of a subject that have no evidence yet, and returns all of its evidence in the
/// pictures' order.
///
/// # Errors
/// A picture that is missing or cannot be read; interruption.
pub fn judge_pictures<A: Asked>(
    judge: &dyn Look,
    evidence: &Path,
    subject: &str,
    pictures: &[(A, PathBuf)],
    watch: &mut dyn Watch,
) -> Result<Vec<Looked<A>>, Error> {
    let hash = judge.card().hash[..12].to_owned();
    let kept: Vec<Looked<A>> =
        read_evidence(evidence)?.into_iter().filter(|looked| looked.judge == hash).collect();
    let text = kept.iter().map(line).collect::<Result<String, _>>()?;
    // A line that was cut off, or of another judge, must not stay in the file.
    if !evidence.exists() || fs_err::metadata(evidence)?.len() != text.len() as u64 {
        crate::files::write(evidence, text.as_bytes())?;
    }
    let mut known: HashMap<A, Looked<A>> = kept
        .into_iter()
        .filter(|looked| looked.subject == subject)
        .map(|looked| (looked.asked.clone(), looked))
        .collect();

    let mut file = fs_err::OpenOptions::new().append(true).open(evidence)?;
    let missing: Vec<&(A, PathBuf)> =
        pictures.iter().filter(|(asked, _)| !known.contains_key(asked)).collect();
    watch.begin(&format!("judging {subject}"), pictures.len() as u64);
    let mut done = (pictures.len() - missing.len()) as u64;
    watch.at(done, "");
    for batch in missing.chunks(BATCH) {
        let opened = batch.iter().map(|(_, path)| Picture::open(path)).collect::<Result<Vec<_>, _>>()?;
        let prompts: Vec<String> = batch.iter().map(|(asked, _)| asked.prompt()).collect();
        let evidence = judge.look(&opened, &prompts)?;
        let mut lines = String::new();
        for ((asked, _), evidence) in batch.iter().zip(evidence) {
            let looked =
                Looked { subject: subject.to_owned(), asked: asked.clone(), judge: hash.clone(), evidence };
            lines.push_str(&line(&looked)?);
            known.insert(asked.clone(), looked);
        }
        file.write_all(lines.as_bytes())?;
        done += batch.len() as u64;
        watch.at(done, "");
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    Ok(pictures.iter().filter_map(|(asked, _)| known.get(asked).cloned()).collect())
}

fn line<A: Serialize>(looked: &Looked<A>) -> Result<String, Error> {
    Ok(serde_json::to_string(looked).map_err(std::io::Error::other)? + "\n")
}
