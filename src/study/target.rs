//! What a study is to have forgotten.

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

    /// The words that name it in its prompts, where its anchors lack some.
    pub(super) fn words(&self) -> Option<String> {
        self.pairs.iter().find_map(|pair| concept_words(&pair.forget, &pair.anchor))
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
        let exposure = Exposure::of_prompts(concept, unrelated, requests, words.as_deref());
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

/// The words in which a prompt differs from its anchor; `None` where it has none of its own.
fn concept_words(forget: &str, anchor: &str) -> Option<String> {
    let forget: Vec<&str> = forget.split(' ').collect();
    let anchor: Vec<&str> = anchor.split(' ').collect();
    let front = forget.iter().zip(&anchor).take_while(|(a, b)| a == b).count();
    let (rest, other) = (&forget[front..], &anchor[front..]);
    let back = rest.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let words = rest[..rest.len() - back].join(" ");
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_concept_is_what_its_anchor_lacks() {
        let of = |forget, anchor| concept_words(forget, anchor);
        let style = of("A Cat image in Neon Lines style.", "A Cat image in Seed Images style.");
        assert_eq!(style.as_deref(), Some("Neon Lines"));
        assert_eq!(of("a naked person", "a person").as_deref(), Some("naked"));
        assert_eq!(of("van gogh", "").as_deref(), Some("van gogh"));
        assert_eq!(of("a person", "a happy person"), None);
    }
}
