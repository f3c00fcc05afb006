//! Pairs of module names, looked up by the longest module that a tensor's name begins with.

use std::collections::HashMap;

use super::Shaping;

/// Modules as we call them and as another program does.
#[derive(Debug, Default)]
pub(super) struct Modules {
    outward: NameMap,
    inward: NameMap,
}

/// The names of one side, each with the other side's.
type NameMap = HashMap<String, (String, Shaping)>;

impl Modules {
    pub(super) fn add(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.pair(ours.into(), theirs.into(), Shaping::Same);
    }

    /// Where ours is a linear layer and theirs a 1×1 convolution.
    pub(super) fn add_convolution(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.pair(ours.into(), theirs.into(), Shaping::Convolution);
    }

    fn pair(&mut self, ours: String, theirs: String, shaping: Shaping) {
        self.inward.insert(theirs.clone(), (ours.clone(), shaping));
        self.outward.insert(ours, (theirs, shaping));
    }

    /// What they call our tensor; `None` where no module fits.
    pub(super) fn outward(&self, name: &str) -> Option<(String, Shaping)> {
        translate(&self.outward, name)
    }

    /// What we call their tensor; `None` where no module fits.
    pub(super) fn inward(&self, name: &str) -> Option<(String, Shaping)> {
        translate(&self.inward, name)
    }
}

/// The other side's name of a tensor. A name may be a module's own.
fn translate(names: &NameMap, name: &str) -> Option<(String, Shaping)> {
    let ends = name.rmatch_indices('.').map(|(at, _)| at);
    std::iter::once(name.len()).chain(ends).find_map(|end| {
        let (other, shaping) = names.get(&name[..end])?;
        Some((format!("{other}{}", &name[end..]), *shaping))
    })
}
