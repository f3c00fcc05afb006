//! A number with its interval.

use super::{Estimate, Interval};

impl Interval {
    /// An estimate with this interval.
    pub fn around(self, value: f64, hits: usize, n: usize) -> Estimate {
        Estimate { value, low: self.low, high: self.high, hits, n }
    }
}

impl Estimate {
    /// A number that is known as it is: seconds, bytes, a length.
    pub fn exact(value: f64) -> Self {
        Self { value, low: value, high: value, hits: 0, n: 0 }
    }
}
