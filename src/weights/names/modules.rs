//! Pairs of module names, looked up by the longest module that a tensor's name begins with.

use std::collections::HashMap;

use super::Shaping;

/// Modules as diffusers or transformers name them (ours), and as another program does (theirs).
#[derive(Debug, Default)]
pub(super) struct Modules {
    theirs_by_ours: NameMap,
    ours_by_theirs: NameMap,
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
        self.ours_by_theirs.insert(theirs.clone(), (ours.clone(), shaping));
        self.theirs_by_ours.insert(ours, (theirs, shaping));
    }

    /// Their name of a tensor that is called `name` here; `None` where no module fits.
    pub(super) fn theirs(&self, name: &str) -> Option<(String, Shaping)> {
        translate(&self.theirs_by_ours, name)
    }

    /// Our name of a tensor that they call `name`; `None` where no module fits.
    pub(super) fn ours(&self, name: &str) -> Option<(String, Shaping)> {
        translate(&self.ours_by_theirs, name)
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
