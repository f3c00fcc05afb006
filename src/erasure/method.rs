//! What every method is: settings, what it wants to be given, what it costs, and how it edits.

use std::path::Path;

use super::{Error, Feedback, TrainingImages};
use crate::generator::{Denoiser, Model, ModelKind, Synthesizer};
use crate::settings::Configurable;
use crate::watch::Watch;
use crate::weights::Edit;

/// Removes a concept from a model and says what it changed. The model is left as it was.
pub trait Method: Configurable {
    /// What it wants to be given.
    fn needs(&self) -> Needs;

    /// What it costs.
    fn cost(&self) -> Cost;

    /// Says why it cannot take these prompts out of a model of its kind, before anything is drawn.
    ///
    /// # Errors
    /// The first complaint.
    fn suits(&self, _model: &Model<'_>, _pairs: &[Pair]) -> Result<(), String> {
        Ok(())
    }

    /// The same method in so many training steps on so many pictures each, to find out what a step
    /// takes; `None` where it trains nothing.
    fn shortened(&self, steps: u64, batch: i64) -> Option<Box<dyn Method>>;

    /// Finds the edit.
    ///
    /// # Errors
    /// A model of another kind, a task that lacks what it needs, a training that fails,
    /// interruption.
    fn erase(
        &self,
        model: Model<'_>,
        task: &Task<'_>,
        context: &mut Context<'_>,
    ) -> Result<Edit, Error>;
}

/// What a method wants to be given; known before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one kind of thing to be given or not")]
pub struct Needs {
    /// What it edits; `None` where it takes any.
    pub model: Option<ModelKind>,
    /// Pictures of the concept.
    pub forget_images: bool,
    /// Pictures that are to stay.
    pub keep_images: bool,
    /// Prompts that are to stay.
    pub keep_prompts: bool,
    /// A GAN's samples, labelled by whether they show the concept.
    pub samples: bool,
}

impl Needs {
    /// Of a method that edits a diffusion model and wants nothing but the concept's prompts.
    pub const PROMPTS: Self = Self {
        model: Some(ModelKind::Diffusion),
        forget_images: false,
        keep_images: false,
        keep_prompts: false,
        samples: false,
    };

    /// Of a method that edits a GAN.
    pub const SAMPLES: Self = Self { model: Some(ModelKind::Gan), samples: true, ..Self::PROMPTS };
}

/// What a method costs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cost {
    /// Training steps.
    pub steps: u64,
    /// Pictures in a step.
    pub batch: i64,
    /// Steps after which what they cost begins anew; 0 where all are alike.
    pub cycle: u64,
    /// Passes over each picture of the concept before the first step.
    pub passes: u64,
    /// Passes of the network over one picture, without a way back, before the first step: samples
    /// that are learned from.
    pub sampling: u64,
    /// Looks on the way at how far it has come, at most.
    pub evaluations: u64,
    /// Further steps that another method with the same key has done already, by this key.
    pub shared: Option<(String, u64)>,
}

/// What is asked for, and what there is to learn from.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The concept's name, for messages and records: `style:Mosaic`.
    pub concept: &'a str,
    /// Prompts of the concept, each with what it is to become.
    pub pairs: &'a [Pair],
    /// Prompts whose pictures are to stay.
    pub keep: &'a [String],
    /// Seed of every random number.
    pub seed: u64,
    /// Pictures of both, where a method needs them.
    pub images: Option<&'a TrainingImages>,
    /// A GAN's labelled samples, where a method needs them.
    pub feedback: Option<&'a Feedback<'a>>,
}

/// A prompt to forget and its anchor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pair {
    /// The prompt.
    pub forget: String,
    /// What it is to become.
    pub anchor: String,
}

impl Pair {
    /// The words of the prompt that its anchor lacks, those that stand together as one: they name
    /// the concept.
    pub fn words(&self) -> Vec<String> {
        let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        let known = |word: &str| {
            let same = |other: &str| bare(other).to_lowercase() == word.to_lowercase();
            word.is_empty() || self.anchor.split_whitespace().any(same)
        };
        let forget: Vec<String> = self.forget.split_whitespace().map(bare).collect();
        let runs = forget.split(|word| known(word)).filter(|run| !run.is_empty());
        runs.map(|run| run.join(" ")).collect()
    }
}

