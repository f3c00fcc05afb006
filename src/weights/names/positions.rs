//! `position_ids`: 0, 1, 2, … as a tensor, which transformers wrote into files before version 4.31
//! and no network needs.

use crate::torch::{Kind, Tensor};
use crate::weights::{Error, View, Weights};

const NAME: &str = "position_ids";

/// The weights without them, so that the same network has one hash. Where they are not the numbers
/// that they should be, a note says so: nothing reads them here, but an older transformers does.
///
/// # Errors
/// A file that cannot be read.
pub fn without_position_ids(weights: &Weights, notes: &mut Vec<String>) -> Result<Weights, Error> {
    let is_one = |name: &str| name.rsplit('.').next() == Some(NAME);
    for name in weights.names().filter(|name| is_one(name)) {
        let ids = weights.tensor(name)?.to_kind(Kind::Double).flatten(0, -1);
        if !ids.equal(&Tensor::arange(ids.numel() as i64, (Kind::Double, tch::Device::Cpu))) {
            notes.push(format!(
                "`{name}` in {} is not 0, 1, 2, … as it should be; it is not used here, but older \
                 versions of transformers use it and read prompts wrongly",
                weights.path(name).display()
            ));
        }
    }
    weights.renamed(
        |name| if is_one(name) { Vec::new() } else { vec![(name.to_owned(), View::Whole)] },
    )
}
