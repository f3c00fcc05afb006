//! What a file or folder is.

use std::path::PathBuf;

use clap::Args;

use super::{Common, output};
use crate::command::configurations::configurations;
use crate::command::inspect::{Finding, fits, inspect as look_into};
use crate::fields::{Class, Rule};
use crate::pipeline::ModelSettings;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A file of weights, an edit, a model folder or a run folder; or the name of a shipped or
    /// pulled model
    #[arg(required_unless_present = "fields")]
    path: Option<PathBuf>,
    /// Say what of the file would go onto this model
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Say of every field of the configurations that are read what is done about it: honoured,
    /// harmless or refused
    #[arg(long, conflicts_with_all = ["path", "base", "tensors"])]
    fields: bool,
}

pub(super) fn inspect(args: InspectArgs, common: &Common) -> anyhow::Result<()> {
    let Some(path) = args.path else { return fields(common) };
    let mut finding: Finding = look_into(&path)?;
    if let Some(base) = args.base {
        let base = ModelSettings { path: base, ..Default::default() };
        finding.facts.push(("on the base".to_owned(), fits(&path, &base)?));
    }
    if common.json {
        return output::json(&finding);
    }
    output::line(&format!("{}: {}", path.display(), finding.what));
    for (key, value) in &finding.facts {
        output::line(&format!("  {key}: {value}"));
    }
    if args.tensors {
        let rows = finding
            .tensors
            .into_iter()
            .map(|t| vec![t.name, t.dtype, format!("{:?}", t.shape)])
            .collect();
        output::rows(&["tensor", "type", "shape"], rows, &[]);
    }
    Ok(())
}

/// All fields of all configurations.
fn fields(common: &Common) -> anyhow::Result<()> {
    let described = |rule: Rule| match rule {
        Rule::Honoured => ("honoured", String::new()),
        Rule::Harmless(why) => ("harmless", why.to_owned()),
        Rule::Only(wanted, advice) => {
            ("refused", format!("unless {}: {advice}", wanted.join(" or ")))
        }
    };
    let all = configurations();
    if common.json {
        let class = |class: &Class| {
            let field = |(name, rule): &(&str, Rule)| {
                let (what, why) = described(*rule);
                ((*name).to_owned(), serde_json::json!({ "rule": what, "why": why }))
            };
            let fields: serde_json::Map<_, _> = class.iter().map(field).collect();
            (class.name.to_owned(), serde_json::Value::Object(fields))
        };
        return output::json(&all.iter().map(class).collect::<serde_json::Map<_, _>>());
    }
    for class in all {
        output::line(class.name);
        let row = |(name, rule): &(&str, Rule)| {
            let (what, why) = described(*rule);
            vec![(*name).to_owned(), what.to_owned(), why]
        };
        output::rows(&["field", "it is", "why"], class.iter().map(row).collect(), &[]);
    }
    Ok(())
}
