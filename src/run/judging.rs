//! Lets the judge look at pictures, and keeps all it says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::evidence::{EvidenceFile, JudgedImage, answer_to, json};
use crate::judge::{Error as JudgeError, Evidence, ImageJudge, Judge, JudgeCard, Question};
use crate::measure::{Answer, Domain, JudgedAnswer, argmax};
use crate::pictures::{Picture, Remarks};
use crate::watch::Watch;

/// What a picture was asked to show.
pub trait PictureKey: Clone + Serialize + DeserializeOwned {
    /// In words.
    fn prompt(&self) -> String;
}

impl PictureKey for Answer {
    fn prompt(&self) -> String {
        Self::prompt(self)
    }
}

/// A picture that can be looked at.
pub trait PictureSource {
    /// Hash of its content.
    ///
    /// # Errors
    /// A picture that is missing.
    fn hash(&self) -> Result<String, Error>;

    /// Its pixels; what was done to them on the way is added to `remarks`.
    ///
    /// # Errors
    /// A picture that is missing or damaged.
    fn open(&self, remarks: &mut Remarks) -> Result<Picture, Error>;
}

impl PictureSource for PathBuf {
    fn hash(&self) -> Result<String, Error> {
        hash_of(self)
    }

    fn open(&self, remarks: &mut Remarks) -> Result<Picture, Error> {
        Ok(Picture::open_noting(self, remarks)?)
    }
}

/// Digits of a hash in evidence: enough that no two pictures of a study have the same.
const DIGITS: usize = 24;

/// Hash of a file's content, as evidence has it.
///
/// # Errors
/// A file that cannot be read.
pub fn hash_of(path: &Path) -> Result<String, Error> {
    Ok(short(&blake3::hash(&fs_err::read(path)?)))
}

/// A hash as evidence has it.
pub fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..DIGITS].to_owned()
}

impl JudgedImage<Answer> {
    /// What the judge called the picture.
    pub fn seen(&self, questions: &[Question]) -> JudgedAnswer {
        let named = |domain: Domain| {
            let answer = answer_to(&self.evidence, questions, domain);
            answer
                .and_then(|(question, logits)| question.classes.get(argmax(logits)).cloned())
                .unwrap_or_default()
        };
        JudgedAnswer {
            answer: self.asked.clone(),
            style: named(Domain::Style),
            object: named(Domain::Object),
            clip_score: self.evidence.clip_score,
            contrast: self.contrast,
            logits: self.evidence.logits.concat(),
            margins: [Domain::Style, Domain::Object].map(|domain| self.margin(questions, domain)),
        }
    }
}

/// A judge of pictures that no prompt asked for.
pub struct Unprompted<'a>(pub &'a Judge);

impl ImageJudge for Unprompted<'_> {
    fn card(&self) -> &JudgeCard {
        self.0.card()
    }

    fn questions(&self) -> Vec<Question> {
        self.0.questions()
    }

    fn judge(&self, pictures: &[Picture], _: &[String]) -> Result<Vec<Evidence>, JudgeError> {
        self.0.see(pictures, None)
    }
}

/// Judges the pictures of a subject that this judge has not seen yet, and returns all of its
/// evidence in the pictures' order. Says how much was known.
///
/// # Errors
/// A picture that is missing or cannot be read; a verdict that is no number; interruption.
pub fn judge_pictures<A: PictureKey, S: PictureSource>(
    judge: &dyn ImageJudge,
    evidence: &mut EvidenceFile,
    subject: &str,
    pictures: &[(A, S)],
    watch: &mut dyn Watch,
) -> Result<Vec<JudgedImage<A>>, Error> {
    let fingerprint = judge.card().fingerprint[..DIGITS].to_owned();
    let questions = judge.questions();
    watch.begin(&format!("judging {subject}"), pictures.len() as u64);
    let keys = pictures
        .iter()
        .map(|(asked, picture)| Ok((picture.hash()?, json(asked)?)))
        .collect::<Result<Vec<(String, String)>, Error>>()?;
    let current: HashMap<String, String> =
        keys.iter().map(|(picture, asked)| (asked.clone(), picture.clone())).collect();
    evidence.forget_others(&fingerprint, subject, &current)?;
    let mut known = evidence.known::<A>(&fingerprint, subject, &questions);
    let missing: Vec<usize> =
        (0..pictures.len()).filter(|&i| !known.contains_key(&keys[i])).collect();
    let mut done = (pictures.len() - missing.len()) as u64;
    if done > 0 {
        watch.note(&format!(
            "{done} of {} verdicts on {subject} are taken from {}: the same pictures, judge and \
             questions",
            pictures.len(),
            evidence.path().display()
        ));
    }
    watch.at(done, "");
    let mut remarks = Remarks::default();
    for batch in missing.chunks(judge.batch_size()) {
        let opened = batch
            .iter()
            .map(|&i| pictures[i].1.open(&mut remarks))
            .collect::<Result<Vec<_>, _>>()?;
        let prompts: Vec<String> = batch.iter().map(|&i| pictures[i].0.prompt()).collect();
        let seen = judge.judge(&opened, &prompts)?;
        let mut judged = Vec::with_capacity(batch.len());
        for ((&i, picture), seen) in batch.iter().zip(&opened).zip(seen) {
            if !seen.logits.iter().flatten().chain(&seen.clip_score).all(|logit| logit.is_finite())
            {
                return Err(Error::Unknown(format!(
                    "the judge's logits for {subject} «{}» are no numbers; its weights overflow \
                     here (try another engine)",
                    pictures[i].0.prompt()
                )));
            }
            judged.push(JudgedImage {
                subject: subject.to_owned(),
                asked: pictures[i].0.clone(),
                picture: keys[i].0.clone(),
                judge: fingerprint.clone(),
                contrast: picture.contrast(),
                evidence: seen,
            });
        }
        evidence.add(&judged, &questions)?;
        known.extend(batch.iter().map(|&i| keys[i].clone()).zip(judged));
        done += batch.len() as u64;
        watch.at(done, "");
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    watch.end();
    remarks.sentences().iter().for_each(|remark| watch.note(remark));
    Ok(keys.iter().filter_map(|key| known.get(key).cloned()).collect())
}
