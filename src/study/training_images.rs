//! Pictures to learn from: from the user's folder, or drawn by the model itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::erasure::{Needs, PromptedImage, TrainingImages};
use crate::pictures::{Picture, Remarks};
use crate::pipeline::Pipeline;
use crate::run::Error;
use crate::run::opening::pictures_in;
use crate::watch::Watch;

/// First seed of pictures to learn from in a study of classes. libtorch's generator reads the lower
/// 32 bits of a seed, so these draw what the seeds 0, 1, … draw; a study that judges these seeds is
/// told so.
pub(super) const CLASS_SEED: u64 = 1 << 40;
/// First seed of pictures to learn from in a study of prompts, far from those that lists of prompts
/// have as a rule.
pub(super) const PROMPT_SEED: u64 = 0x4000_0000;

/// How many pictures there are to be to learn from, at most: the first of each prompt, then the
/// second of each, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ImageDemand {
    pub forget: usize,
    pub keep: usize,
}

impl ImageDemand {
    /// A method's: of what it needs all that the settings give.
    pub(super) fn of_method(needs: Needs) -> Self {
        let all = |needed: bool| if needed { usize::MAX } else { 0 };
        Self { forget: all(needs.forget_images), keep: all(needs.keep_images) }
    }

    /// An attack's, which is shown so many of each.
    pub(super) fn of_attack(images: usize) -> Self {
        Self { forget: images, keep: images }
    }

    /// Of all methods and attacks of a pipeline together.
    pub(super) fn of_pipeline(pipeline: &Pipeline) -> Self {
        let methods = pipeline.method.iter().map(|method| Self::of_method(method.value.needs()));
        let attacks = pipeline
            .attack
            .iter()
            .map(|attack| Self::of_attack(attack.value.needs().training_images));
        methods.chain(attacks).fold(Self { forget: 0, keep: 0 }, |most, demand| Self {
            forget: most.forget.max(demand.forget),
            keep: most.keep.max(demand.keep),
        })
    }
}

/// The first `n` of some by the round in which they come.
pub(super) fn first_rounds<T>(mut all: Vec<T>, n: usize, round: impl Fn(&T) -> u64) -> Vec<T> {
    if n < all.len() {
        all.sort_by_key(round);
        all.truncate(n);
    }
    all
}

/// Reads pictures, each with the number of its prompt, and brings them to a size.
pub(super) struct ImageReader {
    side: usize,
    remarks: Remarks,
    cut: usize,
}

impl ImageReader {
    pub(super) fn new(side: i64) -> Self {
        Self { side: side as usize, remarks: Remarks::default(), cut: 0 }
    }

    pub(super) fn read(&mut self, file: &Path, prompt: usize) -> Result<PromptedImage, Error> {
        let picture = Picture::open_noting(file, &mut self.remarks)?;
        Ok(PromptedImage { picture: picture.fitted_noting(self.side, &mut self.cut), prompt })
    }

    /// Says what was done to them.
    pub(super) fn report(&self, watch: &mut dyn Watch) {
        self.remarks.sentences().iter().for_each(|remark| watch.note(remark));
        if self.cut > 0 {
            watch.warn(&format!(
                "{} pictures to learn from are not square; only their middles are seen",
                self.cut
            ));
        }
    }
}

/// Pictures of both sets from their files.
pub(super) fn read(
    forget: &[(PathBuf, usize)],
    keep: &[(PathBuf, usize)],
    side: i64,
    watch: &mut dyn Watch,
) -> Result<TrainingImages, Error> {
    let mut reader = ImageReader::new(side);
    let mut all = |files: &[(PathBuf, usize)]| {
        files.iter().map(|(file, prompt)| reader.read(file, *prompt)).collect::<Result<_, _>>()
    };
    let images = TrainingImages { forget: all(forget)?, remain: all(keep)? };
    reader.report(watch);
    Ok(images)
}

/// `n` of the pictures with their prompts: the first of each prompt, then the second of each, and
/// so on.
pub(super) fn in_turn(
    images: Vec<PromptedImage>,
    prompts: &[String],
    n: usize,
) -> Vec<(Picture, String)> {
    let mut counts = vec![0_usize; prompts.len()];
    let mut numbered: Vec<(usize, PromptedImage)> = images
        .into_iter()
        .filter(|image| image.prompt < prompts.len())
        .map(|image| {
            counts[image.prompt] += 1;
            (counts[image.prompt], image)
        })
        .collect();
    numbered.sort_by_key(|(round, _)| *round);
    let taken = numbered.into_iter().take(n);
    taken.map(|(_, image)| (image.picture, prompts[image.prompt].clone())).collect()
}

/// The number of each prompt in a list.
pub(super) fn numbers(prompts: impl Iterator<Item = String>) -> HashMap<String, usize> {
    let mut numbers = HashMap::new();
    for (number, prompt) in prompts.enumerate() {
        numbers.entry(prompt).or_insert(number);
    }
    numbers
}

/// The pictures in a folder, each with the prompt that the text file beside it names.
///
/// # Errors
/// A folder without pictures, a caption that is missing or is none of the prompts.
pub(super) fn captioned(
    folder: &Path,
    prompts: &[&str],
    watch: &mut dyn Watch,
) -> Result<Vec<(PathBuf, usize)>, Error> {
    let with_prompt = |file: PathBuf| {
        let caption = file.with_extension("txt");
        let prompt = match (prompts, caption.exists()) {
            ([_], false) => 0,
            (_, false) => {
                return Err(Error::Unknown(format!(
                    "{} has no text file beside it that says which of the {} prompts it shows",
                    file.display(),
                    prompts.len()
                )));
            }
            (_, true) => {
                let text = fs_err::read_to_string(&caption)?;
                prompts.iter().position(|prompt| prompt.trim() == text.trim()).ok_or_else(|| {
                    Error::Unknown(format!(
                        "{}: «{}» is none of the pipeline's prompts: {}",
                        caption.display(),
                        text.trim(),
                        prompts.join("; ")
                    ))
                })?
            }
        };
        Ok((file, prompt))
    };
    pictures_in(folder, watch)?.into_iter().map(with_prompt).collect()
}
