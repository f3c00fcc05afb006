//! Opens a model and what goes onto it, and tells the user what was chosen.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Adapter, Error};
use crate::generator::{Checkpoint, Laid, Location, StableDiffusion, StyleGan2};
use crate::pictures::{Listing, list_deep};
use crate::torch::{Compute, Device, Precision};
use crate::watch::Watch;
use crate::weights::{Edit, EmaChoice, adapter_file};

/// Says which commit of a model of the hub is taken, where no branch names it.
pub(super) fn say_commit(path: &Path, watch: &mut dyn Watch) {
    if let Some(remark) = crate::hub::remark(path) {
        watch.note(&remark);
    }
}

/// The pictures of a folder; says which files are left out.
pub(super) fn listed(folder: &Path, listing: Listing, watch: &mut dyn Watch) -> Vec<PathBuf> {
    if let Some(note) = listing.note() {
        watch.note(&format!("{}: {note}", folder.display()));
    }
    listing.files
}

/// Opens a model and says what was chosen.
pub(super) fn opened(location: &Location, watch: &mut dyn Watch) -> Result<Checkpoint, Error> {
    say_commit(&location.path, watch);
    let checkpoint = Checkpoint::open(location)?;
    checkpoint.notes().iter().for_each(|note| watch.note(note));
    checkpoint.warnings().iter().for_each(|warning| watch.warn(warning));
    Ok(checkpoint)
}

/// Loads what was opened, and says what of it is used by nothing.
pub(super) fn loaded(
    checkpoint: &Checkpoint,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<StableDiffusion, Error> {
    let model = StableDiffusion::load(checkpoint, compute)?;
    model.notes().iter().for_each(|note| watch.note(note));
    Ok(model)
}

/// Says which prompts are longer than a model reads: it sees no difference in what comes behind.
pub(super) fn warn_of_unread<'p>(
    model: &StableDiffusion,
    prompts: impl Iterator<Item = &'p str>,
    watch: &mut dyn Watch,
) {
    let unread: Vec<usize> = prompts.map(|prompt| model.unread(prompt)).collect();
    let long = unread.iter().filter(|&&tokens| tokens > 0).count();
    if let Some(most) = unread.iter().max().filter(|_| long > 0) {
        watch.warn(&format!(
            "{long} of {} prompts are longer than the text encoder reads; up to {most} tokens at \
             their ends are not seen",
            unread.len()
        ));
    }
}

/// Opens a `StyleGAN2` to be read, and not to draw or learn.
pub(super) fn opened_gan(file: &Path) -> Result<StyleGan2, Error> {
    Ok(StyleGan2::load(file, Compute::new(Device::CPU, Precision::F32))?)
}

/// The hash of a model with files on it: the base's, and theirs with their strengths.
pub(super) fn hash_with(base: &str, edits: &[Adapter]) -> Result<String, Error> {
    let mut hash = base.to_owned();
    for adapter in edits {
        let _ = write!(hash, "+{}@{}", content_hash(&adapter.path)?, adapter.strength);
    }
    Ok(hash)
}

/// A hash over a file's bytes, over a folder's model, or over an adapter's folder.
pub(super) fn content_hash(path: &Path) -> Result<blake3::Hash, Error> {
    let mut content = blake3::Hasher::new();
    let mut add = |path: &Path| -> Result<(), Error> {
        content.update_reader(fs_err::File::open(path)?)?;
        Ok(())
    };
    if !path.is_dir() {
        add(path)?;
    } else if let Some(file) = adapter_file(path) {
        let settings = path.join("adapter_config.json");
        add(&file)?;
        if settings.is_file() {
            add(&settings)?;
        }
    } else {
        return Ok(Checkpoint::open(&path.into())?.hash()?);
    }
    Ok(content.finalize())
}

/// A hash over all pictures in a folder and the folders in it, with their names and captions.
pub(super) fn pictures_hash(folder: &Path) -> Result<String, Error> {
    let mut content = blake3::Hasher::new();
    for file in list_deep(folder)?.files {
        let caption = file.with_extension("txt");
        for file in [Some(file), caption.is_file().then_some(caption)].into_iter().flatten() {
            content.update(file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().as_bytes());
            content.update_reader(fs_err::File::open(file)?)?;
        }
    }
    Ok(content.finalize().to_hex().to_string())
}

/// Where a GAN draws: whatever it learns in, its pictures are of 32 bits.
pub(super) fn of_full_precision(compute: Compute) -> Compute {
    let precision =
        if compute.precision == Precision::Tf32 { Precision::Tf32 } else { Precision::F32 };
    Compute { precision, ..compute }
}

/// Opens a model, lays files onto it and says what fitted. Which weights of single files are taken
/// is of all of them: of a folder, which has no two sets, under files that do, it is theirs alone.
pub(super) fn opened_with(
    location: &Location,
    edits: &[Adapter],
    watch: &mut dyn Watch,
) -> Result<(Checkpoint, Edit), Error> {
    if edits.is_empty() {
        return Ok((opened(location, watch)?, Edit::default()));
    }
    let ema = if location.path.is_dir() { EmaChoice::Auto } else { location.ema };
    let base = opened(&Location { ema, ..location.clone() }, watch)?;
    let edit = said(base.lay(edits, location.ema)?, watch);
    Ok((base, edit))
}

/// Says what is to be known of files that were laid onto a base.
pub(super) fn said(laid: Laid, watch: &mut dyn Watch) -> Edit {
    laid.notes.iter().for_each(|note| watch.note(note));
    laid.warnings.iter().for_each(|warning| watch.warn(warning));
    laid.edit
}
