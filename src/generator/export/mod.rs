//! Writes a base with an edit for other programs: a diffusers folder, one of its components, a
//! single file in `CompVis`' names, the edit alone, or a low-rank adapter of it.
//!
//! Each file says what it is: unsee's base and recipe, and Stability's `modelspec.*`.

mod folder;
mod lora;

use std::collections::BTreeMap;
use std::path::Path;

pub use lora::ModuleRank;

use super::{Checkpoint, Error};
use crate::files::{self, whole_folder};
use crate::torch::{Kind, Tensor, no_grad, not_finite};
use crate::watch::Watch;
use crate::weights::{Dialect, Edit, save, to_compvis};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A complete diffusers folder.
    Folder,
    /// A folder with one component: `text_encoder`, `unet` or `vae`.
    Component(&'static str),
    /// One file in `CompVis`' names.
    SingleFile,
    /// A `StyleGAN2` as rosinality's checkpoint.
    Rosinality,
    /// A `StyleGAN2` as safetensors.
    Safetensors,
    /// The changed tensors, for unsee.
    Edit,
    /// A low-rank adapter of the change.
    Lora {
        /// Whose names.
        dialect: Dialect,
        /// Rank of each module, or all that the change has.
        rank: Option<i64>,
    },
}

/// A base and an edit of it.
pub struct Edited<'a> {
    /// The base.
    pub base: &'a Checkpoint,
    /// The edit; an empty one for the base itself.
    pub edit: &'a Edit,
    /// The number type that is written; each tensor's own where it is missing.
    pub kind: Option<Kind>,
}

