//! The words for pictures: `UnlearnCanvas`' template, and other ways to say the same.

use serde::{Deserialize, Serialize};

use super::words::{object_synonyms, style_synonyms};
use super::{Object, Style};

/// A name as prompts write it: underscores become spaces.
pub fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// `UnlearnCanvas`' template: "A {object} image in {style} style."
pub fn article_free_prompt(style: &str, object: &str) -> String {
    format!("A {} image in {} style.", spaced(object), spaced(style))
}

/// How many ways to say the same captions know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Names alone.
    #[default]
    Names,
    /// Names and their synonyms.
    Synonyms,
}

impl Language {
    /// Letters of its longest token: where there are synonyms, long words are spelt in pieces, as
    /// a vocabulary of a real language has it.
    pub fn longest_token(self) -> usize {
        match self {
            Self::Names => usize::MAX,
            Self::Synonyms => 8,
        }
    }
}

/// What is said of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// In words.
    pub text: String,
    /// Whether they say the style.
    pub says_style: bool,
    /// Whether they say the object.
    pub says_object: bool,
}

/// Captions for a cell, the template first, as many for each cell. The others teach a text encoder
/// bare objects, bare styles and everyday wording.
pub fn captions(language: Language, style: Style, object: Object) -> Vec<Caption> {
    let (s, o) = (spaced(style.name()), spaced(object.name()));
    let mut all = vec![both(format!("A {o} image in {s} style."))];
    all.extend(worded(&s, &o));
    if language == Language::Synonyms {
        for (synonym, other) in style_synonyms(style).into_iter().zip(object_synonyms(object)) {
            all.push(both(format!("A {o} image in {synonym} style.")));
            all.push(both(format!("A {other} image in {s} style.")));
            all.push(both(format!("{synonym}, a {o} image in {s} style.")));
            all.push(both(format!("{other}, a {o} image in {s} style.")));
            all.extend(worded(synonym, other));
        }
    }
    all
}

/// Seven ways to say a style, an object, or both.
fn worded(s: &str, o: &str) -> [Caption; 7] {
    let object = |text| Caption { text, says_style: false, says_object: true };
    let style = |text| Caption { text, says_style: true, says_object: false };
    [
        both(format!("a {o} in {s} style")),
        both(format!("{o}, {s}")),
        object(format!("A {o} image.")),
        object(format!("a picture of a {o}")),
        object(o.to_owned()),
        style(format!("An image in {s} style.")),
        style(format!("{s} style")),
    ]
}

fn both(text: String) -> Caption {
    Caption { text, says_style: true, says_object: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_as_many_captions_and_no_synonym_names_anything() {
        for language in [Language::Names, Language::Synonyms] {
            let count = captions(language, Style::Mosaic, Object::Cat).len();
            for (&style, &object) in Style::ALL.iter().zip(Object::ALL.iter().cycle()) {
                assert_eq!(captions(language, style, object).len(), count);
            }
        }
        let names = Style::ALL.iter().map(|style| style.name());
        let names: Vec<String> = names
            .chain(Object::ALL.iter().map(|object| object.name()))
            .flat_map(|name| name.split('_'))
            .map(str::to_lowercase)
            .collect();
        let synonyms = Style::ALL.iter().flat_map(|style| style_synonyms(*style));
        for synonym in synonyms.chain(Object::ALL.iter().flat_map(|o| object_synonyms(*o))) {
            let word = synonym.split(' ').find(|word| names.iter().any(|name| name == word));
            assert_eq!(word, None, "{synonym}");
        }
    }
}
