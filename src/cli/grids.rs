//! The commands that lay out pictures: grid and canvas.

use std::path::{Path, PathBuf};

use clap::Args;

use super::bars::Bars;
use super::{Common, output};
use crate::command::benchmark_grid::{are_runs, benchmark};
use crate::command::layouts::{GridRequest, Rows, canvas_folder, canvas_sheet, compare};
use crate::pictures::Picture;

#[derive(Debug, Args)]
pub(super) struct GridArgs {
    /// Folders of pictures: several are compared row by row, one is laid out by --rows. Or
    /// folders of finished runs: targets × methods are rows, with their numbers
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// The picture to write
    #[arg(long)]
    out: PathBuf,
    /// Only files whose name contains this; may be given more than once
    #[arg(long)]
    only: Vec<String>,
    /// What is a row where there is one folder: seed or prompt
    #[arg(long, default_value = "seed")]
    rows: Rows,
    /// Columns at most
    #[arg(long, default_value = "12", value_parser = clap::value_parser!(u32).range(1..))]
    columns: u32,
    /// Do not blur pictures of sensitive concepts
    #[arg(long)]
    show_sensitive: bool,
}

#[derive(Debug, Args)]
pub(super) struct CanvasArgs {
    /// Folder to write STYLE/OBJECT/n.png into
    #[arg(long, required_unless_present = "sheet")]
    out: Option<PathBuf>,
    /// Pictures of each style × object
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    per_cell: u32,
    /// Seed of the canvas: other drawings of the same styles and objects
    #[arg(long, alias = "world", default_value_t = 1)]
    canvas_seed: u64,
    /// Write one labelled sheet of all styles × objects instead
    #[arg(long)]
    sheet: Option<PathBuf>,
}

pub(super) fn grid(args: GridArgs, common: &Common) -> anyhow::Result<()> {
    let request = GridRequest {
        folders: args.folders,
        only: args.only,
        rows: args.rows,
        columns: args.columns as usize,
        show_sensitive: args.show_sensitive,
    };
    Picture::may_be_written(&args.out)?;
    let mut bars = Bars::new(common.quiet);
    let sheet = if are_runs(&request.folders) {
        benchmark(&request, &mut bars)?
    } else {
        compare(&request, &mut bars)?
    };
    sheet.save_as(&args.out)?;
    say(&args.out, common)
}

pub(super) fn canvas(args: CanvasArgs, common: &Common) -> anyhow::Result<()> {
    let mut bars = Bars::new(common.quiet);
    if let Some(sheet) = &args.sheet {
        Picture::may_be_written(sheet)?;
        canvas_sheet(args.canvas_seed).save_as(sheet)?;
        say(sheet, common)?;
    }
    if let Some(out) = &args.out {
        canvas_folder(out, args.canvas_seed, args.per_cell, &mut bars)?;
        say(out, common)?;
    }
    Ok(())
}

fn say(path: &Path, common: &Common) -> anyhow::Result<()> {
    if common.json {
        return output::json(&serde_json::json!({ "path": path }));
    }
    output::line(&path.display().to_string());
    Ok(())
}
