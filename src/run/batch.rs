//! How many pictures are drawn at once: so many, or as many as there is memory for.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Error, RunFolder};
use crate::generator::{Generator, ImageRequest};
use crate::torch::{Device, Peak, free_memory};
use crate::watch::{Quiet, Watch};

/// A batch as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// As many as fit into free memory.
    Auto,
    /// So many.
    Of(usize),
}

/// More at once were nowhere seen to be faster.
const MOST: usize = 32;
/// The share of free memory that is used: how much a network takes varies by its inputs, and others
/// want some.
const SHARE: f64 = 0.85;

impl Batch {
    /// The number for pictures no larger than `shot`. Where it was measured once, the run's record
    /// keeps it: with 16-bit numbers a picture's last bits may depend on its company.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub(super) fn settle(
        self,
        run: &mut RunFolder,
        generator: &dyn Generator,
        request: &ImageRequest,
        device: Device,
        watch: &mut dyn Watch,
    ) -> Result<usize, Error> {
        match (self, run.record.batch) {
            (Self::Of(n), _) => Ok(n.max(1)),
            (Self::Auto, Some(n)) => Ok(n),
            (Self::Auto, None) => {
                let n = fitting(generator, request, device)?;
                watch.note(&format!(
                    "{n} pictures are drawn at once: as many as there is memory for, up to {MOST}"
                ));
                run.record.batch = Some(n);
                // Before anything is drawn: whoever goes on must draw in the same company.
                run.save()?;
                Ok(n)
            }
        }
    }
}

/// How many pictures fit, from what one and two take: each further one takes as much.
fn fitting(
    generator: &dyn Generator,
    request: &ImageRequest,
    device: Device,
) -> Result<usize, Error> {
    let short = ImageRequest { steps: 1, ..request.clone() };
    let taken = |n: usize| -> Result<u64, Error> {
        Peak::reset(device);
        let before = Peak::read(device).on(device);
        generator.draw(&vec![short.clone(); n], &mut Quiet)?;
        Ok(Peak::read(device).on(device).saturating_sub(before))
    };
    // The first of each loads kernels and fills caches.
    taken(1)?;
    let one = taken(1)?;
    match taken(2).and_then(|_| taken(2)) {
        Err(Error::Generator(error)) if error.is_out_of_memory() => Ok(1),
        two => Ok(most(one, two?, free_memory(device))),
    }
}

/// The largest power of two that fits into `free` bytes, where one and two pictures take so many.
fn most(one: u64, two: u64, free: u64) -> usize {
    let (one, two, free) = (one as f64, two as f64, free as f64 * SHARE);
    let each = (two - one).max(one / 2.0).max(1.0);
    let fits = 1.0 + ((free - one) / each).max(0.0);
    1 << (fits as usize).clamp(1, MOST).ilog2()
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(n)) if n > 0 => Ok(Self::Of(n)),
            _ => Err(format!("a batch is a number above 0, or auto; found `{text}`")),
        }
    }
}

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(n) => write!(f, "{n}"),
        }
    }
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Of(n) => serializer.serialize_u64(*n as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Number(n) => n.to_string(),
            Either::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_fit() {
        let gib = |n: f64| (n * f64::from(1 << 30)) as u64;
        assert_eq!(most(gib(2.0), gib(3.0), gib(16.0)), 8);
        assert_eq!(most(gib(2.0), gib(3.0), gib(1.0)), 1);
        assert_eq!(most(gib(2.0), gib(2.0), gib(4.0)), 2);
        assert_eq!(most(1, 1, gib(80.0)), MOST);
    }

    #[test]
    fn written_as_it_is_read() {
        #[derive(Serialize, Deserialize)]
        struct Toml {
            batch: Batch,
        }
        for (text, batch) in [("batch = \"auto\"\n", Batch::Auto), ("batch = 3\n", Batch::Of(3))] {
            let table: Toml = toml::from_str(text).unwrap();
            assert_eq!(table.batch, batch);
            assert_eq!(toml::to_string(&table).unwrap(), text);
        }
        assert!(
            toml::from_str::<Toml>("batch = 0").is_err()
                && toml::from_str::<Toml>("batch = 'x'").is_err()
        );
    }
}
