//! Which weights a loss is most sensitive to: gradients summed over pictures, and the largest of
//! their numbers, found without sorting them.

use std::path::{Path, PathBuf};

use super::Error;
use crate::checkpoint_timer::CheckpointTimer;
use crate::torch::{Kind, Tensor, no_grad, not_finite};
use crate::weights::{Weights, save};

/// Where what is found on the way to a mask is kept, and the key of the erasure that it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaskCache<'a> {
    pub(super) folder: &'a Path,
    pub(super) key: &'a str,
}

impl MaskCache<'_> {
    pub(super) fn mask(&self) -> PathBuf {
        self.folder.join("mask.safetensors")
    }

    fn sums(&self) -> PathBuf {
        self.folder.join("saliency.safetensors")
    }

    /// Reads a file of this erasure.
    ///
    /// # Errors
    /// A file that is damaged, or another erasure's.
    pub(super) fn read(&self, file: &Path) -> Result<Weights, Error> {
        const ADVICE: &str = "remove it, and the mask is computed again";
        let saved = Weights::open_own(file, ADVICE)?;
        if saved.metadata().get("key").map(String::as_str) == Some(self.key) {
            return Ok(saved);
        }
        Err(Error::Task(format!(
            "{} is of another erasure: of other settings, prompts or pictures to learn from, or of \
             another model; {ADVICE}",
            file.display()
        )))
    }

    /// Removes the sums of which a mask was made.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(super) fn remove_sums(&self) -> Result<(), Error> {
        let file = self.sums();
        if file.exists() {
            fs_err::remove_file(file)?;
        }
        Ok(())
    }
}

/// Gradients summed over the first so many pictures, kept in a file now and then.
#[derive(Debug)]
pub(super) struct GradientSums<'a> {
    pub(super) tensors: Vec<Tensor>,
    /// How many pictures they are of.
    pub(super) pictures: i64,
    /// Pictures at once.
    pub(super) batch: i64,
    parameters: &'a [(String, Tensor)],
    cache: Option<MaskCache<'a>>,
    pause: CheckpointTimer,
}

impl<'a> GradientSums<'a> {
    /// Nothing, or what an earlier session came to.
    ///
    /// # Errors
    /// As [`MaskCache::read`].
    pub(super) fn open(
        parameters: &'a [(String, Tensor)],
        batch: i64,
        cache: Option<MaskCache<'a>>,
    ) -> Result<Self, Error> {
        let tensors =
            no_grad(|| parameters.iter().map(|(_, tensor)| tensor.zeros_like()).collect());
        let mut sums = Self {
            tensors,
            pictures: 0,
            batch,
            parameters,
            cache,
            pause: CheckpointTimer::default(),
        };
        if let Some(cache) = cache.filter(|cache| cache.sums().exists()) {
            let saved = cache.read(&cache.sums())?;
            let about = saved.metadata();
            let number = |key: &str| about.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
            for ((name, _), sum) in parameters.iter().zip(&sums.tensors) {
                let saved = saved.tensor(name)?;
                no_grad(|| sum.shallow_clone().copy_(&saved));
            }
            (sums.pictures, sums.batch) = (number("pictures"), number("batch").clamp(1, batch));
        }
        Ok(sums)
    }

    /// Begins again with fewer pictures at once: gradients of a batch that failed may be in the
    /// sums.
    pub(super) fn begin_again(&mut self, batch: i64) {
        no_grad(|| self.tensors.iter_mut().for_each(|sum| drop(sum.zero_())));
        (self.pictures, self.batch) = (0, batch);
    }

    /// Keeps them where that is due, or at once.
    ///
    /// # Errors
    /// A disk that is full.
    pub(super) fn keep(&mut self, at_once: bool) -> Result<(), Error> {
        let Some(cache) = self.cache.filter(|_| at_once || self.pause.is_over()) else {
            return Ok(());
        };
        let named: Vec<(String, Tensor)> = self
            .parameters
            .iter()
            .zip(&self.tensors)
            .map(|((name, _), sum)| (name.clone(), sum.shallow_clone()))
            .collect();
        let (pictures, batch) = (self.pictures.to_string(), self.batch.to_string());
        let about = [("pictures", pictures), ("batch", batch), ("key", cache.key.to_owned())];
        Ok(self.pause.after(|| save(&cache.sums(), &named, &about))?)
    }

