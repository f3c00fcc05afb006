//! What every attack is: settings, what it is shown, and what it finds.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, TrialArm, Verdict};
use crate::generator::{Denoiser, ImageRequest, Model, ModelKind, Provenance};
use crate::pictures::Picture;
use crate::prompt_search::is_unspaced;
use crate::settings::Configurable;
use crate::torch::Tensor;
use crate::watch::Watch;
use crate::weights::Sampling;

/// Tries to bring an erased concept back. The model is left as it was.
pub trait Attack: Configurable {
    /// What it wants to be given.
    fn needs(&self) -> AttackNeeds;

    /// Prompts that it tries, where they are a list's.
    fn prompt_list(&self) -> Option<&Path> {
        None
    }

    /// Whether it looks for nothing: what attacks that do are compared with.
    fn is_control(&self) -> bool {
        false
    }

    /// What it takes, at most, where `requests` pictures tell whether the concept is back.
    fn cost(&self, requests: usize) -> AttackCost;

    /// The same attack in so many steps, after which it looks once, to find out what a step takes;
    /// `None` where it neither trains nor searches.
    fn shortened(&self, _steps: u64) -> Option<Box<dyn Attack>> {
        None
    }

    /// Says why it cannot attack a model of its kind, whose prompts name the concept by one of
    /// these words, before anything is drawn.
    ///
    /// # Errors
    /// The first complaint.
    fn suits(&self, _model: &Model<'_>, _words: &[String]) -> Result<(), String> {
        Ok(())
    }

    /// Says why it cannot begin with such a picture: its prompt has no room for what is added to
    /// it, it is drawn in too few steps.
    ///
    /// # Errors
    /// The first complaint.
    fn fits(
        &self,
        _model: &Model<'_>,
        _request: &ImageRequest,
        _words: &[String],
    ) -> Result<(), String> {
        Ok(())
    }

    /// Attacks the model with the edit that is on it.
    ///
    /// # Errors
    /// Whatever stops a training, a search or an evaluation; interruption.
    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error>;
}

/// What whoever attacks must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// To ask for pictures.
    Pictures,
    /// To change how they are sampled.
    Sampler,
    /// The same, with the base beside it.
    SamplerAndBase,
    /// To run the base's text encoder.
    BaseTextEncoder,
    /// To run the text encoder.
    TextEncoder,
    /// To run the networks and to take gradients through them.
    Gradients,
    /// The same, with the base beside them.
    GradientsAndBase,
    /// To change weights.
    Weights,
}

impl Access {
    /// What it is, for people: "needs …".
    pub fn words(self) -> &'static str {
        match self {
            Self::Pictures => "pictures alone",
            Self::Sampler => "the sampler",
            Self::SamplerAndBase => "the sampler and the base",
            Self::BaseTextEncoder => "the base's text encoder",
            Self::TextEncoder => "the text encoder",
            Self::Gradients => "gradients",
            Self::GradientsAndBase => "gradients and the base",
            Self::Weights => "to change weights",
        }
    }
}

/// What an attack wants to be given; known before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttackNeeds {
    /// What it attacks.
    pub model: ModelKind,
    /// What whoever attacks so must be able to do.
    pub access: Access,
    /// Whether it adapts to the model that it attacks; what one that does not finds was looked for
    /// elsewhere or nowhere.
    pub adaptive: bool,
    /// Pictures of the concept that it is taught with, and as many of other things.
    pub training_images: usize,
    /// Whether it wants what the base drew of each request, and of something else.
    pub base_images: bool,
    /// Whether it wants requests for something else.
    pub other_requests: bool,
}

impl AttackNeeds {
    /// Of an attack on a diffusion model that wants nothing but its prompts, and to ask for
    /// pictures.
    pub const PROMPTS: Self = Self {
        model: ModelKind::Diffusion,
        access: Access::Pictures,
        adaptive: false,
        training_images: 0,
        base_images: false,
        other_requests: false,
    };

    /// Of one that looks for something with gradients of the model that it attacks.
    pub const GRADIENTS: Self = Self { access: Access::Gradients, adaptive: true, ..Self::PROMPTS };

    /// Of one that changes the weights of the model that it attacks.
    pub const WEIGHTS: Self = Self { access: Access::Weights, adaptive: true, ..Self::PROMPTS };
}

/// What an attack on one erasure costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttackCost {
    /// Training steps of each arm.
    pub steps: u64,
    /// Arms that are trained, each from the erased model.
    pub arms: u64,
    /// Steps of a search over prompts: a pass through the network and back for one picture, or a
    /// generation for one prompt.
    pub search_steps: u64,
    /// Whether the search is done once for all erasures of a concept.
    pub shared: bool,
    /// Pictures in a step.
    pub batch: usize,
    /// Pictures that are drawn and judged.
    pub images: u64,
}

impl AttackCost {
    /// Training steps of all arms.
    pub fn training_steps(&self) -> u64 {
        self.steps * self.arms
    }
}

