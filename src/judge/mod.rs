//! Judges take pictures and write down evidence for each. A judge is given pixels, never the model
//! that drew them, and shares no weights with it.
//!
//! A [`ClipEncoder`] turns pictures and texts into features (CLIP, twice: candle and libtorch); a
//! [`Head`] turns features into one logit for each class, from text prompts, prototypes or a linear
//! probe.

mod candle_clip;
mod candle_encoder;
mod clip_folder;
mod concept_detector;
mod features;
mod head;
mod preprocess;
mod torch_encoder;

use std::path::PathBuf;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

pub use candle_encoder::CandleClipEncoder;
pub use clip_folder::{ClipSource, lacking, needed};
pub use concept_detector::ConceptDetector;
pub use features::{FeatureCard, Features};
pub use head::{Head, ProbeSettings};
pub use torch_encoder::TorchClipEncoder;

use crate::pictures::Picture;
use crate::torch::Tensor;

/// Why a judge cannot judge.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder that holds no CLIP.
    #[error("{path} holds no CLIP that can judge: {why}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A folder that holds no safety checker.
    #[error("{path} holds no safety checker: {why}")]
    Checker {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A class without examples, or features of another width.
    #[error("{0}")]
    Head(String),
    // duplicate: a room's errors are what the rooms before it may say
    /// A configuration's field.
    #[error(transparent)]
    Fields(#[from] crate::fields::Error),
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A network.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] crate::text::Error),
    /// candle.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] crate::torch::Error),
}

/// The files of CLIP's folders whose fields are read here.
pub const PROCESSOR: crate::fields::Class = preprocess::CLASS;

/// What a CLIP sees in pictures, one row each.
#[derive(Debug, Clone)]
pub struct ImageFeatures {
    /// As they come, by which sets of pictures are compared (Kynkäänniemi et al. 2023).
    pub embeddings: Vec<Vec<f32>>,
    /// Of length 1, by which pictures are compared with texts.
    pub unit: Vec<Vec<f32>>,
}

/// A CLIP, which brings pictures and texts into one space.
pub trait ClipEncoder {
    /// Features of pictures.
    ///
    /// # Errors
    /// Whatever the network says.
    fn image_features(&self, pictures: &[Picture]) -> Result<ImageFeatures, Error>;

    /// Features of texts, one row of length 1 each.
    ///
    /// # Errors
    /// Whatever the network says.
    fn text_features(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Error>;

    /// The factor that turns cosines into logits.
    fn scale(&self) -> f32;

    /// Which CLIP it is.
    fn source(&self) -> &ClipSource;

    /// What it runs on: `candle` or `libtorch`.
    fn engine(&self) -> &'static str;
}

/// Judges pictures one batch at a time and writes down its evidence.
pub trait ImageJudge {
    /// What it is.
    fn card(&self) -> &JudgeCard;

    /// What it is asked about each picture.
    fn questions(&self) -> Vec<Question>;

    /// Pictures of one batch. On a CPU more are no faster, and evidence is kept more often.
    fn batch_size(&self) -> usize {
        if self.card().engine == "candle" { BATCH / 4 } else { BATCH }
    }

    /// The evidence of each picture, which was drawn for the prompt at the same place.
    ///
    /// # Errors
    /// Whatever the network says.
    fn judge(&self, pictures: &[Picture], prompts: &[String]) -> Result<Vec<Evidence>, Error>;
}

/// What a judge is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeCard {
    /// Where it was loaded from.
    pub path: PathBuf,
    /// Hash of its weights.
    pub hash: String,
    /// Hash of all that decides a verdict: weights, configuration, preprocessing, tokenizer,
    /// questions and their wordings, the decision, and the pictures that taught it.
    #[serde(default)]
    pub fingerprint: String,
    /// `candle` or `libtorch`.
    pub engine: String,
    /// `text`, `prototypes` or `probe`; a concept detector's `safety checker` or `texts`.
    pub decision: String,
}

/// One question: which of these classes is in the picture?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// `style`, `object` or, for a concept detector, `concept`.
    pub domain: String,
    /// The classes that can be the answer.
    pub classes: Vec<String>,
}

/// What a judge found in one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// One list of logits for each question.
    pub logits: Vec<Vec<f32>>,
    /// 100 · max(0, cosine of picture and prompt), where a prompt was given (Hessel et al. 2021, w
    /// = 100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_score: Option<f32>,
}

/// A judge: a CLIP encoder and one head for each question.
pub struct Judge {
    card: JudgeCard,
    encoder: Rc<dyn ClipEncoder>,
    heads: Vec<(Question, Head)>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("card", &self.card).finish_non_exhaustive()
    }
}

impl Judge {
    /// A judge that decides by text: `prompts[i]` are the wordings of class `i`.
    ///
    /// # Errors
    /// A folder that holds no CLIP.
    pub fn by_text(
        encoder: Box<dyn ClipEncoder>,
        questions: Vec<(Question, Vec<Vec<String>>)>,
    ) -> Result<Self, Error> {
        let taught = json(&questions)?;
        let heads = questions
            .into_iter()
            .map(|(question, prompts)| {
                let rows = prompts
                    .iter()
                    .map(|wordings| Ok(head::mean(&encoder.text_features(wordings)?)))
                    .collect::<Result<Vec<_>, Error>>()?;
                tells_apart(&question, &rows)?;
                Ok((question, Head::cosine(rows, encoder.scale())))
            })
            .collect::<Result<_, Error>>()?;
        Self::new("text", encoder, heads, &taught)
    }

