//! Draws a list of prompts into a run folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::generator::{
    Adapter, Blend, Embedding, Generator, ImageRequest, Location, Seeding, StyleGan2, is_gan,
};
use crate::pipeline::{Batch, DrawSettings, ModelSettings, PromptRow, located};
use crate::run::Error;
use crate::run::batch::settled;
use crate::run::drawing::{Provenance, draw_missing};
use crate::run::folder::RunFolder;
use crate::run::hashes::{content_hash, hash_with};
use crate::run::opening::{loaded, of_full_precision, opened_with, said, warn_of_unread};
use crate::run::record::Machine;
use crate::sampler::Solver;
use crate::torch::Compute;
use crate::watch::Watch;

/// What to draw and how.
#[derive(Debug, Clone, Serialize)]
pub struct GenerateRequest {
    /// The model.
    pub model: ModelSettings,
    /// Files that go onto it, in this order.
    pub edits: Vec<Adapter>,
    /// Words to learn.
    pub embeddings: Vec<Embedding>,
    /// The prompts.
    pub prompts: Vec<PromptRow>,
    /// Seeds for prompts that have none of their own.
    pub seeds: Vec<u64>,
    /// What to stay away from.
    pub negative: String,
    /// Guidance for prompts that have none of their own; a pipeline's when it is missing.
    pub guidance: Option<f64>,
    /// Sampling steps; a pipeline's when it is missing.
    pub steps: Option<usize>,
    /// The solver; the model's own when it is missing.
    pub sampler: Option<Solver>,
    /// Pixels across and down; when missing the prompt's own, else the model's.
    pub size: Option<(i64, i64)>,
    /// What a GAN's pictures are of, beside their seeds.
    #[serde(skip_serializing_if = "GanGenerateRequest::is_plain")]
    pub gan: GanGenerateRequest,
    /// Pictures in a batch.
    pub batch: Batch,
}

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
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The stem of each picture's file and how it is drawn: `{truncation}_{n}`, or `{strip}_{n}`
    /// for strips.
    fn requests(&self, seeds: &[u64], side: i64) -> Result<Vec<(String, ImageRequest)>, Error> {
        let several = self.truncation.len() > 1;
        if let Some(wrong) = self.truncation.iter().find(|own| !own.is_finite()) {
            return Err(Error::Unknown(format!(
                "--truncation is {wrong}; it is a number, 0 to 1 as a rule"
            )));
        }
        let again = |(i, own): &(usize, &f64)| self.truncation[..*i].contains(*own);
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

/// A picture that was drawn.
#[derive(Debug, Clone, Serialize)]
pub struct Drawn {
    /// Its file.
    pub file: PathBuf,
    /// Its prompt.
    pub prompt: String,
    /// Its seed.
    pub seed: u64,
}

/// Draws everything into `root` as `{case}_{n}.png`, beside a `pictures.csv` with all columns.
///
/// # Errors
/// Whatever stops it; pictures that are done are kept, and the same command goes on.
pub fn generate(
    commission: &GenerateRequest,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<Drawn>, Error> {
    let location = located(&commission.model)?;
    let of_gan = is_gan(&location.path);
    let compute = if of_gan { of_full_precision(compute) } else { compute };
    let edited = if of_gan {
        gan(commission, &location.path, compute, watch)?
    } else {
        diffusion(commission, &location, compute, watch)?
    };
    let side = edited.model.card().side;
    let mut commissioned = Commissioned::default();
    let file = |stem: &str| root.join(format!("{stem}.png"));
    let Some(solver) = edited.solver else {
        for (stem, request) in commission.gan.requests(&commission.seeds, side)? {
            let size = commission.size.unwrap_or(request.size);
            let request = ImageRequest { size, ..request };
            commissioned.add(file(&stem), request, &commission.prompts[0]);
        }
        return draw(commission, &edited, commissioned, root, compute, watch);
    };
    if !commission.gan.is_plain() {
        return Err(Error::Unknown(
            "--truncation, --strip, --mix and --seeding are for a StyleGAN2".to_owned(),
        ));
    }
    let usual = DrawSettings::default();
    let own = |is_own: fn(&PromptRow) -> bool| {
        commission.prompts.iter().filter(|row| is_own(row)).count()
    };
    let seeded = own(|row| row.seed.is_some());
    if seeded > 0 && commission.seeds != [0] {
        watch.note(&format!("--seeds are for prompts without one of their own; {seeded} have one"));
    }
    let (guided, sized) = (own(|row| row.guidance.is_some()), own(|row| row.size.is_some()));
    if commission.guidance.is_some() && guided > 0 {
        watch.note(&format!(
            "--guidance is for prompts without one of their own; {guided} have one"
        ));
    }
    if commission.size.is_some() && sized > 0 {
        watch.note(&format!(
            "--size takes the place of the sizes that {sized} prompts have of their own"
        ));
    }
    for row in &commission.prompts {
        let seeds = row.seed.map_or_else(|| commission.seeds.clone(), |seed| vec![seed]);
        for (n, seed) in seeds.into_iter().enumerate() {
            let request = ImageRequest {
                prompt: row.prompt.clone(),
                negative: commission.negative.clone(),
                seed,
                guidance: row.guidance.or(commission.guidance).unwrap_or(usual.guidance),
                steps: commission.steps.unwrap_or(usual.steps),
                sampler: solver,
                size: commission.size.or(row.size).unwrap_or((side, side)),
                truncation: 1.0,
                blend: None,
                seeding: Seeding::default(),
            };
            commissioned.add(file(&format!("{}_{n}", row.case)), request, row);
        }
    }
    draw(commission, &edited, commissioned, root, compute, watch)
}

/// Pictures that are asked for, each with the row of its prompt.
#[derive(Default)]
struct Commissioned<'a> {
    works: Vec<(PathBuf, ImageRequest)>,
    rows: Vec<&'a PromptRow>,
}

impl<'a> Commissioned<'a> {
    fn add(&mut self, file: PathBuf, request: ImageRequest, row: &'a PromptRow) {
        self.works.push((file, request));
        self.rows.push(row);
    }
}

/// Draws what was asked for into the run's folder.
fn draw(
    commission: &GenerateRequest,
    edited: &EditedModel,
    commissioned: Commissioned,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<Drawn>, Error> {
    let (model, hash) = (&*edited.model, edited.hash.as_str());
    let Commissioned { works, rows } = commissioned;
    let files: HashSet<&PathBuf> = works.iter().map(|(file, _)| file).collect();
    if files.len() != works.len() {
        return Err(Error::Unknown(
            "two prompts have the same case_number; their pictures would overwrite each other"
                .to_owned(),
        ));
    }

    // Before there is a folder.
    for (_, request) in &works {
        model.check(request)?;
    }
    RunFolder::within(root, commission, &[], Machine::here(compute), watch, |run, watch| {
        run.record.sign("base", model.card())?;
        run.record.bind("model with all that is on it", hash)?;
        let largest = works
            .iter()
            .map(|(_, request)| request)
            .max_by_key(|request| request.size.0 * request.size.1);
        let batch = match largest {
            Some(request) => settled(commission.batch, run, model, request, compute.device, watch)?,
            None => 1,
        };
        run.phase("drawing", compute.device, |_| {
            let stamp = Provenance { model: hash, sensitive: false };
            draw_missing(model, &works, stamp, batch, "drawing", watch)
        })?;
        table(commission, &works, &rows, root)
    })?;
    Ok(works
        .into_iter()
        .map(|(file, request)| Drawn { file, prompt: request.prompt, seed: request.seed })
        .collect())
}

/// Whether a prompt has A1111's weights in it: a number behind a colon, in brackets.
fn is_weighted(prompt: &str) -> bool {
    prompt.split('(').skip(1).any(|inner| {
        let inside = inner.split(')').next().unwrap_or_default();
        inside.rsplit_once(':').is_some_and(|(_, weight)| weight.trim().parse::<f64>().is_ok())
    })
}

/// A model with everything on it.
struct EditedModel {
    model: Box<dyn Generator>,
    /// Of the model and what goes onto it.
    hash: String,
    /// A diffusion model's own solver.
    solver: Option<Solver>,
}

fn diffusion(
    commission: &GenerateRequest,
    location: &Location,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<EditedModel, Error> {
    let (checkpoint, edit) = opened_with(location, &commission.edits, watch)?;
    let mut model = loaded(&checkpoint, compute, watch)?;
    if !commission.edits.is_empty() {
        model.apply(&edit)?;
    }
    let mut hash = hash_with(&model.card().hash, &commission.edits)?;
    for embedding in &commission.embeddings {
        let word = model.learn(embedding)?;
        let texts = commission.prompts.iter().map(|row| &row.prompt).chain([&commission.negative]);
        if texts.into_iter().any(|text| model.names(text, &word)) {
            watch.note(&format!("{} is the word `{word}` in prompts", embedding.path.display()));
        } else {
            watch.warn(&format!(
                "no prompt has the word `{word}`, which {} is; it has no effect",
                embedding.path.display()
            ));
        }
        hash = format!("{hash}+{word}={}", content_hash(&embedding.path)?);
    }
    let texts = commission.prompts.iter().map(|row| &row.prompt).chain([&commission.negative]);
    warn_of_unread(&model, texts.map(String::as_str), watch);
    let strange = |prompt: &str| {
        prompt.contains("<lora:") || prompt.contains("<hypernet:") || is_weighted(prompt)
    };
    if let Some(row) = commission.prompts.iter().find(|row| strange(&row.prompt)) {
        watch.warn(&format!(
            "«{}» is read as plain text, as diffusers does: weights like (cat:1.4) and <lora:…> \
             are A1111's; --edit takes a LoRA",
            row.prompt
        ));
    }
    model.notes().iter().for_each(|note| watch.note(note));
    let guided = |row: &PromptRow| {
        row.guidance.or(commission.guidance).unwrap_or(DrawSettings::default().guidance) > 1.0
    };
    if !commission.negative.is_empty() && !commission.prompts.iter().any(guided) {
        watch.warn("--negative has no effect at a guidance of 1 and less");
    }
    let solver = Some(commission.sampler.map_or_else(|| model.solver(), Ok)?);
    Ok(EditedModel { model: Box::new(model), hash, solver })
}

fn gan(
    commission: &GenerateRequest,
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
    if !one_blank(&commission.prompts) {
        return wrong("it reads no prompt and no list of prompts");
    }
    if !commission.embeddings.is_empty() {
        return wrong("it learns no word");
    }
    let steps = commission.steps.is_some() || commission.sampler.is_some();
    if steps || commission.guidance.is_some() || !commission.negative.is_empty() {
        return wrong(
            "it draws in one step, so it has no --steps, --sampler, --guidance and --negative",
        );
    }
    let mut model = StyleGan2::load(path, compute)?;
    if !commission.edits.is_empty() {
        let edit = said(model.merge(&commission.edits)?, watch);
        model.apply(&edit)?;
    }
    let hash = hash_with(&model.card().hash, &commission.edits)?;
    Ok(EditedModel { model: Box::new(model), hash, solver: None })
}

/// Writes `pictures.csv`: each file with its seed, what else a GAN's picture is of, and the prompt
/// file's columns.
fn table(
    commission: &GenerateRequest,
    works: &[(PathBuf, ImageRequest)],
    rows: &[&PromptRow],
    root: &Path,
) -> Result<(), Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let kept: Vec<String> =
        commission.prompts[0].columns.iter().map(|(head, _)| head.clone()).collect();
    let csv_error = |error: csv::Error| Error::Io(std::io::Error::other(error));
    let of_gan: &[&str] =
        if commission.gan.is_plain() { &[] } else { &["truncation", "other_seed", "share"] };
    let heads = ["file", "seed"].iter().chain(of_gan).map(|&head| head.to_owned()).chain(kept);
    table.write_record(heads).map_err(csv_error)?;
    for ((file, request), row) in works.iter().zip(rows) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = row.columns.iter().map(|(_, value)| value.clone());
        let (other, share) = match request.blend {
            Some(Blend::Between { seed, share }) => (seed.to_string(), share.to_string()),
            Some(Blend::From { seed, layer }) => (seed.to_string(), format!("from layer {layer}")),
            None => (String::new(), String::new()),
        };
        let of_gan = [request.truncation.to_string(), other, share].into_iter().take(of_gan.len());
        let all = [name, request.seed.to_string()].into_iter().chain(of_gan).chain(own);
        table.write_record(all).map_err(csv_error)?;
    }
    let bytes =
        table.into_inner().map_err(|error| Error::Io(std::io::Error::other(error.to_string())))?;
    Ok(crate::files::write(&root.join("pictures.csv"), &bytes)?)
}
