//! Draws a list of prompts, or a GAN's seeds, into a run folder.

mod diffusion;
mod gan;
mod table;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use gan::GanGenerateRequest;

use crate::generator::{
    Adapter, Embedding, Generator, ImageRequest, Provenance, Seeding, is_gan, is_one,
};
use crate::pipeline::{Batch, DrawSettings, ModelSettings, PromptRow, located};
use crate::run::Error;
use crate::run::batch::settled;
use crate::run::drawing::draw_missing;
use crate::run::folder::RunFolder;
use crate::run::hashes::hash_with;
use crate::run::opening::of_full_precision;
use crate::run::record::Machine;
use crate::sampler::Solver;
use crate::torch::Compute;
use crate::watch::Watch;
use crate::weights::Edit;

/// What to draw and how.
#[derive(Debug, Clone, Serialize)]
pub struct GenerateRequest {
    /// The model.
    pub model: ModelSettings,
    /// Files that go onto it, in this order.
    pub edits: Vec<Adapter>,
    /// How much of all of them is on the model; of several, every picture is drawn at each. Below 0
    /// a change is turned round.
    #[serde(skip_serializing_if = "is_whole")]
    pub strengths: Vec<f64>,
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

/// Whether the files go onto the model as they are.
#[expect(clippy::ptr_arg, reason = "serde asks so")]
fn is_whole(strengths: &Vec<f64>) -> bool {
    matches!(strengths[..], [one] if is_one(&one))
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
    options: &GenerateRequest,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<Drawn>, Error> {
    check_strengths(options)?;
    let location = located(&options.model)?;
    let of_gan = is_gan(&location.path);
    let compute = if of_gan { of_full_precision(compute) } else { compute };
    let edited = if of_gan {
        gan::open(options, &location.path, compute, watch)?
    } else {
        diffusion::open(options, &location, compute, watch)?
    };
    let pictures = match edited.solver {
        None => of_seeds(options, &edited)?,
        Some(solver) => {
            say_overridden(options, &edited, watch)?;
            of_prompts(options, &edited, solver)
        }
    };
    let mut works = Works { root, groups: Vec::new() };
    for &strength in &options.strengths {
        works.add(strength, &pictures, options);
    }
    works.draw(options, edited, compute, watch)
}

/// Strengths that can be drawn at, each once.
fn check_strengths(options: &GenerateRequest) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::Unknown(format!("--strengths {why}")));
    let strengths = &options.strengths;
    if options.edits.is_empty() && !is_whole(strengths) {
        return wrong("are of what --edit puts onto the model, and there is none".to_owned());
    }
    if let Some(strength) = strengths.iter().find(|strength| !strength.is_finite()) {
        return wrong(format!("has {strength}, which is no number"));
    }
    let again = |(i, strength): &(usize, &f64)| strengths[..*i].contains(*strength);
    match strengths.iter().enumerate().find(again) {
        Some((_, twice)) => wrong(format!("has {twice} twice; name each once")),
        None => Ok(()),
    }
}

/// A picture to draw.
struct Asked<'a> {
    /// What its file is called before the number.
    case: String,
    /// The number: of the seed, or on a strip.
    n: String,
    request: ImageRequest,
    row: &'a PromptRow,
}

/// A GAN's pictures.
fn of_seeds<'a>(
    options: &'a GenerateRequest,
    edited: &EditedModel,
) -> Result<Vec<Asked<'a>>, Error> {
    let side = edited.model.card().side;
    let requests = options.gan.requests(&options.seeds, side)?;
    let asked = |(stem, request): (String, ImageRequest)| {
        let (case, n) = stem.rsplit_once('_').unwrap_or(("", &stem));
        let size = options.size.unwrap_or(request.size);
        Asked {
            case: case.to_owned(),
            n: n.to_owned(),
            request: ImageRequest { size, ..request },
            row: &options.prompts[0],
        }
    };
    Ok(requests.into_iter().map(asked).collect())
}

/// Each prompt with its seeds.
fn of_prompts<'a>(
    options: &'a GenerateRequest,
    edited: &EditedModel,
    solver: Solver,
) -> Vec<Asked<'a>> {
    let side = edited.model.card().side;
    let usual = DrawSettings::default();
    let (mut steps, mut guidance) = (usual.steps, usual.guidance);
    if let Some(sampling) = edited.edit.sampling {
        (steps, guidance) = (sampling.steps, sampling.guidance);
    }
    let mut pictures = Vec::new();
    for row in &options.prompts {
        let seeds = row.seed.map_or_else(|| options.seeds.clone(), |seed| vec![seed]);
        for (n, seed) in seeds.into_iter().enumerate() {
            let request = ImageRequest {
                prompt: row.prompt.clone(),
                negative: options.negative.clone(),
                seed,
                guidance: row.guidance.or(options.guidance).unwrap_or(guidance),
                steps: options.steps.unwrap_or(steps),
                sampler: solver,
                size: options.size.or(row.size).unwrap_or((side, side)),
                truncation: 1.0,
                blend: None,
                seeding: Seeding::default(),
            };
            pictures.push(Asked { case: row.case.clone(), n: n.to_string(), request, row });
        }
    }
    pictures
}

