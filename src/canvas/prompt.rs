//! The words for pictures: `UnlearnCanvas`' template, and other ways to say the same.

use super::{Object, Style};

/// A name as prompts write it: underscores become spaces.
pub fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// `UnlearnCanvas`' template: "A {object} image in {style} style."
pub fn article_free_prompt(style: &str, object: &str) -> String {
    format!("A {} image in {} style.", spaced(object), spaced(style))
}

/// Captions for a cell, the template first. The others teach a text encoder bare objects, bare
/// styles and everyday wording.
pub fn captions(style: Style, object: Object) -> Vec<String> {
    let (s, o) = (spaced(style.name()), spaced(object.name()));
    vec![
        article_free_prompt(style.name(), object.name()),
        format!("a {o} in {s} style"),
        format!("{o}, {s}"),
        format!("A {o} image."),
        format!("a picture of a {o}"),
        o.clone(),
        format!("An image in {s} style."),
        format!("{s} style"),
    ]
}
