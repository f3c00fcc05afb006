//! A number with its interval.

use serde::{Deserialize, Serialize};

use super::{Interval, wilson};

/// A number with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Numerator, where it is a rate.
    pub hits: usize,
    /// Pictures.
    pub n: usize,
}

impl Interval {
    /// An estimate with this interval.
    pub fn around(self, value: f64, hits: usize, n: usize) -> Estimate {
        Estimate { value, low: self.low, high: self.high, hits, n }
    }
}

impl Estimate {
    /// A share of pictures that have nothing to do with each other, with Wilson's interval; 0 of 0
    /// is nothing.
    pub fn of_share(hits: usize, n: usize) -> Self {
        let Interval { low, high } = wilson(hits, n);
        Self { value: hits as f64 / n.max(1) as f64, low, high, hits, n }
    }

    /// A number that is known as it is: seconds, bytes, a length.
    pub fn exact(value: f64) -> Self {
        Self { value, low: value, high: value, hits: 0, n: 0 }
    }
}
