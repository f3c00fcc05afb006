//! Pairs of module names, looked up by the longest module that a tensor's name begins with.

use std::collections::HashMap;

use super::Shaping;

/// Pairs of modules: ours, and another program's.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pairs: Vec<(String, String, Shaping)>,
}

/// The names of one side, each with the other side's.
pub(super) type Lookup<'a> = HashMap<&'a str, (&'a str, Shaping)>;

impl Modules {
    pub(super) fn add(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.pairs.push((ours.into(), theirs.into(), Shaping::Same));
    }

    /// Where ours is a linear layer and theirs a 1×1 convolution.
    pub(super) fn add_convolution(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.pairs.push((ours.into(), theirs.into(), Shaping::Convolution));
    }

    /// From our names to theirs.
    pub(super) fn outward(&self) -> Lookup<'_> {
        self.pairs.iter().map(|(ours, theirs, shaping)| (&ours[..], (&theirs[..], *shaping))).collect()
    }

    /// From their names to ours.
    pub(super) fn inward(&self) -> Lookup<'_> {
        self.pairs.iter().map(|(ours, theirs, shaping)| (&theirs[..], (&ours[..], *shaping))).collect()
    }
}

/// The other side's name of a tensor; `None` where no module fits. A name may be a module's own.
pub(super) fn translate(lookup: &Lookup, name: &str) -> Option<(String, Shaping)> {
    let ends = name.rmatch_indices('.').map(|(at, _)| at);
    std::iter::once(name.len()).chain(ends).find_map(|end| {
        let (other, shaping) = lookup.get(&name[..end])?;
        Some((format!("{other}{}", &name[end..]), *shaping))
    })
}
