//! Pipelines of a GAN: whose pictures are seeds, so that what is to go is shown by labelled samples
//! of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::pipeline::{AnswerSettings, ModelSettings, overridden, targets_of};
use super::reference_judge::ALIGNED;
use super::samples::{LABELLED, MEASURED, SECOND};
use super::{Batch, Error};
use crate::attack::Relearning;
use crate::erasure::{
    AdaptThenUnlearn, Erasure, Extrapolation, Feedback, PositivesOnly, StopSettings,
};
use crate::generator::Synthesizer;
use crate::measure::Target;
use crate::training::GanConfig;

/// A pipeline file of a GAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlearning {
    /// Name of the run folder in `outputs/`.
    pub name: String,
    /// The seed of erasures.
    #[serde(default)]
    pub seed: u64,
    /// `style:NAME` or `object:NAME`; each is erased from the base by itself.
    pub forget: Vec<String>,
    /// What is edited.
    #[serde(default = "miniature_gan")]
    pub model: ModelSettings,
    /// Who says which samples show it.
    pub feedback: FeedbackSettings,
    /// What is measured.
    #[serde(default)]
    pub measure: MeasureSettings,
    /// The classes that labeller and judge tell apart.
    #[serde(default)]
    pub classes: AnswerSettings,
    /// The methods that are compared.
    #[serde(default = "all_methods")]
    pub method: Vec<GanMethod>,
}

/// Who labels the samples that methods learn from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedbackSettings {
    /// A CLIP folder; it must not be the judge that measures.
    pub labeller: String,
    /// The least probability at which a sample shows a class; what lies between this and its
    /// counterpart is not used.
    pub threshold: f64,
    /// Samples that are drawn and labelled.
    pub samples: usize,
    /// A CSV with the columns `seed` and `shows` (1 or 0) instead of a labeller's word: what `unsee
    /// label` writes. Or a folder of samples that were sorted into its folders `shows` and
    /// `others`. It says what shows the one thing that is to be forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeasureSettings {
    /// The CLIP that names what pictures show, and by whose features they are compared.
    pub judge: String,
    /// Inception-v3's weights for FID (`pytorch-fid`'s, safetensors or a state dict), by whose
    /// features pictures are compared instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inception: Option<PathBuf>,
    /// Latents that are drawn before and after each erasure.
    pub latents: usize,
    /// Known pictures that measure labeller and judge, and to which pictures without the concept
    /// are compared: `canvas` and `aligned-canvas` draw them, or a folder in `UnlearnCanvas`'
    /// layout, or `none`. Where none is named, `aligned-canvas` for the canvas' classes, and none
    /// for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Pictures of each style × object of the reference, to which pictures without the concept are
    /// compared; 0 leaves that out.
    pub per_cell: u32,
    /// Generators that never saw a concept, by concept: `"object:Cat" = "retrained.safetensors"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub retrained: BTreeMap<String, String>,
    /// Pictures that are drawn at once.
    pub batch: Batch,
    /// How a concept is taught again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relearn: Option<Relearning>,
}

/// A method on labelled samples; its settings have their own defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum GanMethod {
    /// Adapted models, and repulsion from them.
    AdaptThenUnlearn(AdaptThenUnlearn),
    /// Away from adapted models, without training.
    Extrapolation(Extrapolation),
    /// Samples without the concept.
    Positives(PositivesOnly),
    /// Samples without the concept, and what matters is held.
    PositivesEwc(PositivesOnly),
}

fn miniature_gan() -> ModelSettings {
    ModelSettings { path: "miniature-gan".to_owned(), ..ModelSettings::default() }
}

fn all_methods() -> Vec<GanMethod> {
    vec![
        GanMethod::AdaptThenUnlearn(AdaptThenUnlearn::default()),
        GanMethod::Extrapolation(Extrapolation::default()),
        GanMethod::Positives(PositivesOnly::default()),
        GanMethod::PositivesEwc(PositivesOnly { lambda: Some(EWC), ..PositivesOnly::default() }),
    ]
}

/// Weight of the elastic term, as Adapt-then-Unlearn's code has it.
const EWC: f64 = 5e8;

impl Default for FeedbackSettings {
    fn default() -> Self {
        Self { labeller: "labeller".to_owned(), threshold: 0.7, samples: 6000, labels: None }
    }
}

impl Default for MeasureSettings {
    fn default() -> Self {
        Self {
            judge: "judge".to_owned(),
            inception: None,
            latents: 2000,
            reference: None,
            per_cell: 16,
            retrained: BTreeMap::new(),
            batch: Batch::Of(50),
            relearn: None,
        }
    }
}

