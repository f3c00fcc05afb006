//! The command that lets a person label samples.

use std::path::PathBuf;

use clap::Args;

use super::bars::Bars;
use super::{Common, output};
use crate::command::label::{LabelSession, draw_pages, read_numbers};
use crate::pipeline::ModelSettings;

#[derive(Debug, Args)]
pub(super) struct LabelArgs {
    /// Folder of the pages
    folder: PathBuf,
    /// Which of the numbered samples show what is to go: 3,7,12-15, or @FILE with such a list
    #[arg(long, value_name = "NUMBERS", conflicts_with_all = ["model", "samples", "first"])]
    shows: Option<String>,
    /// The GAN: the shipped `miniature-gan`, or a file
    #[arg(long, default_value = "miniature-gan")]
    model: String,
    /// Samples to draw
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// Seed of the first sample
    #[arg(long, default_value_t = 0)]
    first: u64,
}

pub(super) fn label(args: LabelArgs, common: &Common) -> anyhow::Result<()> {
    if let Some(shows) = &args.shows {
        let list = match shows.strip_prefix('@') {
            Some(file) => fs_err::read_to_string(file)?,
            None => shows.clone(),
        };
        let (file, [negatives, positives]) = read_numbers(&args.folder, &list)?;
        if common.json {
            return output::json(&serde_json::json!({
                "labels": file,
                "negatives": negatives,
                "positives": positives,
            }));
        }
        output::line(&format!("{}: {negatives} show it, {positives} do not", file.display()));
        return Ok(());
    }
    let model = ModelSettings { path: args.model, ..ModelSettings::default() };
    let session = LabelSession { model, first: args.first, samples: args.samples };
    let pages =
        draw_pages(&session, &args.folder, common.compute()?, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&serde_json::json!({ "pages": pages }));
    }
    for page in pages {
        output::line(&page.display().to_string());
    }
    output::line(&format!("now: unsee label {} --shows 3,7,12-15", args.folder.display()));
    Ok(())
}
