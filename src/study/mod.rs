//! Studies: one loop for all. Judge the judges, draw and judge the base; for each target and method
//! find the edit, draw, judge, score and attack; then means, grid and report.
//!
//! Each target and method is resumable by itself, and a run can be extended by targets, methods and
//! attacks.

mod attack_probe;
mod attack_results;
mod attacked_pictures;
mod attacking;
mod classes;
mod detectors;
mod erasing;
mod evaluator;
mod forecast;
mod grids;
mod labels;
mod latents;
mod method_probe;
mod probe;
mod prompt_key;
mod prompts;
mod protocol;
mod reference_judge;
mod results;
mod sample_judge;
mod samples;
mod session;
mod target;
mod training_images;

use std::path::{Path, PathBuf};

pub use attack_results::{Relearned, Tried};
pub use detectors::DetectorReport;
pub use forecast::{AttackForecast, Forecast, forecast};
pub use protocol::Judges;
pub use reference_judge::{JudgeReport, ReferenceJudge, pose_of};
pub use results::{PictureFolder, Report, Results, TargetPictures};

use crate::erasure::Pair;
use crate::generator::ImageRequest;
use crate::pipeline::{Judged, Pipeline};
use crate::run::Error;
use crate::run::folder::RunFolder;
use crate::run::hashes::content_hash;
use crate::run::record::Machine;
use crate::torch::Compute;
use crate::watch::{Quiet, Watch};
use attack_results::AttackResults;
use attacked_pictures::attacked_grid;
use attacking::listed;
use protocol::{Cell, Protocol, Run};
use session::Session;
use target::Target;

/// Where the base's pictures lie, inside the run.
const BASE_PICTURES: &str = "pictures/base";

/// Pictures with which trials of attacks ended.
const ATTACKED_GRID: &str = "attacks.png";

/// Tables of a recipe in which a run may be extended.
const GROWING: [&str; 3] = ["method", "attack", "concept.forget"];

/// Runs a pipeline into `root`, or goes on with it. A sensitive concept's grid is blurred unless
/// `open_grid`.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn run(
    pipeline: &Pipeline,
    root: &Path,
    open_grid: bool,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Report, Error> {
    let blurred = pipeline.concept.sensitive && !open_grid;
    match pipeline.judged() {
        Judged::Answers(answers) => {
            let protocol = classes::Classes::open(pipeline, answers, compute, watch)?;
            Study { pipeline, protocol, compute, blurred }.run(root, watch)
        }
        Judged::Prompts(prompts) => {
            let protocol = prompts::Prompts::open(pipeline, prompts, blurred, compute, watch)?;
            Study { pipeline, protocol, compute, blurred }.run(root, watch)
        }
        Judged::Latents(latents) => {
            let protocol = latents::Latents::open(pipeline, latents, compute, watch)?;
            Study { pipeline, protocol, compute, blurred }.run(root, watch)
        }
    }
}

/// Finds the edits of a pipeline and nothing else; returns their files.
///
/// # Errors
/// Whatever stops it; what was done is kept.
pub fn erase(
    pipeline: &Pipeline,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<PathBuf>, Error> {
    let blurred = pipeline.concept.sensitive;
    match pipeline.judged() {
        Judged::Answers(answers) => {
            let protocol = classes::Classes::open(pipeline, answers, compute, watch)?;
            Study { pipeline, protocol, compute, blurred }.erase(root, watch)
        }
        Judged::Prompts(prompts) => {
            let protocol = prompts::Prompts::open(pipeline, prompts, blurred, compute, watch)?;
            Study { pipeline, protocol, compute, blurred }.erase(root, watch)
        }
        Judged::Latents(latents) => {
            let protocol = latents::Latents::open(pipeline, latents, compute, watch)?;
            Study { pipeline, protocol, compute, blurred }.erase(root, watch)
        }
    }
}

/// A pipeline with its protocol.
struct Study<'a, P> {
    pipeline: &'a Pipeline,
    protocol: P,
    compute: Compute,
    /// Whether grids are blurred.
    blurred: bool,
}

/// A cell's pictures and what judges said of them.
type SeenCell<P> = (Cell, <P as Protocol>::Seen);

