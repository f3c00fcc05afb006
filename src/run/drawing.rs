//! Draws pictures into files, batch by batch, and goes on where it stopped.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use super::Error;
use crate::generator::{ABOUT, Generator, ImageRequest, Provenance};
use crate::pictures::{Picture, is_whole_png};
use crate::torch::threads;
use crate::watch::Watch;

/// Draws the pictures whose files are not there, or are damaged, or are other pictures of this
/// program's. Batches are cut the same way each time, and one with a gap is drawn as a whole: with
/// 16-bit numbers a picture's last bits may depend on its company.
///
/// # Errors
/// The generator's; a file of somebody else's in a picture's place; a disk that is full;
/// interruption, after the pictures that are done were written.
pub fn draw_missing(
    generator: &dyn Generator,
    works: &[(PathBuf, ImageRequest)],
    provenance: Provenance,
    batch: usize,
    what: &str,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    for (_, request) in works {
        generator.check(request)?;
    }
    watch.begin(what, works.len() as u64);
    let mut there = HashSet::new();
    let mut damaged = Vec::new();
    for (file, request) in works {
        match state_of(file, request, provenance)? {
            State::There => drop(there.insert(file)),
            State::Damaged => damaged.push(file),
            State::Missing => {}
        }
    }
    if let Some(first) = damaged.first() {
        watch.warn(&format!(
            "{} picture{} damaged or not of this run, {} for one; drawn again",
            damaged.len(),
            if damaged.len() == 1 { " is" } else { "s are" },
            first.display()
        ));
    }
    let (mut done, mut halved) = (0, false);
    // One batch is packed and written while the next is drawn.
    let at_once = threads().max(1);
    let (to_writer, drawn_ones) = sync_channel::<(Vec<Picture>, &[(PathBuf, ImageRequest)])>(1);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> Result<(), Error> {
            drawn_ones
                .iter()
                .try_for_each(|(pictures, group)| save_all(&pictures, group, provenance, at_once))
        });
        let mut draw = || {
            for group in works.chunks(batch.max(1)) {
                if group.iter().any(|(file, _)| !there.contains(file)) {
                    let requests: Vec<ImageRequest> =
                        group.iter().map(|(_, request)| request.clone()).collect();
                    let drawn = in_memory(generator, &requests, &mut halved, watch)?;
                    if to_writer.send((drawn, group)).is_err() {
                        break; // The writer has stopped, and says why.
                    }
                }
                done += group.len();
                watch.at(done as u64, "");
                if watch.interrupted() && done < works.len() {
                    return Err(Error::Interrupted);
                }
            }
            Ok(())
        };
        let drawn = draw();
        drop(to_writer);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(drawn)
    })?;
    watch.end();
    Ok(())
}