/// Where a method keeps what it has come to, and whom it tells.
pub struct Context<'a> {
    /// A target's folder, where an interrupted erasure goes on from; what methods share lies in it.
    pub state: Option<&'a Path>,
    /// What the method is called in this run.
    pub label: &'a str,
    /// Shows how far it is, and may stop it.
    pub watch: &'a mut dyn Watch,
}

impl Context<'_> {
    /// Where this method alone keeps what it has come to; the run removes it once there is an edit.
    pub fn own_state(&self) -> Option<std::path::PathBuf> {
        self.state.map(|folder| folder.join(self.label))
    }
}

impl<'a> Task<'a> {
    /// The pictures.
    ///
    /// # Errors
    /// There are none.
    pub fn images(&self) -> Result<&'a TrainingImages, Error> {
        self.images.ok_or_else(|| Error::Task("there are no pictures to learn from".to_owned()))
    }

    /// The labelled samples.
    ///
    /// # Errors
    /// There are none.
    pub fn feedback(&self) -> Result<&'a Feedback<'a>, Error> {
        self.feedback.ok_or_else(|| Error::Task("there are no labelled samples".to_owned()))
    }

    /// What an edit says of how it was made, as JSON: method and settings, and what was to be
    /// forgotten and kept. Pictures are not in it: what was learned from them is the edit.
    pub fn recipe(&self, method: &dyn Method) -> String {
        let kept = blake3::hash(self.keep.join("\n").as_bytes()).to_hex().to_string();
        let mut recipe = serde_json::json!({
            "method": method.name(), "settings": method.settings(), "concept": self.concept,
            "seed": self.seed,
        });
        if !self.pairs.is_empty() {
            recipe["pairs"] = serde_json::json!(self.pairs);
            recipe["kept_hash"] = kept.into();
        }
        recipe.to_string()
    }

    /// The same with what the method found on its way.
    pub fn recipe_with(&self, method: &dyn Method, found: serde_json::Value) -> String {
        let mut recipe: serde_json::Value =
            serde_json::from_str(&self.recipe(method)).unwrap_or_default();
        recipe["found"] = found;
        recipe.to_string()
    }
}

/// The diffusion model that a method edits.
///
/// # Errors
/// Another kind of model.
pub(super) fn denoiser_of<'m>(
    model: Model<'m>,
    method: &str,
) -> Result<&'m mut dyn Denoiser, Error> {
    let kind = model.kind();
    model.denoiser().ok_or_else(|| of_another_kind(method, ModelKind::Diffusion, kind))
}

/// The GAN that a method edits.
///
/// # Errors
/// Another kind of model.
pub(super) fn synthesizer_of<'m>(
    model: Model<'m>,
    method: &str,
) -> Result<&'m mut dyn Synthesizer, Error> {
    let kind = model.kind();
    model.synthesizer().ok_or_else(|| of_another_kind(method, ModelKind::Gan, kind))
}

fn of_another_kind(method: &str, wanted: ModelKind, found: ModelKind) -> Error {
    Error::Task(format!("{method} edits {wanted}, and this is {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_concept_is_what_its_anchor_lacks() {
        let of = |forget: &str, anchor: &str| {
            Pair { forget: forget.to_owned(), anchor: anchor.to_owned() }.words()
        };
        let style = of("A Cat image in Neon Lines style.", "A Cat image in Seed Images style.");
        assert_eq!(style, ["Neon Lines"]);
        let nude = of("a photo of a nude person", "a photo of a person wearing clothes");
        assert_eq!(nude, ["nude"]);
        assert_eq!(of("a photo of a cat.", "a photo of a dog."), ["cat"]);
        assert_eq!(of("van gogh", ""), ["van gogh"]);
        assert!(of("a person", "a happy person").is_empty());
    }
}