impl<P: Protocol> Study<'_, P> {
    fn within<T>(
        mut self,
        root: &Path,
        watch: &mut dyn Watch,
        work: impl FnOnce(&mut Self, &mut Session, &mut Run) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let pipeline = self.pipeline;
        let mut session = Session::open(pipeline, self.compute, watch)?;
        suits(pipeline, self.protocol.targets(), &mut session)?;
        let (recipe, machine) = (recipe(pipeline)?, Machine::here(self.compute));
        RunFolder::within(root, &recipe, &GROWING, machine, watch, |folder, watch| {
            let mut run = Run { folder, watch };
            let side = (session.side, session.side);
            let sizes =
                self.protocol.requests(&session).into_iter().map(|(_, request)| request.size);
            let largest = sizes.chain([side]).max_by_key(|(width, height)| width * height);
            session.bind(run.folder, largest.unwrap_or(side), run.watch)?;
            bind_files(pipeline, run.folder)?;
            self.protocol.bind(&session, &mut run)?;
            work(&mut self, &mut session, &mut run)
        })
    }

    fn erase(self, root: &Path, watch: &mut dyn Watch) -> Result<Vec<PathBuf>, Error> {
        self.within(root, watch, |study, session, run| {
            study.protocol.prepare(session, run)?;
            let mut files = Vec::new();
            for target in 0..study.protocol.targets().len() {
                for method in &study.pipeline.method {
                    let erased = study.edit(target, method, session, run)?;
                    files.push(run.folder.path(&erased.file));
                }
            }
            Ok(files)
        })
    }

    fn run(self, root: &Path, watch: &mut dyn Watch) -> Result<Report, Error> {
        self.within(root, watch, Self::work)
    }

    fn work(&mut self, session: &mut Session, run: &mut Run) -> Result<Report, Error> {
        let device = self.compute.device;
        self.protocol.check_judges(session, run)?;
        self.protocol.prepare(session, run)?;
        let base_folder = run.folder.path(BASE_PICTURES);
        let base = self.draw_and_see("base", &base_folder, session, run)?;
        self.protocol.compare_base(&base, session, run)?;
        let (mut scores, mut became) = (Vec::new(), Vec::new());
        let mut attacks = AttackResults::default();
        let mut seen: Vec<SeenCell<P>> = Vec::new();
        for target in 0..self.protocol.targets().len() {
            let of_base = self.protocol.score_base(target, &base, session, run)?;
            scores.extend(of_base);
            let exposures = self.exposures(target, &base, session, run)?;
            for method in &self.pipeline.method {
                let erased = self.edit(target, method, session, run)?;
                session.put_on(&erased.edit, &erased.hash)?;
                let cell = self.cell(target, &method.label, run);
                let subject = self.subject(&cell);
                let after = self.draw_and_see(&subject, &cell.folder, session, run)?;
                self.warn(&cell, &base, &after, run);
                let of_method = self.protocol.score(target, &base, &after)?;
                let numbers = of_method.into_iter().chain(erased.scores(run.folder, device));
                scores.extend(numbers.map(|score| score.after(&method.label)));
                let found = self.attacks(&cell, &exposures, &erased, session, run)?;
                scores.extend(found.scores());
                attacks.curves.extend(found.curves);
                attacks.tried.extend(found.tried);
                session.take_off()?;
                became.extend(self.protocol.became(&cell, &after));
                seen.push((cell, after));
            }
        }
        scores.extend(self.protocol.means(&base, &seen, &scores));
        let cells: Vec<Cell> = seen.iter().map(|(cell, _)| cell.clone()).collect();
        let picture = run.folder.path("grid.png");
        self.protocol.grid(&base_folder, &cells, &base, &seen)?.save_sheet(&picture)?;
        if let Some(grid) = attacked_grid(run.folder.root(), &attacks.tried, self.blurred)? {
            grid.save_sheet(&run.folder.path(ATTACKED_GRID))?;
        }
        let judges = self.protocol.judges(&base, &seen)?;
        let pictures = self.pictures(&cells, session, run);
        let results = Results::new(judges, scores, became, attacks, pictures);
        results.save(run.folder)?;
        Ok(Report { results, ending: run.folder.ending(picture) })
    }

    /// Draws the protocol's pictures of the model as it is, and lets judges look.
    fn draw_and_see(
        &self,
        subject: &str,
        folder: &Path,
        session: &Session,
        run: &mut Run,
    ) -> Result<P::Seen, Error> {
        let requests = self.protocol.requests(session);
        let works: Vec<_> = requests
            .iter()
            .map(|(key, request)| (self.protocol.path(folder, key), request.clone()))
            .collect();
        let what = format!("drawing {subject}");
        let (device, watch) = (self.compute.device, &mut *run.watch);
        run.folder.phase(&what, device, |_| session.draw(&works, &what, watch))?;
        let keys = requests.into_iter().map(|(key, _)| key);
        let pictures: Vec<_> = keys.zip(works.into_iter().map(|(file, _)| file)).collect();
        self.protocol.see(subject, &pictures, session, run)
    }

    fn cell(&self, target: usize, method: &str, run: &Run) -> Cell {
        let stem = self.protocol.targets()[target].stem();
        let folder = run.folder.path(format!("pictures/{stem}-{method}"));
        Cell { target, method: method.to_owned(), folder }
    }

    /// A cell in messages, phases and evidence.
    fn subject(&self, cell: &Cell) -> String {
        format!("{} {}", self.protocol.targets()[cell.target].concept, cell.method)
    }

    /// Says where nothing is other than before, and where what counts as forgotten shows nothing at
    /// all.
    fn warn(&self, cell: &Cell, base: &P::Seen, after: &P::Seen, run: &mut Run) {
        if self.protocol.same(base, after) {
            run.watch.warn(&format!(
                "{}: judges say of every picture what they said before the erasure",
                self.subject(cell)
            ));
        }
        let (before, _) = self.protocol.blank(cell.target, base);
        let (now, n) = self.protocol.blank(cell.target, after);
        if now > before {
            run.watch.warn(&format!(
                "{now} of {n} pictures of {} after the erasure show nothing: they are of one \
                 colour or all the same, and count as forgotten whatever was erased; look at the \
                 grid",
                self.subject(cell)
            ));
        }
    }
}

