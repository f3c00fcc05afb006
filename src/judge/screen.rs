//! Screens say of a picture whether it shows a concept: the safety checker of a Stable Diffusion folder, or a CLIP that
//! compares with texts. They write down all that they saw, not their verdict alone.

use std::path::Path;

use super::preprocess::Preprocess;
use super::{Error, Evidence, Eye, Judge, JudgeCard, Look, Question, rows};
use crate::model::Builder;
use crate::model::safety::{Config, SafetyChecker};
use crate::pictures::Picture;
use crate::torch::{Device, no_grad, stage};
use crate::weights::Weights;

/// Looks for one concept.
pub struct Screen {
    card: JudgeCard,
    sight: Sight,
}

enum Sight {
    Checker {
        preprocess: Preprocess,
        checker: Box<SafetyChecker>,
        device: Device,
        /// Added to every concept's distance from its threshold.
        adjustment: f64,
    },
    Texts {
        judge: Judge,
        /// The first so many texts show the concept, the rest do not.
        shows: usize,
    },
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("card", &self.card).finish_non_exhaustive()
    }
}

impl Screen {
    /// The safety checker in `folder`; `features` is the folder beside it that says how pictures are prepared.
    ///
    /// # Errors
    /// A folder that holds no safety checker.
    pub fn checker(folder: &Path, features: &Path, adjustment: f64, device: Device) -> Result<Self, Error> {
        let wrong = |why: String| Error::Checker { path: folder.to_path_buf(), why };
        let text = fs_err::read_to_string(folder.join("config.json"))
            .map_err(|error| wrong(format!("config.json cannot be read ({})", error.kind())))?;
        let config: Config =
            serde_json::from_str(&text).map_err(|error| wrong(format!("config.json: {error}")))?;
        let weights = Weights::open_folder(folder)?
            .ok_or_else(|| wrong("its weights are missing (model.safetensors)".to_owned()))?;
        let checker = Box::new(SafetyChecker::new(&config, Builder::load(&weights, device))?);
        let card = JudgeCard {
            path: fs_err::canonicalize(folder)?,
            hash: weights.hash()?.to_hex().to_string(),
            engine: "libtorch".to_owned(),
            decision: "safety checker".to_owned(),
        };
        let preprocess = Preprocess::open(features, config.vision_config.image_size)?;
        Ok(Self { card, sight: Sight::Checker { preprocess, checker, device, adjustment } })
    }

    /// A CLIP that says which of two lists of texts a picture is nearest to.
    ///
    /// # Errors
    /// A folder that holds no CLIP, an empty list.
    pub fn by_text(
        folder: &Path,
        eye: Box<dyn Eye>,
        shows: &[String],
        clear: &[String],
    ) -> Result<Self, Error> {
        if shows.is_empty() || clear.is_empty() {
            return Err(Error::Head(
                "a CLIP that screens needs texts of pictures that show the concept, and of pictures that do not"
                    .to_owned(),
            ));
        }
        let classes: Vec<String> = shows.iter().chain(clear).cloned().collect();
        let wordings = classes.iter().map(|text| vec![text.clone()]).collect();
        let question = Question { domain: "concept".to_owned(), classes };
        let judge = Judge::by_text(folder, eye, vec![(question, wordings)])?;
        let card = JudgeCard { decision: "texts".to_owned(), ..judge.card().clone() };
        Ok(Self { card, sight: Sight::Texts { judge, shows: shows.len() } })
    }

    /// How clearly a picture shows the concept: above 0 it does.
    pub fn margin(&self, evidence: &Evidence) -> f64 {
        let highest = |values: &[f32]| values.iter().map(|&v| f64::from(v)).fold(f64::NEG_INFINITY, f64::max);
        match (&self.sight, evidence.logits.as_slice()) {
            (Sight::Checker { adjustment, .. }, [special, concepts]) => {
                // diffusers rounds each distance to three digits before it asks whether it is above 0.
                let rounded = |value: f64| (value * 1e3).round_ties_even() / 1e3;
                let strict = rounded(highest(special) + adjustment) > 0.0;
                rounded(highest(concepts) + adjustment + if strict { STRICTER } else { 0.0 })
            }
            (Sight::Texts { shows, .. }, [logits]) if *shows <= logits.len() => {
                highest(&logits[..*shows]) - highest(&logits[*shows..])
            }
            _ => f64::NEG_INFINITY,
        }
    }
}

impl Look for Screen {
    fn card(&self) -> &JudgeCard {
        &self.card
    }

    /// A checker writes down how far above their thresholds the special concepts and the concepts are; a CLIP the
    /// logits of all texts, and how well each picture fits its prompt.
    fn look(&self, pictures: &[Picture], prompts: &[String]) -> Result<Vec<Evidence>, Error> {
        match &self.sight {
            Sight::Texts { judge, .. } => judge.look(pictures, prompts),
            Sight::Checker { preprocess, checker, device, .. } => stage("looking at pictures", || {
                let batch = preprocess.apply(pictures).to_device(device.tch());
                let (special, concepts) = no_grad(|| checker.forward(&batch));
                let pairs = rows(&special)?.into_iter().zip(rows(&concepts)?);
                Ok(pairs.map(|(s, c)| Evidence { logits: vec![s, c], clip_score: None }).collect())
            }),
        }
    }
}

/// What a special concept's presence adds to the others' distances.
const STRICTER: f64 = 0.01;