/// Says which options prompts or edits have their own word on.
fn say_overridden(
    options: &GenerateRequest,
    edited: &EditedModel,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    if !options.gan.is_plain() {
        return Err(Error::Unknown(
            "--truncation, --strip, --mix and --seeding are for a StyleGAN2".to_owned(),
        ));
    }
    let rows = |has: fn(&PromptRow) -> bool| options.prompts.iter().filter(|row| has(row)).count();
    let seeded = rows(|row| row.seed.is_some());
    if seeded > 0 && options.seeds != [0] {
        watch.note(&format!("--seeds are for prompts without one of their own; {seeded} have one"));
    }
    let (guided, sized) = (rows(|row| row.guidance.is_some()), rows(|row| row.size.is_some()));
    if options.guidance.is_some() && guided > 0 {
        watch.note(&format!(
            "--guidance is for prompts without one of their own; {guided} have one"
        ));
    }
    if options.size.is_some() && sized > 0 {
        watch.note(&format!(
            "--size takes the place of the sizes that {sized} prompts have of their own"
        ));
    }
    if let Some(sampling) = edited.edit.sampling {
        watch.note(&format!(
            "the edit is to be drawn in {} steps with guidance {}; --steps and --guidance change \
             that",
            sampling.steps, sampling.guidance
        ));
    }
    Ok(())
}

/// All that is drawn, by how much of the edits is on the model.
struct Works<'a> {
    root: &'a Path,
    groups: Vec<Group<'a>>,
}

/// Pictures at one strength.
struct Group<'a> {
    strength: f64,
    files: Vec<(PathBuf, ImageRequest)>,
    rows: Vec<&'a PromptRow>,
}

impl<'a> Works<'a> {
    fn add(&mut self, strength: f64, pictures: &[Asked<'a>], options: &GenerateRequest) {
        let several = options.strengths.len() > 1;
        let single = pictures.iter().all(|asked| asked.case == pictures[0].case);
        let stem = |asked: &Asked| match (several, single) {
            (false, _) => format!("{}_{}", asked.case, asked.n),
            (true, true) => format!("strength {strength}_{}", asked.n),
            (true, false) => format!("{} strength {strength}_{}", asked.case, asked.n),
        };
        let file = |asked: &Asked| self.root.join(format!("{}.png", stem(asked)));
        let files = pictures.iter().map(|asked| (file(asked), asked.request.clone())).collect();
        let rows = pictures.iter().map(|asked| asked.row).collect();
        self.groups.push(Group { strength, files, rows });
    }

    fn all(&self) -> impl Iterator<Item = &(PathBuf, ImageRequest)> {
        self.groups.iter().flat_map(|group| &group.files)
    }

    /// Draws what was asked for into the run's folder.
    fn draw(
        self,
        options: &GenerateRequest,
        mut edited: EditedModel,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Drawn>, Error> {
        let files: HashSet<&PathBuf> = self.all().map(|(file, _)| file).collect();
        if files.len() != self.all().count() {
            return Err(Error::Unknown(
                "two prompts have the same case_number; their pictures would overwrite each other"
                    .to_owned(),
            ));
        }
        // Before there is a folder.
        self.all().try_for_each(|(_, request)| edited.model.check(request))?;
        let whole = edited.hash_at(1.0, &options.edits)?;
        let machine = Machine::here(compute);
        RunFolder::within(self.root, options, &[], machine, watch, |run, watch| {
            run.record.sign("base", edited.model.card())?;
            run.record.bind("model with all that is on it", &whole)?;
            let requests = self.all().map(|(_, request)| request);
            let largest = requests.max_by_key(|request| request.size.0 * request.size.1);
            let batch = match largest {
                Some(request) => {
                    let model = &*edited.model;
                    settled(options.batch, run, model, request, compute.device, watch)?
                }
                None => 1,
            };
            for group in &self.groups {
                let model = edited.hash_at(group.strength, &options.edits)?;
                edited.put_on(group.strength)?;
                run.phase("drawing", compute.device, |_| {
                    let provenance = Provenance { model: &model, sensitive: false };
                    let generator = &*edited.model;
                    draw_missing(generator, &group.files, provenance, batch, "drawing", watch)
                })?;
            }
            table::write(options, &self)
        })?;
        let drawn = |(file, request): &(PathBuf, ImageRequest)| Drawn {
            file: file.clone(),
            prompt: request.prompt.clone(),
            seed: request.seed,
        };
        Ok(self.all().map(drawn).collect())
    }
}

/// A model and what goes onto it.
struct EditedModel {
    model: Box<dyn Generator>,
    /// All files, merged.
    edit: Edit,
    /// What words that were learned add to the model's hash.
    words: String,
    /// A diffusion model's own solver.
    solver: Option<Solver>,
}

impl EditedModel {
    /// Puts so much of the edit onto the model.
    fn put_on(&mut self, strength: f64) -> Result<(), Error> {
        let scaled = self.edit.scaled(strength, |name| self.model.base_tensor(name))?;
        Ok(self.model.apply(&scaled)?)
    }

    /// Of the model with so much of these on it.
    fn hash_at(&self, strength: f64, edits: &[Adapter]) -> Result<String, Error> {
        let scaled = |adapter: &Adapter| Adapter {
            path: adapter.path.clone(),
            strength: adapter.strength * strength,
        };
        let edits: Vec<Adapter> = edits.iter().map(scaled).collect();
        Ok(hash_with(&self.model.card().hash, &edits)? + &self.words)
    }
}