/// Draws pictures and says which of them show the concept. Whoever judges is behind it.
pub trait ConceptJudge {
    /// Pictures, as the model draws them now.
    ///
    /// # Errors
    /// Whatever stops the drawing.
    fn draw(&self, model: &Model<'_>, requests: &[ImageRequest]) -> Result<Vec<Picture>, Error>;

    /// How many pictures are drawn at once.
    fn at_once(&self) -> usize;

    /// Which pictures show the concept.
    ///
    /// # Errors
    /// Whatever stops the judge.
    fn judge(&self, pictures: &[Picture]) -> Result<Vec<Verdict>, Error>;

    /// What judges say of pictures as the model draws them now.
    ///
    /// # Errors
    /// As [`Self::draw`] and [`Self::judge`].
    fn verdicts(
        &self,
        model: &Model<'_>,
        requests: &[ImageRequest],
    ) -> Result<Vec<Verdict>, Error> {
        self.judge(&self.draw(model, requests)?)
    }

    /// How many of the pictures show the concept, as the model draws them now, and all.
    ///
    /// # Errors
    /// As [`Self::draw`] and [`Self::judge`].
    fn count(&self, model: &Model<'_>, requests: &[ImageRequest]) -> Result<(usize, usize), Error> {
        let verdicts = self.verdicts(model, requests)?;
        Ok((verdicts.iter().filter(|verdict| verdict.shows).count(), verdicts.len()))
    }
}

/// What an attack is to bring back, and who says that it is.
pub struct AttackTask<'a> {
    /// What there is to learn from, and which pictures tell.
    pub exposure: &'a Exposure,
    /// Who looks.
    pub judge: &'a dyn ConceptJudge,
    /// How to sample with the edit, where that is a part of it.
    pub sampling: Option<Sampling>,
    /// Seed of every random number.
    pub seed: u64,
}

/// The diffusion model that an attack attacks.
///
/// # Errors
/// Another kind of model.
pub(super) fn denoiser_of<'m>(
    model: &'m Model<'_>,
    attack: &str,
) -> Result<&'m dyn Denoiser, Error> {
    match model {
        Model::Diffusion(denoiser) => Ok(&**denoiser),
        Model::Gan(_) => Err(Error::Task(format!("{attack} attacks a diffusion model"))),
    }
}

/// Whether numbers are above 0 and rise; `what` they are is said where not.
///
/// # Errors
/// They are or do not.
pub(super) fn rising<T: PartialOrd + Default + std::fmt::Debug>(
    what: &str,
    numbers: &[T],
) -> Result<(), String> {
    let above = numbers.first().is_some_and(|first| *first > T::default());
    if above && numbers.windows(2).all(|pair| pair[0] < pair[1]) {
        return Ok(());
    }
    Err(format!("{what} are {numbers:?}; they are numbers above 0 that rise"))
}

/// Where an attack keeps what it has come to, and whom it tells.
pub struct AttackContext<'a> {
    /// A folder of its own, where an interrupted attack goes on from.
    pub state: Option<&'a Path>,
    /// A folder for what it leaves beside its findings: pictures with which trials ended, a word
    /// that was learned.
    pub artifacts: Option<&'a Path>,
    /// A folder that attacks on other erasures of the same concept see too.
    pub shared: Option<&'a Path>,
    /// What its pictures say about themselves.
    pub provenance: Provenance<'a>,
    /// What a state must be of to be gone on from: the model that is attacked.
    pub of: &'a str,
    /// Shows how far it is, and may stop it.
    pub watch: &'a mut dyn Watch,
}

/// What an attack is shown, and which pictures tell whether the concept is back.
#[derive(Debug, Default)]
pub struct Exposure {
    /// Pictures of the concept, with their prompts; for a diffusion model.
    pub concept: Vec<(Picture, String)>,
    /// Pictures that have nothing to do with it, as many.
    pub unrelated: Vec<(Picture, String)>,
    /// Pictures of the concept under a word that the model does not know in its place.
    pub control: Vec<(Picture, String)>,
    /// A GAN's own pictures of the concept `[n, 3, size, size]`, about -1 to 1.
    pub samples: Option<Tensor>,
    /// Pictures that showed the concept before it was erased, at most [`MAX_EVALUATION_IMAGES`].
    pub requests: Vec<ImageRequest>,
    /// What the base drew of each of them, where an attack wants it.
    pub base_images: Vec<Picture>,
    /// What the base drew of something else, as many at most.
    pub other_images: Vec<Picture>,
    /// What that was asked for with.
    pub other_requests: Vec<ImageRequest>,
    /// What an attack's list asks for.
    pub listed: Vec<ImageRequest>,
    /// Prompts of the concept, each with one that lacks it and says the same else.
    pub pairs: Vec<[String; 2]>,
    /// Words that name the concept in its prompts, as its anchors lack them.
    pub words: Vec<String>,
    /// The same under the word that the model does not know.
    pub control_requests: Vec<ImageRequest>,
}

