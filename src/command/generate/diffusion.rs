//! Pictures of prompts: opens the model with what goes onto it, and says what is read otherwise
//! than it looks.

use std::fmt::Write as _;

use super::{EditedModel, GenerateRequest};
use crate::generator::Location;
use crate::pipeline::{DrawSettings, PromptRow};
use crate::run::Error;
use crate::run::hashes::content_hash;
use crate::run::opening::{loaded, opened_with, warn_of_unread};
use crate::torch::Compute;
use crate::watch::Watch;

/// Opens the diffusion model of a request with what goes onto it.
///
/// # Errors
/// A model or a file for it that cannot be read.
pub(super) fn open(
    options: &GenerateRequest,
    location: &Location,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<EditedModel, Error> {
    let (checkpoint, edit) = opened_with(location, &options.edits, watch)?;
    let mut model = loaded(&checkpoint, compute, watch)?;
    let mut words = String::new();
    for embedding in &options.embeddings {
        let word = model.learn(embedding)?;
        let texts = options.prompts.iter().map(|row| &row.prompt).chain([&options.negative]);
        if texts.into_iter().any(|text| model.names(text, &word)) {
            watch.note(&format!("{} is the word `{word}` in prompts", embedding.path.display()));
        } else {
            watch.warn(&format!(
                "no prompt has the word `{word}`, which {} is; it has no effect",
                embedding.path.display()
            ));
        }
        let _ = write!(words, "+{word}={}", content_hash(&embedding.path)?);
    }
    let texts = options.prompts.iter().map(|row| &row.prompt).chain([&options.negative]);
    warn_of_unread(&model, texts.map(String::as_str), watch);
    let strange = |prompt: &str| {
        prompt.contains("<lora:") || prompt.contains("<hypernet:") || is_weighted(prompt)
    };
    if let Some(row) = options.prompts.iter().find(|row| strange(&row.prompt)) {
        watch.warn(&format!(
            "«{}» is read as plain text, as diffusers does: weights like (cat:1.4) and <lora:…> \
             are A1111's; --edit takes a LoRA",
            row.prompt
        ));
    }
    model.notes().iter().for_each(|note| watch.note(note));
    let guided = |row: &PromptRow| {
        row.guidance.or(options.guidance).unwrap_or(DrawSettings::default().guidance) > 1.0
    };
    if !options.negative.is_empty() && !options.prompts.iter().any(guided) {
        watch.warn("--negative has no effect at a guidance of 1 and less");
    }
    let solver = Some(options.sampler.map_or_else(|| model.solver(), Ok)?);
    Ok(EditedModel { model: Box::new(model), edit, words, solver })
}

/// Whether a prompt has A1111's weights in it: a number behind a colon, in brackets.
fn is_weighted(prompt: &str) -> bool {
    prompt.split('(').skip(1).any(|inner| {
        let inside = inner.split(')').next().unwrap_or_default();
        inside.rsplit_once(':').is_some_and(|(_, weight)| weight.trim().parse::<f64>().is_ok())
    })
}