impl Edited<'_> {
    /// Writes it to `to`, whole or not at all.
    ///
    /// # Errors
    /// Something is there already, the disk is full, an edit that cannot be written so.
    pub fn export(
        &self,
        to: &Path,
        format: Format,
        watch: &mut dyn Watch,
    ) -> Result<Vec<ModuleRank>, Error> {
        if fs_err::symlink_metadata(to).is_ok() {
            return Err(Error::Occupied(to.to_path_buf()));
        }
        if let Some(folder) = to.parent().filter(|folder| folder.is_dir()) {
            files::sweep(folder, false)?;
        }
        self.say_what_is_left(format, watch);
        match format {
            Format::Folder => self.folder(to, watch)?,
            Format::Component(name) => whole_folder(to, |folder| self.component(folder, name))?,
            Format::SingleFile => self.single_file(to, watch)?,
            Format::Edit => self.edit_alone(to)?,
            Format::Rosinality | Format::Safetensors => {
                return Err(Error::Request(format!(
                    "{} is no StyleGAN2; --as folder or --as single-file write a Stable Diffusion",
                    self.base.path.display()
                )));
            }
            Format::Lora { dialect, rank } => return self.lora(to, dialect, rank, watch),
        }
        Ok(Vec::new())
    }

    /// Says what of the model and its edits a format has no place for.
    fn say_what_is_left(&self, format: Format, watch: &mut dyn Watch) {
        if let Format::Component(component) = format {
            let others = self
                .edit
                .tensors
                .iter()
                .filter(|(full, _)| full.split('.').next() != Some(component))
                .count();
            if others > 0 {
                watch.warn(&format!(
                    "{others} tensors that the edits change are not of the {component}, and are \
                     not in what is written; --as folder writes all"
                ));
            }
        }
        if format == Format::SingleFile {
            let other = self.base.configs.not_in_a_single_file();
            if !other.is_empty() {
                watch.warn(&format!(
                    "a single file has no place for {}, which are other than Stable Diffusion's: \
                     whoever reads it needs the folder's configuration (--config)",
                    other.join(", ")
                ));
            }
        }
    }

    /// A component's tensors, edited, in the number type to be written.
    fn tensors(&self, component: &str) -> Result<Vec<(String, Tensor)>, Error> {
        let mut edited: BTreeMap<&str, &Tensor> = self
            .edit
            .tensors
            .iter()
            .filter_map(|(full, tensor)| {
                Some((full.strip_prefix(component)?.strip_prefix('.')?, tensor))
            })
            .collect();
        let Some((_, weights)) =
            self.base.components().into_iter().find(|(name, _)| *name == component)
        else {
            return Ok(Vec::new());
        };
        let names: Vec<&str> = weights.names().collect();
        let tensors = names
            .into_iter()
            .map(|name| {
                let old = weights.tensor(name)?;
                let kind = if old.is_floating_point() {
                    self.kind.unwrap_or(old.kind())
                } else {
                    old.kind()
                };
                let tensor = match edited.remove(name) {
                    Some(new) if new.size() == old.size() => no_grad(|| new.detach().to_kind(kind)),
                    Some(new) => {
                        return Err(Error::EditShape {
                            name: format!("{component}.{name}"),
                            found: new.size(),
                            wanted: old.size(),
                        });
                    }
                    None => old.to_kind(kind),
                };
                Self::fits(&format!("{component}.{name}"), &tensor)?;
                Ok((name.to_owned(), tensor))
            })
            .collect::<Result<_, Error>>()?;
        match edited.into_iter().next() {
            Some((name, tensor)) => Err(Error::EditShape {
                name: format!("{component}.{name}"),
                found: tensor.size(),
                wanted: Vec::new(),
            }),
            None => Ok(tensors),
        }
    }

    /// Whether the number type that is written holds a tensor's numbers.
    fn fits(name: &str, tensor: &Tensor) -> Result<(), Error> {
        match not_finite(tensor) {
            0 => Ok(()),
            lost => Err(Error::Request(format!(
                "{lost} numbers of `{name}` are too large for {:?}; write it with --dtype bf16 or \
                 f32",
                tensor.kind()
            ))),
        }
    }

    /// What every file says of itself.
    fn about(
        &self,
        architecture: &str,
        implementation: &str,
    ) -> Result<Vec<(&'static str, String)>, Error> {
        let velocity = self.base.configs.predicts_velocity();
        let base = if self.edit.base.is_empty() {
            self.base.hash()?.to_hex().to_string()
        } else {
            self.edit.base.clone()
        };
        let side =
            self.base.configs.unet["sample_size"].as_i64().unwrap_or(64) * self.base.factor();
        let stem = self.base.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut about = vec![
            ("unsee.base", base),
            ("modelspec.sai_model_spec", "1.0.0".to_owned()),
            ("modelspec.architecture", architecture.to_owned()),
            ("modelspec.implementation", implementation.to_owned()),
            (
                "modelspec.title",
                if self.edit.is_empty() {
                    stem.clone()
                } else {
                    format!("{stem}, edited by unsee")
                },
            ),
            ("modelspec.date", jiff::Zoned::now().strftime("%Y-%m-%d").to_string()),
            ("modelspec.resolution", format!("{side}x{side}")),
            ("modelspec.prediction_type", if velocity { "v" } else { "epsilon" }.to_owned()),
        ];
        if !self.edit.recipe.is_empty() {
            about.push(("unsee.recipe", self.edit.recipe.clone()));
            about.push((
                "unsee.recipe_hash",
                blake3::hash(self.edit.recipe.as_bytes()).to_hex().to_string(),
            ));
        }
        Ok(about)
    }

    fn single_file(&self, to: &Path, watch: &mut dyn Watch) -> Result<(), Error> {
        let mut all = Vec::new();
        watch.begin("reading", 3);
        for ((name, _), n) in self.base.components().into_iter().zip(1..) {
            all.extend(to_compvis(name, &self.tensors(name)?)?);
            watch.at(n, name);
        }
        watch.end();
        // Tensors of no size by which other programs know the prediction and the schedule.
        let marker =
            |name: &str| (name.to_owned(), Tensor::zeros([0], (Kind::Float, tch::Device::Cpu)));
        if self.base.configs.predicts_velocity() {
            all.push(marker("v_pred"));
        }
        if self.base.networks.scheduler.rescale_betas_zero_snr {
            all.push(marker("ztsnr"));
        }
        let about = self.about(
            self.base.configs.architecture(),
            "https://github.com/CompVis/stable-diffusion",
        )?;
        Ok(save(to, &all, &about)?)
    }

    fn edit_alone(&self, to: &Path) -> Result<(), Error> {
        self.need_edit()?;
        let full =
            |(name, _): &(String, Tensor)| self.base.tensor(name).map(|base| (name.clone(), base));
        let originals: BTreeMap<String, Tensor> =
            self.edit.tensors.iter().map(full).collect::<Result<_, _>>()?;
        let architecture = format!("{}/edit", self.base.configs.architecture());
        let about = self.about(&architecture, "https://github.com/unsee/unsee")?;
        for (name, tensor) in &self.edit.tensors {
            Self::fits(
                name,
                &no_grad(|| tensor.detach().to_kind(self.kind.unwrap_or(tensor.kind()))),
            )?;
        }
        Ok(self.edit.save_against(to, &originals, self.kind, &about)?)
    }

    fn need_edit(&self) -> Result<(), Error> {
        if self.edit.is_empty() {
            return Err(Error::Request(
                "there is no change to write: give one with --edit".to_owned(),
            ));
        }
        Ok(())
    }
}
