//! The judge of a run: opened as the pipeline says, asked the answer set's questions, and judged
//! itself.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::canvas::{self, Pose};
use crate::judge::{
    CandleClipEncoder, ClipEncoder, Evidence, Features, ImageJudge as _, Judge, JudgeCard,
    ProbeSettings, Question, TorchClipEncoder, in_batches,
};
use crate::measure::{
    Answer, AnswerSet, Domain, JudgeAccuracy, KnownPicture, Reference, TargetClass,
};
use crate::pictures::{Picture, Remarks, sole};
use crate::pipeline::{ALIGNED_CANVAS, CANVAS, JudgeSettings, shipped_or_path};
use crate::run::Error;
use crate::run::evidence::{EvidenceFile, JudgedImage, named};
use crate::run::judging::{PictureSource, Unprompted, hash_of, judge_pictures, short};
use crate::run::opening::say_commit;
use crate::torch::Device;
use crate::watch::Watch;

/// The judge, and how good it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JudgeReport {
    /// Which it is.
    #[serde(flatten)]
    pub card: JudgeCard,
    /// Its accuracy on pictures whose truth is known; empty where there are none.
    pub on_reference: Vec<JudgeAccuracy>,
    /// Share of the base model's pictures that it names as they were asked for: style, object.
    pub on_base: Vec<JudgeAccuracy>,
}

/// A judge with its questions and its reference pictures.
#[derive(Debug)]
pub struct ReferenceJudge {
    /// The network that names classes.
    pub judge: Judge,
    settings: JudgeSettings,
    set: AnswerSet,
}

impl ReferenceJudge {
    /// Opens the judge that the settings name and asks it the set's questions.
    ///
    /// # Errors
    /// A folder that holds no CLIP, settings that are not known, examples that are missing.
    pub fn open(
        settings: &JudgeSettings,
        set: &AnswerSet,
        device: Device,
        watch: &mut dyn Watch,
    ) -> Result<Self, Error> {
        let folder = shipped_or_path(settings.path())?;
        say_commit(&folder, watch);
        let encoder = clip_encoder(&folder, settings.engine(), device)?;
        let question = |domain: Domain| Question {
            domain: domain.name().to_owned(),
            classes: set.classes(domain).to_vec(),
        };
        let questions = [question(Domain::Style), question(Domain::Object)];
        let judge = match settings.decide() {
            "text" => Judge::by_text(encoder, wordings(questions))?,
            "prototypes" | "probe" => {
                // The pictures that teach come after those that measure.
                let examples = pictures(settings, set, settings.check(), settings.teach())?;
                if examples.is_empty() {
                    return Err(Error::Unknown(format!(
                        "a judge that decides by {} must be shown examples: set judge.reference",
                        settings.decide()
                    )));
                }
                let labels = [Domain::Style, Domain::Object].map(|domain| {
                    let classes = set.classes(domain);
                    let label = |(answer, _): &(Answer, ReferencePicture)| {
                        classes.iter().position(|class| class == answer.wanted(domain)).unwrap_or(0)
                    };
                    examples.iter().map(label).collect::<Vec<usize>>()
                });
                let pictures = opened(&examples, watch)?;
                let probe = (settings.decide() == "probe").then(ProbeSettings::default);
                Judge::by_example(encoder, questions.to_vec(), &pictures, &labels, probe)?
            }
            other => {
                return Err(Error::Unknown(format!(
                    "judge.decide is `{other}`; use text, prototypes or probe"
                )));
            }
        };
        judge.notes().iter().for_each(|note| watch.note(note));
        Ok(Self { judge, settings: settings.clone(), set: set.clone() })
    }

    /// Which judge it is.
    pub fn card(&self) -> &JudgeCard {
        self.judge.card()
    }

    /// The features that sets of pictures are compared by: Inception-v3's where its weights are
    /// given, else the judge's own.
    ///
    /// # Errors
    /// A file that holds no such network.
    pub fn features(&self, inception: Option<&Path>, device: Device) -> Result<Features, Error> {
        Ok(match inception {
            Some(file) => Features::inception(file, device)?,
            None => Features::of_judge(&self.judge),
        })
    }

