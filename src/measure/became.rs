//! What became of a target's pictures: by what names a judge calls them after it was erased.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{JudgedAnswer, TargetClass};

/// What the pictures of the erased prompts were called, most frequent first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Became {
    /// The target.
    pub target: String,
    /// The method.
    pub method: String,
    /// Name and number of pictures.
    pub names: Vec<(String, usize)>,
    /// Pictures.
    pub n: usize,
}

/// Counts what the target's pictures were called after a method.
pub fn became(target: &TargetClass, method: &str, judged: &[JudgedAnswer]) -> Became {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut n = 0;
    for s in judged.iter().filter(|s| s.answer.wanted(target.domain) == target.name) {
        *names.entry(s.named(target.domain)).or_default() += 1;
        n += 1;
    }
    let mut names: Vec<(String, usize)> =
        names.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Became { target: target.to_string(), method: method.to_owned(), names, n }
}
