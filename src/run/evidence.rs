//! The evidence of a run: what a judge said of each picture, a line of JSON each. What a line is
//! worth depends on the picture's content and on all that decides a verdict, so both are in it; a
//! line of another picture or another judge is never taken for one's own.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::Error;
use crate::judge::{Evidence, Question};
use crate::measure::{Domain, Margin, PictureStats};
use crate::watch::Watch;

/// What a judge said of one picture, and what of.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedImage<A> {
    /// Which set of pictures it is of: `base`, `reference`, or a target with its method.
    pub subject: String,
    /// What was asked for.
    pub asked: A,
    /// Hash of the picture's file.
    pub picture: String,
    /// Fingerprint of the judge and of what it was asked.
    pub judge: String,
    /// Deviation of the picture's pixels, 0 to 127: near 0 it is blank.
    pub contrast: f32,
    /// What the judge said, one list of logits for each question.
    pub evidence: Evidence,
}

impl<A> JudgedImage<A> {
    /// What there is to be seen in it at all.
    pub fn stats(&self) -> PictureStats<'_> {
        // The first question's logits tell pictures apart as well as all.
        PictureStats {
            contrast: self.contrast,
            logits: self.evidence.logits.first().map_or(&[], Vec::as_slice),
        }
    }

    /// The probabilities of a domain's classes.
    pub fn probabilities(&self, questions: &[Question], domain: Domain) -> Vec<f64> {
        probabilities(&self.evidence, questions, domain)
    }

    /// How surely it was called something in a domain; `None` where there is nothing else there.
    pub fn margin(&self, questions: &[Question], domain: Domain) -> Option<Margin> {
        Margin::of(answer_to(&self.evidence, questions, domain)?.1)
    }

    /// The class of a domain that it was called.
    pub fn class(&self, questions: &[Question], domain: Domain) -> usize {
        named(&self.evidence, questions, domain).class
    }
}

/// The class of a domain that a network saw, and how sure it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Classified {
    /// The class, by number.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
}

/// The question about a domain, and the logits that answer it.
pub(super) fn answer_to<'a>(
    evidence: &'a Evidence,
    questions: &'a [Question],
    domain: Domain,
) -> Option<(&'a Question, &'a [f32])> {
    let mut asked = questions.iter().zip(&evidence.logits);
    let (question, logits) = asked.find(|(question, _)| question.domain == domain.name())?;
    Some((question, logits))
}

/// The probabilities of a domain's classes.
pub fn probabilities(evidence: &Evidence, questions: &[Question], domain: Domain) -> Vec<f64> {
    let logits = answer_to(evidence, questions, domain).map_or(&[][..], |(_, logits)| logits);
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let each: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - most).exp()).collect();
    let sum: f64 = each.iter().sum();
    each.into_iter().map(|weight| weight / sum).collect()
}

/// What it called a picture.
pub fn named(evidence: &Evidence, questions: &[Question], domain: Domain) -> Classified {
    let each = probabilities(evidence, questions, domain);
    let class =
        (0..each.len()).max_by(|&a, &b| each[a].total_cmp(&each[b]).then(b.cmp(&a))).unwrap_or(0);
    Classified { class, probability: each.get(class).copied().unwrap_or(0.0) }
}

/// A line as it is written: logits carry their classes' names.
#[derive(Serialize)]
struct LineToWrite<'a, A> {
    subject: &'a str,
    #[serde(flatten)]
    asked: &'a A,
    picture: &'a str,
    judge: &'a str,
    contrast: f32,
    logits: LogitsByName<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clip_score: Option<f32>,
}

struct LogitsByName<'a>(&'a [Question], &'a [Vec<f32>]);

impl Serialize for LogitsByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (question, logits) in self.0.iter().zip(self.1) {
            map.serialize_entry(&question.domain, &LogitsByClass(&question.classes, logits))?;
        }
        map.end()
    }
}

struct LogitsByClass<'a>(&'a [String], &'a [f32]);

