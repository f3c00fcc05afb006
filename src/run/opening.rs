//! Opens a model and what goes onto it, and tells the user what was chosen.

use std::path::{Path, PathBuf};

use super::Error;
use crate::generator::{
    Adapter, Checkpoint, Generator, Location, MergedAdapters, StableDiffusion, StyleGan2,
};
use crate::pictures::{Listing, Picture, list_deep};
use crate::torch::{Compute, Device, Precision};
use crate::watch::Watch;
use crate::weights::{Edit, EmaChoice};

/// Says which commit of a model of the hub is taken, where no branch names it.
pub fn say_commit(path: &Path, watch: &mut dyn Watch) {
    if let Some(remark) = crate::hub::remark(path) {
        watch.note(&remark);
    }
}

/// The pictures of a folder; says which files are left out.
pub fn listed(folder: &Path, listing: Listing, watch: &mut dyn Watch) -> Vec<PathBuf> {
    if let Some(note) = listing.note() {
        watch.note(&format!("{}: {note}", folder.display()));
    }
    listing.files
}

/// Opens a model and says what was chosen.
///
/// # Errors
/// A model that cannot be read.
pub fn opened(location: &Location, watch: &mut dyn Watch) -> Result<Checkpoint, Error> {
    say_commit(&location.path, watch);
    let checkpoint = Checkpoint::open(location)?;
    checkpoint.notes().iter().for_each(|note| watch.note(note));
    checkpoint.warnings().iter().for_each(|warning| watch.warn(warning));
    Ok(checkpoint)
}

/// Loads what was opened, and says what of it is used by nothing.
///
/// # Errors
/// A model that cannot be read.
pub fn loaded(
    checkpoint: &Checkpoint,
    compute: Compute,
    watch: &mut dyn Watch,
) -> Result<StableDiffusion, Error> {
    let model = StableDiffusion::load(checkpoint, compute)?;
    model.notes().iter().for_each(|note| watch.note(note));
    Ok(model)
}

/// Says which prompts are longer than a model reads: it sees no difference in what comes behind.
pub fn warn_of_unread<'p>(
    model: &dyn Generator,
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
///
/// # Errors
/// A model that cannot be read.
pub fn opened_gan(file: &Path) -> Result<StyleGan2, Error> {
    Ok(StyleGan2::load(file, Compute::new(Device::CPU, Precision::F32))?)
}

/// Where a GAN draws: whatever it learns in, its pictures are of 32 bits.
pub fn of_full_precision(compute: Compute) -> Compute {
    let precision =
        if compute.precision == Precision::Tf32 { Precision::Tf32 } else { Precision::F32 };
    Compute { precision, ..compute }
}

/// Opens a model, lays files onto it and says what fitted. Which weights of single files are taken
/// is of all of them: of a folder, which has no two sets, under files that do, it is theirs alone.
///
/// # Errors
/// A model that cannot be read.
pub fn opened_with(
    location: &Location,
    edits: &[Adapter],
    watch: &mut dyn Watch,
) -> Result<(Checkpoint, Edit), Error> {
    if edits.is_empty() {
        return Ok((opened(location, watch)?, Edit::default()));
    }
    let ema = if location.path.is_dir() { EmaChoice::Auto } else { location.ema };
    let base = opened(&Location { ema, ..location.clone() }, watch)?;
    let edit = said(base.merge(edits, location.ema)?, watch);
    Ok((base, edit))
}

/// Says what is to be known of adapters that were merged.
pub fn said(merged: MergedAdapters, watch: &mut dyn Watch) -> Edit {
    merged.notes.iter().for_each(|note| watch.note(note));
    merged.warnings.iter().for_each(|warning| watch.warn(warning));
    merged.edit
}

/// The pictures in a folder and the folders in it, sorted. What is left out is said.
///
/// # Errors
/// A folder that is missing or holds none.
pub fn pictures_in(folder: &Path, watch: &mut dyn Watch) -> Result<Vec<PathBuf>, Error> {
    let (sheets, files): (Vec<PathBuf>, Vec<PathBuf>) = listed(folder, list_deep(folder)?, watch)
        .into_iter()
        .partition(|file| Picture::is_sheet(file));
    if let Some(first) = sheets.first() {
        watch.note(&format!(
            "{} grids and sheets are left out, {} for one",
            sheets.len(),
            first.display()
        ));
    }
    let inside = files.iter().filter(|file| file.parent() != Some(folder)).count();
    if inside > 0 {
        watch.note(&format!(
            "{}: {inside} of {} pictures lie in folders inside",
            folder.display(),
            files.len()
        ));
    }
    if files.is_empty() {
        return Err(Error::Unknown(format!(
            "{} holds no picture (.png, .jpg, .webp)",
            folder.display()
        )));
    }
    Ok(files)
}
