//! Who looks at pictures: a CLIP that names them, or detectors that say whether they show a
//! concept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, LatentSettings, ModelSettings, shipped_or_path};

/// Pictures whose truth is known that the canvas draws.
pub const CANVAS: &str = "canvas";
/// The same with all objects in the middle.
pub const ALIGNED_CANVAS: &str = "aligned-canvas";
/// What a setting says that names nothing.
pub const NONE: &str = "none";

/// Who judges. What is not given is as usual for the pictures that are judged.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeSettings {
    /// A Hugging Face CLIP folder, or the shipped `judge`, which is the usual one. Where prompts
    /// are judged, it compares with the texts in `shows` and `clear`, and there is none without
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Another CLIP folder, or the shipped `labeller`: it confirms what attacks on classes bring
    /// back, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// `candle`, `libtorch`, or `auto`, which is usual: libtorch on a GPU, candle on a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Pictures whose truth is known; they measure the judge. Of classes `canvas` and
    /// `aligned-canvas`, which draw them, a folder in `UnlearnCanvas`' layout, or `none`. Of
    /// prompts a folder with `shows/` and `clear/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How it names classes: `text`, `prototypes` or `probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decide: Option<String>,
    /// Reference pictures of each style × object that measure it; 8 as a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<u32>,
    /// Reference pictures of each style × object that teach it, where it decides by prototypes or a
    /// probe; 10 as a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teach: Option<u32>,
    /// Reference pictures of each style × object to which a GAN's pictures without the concept are
    /// compared; 16 as a rule, 0 leaves that out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<u32>,
    /// Inception-v3's weights for FID (`pytorch-fid`'s, safetensors or a state dict), by whose
    /// features a GAN's pictures are compared instead of the judge's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inception: Option<PathBuf>,
    /// `model` for the safety checker in the model's own folder, another folder that holds one, or
    /// `none`, which is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker: Option<String>,
    /// Added to the distance of every one of the checker's concepts from its threshold: above 0 it
    /// finds more. At 0 the verdicts are diffusers'; there a special concept's 0.01 would stand for
    /// this number, here both are added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjustment: Option<f64>,
    /// Texts of pictures that show the concept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shows: Vec<String>,
    /// Texts of pictures that do not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clear: Vec<String>,
}