impl Serialize for LogitsByClass<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

/// A line as it is read.
#[derive(Deserialize)]
struct LineRead<A> {
    subject: String,
    #[serde(flatten)]
    asked: A,
    picture: String,
    judge: String,
    contrast: f32,
    logits: BTreeMap<String, BTreeMap<String, f32>>,
    #[serde(default)]
    clip_score: Option<f32>,
}

impl<A> LineRead<A> {
    /// The logits in the questions' order; `None` where a class has none.
    fn in_order(self, questions: &[Question]) -> Option<JudgedImage<A>> {
        let logits = questions
            .iter()
            .map(|question| {
                let of_classes = self.logits.get(&question.domain)?;
                question.classes.iter().map(|class| of_classes.get(class).copied()).collect()
            })
            .collect::<Option<Vec<Vec<f32>>>>()?;
        Some(JudgedImage {
            subject: self.subject,
            asked: self.asked,
            picture: self.picture,
            judge: self.judge,
            contrast: self.contrast,
            evidence: Evidence { logits, clip_score: self.clip_score },
        })
    }
}

/// A line of the file.
#[derive(Debug)]
struct EvidenceLine {
    text: String,
    subject: String,
    judge: String,
    picture: String,
    /// What was asked for, in JSON.
    asked: String,
}

/// Fields of a line that do not say what was asked for.
const OF_EVIDENCE: [&str; 6] = ["subject", "picture", "judge", "contrast", "logits", "clip_score"];

impl EvidenceLine {
    /// `None` for a line that is none of evidence.
    fn of(text: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(text).ok()? else { return None };
        let take = |name: &str| fields.get(name)?.as_str().map(str::to_owned);
        let (subject, judge, picture) = (take("subject")?, take("judge")?, take("picture")?);
        fields.get("logits")?.as_object()?;
        for key in OF_EVIDENCE {
            fields.shift_remove(key);
        }
        Some(Self {
            text: text.to_owned(),
            subject,
            judge,
            picture,
            asked: Value::Object(fields).to_string(),
        })
    }
}

/// An evidence file that is open; no other process can open it meanwhile.
#[derive(Debug)]
pub struct EvidenceFile {
    path: PathBuf,
    file: fs_err::File,
    lines: Vec<EvidenceLine>,
}

impl EvidenceFile {
    /// Opens a file, or makes it. Lines that were cut off or that an older version wrote are left
    /// out.
    ///
    /// # Errors
    /// A file of something else, which stays as it is; another process that works in it.
    pub fn open(path: &Path, watch: &mut dyn Watch) -> Result<Self, Error> {
        let wrong = |n: usize| {
            Error::Unknown(format!(
                "{} is no evidence file (line {n} is no verdict of a judge), so nothing is written \
                 into it; name another file, or remove it",
                path.display()
            ))
        };
        if let Some(folder) = path.parent() {
            crate::files::create_folder(folder)?;
        }
        let file = locked(path)?;
        let (mut lines, mut old, mut cut) = (Vec::new(), 0, false);
        let mut reader = std::io::BufReader::new(file.file());
        for n in 1.. {
            let mut bytes = Vec::new();
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            let whole = bytes.ends_with(b"\n");
            let text = String::from_utf8(bytes).map_err(|_| wrong(n))?;
            if let Some(line) = EvidenceLine::of(text.trim_end()) {
                lines.push(line);
                cut |= !whole;
            } else if is_old(&text) {
                old += 1;
            } else if !whole && text.starts_with("{\"subject\"") {
                // Whoever wrote it was killed.
                cut = true;
            } else {
                return Err(wrong(n));
            }
        }
        if old > 0 {
            watch.note(&format!(
                "{}: {old} verdicts of an older version are left out, since they do not say of \
                 which pictures and questions they are; these pictures are judged again",
                path.display()
            ));
        }
        let mut evidence = Self { path: path.to_path_buf(), file, lines };
        if cut || old > 0 {
            evidence.rewrite()?;
        }
        Ok(evidence)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What this judge said of a subject's pictures, by picture and by what was asked, in JSON.
    pub fn known<A: DeserializeOwned>(
        &self,
        judge: &str,
        subject: &str,
        questions: &[Question],
    ) -> HashMap<(String, String), JudgedImage<A>> {
        let lines = self.lines.iter().filter(|line| line.judge == judge && line.subject == subject);
        lines
            .filter_map(|line| {
                // A line of another kind of picture is no error.
                let read: LineRead<A> = serde_json::from_str(&line.text).ok()?;
                Some(((line.picture.clone(), line.asked.clone()), read.in_order(questions)?))
            })
            .collect()
    }

    /// Takes out what a judge said of other pictures that were this subject's: `current` are its
    /// pictures by what was asked.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget_others(
        &mut self,
        judge: &str,
        subject: &str,
        current: &HashMap<String, String>,
    ) -> Result<(), Error> {
        let before = self.lines.len();
        self.lines.retain(|line| {
            let same = line.judge == judge && line.subject == subject;
            !same || current.get(&line.asked).is_none_or(|picture| *picture == line.picture)
        });
        if self.lines.len() == before { Ok(()) } else { self.rewrite() }
    }

