//! Where a paper and its published code differ.

use serde::{Deserialize, Serialize};

/// Paper or code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// As the paper means it.
    Paper,
    /// As the code does it.
    Official,
}
