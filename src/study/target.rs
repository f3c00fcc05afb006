//! What a study is to have forgotten.

use std::collections::BTreeSet;

use super::training_images::in_turn;
use crate::attack::Exposure;
use crate::erasure::{Pair, TrainingImages};
use crate::generator::ImageRequest;
use crate::watch::Watch;

/// What is to be forgotten, as methods are told.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// For messages, tables and records: `style:Mosaic`.
    pub concept: String,
    /// Prompts of it, each with what it is to become.
    pub pairs: Vec<Pair>,
    /// Prompts whose pictures are to stay.
    pub keep: Vec<String>,
}

impl Target {
    /// In names of files.
    pub(super) fn stem(&self) -> String {
        self.concept.replace([':', ' ', '/'], "-")
    }

    /// Without its domain.
    pub(super) fn title(&self) -> &str {
        self.concept.split_once(':').map_or(self.concept.as_str(), |(_, name)| name)
    }

    /// Its prompts, each with what it is to become, as attacks are told.
    pub(super) fn pairs_of_prompts(&self) -> Vec<[String; 2]> {
        self.pairs.iter().map(|pair| [pair.forget.clone(), pair.anchor.clone()]).collect()
    }

    /// Words that name it: its title, and what its prompts have and their anchors lack, each once;
    /// the longest first, of which others may be parts.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words: BTreeSet<String> = self.pairs.iter().flat_map(Pair::words).collect();
        words.insert(self.title().replace('_', " "));
        let mut words: Vec<String> = words.into_iter().collect();
        words.sort_by_key(|words| std::cmp::Reverse(words.len()));
        words
    }

    /// What an attack is shown of it, so many pictures at most; says where there can be no control.
    pub(super) fn exposure(
        &self,
        images: TrainingImages,
        pictures: usize,
        requests: Vec<ImageRequest>,
        watch: &mut dyn Watch,
    ) -> Exposure {
        let prompts: Vec<String> = self.pairs.iter().map(|pair| pair.forget.clone()).collect();
        let concept = in_turn(images.forget, &prompts, pictures);
        let unrelated = in_turn(images.remain, &self.keep, pictures);
        let words = self.words();
        let exposure = Exposure::of_prompts(concept, unrelated, requests, &words);
        if pictures > 0 && exposure.control.is_empty() {
            watch.note(&format!(
                "{}: attacks have no control, because not every prompt names the concept by the \
                 words that its anchor lacks",
                self.concept
            ));
        }
        exposure
    }
}
