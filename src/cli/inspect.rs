//! What a file or folder is.

use std::path::PathBuf;

use clap::Args;

use super::{Common, output};
use crate::run::{self, Finding};

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A file of weights, an edit, a model folder or a run folder; or the name of a shipped or pulled model
    path: PathBuf,
    /// Say what of the file would go onto this model
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

pub(super) fn inspect(args: InspectArgs, common: &Common) -> anyhow::Result<()> {
    let mut finding: Finding = run::inspect(&args.path)?;
    if let Some(path) = args.base {
        let base = run::ModelSettings { path, ..Default::default() };
        finding.facts.push(("on the base".to_owned(), run::fits(&args.path, &base)?));
    }
    if common.json {
        return output::json(&finding);
    }
    output::line(&format!("{}: {}", args.path.display(), finding.what));
    for (key, value) in &finding.facts {
        output::line(&format!("  {key}: {value}"));
    }
    if args.tensors {
        let rows =
            finding.tensors.into_iter().map(|t| vec![t.name, t.dtype, format!("{:?}", t.shape)]).collect();
        output::rows(&["tensor", "type", "shape"], rows, &[]);
    }
    Ok(())
}
