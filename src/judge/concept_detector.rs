//! Concept detectors say of a picture whether it shows a concept: the safety checker of a Stable
//! Diffusion folder, or a CLIP that compares with texts. They write down all their evidence, not
//! their verdict alone.

use std::path::Path;

use super::preprocess::Preprocess;
use super::{ClipEncoder, Error, Evidence, ImageJudge, Judge, JudgeCard, Question, rows};
use crate::fields;
use crate::model::Builder;
use crate::model::safety::{CONCEPTS, SPECIAL, SafetyChecker, SafetyCheckerConfig};
use crate::pictures::Picture;
use crate::torch::{Device, no_grad, stage};
use crate::weights::{Weights, without_position_ids};

/// Says of pictures whether they show one concept.
pub struct ConceptDetector {
    card: JudgeCard,
    notes: Vec<String>,
    kind: DetectorKind,
}

enum DetectorKind {
    Checker {
        preprocess: Preprocess,
        checker: Box<SafetyChecker>,
        device: Device,
        /// Added to every concept's distance from its threshold.
        adjustment: f64,
    },
    Clip {
        judge: Judge,
        /// The first so many texts show the concept, the rest do not.
        shows: usize,
    },
}

impl std::fmt::Debug for ConceptDetector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConceptDetector").field("card", &self.card).finish_non_exhaustive()
    }
}

impl ConceptDetector {
    /// The safety checker in `folder`; `features` is the folder beside it that says how pictures
    /// are prepared.
    ///
    /// # Errors
    /// A folder that holds no safety checker.
    pub fn checker(
        folder: &Path,
        features: &Path,
        adjustment: f64,
        device: Device,
    ) -> Result<Self, Error> {
        let wrong = |why: String| Error::Checker { path: folder.to_path_buf(), why };
        let file = folder.join("config.json");
        if !file.is_file() {
            return Err(wrong("config.json is missing".to_owned()));
        }
        let mut notes = Vec::new();
        let config = SafetyCheckerConfig::read(&fields::open(&file)?, &file, &mut notes)?;
        let weights = Weights::open_folder(folder, &mut notes)?
            .ok_or_else(|| wrong("its weights are missing (model.safetensors)".to_owned()))?;
        let weights = without_position_ids(&weights, &mut notes)?;
        let checker = Box::new(SafetyChecker::new(&config, Builder::load(&weights, device))?);
        let preprocess = Preprocess::open(features, config.vision_config.image_size, &mut notes)?;
        let hash = weights.hash()?.to_hex().to_string();
        let all = serde_json::json!({"weights": hash, "config": config, "preprocess": preprocess});
        let card = JudgeCard {
            path: fs_err::canonicalize(folder)?,
            hash,
            fingerprint: blake3::hash(all.to_string().as_bytes()).to_hex().to_string(),
            engine: "libtorch".to_owned(),
            decision: "safety checker".to_owned(),
        };
        Ok(Self {
            card,
            notes,
            kind: DetectorKind::Checker { preprocess, checker, device, adjustment },
        })
    }

    /// A CLIP that says which of two lists of texts a picture is nearest to.
    ///
    /// # Errors
    /// A folder that holds no CLIP, an empty list.
    pub fn by_text(
        encoder: Box<dyn ClipEncoder>,
        shows: &[String],
        clear: &[String],
    ) -> Result<Self, Error> {
        if shows.is_empty() || clear.is_empty() {
            return Err(Error::Head(
                "a CLIP detector needs texts of pictures that show the concept, and of \
                 pictures that do not"
                    .to_owned(),
            ));
        }
        let classes: Vec<String> = shows.iter().chain(clear).cloned().collect();
        let wordings = classes.iter().map(|text| vec![text.clone()]).collect();
        let question = Question { domain: "concept".to_owned(), classes };
        let judge = Judge::by_text(encoder, vec![(question, wordings)])?;
        let card = JudgeCard { decision: "texts".to_owned(), ..judge.card().clone() };
        let notes = judge.notes().to_vec();
        Ok(Self { card, notes, kind: DetectorKind::Clip { judge, shows: shows.len() } })
    }

    /// What was assumed or ignored while it was opened.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How far a picture is from where the concept begins, on either side; `None` for a checker, to
    /// which everything else is one.
    pub fn distance(&self, evidence: &Evidence) -> Option<f32> {
        match self.kind {
            DetectorKind::Checker { .. } => None,
            DetectorKind::Clip { .. } => Some(self.margin(evidence).abs() as f32),
        }
    }

    /// How clearly a picture shows the concept: above 0 it does.
    pub fn margin(&self, evidence: &Evidence) -> f64 {
        let highest =
            |values: &[f32]| values.iter().map(|&v| f64::from(v)).fold(f64::NEG_INFINITY, f64::max);
        match (&self.kind, evidence.logits.as_slice()) {
            (DetectorKind::Checker { adjustment, .. }, [special, concepts]) => {
                // diffusers rounds each distance to three digits before it asks whether it is above
                // 0.
                let rounded = |value: f64| (value * 1e3).round_ties_even() / 1e3;
                let strict = rounded(highest(special) + adjustment) > 0.0;
                rounded(highest(concepts) + adjustment + if strict { STRICTER } else { 0.0 })
            }
            (DetectorKind::Clip { shows, .. }, [logits]) if *shows <= logits.len() => {
                highest(&logits[..*shows]) - highest(&logits[*shows..])
            }
            _ => f64::NEG_INFINITY,
        }
    }
}

impl ImageJudge for ConceptDetector {
    fn card(&self) -> &JudgeCard {
        &self.card
    }

    fn questions(&self) -> Vec<Question> {
        let numbered = |domain: &str, n: i64| Question {
            domain: domain.to_owned(),
            classes: (0..n).map(|i| i.to_string()).collect(),
        };
        match &self.kind {
            DetectorKind::Clip { judge, .. } => judge.questions(),
            DetectorKind::Checker { .. } => {
                vec![numbered("special", SPECIAL), numbered("concept", CONCEPTS)]
            }
        }
    }

    /// A checker writes down how far above their thresholds the special concepts and the concepts
    /// are; a CLIP the logits of all texts, and how well each picture fits its prompt.
    fn judge(&self, pictures: &[Picture], prompts: &[String]) -> Result<Vec<Evidence>, Error> {
        match &self.kind {
            DetectorKind::Clip { judge, .. } => judge.judge(pictures, prompts),
            DetectorKind::Checker { preprocess, checker, device, .. } => {
                stage("looking at pictures", || {
                    let batch = preprocess.apply(pictures)?.to_device(device.tch());
                    let (special, concepts) = no_grad(|| checker.forward(&batch));
                    let pairs = rows(&special)?.into_iter().zip(rows(&concepts)?);
                    Ok(pairs
                        .map(|(s, c)| Evidence { logits: vec![s, c], clip_score: None })
                        .collect())
                })
            }
        }
    }
}

/// What a special concept's presence adds to the others' distances.
const STRICTER: f64 = 0.01;