    /// Marks the share `density` of all weights whose summed gradient is largest, under one
    /// threshold.
    ///
    /// # Errors
    /// Gradients that are not finite; so many that are all the same that no threshold divides them.
    pub(super) fn threshold(&self, density: f64) -> Result<Vec<Tensor>, Error> {
        let spoilt = self.parameters.iter().zip(&self.tensors).find(|(_, sum)| not_finite(sum) > 0);
        if let Some(((name, _), _)) = spoilt {
            return Err(Error::Task(format!(
                "the gradient of `{name}` by which weights are chosen is NaN or infinite; use \
                 --precision f32, or another picture to learn from"
            )));
        }
        let masks = threshold(&self.tensors, density);
        let all: usize = masks.iter().map(Tensor::numel).sum();
        let marked: f64 = masks.iter().map(|mask| mask.sum(Kind::Int64).double_value(&[])).sum();
        let share = marked / all as f64;
        if share > density + 0.01 {
            return Err(Error::Task(format!(
                "no threshold divides the weights at a density of {density}: {:.1} % have the same \
                 gradient or a larger one; choose another density or other parameters",
                100.0 * share
            )));
        }
        Ok(masks)
    }
}

/// As [`GradientSums::threshold`], of any numbers.
fn threshold(sums: &[Tensor], density: f64) -> Vec<Tensor> {
    no_grad(|| {
        let n: i64 = sums.iter().map(|sum| sum.numel() as i64).sum();
        let kept = ((density * n as f64) as i64).clamp(1, n);
        let least = smallest(sums, n - kept);
        sums.iter().map(|sum| bits(sum).ge(least).to_kind(Kind::Uint8)).collect()
    })
}

/// A magnitude as an integer that is ordered in the same way: an f32 without its sign.
fn bits(sum: &Tensor) -> Tensor {
    sum.abs().view_dtype(Kind::Int)
}

/// The `k`-th smallest magnitude, counted from nought, as [`bits`]. It is found by counting, first
/// its upper half and then the lower: sorting a whole UNet's gradients would take six times their
/// memory.
fn smallest(sums: &[Tensor], mut k: i64) -> i64 {
    const HALF: i64 = 1 << 16;
    let mut found = 0;
    for upper in [true, false] {
        let mut counts = vec![0_i64; HALF as usize];
        for sum in sums {
            let all = bits(sum).flatten(0, -1);
            let all = if upper {
                all.bitwise_right_shift_tensor_scalar(16)
            } else {
                let low = &all - found;
                low.masked_select(&low.ge(0).logical_and(&low.lt(HALF)))
            };
            let here = all.bincount::<Tensor>(None, HALF).to_device(tch::Device::Cpu);
            for (count, more) in
                counts.iter_mut().zip(Vec::<i64>::try_from(here).unwrap_or_default())
            {
                *count += more;
            }
        }
        let mut digit = 0;
        while digit + 1 < HALF && counts[digit as usize] <= k {
            k -= counts[digit as usize];
            digit += 1;
        }
        found += if upper { digit * HALF } else { digit };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_on_from_what_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = MaskCache { folder: folder.path(), key: "this" };
        let parameters = [("a".to_owned(), Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]))];
        let mut sums = GradientSums::open(&parameters, 8, Some(cache)).unwrap();
        let _ = sums.tensors[0].g_add_(&Tensor::from_slice(&[0.5_f32, -0.25, 0.0, 1.0]));
        (sums.pictures, sums.batch) = (3, 4);
        sums.keep(false).unwrap();
        assert!(!cache.sums().exists());
        sums.keep(true).unwrap();
        let other = MaskCache { key: "another", ..cache };
        assert!(
            GradientSums::open(&parameters, 8, Some(other))
                .unwrap_err()
                .to_string()
                .contains("another erasure")
        );
        let mut again = GradientSums::open(&parameters, 8, Some(cache)).unwrap();
        assert!(again.tensors[0].equal(&sums.tensors[0]));
        assert_eq!((again.pictures, again.batch), (3, 4));
        assert_eq!(Vec::<u8>::try_from(&again.threshold(0.5).unwrap()[0]).unwrap(), [1, 0, 0, 1]);
        // Two of four are nought: three quarters cannot be told from all.
        let _ = again.tensors[0].get(1).fill_(0.0);
        assert!(again.threshold(0.75).unwrap_err().to_string().contains("100.0 %"));
        let _ = again.tensors[0].get(1).fill_(f64::NAN);
        assert!(again.threshold(0.5).unwrap_err().to_string().contains("`a`"));
        again.begin_again(2);
        assert_eq!((again.pictures, again.tensors[0].sum(Kind::Float).double_value(&[])), (0, 0.0));
        cache.remove_sums().unwrap();
        assert_eq!(GradientSums::open(&parameters, 8, Some(cache)).unwrap().pictures, 0);
    }

    #[test]
    fn the_threshold_is_global_and_exact() {
        let sums =
            [Tensor::from_slice(&[1.0_f32, -5.0, 0.5]), Tensor::from_slice(&[0.1_f32, -2.0, 3.0])];
        let marks = |density| {
            threshold(&sums, density)
                .iter()
                .flat_map(|m| Vec::<u8>::try_from(m).unwrap())
                .collect::<Vec<u8>>()
        };
        assert_eq!(marks(0.5), [0, 1, 0, 0, 1, 1]);
        assert_eq!(marks(1.0), [1; 6]);
        assert_eq!(marks(0.17), [0, 1, 0, 0, 0, 0]);
    }
}
