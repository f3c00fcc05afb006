//! Numbers and ranges of them as people write them.

use std::ops::RangeInclusive;

/// `5`, or `10-15` for all of them from 10 to 15; `None` where that are no numbers. The end may lie
/// before the beginning.
pub fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
}
