//! Pictures of a `StyleGAN2`: which seeds, and what they are of beside them.

use std::path::Path;

use serde::Serialize;

use super::{EditedModel, GenerateRequest};
use crate::generator::{Blend, ImageRequest, Seeding, StyleGan2};
use crate::pipeline::PromptRow;
use crate::run::Error;
use crate::run::opening::said;
use crate::torch::Compute;
use crate::watch::Watch;
use crate::weights::Edit;

/// What a GAN's pictures are of, beside their seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GanGenerateRequest {
    /// How far styles may lie from their mean; of several, every seed is drawn at each.
    pub truncation: Vec<f64>,
    /// Pictures from each seed to the next, both included; 0 draws the seeds themselves.
    pub strip: usize,
    /// A seed whose style takes over from a layer on.
    pub mix: Option<(u64, i64)>,
    /// What seeds mean.
    #[serde(skip_serializing_if = "Seeding::is_usual")]
    pub seeding: Seeding,
}

impl Default for GanGenerateRequest {
    fn default() -> Self {
        Self { truncation: vec![1.0], strip: 0, mix: None, seeding: Seeding::default() }
    }
}

impl GanGenerateRequest {
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The stem of each picture's file and how it is drawn: `{truncation}_{n}`, or `{strip}_{n}`
    /// for strips.
    pub(super) fn requests(
        &self,
        seeds: &[u64],
        side: i64,
    ) -> Result<Vec<(String, ImageRequest)>, Error> {
        let several = self.truncation.len() > 1;
        if let Some(wrong) = self.truncation.iter().find(|value| !value.is_finite()) {
            return Err(Error::Unknown(format!(
                "--truncation is {wrong}; it is a number, 0 to 1 as a rule"
            )));
        }
        let again = |(i, value): &(usize, &f64)| self.truncation[..*i].contains(*value);
        if let Some((_, twice)) = self.truncation.iter().enumerate().find(again) {
            return Err(Error::Unknown(format!("--truncation has {twice} twice; name each once")));
        }
        if self.strip > 0 && (several || self.mix.is_some() || seeds.len() < 2 || self.strip < 2) {
            return Err(Error::Unknown(
                "a strip (--strip) goes in at least 2 pictures from each of at least 2 seeds to \
                 the next, at one truncation and without --mix"
                    .to_owned(),
            ));
        }
        if let Some((_, layer)) = self.mix
            && !(1..2 * i64::from(side.ilog2()) - 2).contains(&layer)
        {
            return Err(Error::Unknown(format!(
                "--mix takes over from layer {layer}; this generator has layers 0 to {}, and 1 is \
                 the first that can be another's",
                2 * side.ilog2() - 3
            )));
        }
        let mut requests = Vec::new();
        if self.strip > 0 {
            for (pair, ends) in seeds.windows(2).enumerate() {
                for n in 0..self.strip {
                    let share = n as f64 / (self.strip - 1) as f64;
                    let blend = Some(Blend::Between { seed: ends[1], share });
                    let request = ImageRequest {
                        blend,
                        seeding: self.seeding,
                        ..ImageRequest::of_seed(ends[0], self.truncation[0], side)
                    };
                    requests.push((format!("{pair}_{n}"), request));
                }
            }
            return Ok(requests);
        }
        for &truncation in &self.truncation {
            for (n, &seed) in seeds.iter().enumerate() {
                let blend = self.mix.map(|(seed, layer)| Blend::From { seed, layer });
                let request = ImageRequest {
                    blend,
                    seeding: self.seeding,
                    ..ImageRequest::of_seed(seed, truncation, side)
                };
                let case =
                    if several { format!("truncation {truncation}") } else { "0".to_owned() };
                requests.push((format!("{case}_{n}"), request));
            }
        }
        Ok(requests)
    }
}

/// Opens the GAN of a request with what goes onto it.
///
/// # Errors
/// A model that cannot be read; what a GAN does not take.
pub(super) fn open(
    options: &GenerateRequest,
    path: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<EditedModel, Error> {
    let wrong = |what: &str| {
        Err(Error::Unknown(format!(
            "{} is a StyleGAN2: {what}; its pictures are seeds (--seeds, --truncation)",
            path.display()
        )))
    };
    let one_blank =
        |rows: &[PromptRow]| matches!(rows, [row] if row.prompt.is_empty() && row.seed.is_none());
    if !one_blank(&options.prompts) {
        return wrong("it reads no prompt and no list of prompts");
    }
    if !options.embeddings.is_empty() {
        return wrong("it learns no word");
    }
    let steps = options.steps.is_some() || options.sampler.is_some();
    if steps || options.guidance.is_some() || !options.negative.is_empty() {
        return wrong(
            "it draws in one step, so it has no --steps, --sampler, --guidance and --negative",
        );
    }
    let model = StyleGan2::load(path, compute)?;
    let edit = if options.edits.is_empty() {
        Edit::default()
    } else {
        said(model.merge(&options.edits)?, watch)
    };
    Ok(EditedModel { model: Box::new(model), edit, words: String::new(), solver: None })
}