    /// What it is asked.
    pub fn questions(&self) -> Vec<Question> {
        self.judge.questions()
    }

    /// Pictures whose truth is known, `n` of each style × object from index `first` on; none where
    /// there is no reference.
    ///
    /// # Errors
    /// Reference pictures that are missing.
    pub fn known(
        &self,
        first: u32,
        n: u32,
        watch: &mut dyn Watch,
    ) -> Result<Vec<(Answer, Picture)>, Error> {
        let known = pictures(&self.settings, &self.set, first, n)?;
        let opened = opened(&known, watch)?;
        Ok(known.into_iter().map(|(answer, _)| answer).zip(opened).collect())
    }

    /// Which pictures it calls by a target's name.
    ///
    /// # Errors
    /// Whatever the network says; a target that is none of the classes.
    pub fn called(&self, target: &TargetClass, pictures: &[Picture]) -> Result<Vec<bool>, Error> {
        let class = self.set.class(target)?;
        let questions = self.questions();
        let evidence = in_batches(pictures, |batch| self.judge.see(batch, None))?;
        let called = |seen: &Evidence| named(seen, &questions, target.domain).class == class;
        Ok(evidence.iter().map(called).collect())
    }

    /// Lets the judge name pictures whose truth is known; `None` where there are none. What it says
    /// is evidence too.
    ///
    /// # Errors
    /// Reference pictures that are missing.
    pub fn check(
        &self,
        evidence: &mut EvidenceFile,
        watch: &mut dyn Watch,
    ) -> Result<Option<Reference>, Error> {
        let known = pictures(&self.settings, &self.set, 0, self.settings.check())?;
        if known.is_empty() {
            return Ok(None);
        }
        let judged =
            judge_pictures(&Unprompted(&self.judge), evidence, "reference", &known, watch)?;
        let known = judged.iter().map(|judged| (&judged.asked, &judged.evidence.logits));
        Ok(Some(reference(&self.set, known)?))
    }

    /// What is to be said about the judge beside its verdicts.
    ///
    /// # Errors
    /// Evidence of pictures that are not in the set.
    pub fn report(
        &self,
        on_known: Option<&Reference>,
        base: &[JudgedImage<Answer>],
    ) -> Result<JudgeReport, Error> {
        let both = |known: &Reference| self.judgings(known);
        Ok(JudgeReport {
            card: self.card().clone(),
            on_reference: on_known.map(both).unwrap_or_default(),
            on_base: self.agreement(base)?,
        })
    }

    /// How often it names pictures as they were asked for: style, object. Empty where there are
    /// none.
    ///
    /// # Errors
    /// Evidence of pictures that are not in the set.
    pub fn agreement(&self, judged: &[JudgedImage<Answer>]) -> Result<Vec<JudgeAccuracy>, Error> {
        if judged.is_empty() {
            return Ok(Vec::new());
        }
        let known = reference(
            &self.set,
            judged.iter().map(|image| (&image.asked, &image.evidence.logits)),
        )?;
        Ok(self.judgings(&known))
    }

    /// Of each domain in which there is something to tell apart.
    fn judgings(&self, known: &Reference) -> Vec<JudgeAccuracy> {
        let domains = [Domain::Style, Domain::Object].into_iter();
        domains
            .filter(|domain| !self.set.is_single(*domain))
            .map(|domain| known.judging(domain))
            .collect()
    }
}

/// A CLIP of either kind: on a GPU libtorch's, on a CPU candle's, unless one is named.
pub(super) fn clip_encoder(
    folder: &Path,
    engine: &str,
    device: Device,
) -> Result<Box<dyn ClipEncoder>, Error> {
    match (engine, device.is_cuda()) {
        ("candle", _) | ("auto", false) => Ok(Box::new(CandleClipEncoder::open(folder)?)),
        ("libtorch", _) | ("auto", true) => Ok(Box::new(TorchClipEncoder::open(folder, device)?)),
        (other, _) => Err(Error::Unknown(format!(
            "the judge's engine is `{other}`; use candle or libtorch, or auto"
        ))),
    }
}