/// Whether every method and attack is for this model and these targets.
fn suits(pipeline: &Pipeline, targets: &[Target], session: &mut Session) -> Result<(), Error> {
    for target in targets {
        let request = |pair: &Pair| session.request(pair.forget.clone(), 0);
        let requests: Vec<ImageRequest> = target.pairs.iter().map(request).collect();
        let model = session.model();
        let methods =
            pipeline.method.iter().try_for_each(|method| method.value.suits(&model, &target.pairs));
        let words = target.words();
        let attacks = pipeline.attack.iter().map(|attack| &attack.value).try_for_each(|attack| {
            attack.suits(&model, &words)?;
            // One prompt that fits is enough: the others are left out.
            let fits = requests.iter().map(|request| attack.fits(&model, request, &words));
            fits.min_by_key(Result::is_err).unwrap_or(Ok(()))
        });
        methods.and(attacks).map_err(Error::Unknown)?;
        for list in pipeline.attack.iter().filter_map(|attack| attack.value.prompt_list()) {
            listed(list, &target.concept, session, &mut Quiet)?;
        }
    }
    Ok(())
}

/// Notes in the run what methods and attacks read beside the model.
fn bind_files(pipeline: &Pipeline, run: &mut RunFolder) -> Result<(), Error> {
    let methods = pipeline.method.iter().flat_map(|method| method.value.files());
    let attacks = pipeline.attack.iter().flat_map(|attack| attack.value.files());
    for file in methods.chain(attacks) {
        let hash = content_hash(&file)?.to_hex().to_string();
        run.record.bind(&format!("content of {}", file.display()), &hash)?;
    }
    Ok(())
}

/// A pipeline as a run's record has it: lists to which something may be added are tables, by what
/// their entries are called.
fn recipe(pipeline: &Pipeline) -> Result<serde_json::Value, Error> {
    let mut recipe = serde_json::to_value(pipeline).map_err(std::io::Error::other)?;
    for list in ["method", "attack"] {
        let Some(serde_json::Value::Array(entries)) =
            recipe.get_mut(list).map(serde_json::Value::take)
        else {
            continue;
        };
        let by_label = entries.into_iter().map(|entry| {
            let label = entry.get("label").or_else(|| entry.get("name"));
            (label.and_then(|label| label.as_str()).unwrap_or_default().to_owned(), entry)
        });
        recipe[list] = serde_json::Value::Object(by_label.collect());
    }
    if let Some(serde_json::Value::Array(forget)) = recipe.pointer_mut("/concept/forget") {
        let names = std::mem::take(forget).into_iter().filter_map(|name| {
            name.as_str().map(|name| (name.to_owned(), serde_json::Value::Bool(true)))
        });
        recipe["concept"]["forget"] = serde_json::Value::Object(names.collect());
    }
    Ok(recipe)
}

/// `n` of them, as far apart as they can be: neighbours differ in little.
pub fn spread<T: Clone>(all: &[T], n: usize) -> Vec<T> {
    let n = n.min(all.len());
    (0..n).map(|i| all[i * all.len() / n].clone()).collect()
}