/// Pictures of one evaluation, at most.
pub const MAX_EVALUATION_IMAGES: usize = 100;

/// A word that no model knows: it is in no dictionary, and shares no beginning with a word of one.
const UNKNOWN_WORD: &str = "zuvqex";

impl Exposure {
    /// Of a diffusion model; a prompt names the concept by one of the `words`.
    pub fn of_prompts(
        concept: Vec<(Picture, String)>,
        unrelated: Vec<(Picture, String)>,
        mut requests: Vec<ImageRequest>,
        words: &[String],
    ) -> Self {
        requests.truncate(MAX_EVALUATION_IMAGES);
        let unnamed = |prompt: &str| {
            let renamed = replace_names(prompt, words, UNKNOWN_WORD);
            (renamed != prompt).then_some(renamed)
        };
        let control =
            concept.iter().map(|(picture, prompt)| Some((picture.clone(), unnamed(prompt)?)));
        let control_requests = requests.iter().map(|request| {
            Some(ImageRequest { prompt: unnamed(&request.prompt)?, ..request.clone() })
        });
        // Where one of the prompts does not name the concept, there is no other word for it.
        let control = control.collect::<Option<Vec<_>>>().unwrap_or_default();
        let control_requests: Vec<ImageRequest> =
            control_requests.collect::<Option<Vec<_>>>().unwrap_or_default();
        let control = if control_requests.is_empty() { Vec::new() } else { control };
        Self {
            concept,
            unrelated,
            control,
            requests,
            control_requests,
            words: words.to_vec(),
            ..Self::default()
        }
    }

    /// Of a GAN.
    pub fn of_samples(samples: Tensor, mut requests: Vec<ImageRequest>) -> Self {
        requests.truncate(MAX_EVALUATION_IMAGES);
        Self { samples: Some(samples), requests, ..Self::default() }
    }
}

/// Replaces each of a concept's names where it stands by itself.
pub(super) fn replace_names(text: &str, names: &[String], by: &str) -> String {
    names.iter().fold(text.to_owned(), |text, name| replace_words(&text, name, by))
}

/// Replaces words where they stand by themselves: a cat is no part of cattle. Where spaces do not
/// tell words apart there is nothing to tell by.
fn replace_words(text: &str, words: &str, by: &str) -> String {
    let joins = |char: char| char.is_alphanumeric() && !is_unspaced(char);
    let inside = |char: Option<char>| char.is_some_and(joins);
    let (mut replaced, mut done) = (String::new(), 0);
    for (at, _) in text.match_indices(words) {
        let end = at + words.len();
        if inside(text[..at].chars().next_back()) || inside(text[end..].chars().next()) {
            continue;
        }
        replaced.push_str(&text[done..at]);
        replaced.push_str(by);
        done = end;
    }
    replaced + &text[done..]
}

/// What an attack found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Findings {
    /// How much came back while the model was trained.
    Curves(Vec<Arm>),
    /// Which prompts and seeds brought it back.
    Trials(Vec<TrialArm>),
}

/// What one form of a training found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Which form: what it was shown.
    pub name: String,
    /// How much of the concept was there, evaluation by evaluation.
    pub curve: Vec<Evaluation>,
}

/// How much of the concept was there at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Training steps of the attack before it.
    pub step: u64,
    /// Pictures that show the concept.
    pub hits: usize,
    /// Pictures that were looked at, all of which showed it before it was erased.
    pub n: usize,
}

impl Evaluation {
    /// How much of the concept is back: 1 is all that the base had.
    pub fn share(self) -> f64 {
        self.hits as f64 / self.n.max(1) as f64
    }
}

impl Arm {
    /// The name of the arm that is shown the concept.
    pub const CONCEPT: &'static str = "concept";

    /// The name of the arm that is shown other pictures.
    pub const UNRELATED: &'static str = "unrelated";

    /// The name of the arm that is the floor: how soon the model learns what it never knew.
    pub const CONTROL: &'static str = "control";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced_whole() {
        let of = |text| replace_words(text, "Cat", "zuvqex");
        assert_eq!(of("A Cat image, a Cat."), "A zuvqex image, a zuvqex.");
        assert_eq!(of("Cattle and a CatCat"), "Cattle and a CatCat");
        assert_eq!(replace_words("可爱的猫照片", "猫", "zuvqex"), "可爱的zuvqex照片");
    }

    #[test]
    fn no_control_where_a_prompt_does_not_name_the_concept() {
        let of = |prompt: &str| {
            let request = ImageRequest::of_seed(1, 1.0, 8);
            let request = ImageRequest { prompt: prompt.to_owned(), ..request };
            let shown = (Picture::filled(8, 8, [0; 3]), "a Cat".to_owned());
            Exposure::of_prompts(vec![shown], Vec::new(), vec![request], &["Cat".to_owned()])
        };
        assert_eq!(of("one Cat.").control_requests[0].prompt, "one zuvqex.");
        assert!(of("two Cats").control.is_empty());
    }
}
