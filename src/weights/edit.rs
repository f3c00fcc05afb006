//! An erasure as a value: the tensors that changed, by full name, and the base that they belong to.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Dialect, Error, LowRank, Weights, named_lora, save};
use crate::torch::{Kind, Tensor, no_grad, not_finite};

/// Tensors that replace a model's own; `Edit::default()` replaces nothing.
#[derive(Debug, Default)]
pub struct Edit {
    /// Hash of the base model.
    pub base: String,
    /// What made it: method and settings as JSON.
    pub recipe: String,
    /// New values by full name, `unet.…` or `text_encoder.…`.
    pub tensors: Vec<(String, Tensor)>,
    /// The same change as products of two matrices, where the method found it as such: what is
    /// saved then, as kohya's LoRA.
    pub factors: Vec<LowRank>,
    /// What a file of it says of itself beside base and recipe.
    pub metadata: Vec<(&'static str, String)>,
    /// How to sample with it, where that is a part of the method.
    pub sampling: Option<Sampling>,
}

/// How to sample with an edit: a method that distils the sampler too (one step, no guidance) or
/// that guides otherwise leaves a model that is drawn with otherwise than its base.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Sampling steps.
    pub steps: usize,
    /// Scale of classifier-free guidance.
    pub guidance: f64,
}

impl Sampling {
    /// What a file's metadata say.
    pub fn said_in(metadata: &BTreeMap<String, String>) -> Option<Self> {
        metadata.get(SAMPLING).and_then(|text| serde_json::from_str(text).ok())
    }
}

/// What says so in a file's metadata.
const MARK: &str = "unsee.edit";
/// In a file's metadata: what made it.
const RECIPE: &str = "unsee.recipe";
/// In a file's metadata: how to sample with it.
const SAMPLING: &str = "unsee.sampling";

/// Behind a tensor's name: which of its numbers changed, a bit each, lowest first.
const MASK: &str = "#mask";
/// Behind a tensor's name: the numbers that changed, in order.
const VALUES: &str = "#values";

impl Edit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// So much of the change: 0 is none of it, below 0 it is turned round. `base` gives the base's
    /// tensors.
    ///
    /// # Errors
    /// A tensor that the base lacks.
    pub fn scaled<E>(
        &self,
        strength: f64,
        base: impl Fn(&str) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let scaled = |(name, after): &(String, Tensor)| {
            if (strength - 1.0).abs() < 1e-12 {
                return Ok((name.clone(), after.shallow_clone()));
            }
            let before = base(name)?.to_device(after.device()).to_kind(after.kind());
            Ok((name.clone(), no_grad(|| &before + (after - &before) * strength)))
        };
        Ok(Self {
            base: self.base.clone(),
            recipe: self.recipe.clone(),
            sampling: self.sampling,
            tensors: self.tensors.iter().map(scaled).collect::<Result<_, E>>()?,
            ..Self::default()
        })
    }

    /// Whether all of its numbers are some: what a training with too high a rate leaves is not.
    ///
    /// # Errors
    /// A tensor with NaN or infinity in it.
    pub fn check(&self) -> Result<(), Error> {
        for (name, tensor) in &self.tensors {
            let count = not_finite(tensor);
            if count > 0 {
                return Err(Error::Spoiled { name: name.clone(), count });
            }
        }
        Ok(())
    }

    /// Writes the edit, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let mut about = vec![
            ("unsee.base", self.base.clone()),
            (RECIPE, self.recipe.clone()),
            (MARK, "1".to_owned()),
        ];
        if let Some(sampling) = &self.sampling {
            about.push((SAMPLING, serde_json::to_string(sampling).unwrap_or_default()));
        }
        about.extend(self.metadata.iter().cloned());
        if self.factors.is_empty() {
            return save(path, &self.tensors, &about);
        }
        let named = self.factors.iter().flat_map(|factors| named_lora(Dialect::Kohya, factors));
        save(path, &named.collect::<Vec<_>>(), &about)
    }

    /// Writes what differs from the base's tensors: where that is less, as a mask of bits and the
    /// values under it, as methods with a saliency mask leave it. `kind` is the values' number
    /// type.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_against(
        &self,
        path: &Path,
        base: &BTreeMap<String, Tensor>,
        kind: Option<Kind>,
        about: &[(&str, String)],
    ) -> Result<(), Error> {
        let mut written = Vec::new();
        for (name, new) in &self.tensors {
            let new = new.detach().to_device(tch::Device::Cpu);
            let kind = kind.filter(|_| new.is_floating_point()).unwrap_or(new.kind());
            let changed = base
                .get(name)
                .map(|original| original.to_kind(new.kind()).ne_tensor(&new).flatten(0, -1));
            let count = changed.as_ref().map_or(0, |mask| mask.sum(Kind::Int64).int64_value(&[]));
            let numbers = new.numel() as i64;
            let bytes = kind.elt_size_in_bytes() as i64;
            match changed {
                Some(mask) if count * bytes + (numbers + 7) / 8 < numbers * bytes => {
                    let values = new.flatten(0, -1).masked_select(&mask).to_kind(kind);
                    written.push((format!("{name}{MASK}"), packed(&mask)));
                    written.push((format!("{name}{VALUES}"), values));
                }
                _ => written.push((name.clone(), new.to_kind(kind))),
            }
        }
        let about: Vec<(&str, String)> =
            about.iter().cloned().chain([(MARK, "1".to_owned())]).collect();
        save(path, &written, &about)
    }

    /// Whether a file is an edit that this program wrote.
    pub fn is_in(file: &Weights) -> bool {
        file.metadata().contains_key(MARK)
    }

    /// Reads an edit of the base whose hash this is; `base` gives its tensors, which a mask needs.
    ///
    /// # Errors
    /// A file that is no edit, one of another base, masks that do not fit.
    pub fn read<E: From<Error>>(
        file: &Weights,
        hash: &str,
        base: impl Fn(&str) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let (about, path) = (file.metadata(), file.path(""));
        file.unchanged()?;
        match about.get("unsee.base").filter(|_| Self::is_in(file)) {
            Some(wanted) if wanted == hash => {}
            Some(wanted) => return Err(Error::other_base(wanted, hash).into()),
            None => {
                return Err(Error::damaged(
                    path,
                    "it has no `unsee.base` in its metadata, so it is no edit that unsee wrote",
                )
                .into());
            }
        }
        let mut tensors = Vec::new();
        for name in file.names() {
            if let Some(full) = name.strip_suffix(MASK) {
                let (original, mask) = (base(full)?, file.tensor(name)?);
                let values = file.floats(&format!("{full}{VALUES}"))?;
                let Some(mask) = unpacked(&mask, original.numel() as i64) else {
                    return Err(Error::damaged(
                        path,
                        format!("`{name}` does not fit {:?}", original.size()),
                    )
                    .into());
                };
                if mask.sum(Kind::Int64).int64_value(&[]) != values.numel() as i64 {
                    return Err(Error::damaged(
                        path,
                        format!("`{full}` has another number of values than its mask"),
                    )
                    .into());
                }
                // In the wider of the two types: neither side's numbers may be rounded.
                let kind =
                    if values.kind() == original.kind() { original.kind() } else { Kind::Float };
                let flat = original.to_kind(kind).flatten(0, -1);
                let whole = no_grad(|| flat.masked_scatter(&mask, &values.to_kind(kind)))
                    .view(original.size().as_slice());
                tensors.push((full.to_owned(), whole));
            } else if !name.ends_with(VALUES) {
                tensors.push((name.to_owned(), file.floats(name)?));
            }
        }
        Ok(Self { base: hash.to_owned(), ..Self::described(file, tensors) })
    }

    /// Tensors with what a file says of how they were made and how to sample with them.
    pub fn described(file: &Weights, tensors: Vec<(String, Tensor)>) -> Self {
        let about = file.metadata();
        let recipe = about.get(RECIPE).cloned().unwrap_or_default();
        let sampling = Sampling::said_in(&about);
        Self { recipe, tensors, sampling, ..Self::default() }
    }
}

