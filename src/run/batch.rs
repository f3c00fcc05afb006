//! How many pictures are drawn at once, where that is left to the memory that there is.

use super::Error;
use super::folder::RunFolder;
use crate::generator::{Generator, ImageRequest};
use crate::pipeline::Batch;
use crate::torch::{Device, Peak, free_memory};
use crate::watch::{Quiet, Watch};

/// More at once were nowhere seen to be faster.
const MOST: usize = 32;
/// The share of free memory that is used: how much a network takes varies by its inputs, and others
/// want some.
const SHARE: f64 = 0.85;

/// The number of pictures to draw at once where none is larger than `request`. Where it was
/// measured once, the run's record keeps it: with 16-bit numbers a picture's last bits may depend
/// on its company.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn settled(
    batch: Batch,
    run: &mut RunFolder,
    generator: &dyn Generator,
    request: &ImageRequest,
    device: Device,
    watch: &mut dyn Watch,
) -> Result<usize, Error> {
    match (batch, run.record.batch) {
        (Batch::Of(n), _) => Ok(n.max(1)),
        (Batch::Auto, Some(n)) => Ok(n),
        (Batch::Auto, None) => {
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
}