/// Packs and writes a batch, `at_once` pictures beside each other: one alone takes 40 to 70 ms for
/// 512×512 pixels, which is about as long as a GPU takes to draw it.
fn save_all(
    pictures: &[Picture],
    group: &[(PathBuf, ImageRequest)],
    provenance: Provenance,
    at_once: usize,
) -> Result<(), Error> {
    let works: Vec<_> = pictures.iter().zip(group).collect();
    for works in works.chunks(at_once) {
        std::thread::scope(|scope| {
            let mut saving = Vec::new();
            for &(picture, (file, request)) in works {
                saving.push(scope.spawn(move || picture.save(file, &provenance.texts(request))));
            }
            saving.into_iter().try_for_each(|one| {
                one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
    }
    Ok(())
}

/// Draws a batch; where memory is too little for it, in two halves, and so from then on.
fn in_memory(
    generator: &dyn Generator,
    requests: &[ImageRequest],
    halved: &mut bool,
    watch: &mut dyn Watch,
) -> Result<Vec<Picture>, Error> {
    let (first, second) = requests.split_at(requests.len().div_ceil(2));
    if !*halved {
        match generator.draw(requests, watch) {
            Err(error) if error.is_out_of_memory() && !second.is_empty() => {
                watch.warn(&format!(
                    "there is too little memory to draw {} pictures at once; {} are drawn from \
                     here on",
                    requests.len(),
                    first.len()
                ));
                *halved = true;
            }
            other => return Ok(other?),
        }
    }
    let mut drawn = generator.draw(first, watch)?;
    if !second.is_empty() {
        drawn.extend(generator.draw(second, watch)?);
    }
    Ok(drawn)
}

/// What is in a picture's place.
enum State {
    There,
    Damaged,
    Missing,
}

/// Whether a picture is there, whole, and this one.
fn state_of(file: &Path, request: &ImageRequest, provenance: Provenance) -> Result<State, Error> {
    if !file.exists() {
        return Ok(State::Missing);
    }
    let whole = is_whole_png(&fs_err::read(file)?);
    let said = if whole { about(file) } else { None };
    match said {
        _ if !whole => Ok(State::Damaged),
        Some(said) if said == provenance.about(request) => Ok(State::There),
        Some(_) => Ok(State::Damaged),
        None => Err(crate::pictures::Error::Foreign(file.to_path_buf()).into()),
    }
}

/// What a picture says about itself; `None` where this program did not draw it.
fn about(picture: &Path) -> Option<serde_json::Value> {
    let texts = Picture::texts(picture).ok()?;
    let (_, text) = texts.iter().find(|(key, _)| key == ABOUT)?;
    serde_json::from_str(text).ok()
}

/// Whether a picture was drawn by a study that called its pictures sensitive.
pub fn is_sensitive(picture: &Path) -> bool {
    about(picture).is_some_and(|json| json["sensitive"] == true)
}

/// The seed that a GAN's picture is, and the hash of the GAN; `None` for other pictures, and for
/// those that are more than their seed.
pub fn seed_of(picture: &Path) -> Option<(u64, String)> {
    let json = about(picture)?;
    let request: ImageRequest = serde_json::from_value(json["request"].clone()).ok()?;
    let plain = ImageRequest::of_seed(request.seed, 1.0, request.size.0);
    (request == plain).then(|| Some((request.seed, json["model"].as_str()?.to_owned()))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Adapter, Error as Fault, MergedAdapters, Model, ModelCard, Seeding};
    use crate::sampler::Solver;
    use crate::torch::{Compute, Device, Precision, Tensor};
    use crate::watch::Quiet;
    use crate::weights::{Edit, EmaChoice};

    /// Has room for so many pictures at once.
    struct Small(ModelCard, usize, std::cell::RefCell<Vec<usize>>);

    impl Generator for Small {
        fn card(&self) -> &ModelCard {
            &self.0
        }

        fn compute(&self) -> Compute {
            Compute::new(Device::CPU, Precision::F32)
        }

        fn draw(
            &self,
            requests: &[ImageRequest],
            _: &mut dyn Watch,
        ) -> Result<Vec<Picture>, Fault> {
            self.2.borrow_mut().push(requests.len());
            if requests.len() > self.1 {
                let message = "CUDA out of memory. Tried to allocate 2.00 GiB".to_owned();
                return Err(
                    crate::torch::Error::Stage { stage: "drawing".to_owned(), message }.into()
                );
            }
            Ok(requests.iter().map(|_| Picture { width: 1, height: 1, rgb: vec![0; 3] }).collect())
        }

        fn apply(&mut self, _: &Edit) -> Result<(), Fault> {
            Ok(())
        }

        fn lay(&self, _: &[Adapter], _: EmaChoice) -> Result<MergedAdapters, Fault> {
            unreachable!("nothing is laid onto it")
        }

        fn model(&mut self) -> Model<'_> {
            unreachable!("it is neither edited nor attacked")
        }

        fn tensor_names(&self) -> Vec<String> {
            Vec::new()
        }

        fn base_tensor(&self, name: &str) -> Result<Tensor, Fault> {
            Err(Fault::Request(name.to_owned()))
        }
    }

    #[test]
    fn too_little_memory_halves_the_batch_once() {
        let folder = tempfile::tempdir().unwrap();
        let request = ImageRequest {
            prompt: String::new(),
            negative: String::new(),
            seed: 0,
            guidance: 1.0,
            steps: 1,
            sampler: Solver::Ddim,
            size: (8, 8),
            truncation: 1.0,
            blend: None,
            seeding: Seeding::default(),
        };
        let works: Vec<_> =
            (0..10).map(|n| (folder.path().join(format!("{n}.png")), request.clone())).collect();
        let card = || ModelCard { hash: "0".repeat(12), side: 8, ..ModelCard::default() };
        let drawn = |room: usize| {
            let small = Small(card(), room, std::cell::RefCell::default());
            let outcome = draw_missing(
                &small,
                &works,
                Provenance { model: "0", sensitive: false },
                5,
                "",
                &mut Quiet,
            );
            (outcome, small.2.take())
        };
        let (outcome, _) = drawn(2);
        assert!(outcome.unwrap_err().to_string().contains("out of memory"));
        let (outcome, sizes) = drawn(3);
        outcome.unwrap();
        assert_eq!(sizes, [5, 3, 2, 3, 2]);
        assert!(works.iter().all(|(file, _)| file.exists()));
    }
}
