//! What judges say of one picture, as attacks are told.

use serde::{Deserialize, Serialize};

/// What judges say of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it shows the concept.
    pub shows: bool,
    /// Whether a second judge says so too, where there is one.
    pub confirmed: Option<bool>,
}