/// Booleans `[n]` as bits `[n / 8]`.
fn packed(mask: &Tensor) -> Tensor {
    let spare = (8 - mask.size()[0] % 8) % 8;
    let bits = mask.to_kind(Kind::Uint8).constant_pad_nd([0, spare]).view([-1, 8]);
    let weights = Tensor::from_slice(&[1_u8, 2, 4, 8, 16, 32, 64, 128]);
    (bits * weights).sum_dim_intlist([1_i64].as_slice(), false, Kind::Uint8)
}

/// The way back; `None` where there are too few or too many bits.
fn unpacked(bits: &Tensor, n: i64) -> Option<Tensor> {
    if bits.kind() != Kind::Uint8 || bits.size() != [(n + 7) / 8] {
        return None;
    }
    let weights = Tensor::from_slice(&[1_u8, 2, 4, 8, 16, 32, 64, 128]);
    let mask = bits.unsqueeze(1).bitwise_and_tensor(&weights).ne(0).flatten(0, -1);
    Some(mask.narrow(0, 0, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_and_values_are_the_whole_again_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.safetensors");
        let base = crate::torch::Rng::new(1).normal(&[7, 5]);
        let new = base.copy();
        let _ = new.get(2).fill_(0.25);
        let edit = Edit {
            base: "b".to_owned(),
            recipe: "{}".to_owned(),
            tensors: vec![
                ("unet.w".to_owned(), new.shallow_clone()),
                ("unet.n".to_owned(), &new + 1.0),
            ],
            ..Edit::default()
        };
        let originals =
            [("unet.w".to_owned(), base.copy()), ("unet.n".to_owned(), base.copy())].into();
        edit.save_against(&path, &originals, None, &[("unsee.base", "b".to_owned())]).unwrap();
        let file = Weights::open(&path).unwrap();
        assert_eq!(file.info("unet.w#mask").unwrap().shape, [5]);
        assert_eq!(file.info("unet.w#values").unwrap().shape, [5]);
        // Where all changed, the tensor itself is smaller.
        assert!(file.contains("unet.n"));
        let read = |hash: &str, base: &Tensor| {
            Edit::read::<Error>(&file, hash, |_| Ok(base.shallow_clone()))
        };
        let again = read("b", &base).unwrap();
        for (name, tensor) in &edit.tensors {
            assert!(again.tensors.iter().any(|(full, found)| full == name && found.equal(tensor)));
        }
        assert!(matches!(read("c", &base), Err(Error::OtherBase { .. })));
        assert!(
            read("b", &base.flatten(0, -1).narrow(0, 0, 9))
                .unwrap_err()
                .to_string()
                .contains("#mask")
        );
    }
}
