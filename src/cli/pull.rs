//! Bringing a model from the hub.

use clap::Args;

use super::bars::Bars;
use super::{Common, output};
use crate::hub::Name;

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// ORGANISATION/NAME, with @REVISION behind it or not
    name: Name,
}

pub(super) fn pull(args: PullArgs, common: &Common) -> anyhow::Result<()> {
    let pulled = crate::command::pull::pull(&args.name, &mut Bars::new(common.quiet))?;
    if common.json {
        let (path, commit, loaded) = (pulled.path, pulled.commit, pulled.loaded);
        return output::json(
            &serde_json::json!({ "path": path, "commit": commit, "loaded": loaded }),
        );
    }
    output::line(&pulled.path.display().to_string());
    Ok(())
}