impl GanMethod {
    /// Its name in tables and files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AdaptThenUnlearn(_) => "adapt-then-unlearn",
            Self::Extrapolation(_) => "extrapolation",
            Self::Positives(_) => "positives",
            Self::PositivesEwc(_) => "positives-ewc",
        }
    }

    /// The method behind the name.
    pub(super) fn erasure<'m, 'f>(&self) -> &dyn Erasure<dyn Synthesizer + 'm, Feedback<'f>> {
        match self {
            Self::AdaptThenUnlearn(method) => method,
            Self::Extrapolation(method) => method,
            Self::Positives(method) | Self::PositivesEwc(method) => method,
        }
    }

    /// Looks that it takes on the way, at most.
    pub(super) fn looks(&self) -> u64 {
        let of = |steps: u64, stop: &StopSettings| {
            if stop.every == 0 { 0 } else { steps.div_ceil(stop.every) }
        };
        match self {
            Self::AdaptThenUnlearn(method) => of(method.steps, &method.stop),
            // There is no choice of one.
            Self::Extrapolation(method) if method.strengths.len() < 2 => 0,
            Self::Extrapolation(method) => method.strengths.len() as u64,
            Self::Positives(method) | Self::PositivesEwc(method) => of(method.steps, &method.stop),
        }
    }

    fn check(&self) -> Result<(), Error> {
        Ok(match self {
            Self::AdaptThenUnlearn(method) => method.check(),
            Self::Extrapolation(method) => method.check(),
            Self::Positives(PositivesOnly { lambda: Some(_), .. }) => {
                return Err(Error::Pipeline(
                    "positives has no lambda; positives-ewc has one".to_owned(),
                ));
            }
            Self::Positives(method) | Self::PositivesEwc(method) => method.check(),
        }?)
    }
}

impl Unlearning {
    /// Reads a pipeline; `path` is for messages, `sets` are `key=value` pairs that come last.
    ///
    /// # Errors
    /// What is no TOML, an unknown key, a value of the wrong type, settings that cannot work.
    pub fn parse(path: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        let mut pipeline: Self = overridden(path, text, sets)?;
        for method in &mut pipeline.method {
            if let GanMethod::PositivesEwc(method) = method {
                method.lambda.get_or_insert(EWC);
            }
        }
        pipeline.check().map_err(|error| Error::Pipeline(format!("{path}: {error}")))?;
        for method in &mut pipeline.method {
            if let GanMethod::AdaptThenUnlearn(method) = method {
                *method = method.effective();
            }
        }
        Ok(pipeline)
    }