impl JudgeSettings {
    /// The CLIP folder.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("judge")
    }

    /// The same with another CLIP.
    #[must_use]
    pub fn by(&self, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..self.clone() }
    }

    /// What runs it.
    pub fn engine(&self) -> &str {
        self.engine.as_deref().unwrap_or("auto")
    }

    /// How it names classes.
    pub fn decide(&self) -> &str {
        self.decide.as_deref().unwrap_or("text")
    }

    /// The pictures whose truth is known; `None` where there are none.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref().or(Some(CANVAS)).filter(|source| *source != NONE)
    }

    /// A folder of pictures that show the concept and of pictures that do not.
    pub fn shows_and_clear(&self) -> Option<&str> {
        self.reference.as_deref().filter(|source| *source != NONE)
    }

    /// Reference pictures of each style × object that measure it.
    pub fn check(&self) -> u32 {
        self.check.unwrap_or(8)
    }

    /// Reference pictures of each style × object that teach it.
    pub fn teach(&self) -> u32 {
        self.teach.unwrap_or(10)
    }

    /// Reference pictures of each style × object to which a GAN's are compared.
    pub fn compare(&self) -> u32 {
        self.compare.unwrap_or(16)
    }

    /// Whether a CLIP compares pictures with texts.
    pub fn compares_texts(&self) -> bool {
        self.path.as_deref() != Some(NONE) && !(self.shows.is_empty() && self.clear.is_empty())
    }

    /// What is added to the checker's distances.
    pub fn adjustment(&self) -> f64 {
        self.adjustment.unwrap_or(0.0)
    }

    fn checker(&self) -> &str {
        self.checker.as_deref().unwrap_or(NONE)
    }

    /// Defaults where prompts are judged.
    pub(super) fn of_prompts(&mut self) {
        if self.shows.is_empty() && self.clear.is_empty() && self.path.is_none() {
            self.path = Some(NONE.to_owned());
        }
    }

    /// Defaults where latents are judged: objects of other classes than the canvas' are not in the
    /// middle of the canvas' pictures.
    pub(super) fn of_latents(&mut self, latents: &LatentSettings) {
        let usual = if latents.are_canvas() { ALIGNED_CANVAS } else { NONE };
        self.reference.get_or_insert_with(|| usual.to_owned());
    }

    fn refuse(&self, keys: &[&str], why: &str) -> Result<(), String> {
        let there = |key: &str| match key {
            "second" => self.second.is_some(),
            "decide" => self.decide.is_some(),
            "check" => self.check.is_some(),
            "teach" => self.teach.is_some(),
            "compare" => self.compare.is_some(),
            "inception" => self.inception.is_some(),
            "checker" => self.checker.is_some(),
            "adjustment" => self.adjustment.is_some(),
            "shows" => !self.shows.is_empty(),
            _ => !self.clear.is_empty(),
        };
        match keys.iter().find(|key| there(key)) {
            Some(key) => Err(format!("judge.{key} is {why}; leave it out")),
            None => Ok(()),
        }
    }

    /// Where classes are judged.
    pub(super) fn check_answers(&self, attacked: bool) -> Result<(), String> {
        if !attacked {
            self.refuse(&["second"], "for what attacks bring back ([[attack]])")?;
        }
        self.refuse(&["compare", "inception"], "for a GAN's pictures ([latents])")?;
        self.refuse(DETECTORS, "for a concept by prompts ([prompts])")?;
        self.check_classes()
    }

    /// Where latents are judged.
    pub(super) fn check_latents(&self) -> Result<(), String> {
        self.refuse(DETECTORS, "for a concept by prompts ([prompts])")?;
        self.refuse(&["second"], "for classes ([answers])")?;
        self.check_classes()
    }

    /// Settings without effect: each is for another than the one that stands beside it.
    fn check_classes(&self) -> Result<(), String> {
        if self.decide() == "text" && self.teach.is_some() {
            return Err("judge.teach is for a judge that is shown pictures (decide = \
                 \"prototypes\" or \"probe\")"
                .to_owned());
        }
        if self.reference.as_deref() == Some(NONE) && self.check.is_some() {
            return Err("judge.check counts pictures whose truth is known, and there are none \
                 (judge.reference)"
                .to_owned());
        }
        Ok(())
    }

    /// Where prompts are judged.
    pub(super) fn check_prompts(&self) -> Result<(), String> {
        self.refuse(&["compare", "inception"], "for a GAN's pictures ([latents])")?;
        self.refuse(&["second", "decide", "check", "teach"], "for classes ([answers])")?;
        let clip = self.path.as_deref() != Some(NONE);
        if self.checker() == NONE && !clip {
            return Err(
                "nobody judges: set judge.checker (\"model\", or a folder), or judge.shows \
                 and judge.clear, with which a CLIP compares"
                    .to_owned(),
            );
        }
        if clip && (self.shows.is_empty() || self.clear.is_empty()) {
            return Err(
                "judge.path compares with texts: give judge.shows and judge.clear, or set \
                        judge.path to none"
                    .to_owned(),
            );
        }
        if !(clip || self.shows.is_empty() && self.clear.is_empty()) {
            return Err("judge.shows and judge.clear are for a CLIP, and judge.path is none".into());
        }
        if self.checker() == NONE && self.adjustment.is_some() {
            return Err("judge.adjustment is the safety checker's, and there is none \
                 (judge.checker)"
                .to_owned());
        }
        if let Some(text) = self.shows.iter().find(|text| self.clear.contains(text)) {
            return Err(format!(
                "«{text}» is in judge.shows and in judge.clear; it can be one of them"
            ));
        }
        Ok(())
    }

    /// The folder of the safety checker and the folder that says how pictures are prepared for it,
    /// in a model's folder or where the settings say.
    ///
    /// # Errors
    /// A folder that has none.
    pub fn checker_folders(&self, model: &ModelSettings) -> Result<Option<[PathBuf; 2]>, Error> {
        let root = match self.checker() {
            NONE => return Ok(None),
            "model" => shipped_or_path(&model.path)?,
            other => shipped_or_path(other)?,
        };
        let inside = root.join("safety_checker");
        if inside.is_dir() {
            return Ok(Some([inside, root.join("feature_extractor")]));
        }
        if self.checker() == "model" {
            return Err(Error::Pipeline(format!(
                "{} has no safety_checker folder; name a folder that has one with judge.checker, \
                 or set it to none and let a CLIP judge (judge.shows, judge.clear)",
                root.display()
            )));
        }
        let beside = root.parent().map(|parent| parent.join("feature_extractor"));
        let features = beside.filter(|folder| folder.is_dir()).unwrap_or_else(|| root.clone());
        Ok(Some([root, features]))
    }
}

/// What is for detectors alone.
const DETECTORS: &[&str] = &["checker", "adjustment", "shows", "clear"];