    /// A judge that decides by what it was shown: pictures with the index of their class for each
    /// question.
    ///
    /// # Errors
    /// A class that no picture shows.
    pub fn by_example(
        encoder: Box<dyn ClipEncoder>,
        questions: Vec<Question>,
        examples: &[Picture],
        labels: &[Vec<usize>],
        probe: Option<ProbeSettings>,
    ) -> Result<Self, Error> {
        let mut content = blake3::Hasher::new();
        for picture in examples {
            content.update(&picture.rgb);
        }
        let taught = json(&(&questions, labels, content.finalize().to_hex().as_str()))?;
        let features = in_batches(examples, |batch| Ok(encoder.image_features(batch)?.unit))?;
        let heads = questions
            .into_iter()
            .zip(labels)
            .map(|(question, labels)| {
                let n = question.classes.len();
                let head = match probe {
                    Some(settings) => Head::probe(&features, labels, n, settings),
                    None => Head::prototypes(&features, labels, n, encoder.scale()),
                };
                Ok((question, head?))
            })
            .collect::<Result<_, Error>>()?;
        Self::new(if probe.is_some() { "probe" } else { "prototypes" }, encoder, heads, &taught)
    }

    fn new(
        decision: &str,
        encoder: Box<dyn ClipEncoder>,
        heads: Vec<(Question, Head)>,
        taught: &str,
    ) -> Result<Self, Error> {
        let ClipSource { path, hash, fingerprint, .. } = encoder.source().clone();
        let engine = encoder.engine().to_owned();
        let all = json(&(&fingerprint, &engine, decision, taught))?;
        let fingerprint = blake3::hash(all.as_bytes()).to_hex().to_string();
        let card = JudgeCard { path, hash, fingerprint, engine, decision: decision.to_owned() };
        Ok(Self { card, encoder: Rc::from(encoder), heads })
    }

    /// What was assumed or ignored while it was opened.
    pub fn notes(&self) -> &[String] {
        &self.encoder.source().notes
    }

    /// The evidence of one batch of pictures; with their prompts also how well each fits.
    ///
    /// # Errors
    /// Whatever the network says.
    pub fn see(
        &self,
        pictures: &[Picture],
        prompts: Option<&[String]>,
    ) -> Result<Vec<Evidence>, Error> {
        let features = self.encoder.image_features(pictures)?.unit;
        let scores = prompts
            .map(|prompts| {
                let texts = self.encoder.text_features(prompts)?;
                Ok::<_, Error>(
                    features
                        .iter()
                        .zip(&texts)
                        .map(|(a, b)| {
                            100.0 * a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().max(0.0)
                        })
                        .collect::<Vec<f32>>(),
                )
            })
            .transpose()?;
        let mut evidence = self.evidence(&features);
        for (seen, score) in evidence.iter_mut().zip(scores.into_iter().flatten()) {
            seen.clip_score = Some(score);
        }
        Ok(evidence)
    }

    /// What it says of pictures with these features of length 1.
    fn evidence(&self, unit: &[Vec<f32>]) -> Vec<Evidence> {
        let logits = |row| self.heads.iter().map(|(_, head)| head.logits(row)).collect();
        unit.iter().map(|row| Evidence { logits: logits(row), clip_score: None }).collect()
    }
}

impl ImageJudge for Judge {
    fn card(&self) -> &JudgeCard {
        &self.card
    }

    fn questions(&self) -> Vec<Question> {
        self.heads.iter().map(|(question, _)| question.clone()).collect()
    }

    fn judge(&self, pictures: &[Picture], prompts: &[String]) -> Result<Vec<Evidence>, Error> {
        self.see(pictures, Some(prompts))
    }
}

/// Refuses classes whose texts are one to the network: it would call every picture of both by one
/// name.
fn tells_apart(question: &Question, rows: &[Vec<f32>]) -> Result<(), Error> {
    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    for (i, row) in rows.iter().enumerate() {
        if let Some(first) = rows[..i].iter().position(|other| same(other, row)) {
            return Err(Error::Head(format!(
                "«{}» and «{}» are the same {} to the judge: they differ in letters that it does \
                 not tell apart, or behind where it stops reading; name one of them otherwise",
                question.classes[first], question.classes[i], question.domain
            )));
        }
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    Ok(serde_json::to_string(value).map_err(std::io::Error::other)?)
}

/// A matrix `[n, k]` on any device, row by row.
fn rows(features: &Tensor) -> Result<Vec<Vec<f32>>, Error> {
    let width = features.size()[1] as usize;
    let flat = Vec::<f32>::try_from(features.to_device(tch::Device::Cpu).flatten(0, -1))
        .map_err(crate::torch::Error::from)?;
    Ok(flat.chunks(width).map(<[f32]>::to_vec).collect())
}

/// Pictures of one batch.
pub const BATCH: usize = 64;

/// Applies `judge` to the pictures batch by batch.
pub(crate) fn in_batches<T>(
    pictures: &[Picture],
    judge: impl Fn(&[Picture]) -> Result<Vec<T>, Error>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::with_capacity(pictures.len());
    for batch in pictures.chunks(BATCH) {
        all.extend(judge(batch)?);
    }
    Ok(all)
}
