//! Hands a model, edited or not, to other programs.

use std::path::Path;

use crate::generator::{Adapter, Edited, Format, ModuleRank, export_gan, is_gan};
use crate::pipeline::{ModelSettings, located};
use crate::run::Error;
use crate::run::opening::{opened_gan, opened_with, said};
use crate::torch::Kind;
use crate::watch::Watch;
use crate::weights::Edit;

/// Writes `model` with `edits` on it to `to`. For a low-rank adapter: what each module keeps.
///
/// # Errors
/// A model or edit that cannot be read, something at `to`, a full disk.
pub fn export(
    model: &ModelSettings,
    edits: &[Adapter],
    to: &Path,
    format: Format,
    kind: Option<Kind>,
    watch: &mut dyn Watch,
) -> Result<Vec<ModuleRank>, Error> {
    let location = located(model)?;
    if is_gan(&location.path) {
        let edit = if edits.is_empty() {
            Edit::default()
        } else {
            said(opened_gan(&location.path)?.merge(edits)?, watch)
        };
        for lost in export_gan(&location.path, &edit, to, format, kind)? {
            watch.warn(&lost);
        }
        return Ok(Vec::new());
    }
    let (base, edit) = opened_with(&location, edits, watch)?;
    Ok(Edited { base: &base, edit: &edit, kind }.export(to, format, watch)?)
}
