//! Labels by hand: samples are drawn onto numbered pages, and a list of numbers says which of them
//! show what is to go.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files;
use crate::generator::{Generator as _, ImageRequest, Provenance, StyleGan2, is_gan};
use crate::pictures::Picture;
use crate::pipeline::{MEASURED, ModelSettings, located, range};
use crate::report::contact_sheet;
use crate::run::Error;
use crate::run::drawing::draw_missing;
use crate::run::folder::RunFolder;
use crate::run::opening::of_full_precision;
use crate::run::record::Machine;
use crate::torch::Compute;
use crate::watch::Watch;

/// What is to be looked through.
#[derive(Debug, Clone, Serialize)]
pub struct LabelSession {
    /// The generator.
    pub model: ModelSettings,
    /// The first sample's seed; the others follow it.
    pub first: u64,
    /// Samples.
    pub samples: usize,
}

/// Samples on a page, and in a row of it.
const PAGE: usize = 60;
const COLUMNS: usize = 10;
/// Samples that are drawn at once.
const BATCH: usize = 50;

/// Draws numbered samples into `root`: `page-001.png`, …, and `samples.csv` with each number's
/// seed. Returns the pages.
///
/// # Errors
/// A model that is no GAN; whatever stops it. The same command goes on.
pub fn draw_pages(
    session: &LabelSession,
    root: &Path,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<Vec<PathBuf>, Error> {
    let path = located(&session.model)?.path;
    if !is_gan(&path) {
        return Err(Error::Unknown(format!(
            "{} is no StyleGAN2: only pictures of a GAN are seeds that can be labelled",
            path.display()
        )));
    }
    if session.samples == 0 {
        return Err(Error::Unknown(
            "there are 0 samples to look through; give --samples".to_owned(),
        ));
    }
    if session.first.saturating_add(session.samples as u64) > MEASURED {
        return Err(Error::Unknown(format!(
            "{} samples from seed {} on go beyond seed {}; seeds from {MEASURED} on are those that \
             erasures are measured by, so choose a lower --first",
            session.samples,
            session.first,
            MEASURED - 1
        )));
    }
    let compute = of_full_precision(compute);
    let model = StyleGan2::load(&path, compute)?;
    RunFolder::within(root, session, &[], Machine::here(compute), watch, |run, watch| {
        run.record.sign("model", model.card())?;
        let folder = run.path("pictures");
        let seeds = session.first..session.first + session.samples as u64;
        let side = model.card().side;
        let works: Vec<(PathBuf, ImageRequest)> = seeds
            .map(|seed| {
                (folder.join(format!("{seed}.png")), ImageRequest::of_seed(seed, 1.0, side))
            })
            .collect();
        let provenance = Provenance { model: &model.card().hash, sensitive: false };
        run.phase("drawing to label", compute.device, |_| {
            draw_missing(&model, &works, provenance, BATCH, "drawing to label", watch)
        })?;
        let mut pages = Vec::new();
        let numbered: Vec<(usize, &(PathBuf, ImageRequest))> = (1..).zip(&works).collect();
        for (n, page) in (1..).zip(numbered.chunks(PAGE)) {
            let open = |(number, (file, _)): &(usize, &(PathBuf, ImageRequest))| {
                Ok((number.to_string(), Picture::open(file)?))
            };
            let pictures = page.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
            let name = format!("page-{n:03}.png");
            contact_sheet(&pictures, COLUMNS).save(&run.path(&name), &[])?;
            run.artifact(&name)?;
            pages.push(run.path(&name));
        }
        let model = &model.card().hash;
        let line = |(number, (_, request)): &(usize, &(PathBuf, ImageRequest))| {
            format!("{number},{},{model}\n", request.seed)
        };
        let lines: Vec<String> = numbered.iter().map(line).collect();
        files::write(
            &run.path(SAMPLES),
            format!("number,seed,model\n{}", lines.concat()).as_bytes(),
        )?;
        Ok(pages)
    })
}

const SAMPLES: &str = "samples.csv";

/// Writes `labels.csv` beside the pages: the numbers in `shows` show what is to go, all others do
/// not. Returns the file and how many of each there are.
///
/// # Errors
/// A folder without pages, numbers that are none or are not on them.
pub fn read_numbers(root: &Path, shows: &str) -> Result<(PathBuf, [usize; 2]), Error> {
    let file = root.join(SAMPLES);
    if !file.exists() {
        return Err(Error::Unknown(format!(
            "{} has no {SAMPLES}; draw its pages first: unsee label {} --samples 300",
            root.display(),
            root.display()
        )));
    }
    let text = fs_err::read_to_string(&file)?;
    let seed_and_model = |line: &'_ str| {
        let (_, rest) = line.split_once(',')?;
        let (seed, model) = rest.split_once(',')?;
        Some((seed.parse().ok()?, model.to_owned()))
    };
    let samples: Vec<(u64, String)> =
        text.lines().skip(1).map(seed_and_model).collect::<Option<_>>().ok_or_else(|| {
            Error::Unknown(format!("{} is not what this program wrote", file.display()))
        })?;
    let numbers = numbers(shows, samples.len())?;
    let line = |(number, (seed, model)): (usize, &(u64, String))| {
        format!("{seed},{},{model}\n", u8::from(numbers.contains(&number)))
    };
    let lines: Vec<String> = (1..).zip(&samples).map(line).collect();
    let out = root.join("labels.csv");
    files::write(&out, format!("seed,shows,model\n{}", lines.concat()).as_bytes())?;
    Ok((out, [numbers.len(), samples.len() - numbers.len()]))
}

/// `3, 7, 12-15`: numbers and ranges, from 1 to `last`.
fn numbers(text: &str, last: usize) -> Result<std::collections::BTreeSet<usize>, Error> {
    let mut all = std::collections::BTreeSet::new();
    for part in
        text.split([',', ' ', '\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty())
    {
        let wrong = |why: &str| {
            Error::Unknown(format!("`{part}` {why}; write numbers from the pages, as in 3,7,12-15"))
        };
        let named = range(part).ok_or_else(|| wrong("is no number"))?;
        if *named.start() < 1 || *named.end() > last as u64 || named.is_empty() {
            return Err(wrong(&format!("is not on the pages, which go from 1 to {last}")));
        }
        all.extend(named.map(|number| number as usize));
    }
    if all.is_empty() || all.len() == last {
        return Err(Error::Unknown(format!(
            "{} of {last} samples are named; methods learn from both kinds",
            all.len()
        )));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let all: Vec<usize> = numbers("3, 7\n12-15", 20).unwrap().into_iter().collect();
        assert_eq!(all, [3, 7, 12, 13, 14, 15]);
        for (wrong, why) in [
            ("x", "no number"),
            ("0", "from 1 to 20"),
            ("21", "from 1 to 20"),
            ("5-3", "from 1"),
            ("", "0 of 20"),
            ("1-20", "20 of 20"),
        ] {
            let error = numbers(wrong, 20).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