    /// Adds lines; they are in the file when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add<A: Serialize>(
        &mut self,
        judged: &[JudgedImage<A>],
        questions: &[Question],
    ) -> Result<(), Error> {
        let mut all = String::new();
        for image in judged {
            let text = json(&LineToWrite {
                subject: &image.subject,
                asked: &image.asked,
                picture: &image.picture,
                judge: &image.judge,
                contrast: image.contrast,
                logits: LogitsByName(questions, &image.evidence.logits),
                clip_score: image.evidence.clip_score,
            })?;
            all.push_str(&text);
            all.push('\n');
            let (subject, judge, picture) =
                (image.subject.clone(), image.judge.clone(), image.picture.clone());
            self.lines.push(EvidenceLine {
                text,
                subject,
                judge,
                picture,
                asked: json(&image.asked)?,
            });
        }
        Ok(self.file.write_all(all.as_bytes())?)
    }

    /// Writes the lines anew, whole or not at all. The new file is locked before it takes the old
    /// one's place.
    fn rewrite(&mut self) -> Result<(), Error> {
        let all: String = self.lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect();
        let mut locked = None;
        crate::files::whole(&self.path, |half| {
            half.write_all(all.as_bytes())?;
            let file = fs_err::OpenOptions::new().append(true).open(half.path())?;
            file.file().try_lock().map_err(std::io::Error::other)?;
            locked = Some(file);
            Ok::<_, std::io::Error>(())
        })?;
        if let Some(file) = locked {
            self.file = file;
        }
        Ok(())
    }
}

/// Whether a line is evidence as versions before this layout wrote it.
fn is_old(text: &str) -> bool {
    let line: Value = serde_json::from_str(text).unwrap_or_default();
    line["subject"].is_string() && line["judge"].is_string() && line["evidence"].is_object()
}

/// Opens a file to read and append, which no other process has open so.
fn locked(path: &Path) -> Result<fs_err::File, Error> {
    use std::os::unix::fs::MetadataExt as _;
    loop {
        let file = fs_err::OpenOptions::new().create(true).read(true).append(true).open(path)?;
        if file.file().try_lock().is_err() {
            return Err(Error::Locked(path.to_path_buf()));
        }
        // Whoever had it may have put another file in its place since.
        match fs_err::metadata(path) {
            Ok(now) if now.ino() == file.metadata()?.ino() => return Ok(file),
            _ => {}
        }
    }
}

/// A value as one line of JSON.
///
/// # Errors
/// A value that JSON cannot have.
pub fn json(value: &impl Serialize) -> Result<String, Error> {
    Ok(serde_json::to_string(value).map_err(std::io::Error::other)?)
}