    /// A pipeline of one method, Adapt-then-Unlearn unless `sets` name another, whose settings are
    /// `method.…`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn of_one(
        name: &str,
        forget: &[String],
        model: &ModelSettings,
        sets: &[String],
    ) -> Result<Self, Error> {
        let wrong = |error: toml::ser::Error| Error::Pipeline(error.to_string());
        let mut table = toml::Table::new();
        table.insert("name".to_owned(), name.into());
        table.insert("forget".to_owned(), forget.to_vec().into());
        table.insert("model".to_owned(), toml::Value::try_from(model).map_err(wrong)?);
        table.insert("feedback".to_owned(), toml::Table::new().into());
        let method = toml::Table::from_iter([("name".to_owned(), "adapt-then-unlearn".into())]);
        table.insert("method".to_owned(), method.into());
        let text = toml::to_string(&table).map_err(wrong)?;
        let mut table: toml::Table = overridden("erase", &text, sets)?;
        if let Some(method) = table.remove("method") {
            table.insert("method".to_owned(), toml::Value::Array(vec![method]));
        }
        Self::parse("erase", &toml::to_string(&table).map_err(wrong)?, &[])
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::Pipeline(why));
        let targets = self.targets()?;
        if self.method.is_empty() {
            return wrong("there is no [[method]]".to_owned());
        }
        let FeedbackSettings { labeller, threshold, samples, labels } = &self.feedback;
        if *labeller == self.measure.judge {
            return wrong(format!(
                "`{labeller}` labels what methods learn from and measures them too; they would \
                 learn to please it: name two networks"
            ));
        }
        if !(0.5..1.0).contains(threshold) || *samples < 10 || self.measure.latents < 10 {
            return wrong(format!(
                "feedback.threshold is {threshold}, feedback.samples {samples} and measure.latents \
                 {}; at least 0.5 and below 1, 10 and 10 are needed",
                self.measure.latents
            ));
        }
        for (what, n, most) in [
            ("feedback.samples", *samples, MEASURED - LABELLED),
            ("measure.latents", self.measure.latents, SECOND - MEASURED),
        ] {
            if n as u64 > most {
                return wrong(format!("{what} is {n}; there are seeds for {most} at most"));
            }
        }
        if labels.is_some() && targets.len() != 1 {
            return wrong(
                "feedback.labels says what shows one thing; forget names several".to_owned(),
            );
        }
        let mut names: Vec<&str> = self.method.iter().map(GanMethod::name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return wrong("a method is there twice; give each a pipeline of its own".to_owned());
        }
        if self.measure.batch == Batch::Auto {
            return wrong("measure.batch is a number for a GAN".to_owned());
        }
        if let Some(relearn) = &self.measure.relearn {
            relearn.check().map_err(Error::Pipeline)?;
        }
        let named: Vec<String> = targets.iter().map(Target::to_string).collect();
        if let Some(key) = self.measure.retrained.keys().find(|key| !named.contains(key)) {
            return wrong(format!(
                "measure.retrained names `{key}`, which is not to be forgotten; forget names {}",
                named.join(", ")
            ));
        }
        self.method.iter().try_for_each(GanMethod::check)
    }

    /// The known pictures' name.
    pub(super) fn reference(&self) -> Option<String> {
        let canvas = self.classes.styles.is_empty() && self.classes.objects.is_empty();
        self.measure.reference.clone().or_else(|| canvas.then(|| ALIGNED.to_owned()))
    }

    /// The rules of every contest that it holds.
    pub(super) fn gan(&self) -> Vec<&GanConfig> {
        fn of(method: &GanMethod) -> Vec<&GanConfig> {
            match method {
                GanMethod::AdaptThenUnlearn(own) => vec![&own.adapt.gan, &own.gan],
                GanMethod::Extrapolation(own) => vec![&own.adapt.gan],
                GanMethod::Positives(own) | GanMethod::PositivesEwc(own) => vec![&own.gan],
            }
        }
        let again = self.measure.relearn.iter().map(|own| &own.gan);
        self.method.iter().flat_map(of).chain(again).collect()
    }

    /// What is to be forgotten.
    ///
    /// # Errors
    /// Nothing, a target that is none, one that is there twice.
    pub fn targets(&self) -> Result<Vec<Target>, Error> {
        targets_of("forget", &self.forget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: &str) -> Result<GanMethod, Error> {
        let text = format!(
            "name = \"x\"\nforget = [\"object:Cat\"]\nfeedback = {{}}\n[[method]]\n{method}"
        );
        Unlearning::parse("x", &text, &[]).map(|mut pipeline| pipeline.method.remove(0))
    }

    #[test]
    fn what_the_pipeline_calls_defaults_are_defaults() {
        let text = include_str!("../../pipelines/gan-adapt-then-unlearn.toml");
        let all = Unlearning::parse("shipped", text, &[]).unwrap();
        let own = all_methods();
        assert_eq!(serde_json::to_value(&all.method).unwrap(), serde_json::to_value(&own).unwrap());
        let [_, method, ..] = text.split("[[method]]\n").collect::<Vec<_>>()[..] else {
            panic!("no method")
        };
        let said = method.replace("\n# ", "\n");
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("# {key} = ")));
            let value =
                line.unwrap_or_else(|| panic!("{key} is not there")).split('#').next().unwrap();
            value.trim().trim_matches('"').to_owned()
        };
        let (feedback, measure) = (FeedbackSettings::default(), MeasureSettings::default());
        assert_eq!([value("labeller"), value("judge")], [feedback.labeller, measure.judge]);
        assert_eq!(value("threshold").parse(), Ok(feedback.threshold));
        assert_eq!(value("samples").parse(), Ok(feedback.samples));
        assert_eq!(value("lambda").parse(), Ok(EWC));
        assert!(said.lines().filter(|line| line.contains(" = ")).count() > 10, "{said}");
        let GanMethod::AdaptThenUnlearn(said) = parsed(&said).unwrap() else {
            panic!("another method")
        };
        assert_eq!(said, AdaptThenUnlearn::default());
    }

    #[test]
    fn there_are_seeds_for_so_many_pictures_only() {
        let parse = |sets: &[&str]| {
            let text = "name = \"x\"\nforget = [\"object:Cat\"]\nfeedback = {}";
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            Unlearning::parse("x", text, &sets)
        };
        for set in ["measure.latents=536870913", "feedback.samples=9223372036854775807"] {
            let error = parse(&[set]).unwrap_err().to_string();
            assert!(error.contains("there are seeds for"), "{error}");
        }
        assert!(parse(&["measure.latents=536870912"]).is_ok());
    }

    #[test]
    fn rules_that_are_not_given_are_the_place_s_own() {
        let given = "name = \"positives\"\ngan = { batch = 4 }\nstop = { every = 7 }";
        let GanMethod::Positives(given) = parsed(given).unwrap() else { panic!("another method") };
        let usual = PositivesOnly::default();
        assert_eq!(given.gan, GanConfig { batch: 4, ..usual.gan });
        assert_ne!(usual.gan.mapping_lr, GanConfig::default().mapping_lr);
        let given = "name = \"extrapolation\"\nstop = { damage = 2.0 }";
        let GanMethod::Extrapolation(given) = parsed(given).unwrap() else {
            panic!("another method")
        };
        assert_eq!(given.stop, StopSettings { damage: 2.0, ..Extrapolation::default().stop });
        let wrong = parsed("name = \"positives\"\ngan = { bach = 4 }").unwrap_err().to_string();
        assert!(wrong.contains("did you mean `batch`?"), "{wrong}");
    }
}