fn reference<'a>(
    set: &AnswerSet,
    known: impl Iterator<Item = (&'a Answer, &'a Vec<Vec<f32>>)>,
) -> Result<Reference, Error> {
    let known = known.map(|(answer, logits)| KnownPicture {
        style: &answer.style,
        object: &answer.object,
        style_logits: &logits[0],
        object_logits: &logits[1],
    });
    Ok(Reference::new(set, known)?)
}

/// Each class in words: the judge learned bare styles and bare objects.
fn wordings([styles, objects]: [Question; 2]) -> Vec<(Question, Vec<Vec<String>>)> {
    let spaced = canvas::spaced;
    let style = |name: &String| {
        vec![format!("An image in {} style.", spaced(name)), format!("{} style", spaced(name))]
    };
    let object = |name: &String| {
        vec![format!("a picture of a {}", spaced(name)), format!("A {} image.", spaced(name))]
    };
    let (style_words, object_words) =
        (styles.classes.iter().map(style).collect(), objects.classes.iter().map(object).collect());
    vec![(styles, style_words), (objects, object_words)]
}

/// The canvas seed of reference pictures: neither the generator nor the judge learned from it.
const REFERENCE_CANVAS_SEED: u64 = 3;

/// A picture whose truth is known.
enum ReferencePicture {
    File(PathBuf),
    Canvas(Answer, Pose),
}

impl PictureSource for ReferencePicture {
    fn hash(&self) -> Result<String, Error> {
        match self {
            Self::File(path) => hash_of(path),
            Self::Canvas(answer, pose) => {
                Ok(short(&blake3::hash(&from_canvas(answer, *pose)?.rgb)))
            }
        }
    }

    fn open(&self, remarks: &mut Remarks) -> Result<Picture, Error> {
        match self {
            Self::File(path) => Ok(Picture::open_noting(path, remarks)?),
            Self::Canvas(answer, pose) => from_canvas(answer, *pose),
        }
    }
}

fn opened(
    known: &[(Answer, ReferencePicture)],
    watch: &mut dyn Watch,
) -> Result<Vec<Picture>, Error> {
    let mut remarks = Remarks::default();
    let pictures =
        known.iter().map(|(_, known)| known.open(&mut remarks)).collect::<Result<_, _>>()?;
    remarks.sentences().iter().for_each(|remark| watch.note(remark));
    Ok(pictures)
}

/// Pictures whose truth is known, `n` of each style × object from index `first` on.
fn pictures(
    settings: &JudgeSettings,
    set: &AnswerSet,
    first: u32,
    n: u32,
) -> Result<Vec<(Answer, ReferencePicture)>, Error> {
    let Some(source) = settings.reference() else { return Ok(Vec::new()) };
    let seeds = (first..first + n).map(u64::from).collect();
    (AnswerSet { seeds, ..set.clone() })
        .answers()
        .into_iter()
        .map(|answer| {
            let known = if let Some(pose) = pose_of(source) {
                ReferencePicture::Canvas(answer.clone(), pose)
            } else {
                let cell = Path::new(source).join(&answer.style).join(&answer.object);
                ReferencePicture::File(sole(&cell.join((answer.seed + 1).to_string()))?)
            };
            Ok((answer, known))
        })
        .collect()
}

/// How the canvas' objects stand where it is the canvas that draws the reference.
pub fn pose_of(reference: &str) -> Option<Pose> {
    match reference {
        CANVAS => Some(Pose::Free),
        ALIGNED_CANVAS => Some(Pose::Aligned),
        _ => None,
    }
}

fn from_canvas(answer: &Answer, pose: Pose) -> Result<Picture, Error> {
    let style = canvas::Style::ALL.iter().find(|style| style.name() == answer.style);
    let object = canvas::Object::ALL.iter().find(|object| object.name() == answer.object);
    let (Some(&style), Some(&object)) = (style, object) else {
        return Err(Error::Unknown(format!(
            "the canvas does not know {} × {}; set the reference to a folder of known pictures, or \
             to none",
            answer.style, answer.object
        )));
    };
    let rgb = canvas::draw_posed(REFERENCE_CANVAS_SEED, style, object, answer.seed as u32, pose);
    Ok(Picture { width: canvas::SIDE, height: canvas::SIDE, rgb })
}
