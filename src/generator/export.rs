//! Writes a base with an edit for other programs: a diffusers folder, one of its components, a
//! single file in `CompVis`' names, the edit alone, or a low-rank adapter of it.
//!
//! Each file says what it is: unsee's base and recipe, and Stability's `modelspec.*`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::folder::weights_file;
use super::{Checkpoint, Error};
use crate::files::{self, whole_folder};
use crate::text::Vocabulary;
use crate::torch::{Kind, Tensor, no_grad, not_finite};
use crate::watch::Watch;
use crate::weights::{Dialect, Edit, LowRank, named_lora, save, to_compvis};

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

/// How much of a module's change an adapter keeps.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleRank {
    /// The module's weight, or `in all`.
    pub name: String,
    /// Rank that is kept.
    pub rank: i64,
    /// Share of the change's energy (the sum of squares), 0 to 1.
    pub energy: f64,
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
            Format::Component(name) => whole_folder(to, |half| self.component(half, name))?,
            Format::SingleFile => self.single_file(to, watch)?,
            Format::Edit => self.alone(to)?,
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
        if let Format::Component(own) = format {
            let others = self
                .edit
                .tensors
                .iter()
                .filter(|(full, _)| full.split('.').next() != Some(own))
                .count();
            if others > 0 {
                watch.warn(&format!(
                    "{others} tensors that the edits change are not of the {own}, and are not in \
                     what is written; --as folder writes all"
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
                let own = weights.tensor(name)?;
                let kind = if own.is_floating_point() {
                    self.kind.unwrap_or(own.kind())
                } else {
                    own.kind()
                };
                let tensor = match edited.remove(name) {
                    Some(new) if new.size() == own.size() => no_grad(|| new.detach().to_kind(kind)),
                    Some(new) => {
                        let (found, wanted) = (new.size(), own.size());
                        return Err(Error::EditShape {
                            name: format!("{component}.{name}"),
                            found,
                            wanted,
                        });
                    }
                    None => own.to_kind(kind),
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

    fn component(&self, to: &Path, name: &str) -> Result<(), Error> {
        let config = match name {
            "text_encoder" => &self.base.configs.text_encoder,
            "unet" => &self.base.configs.unet,
            _ => &self.base.configs.vae,
        };
        let about = self.about(self.base.configs.architecture(), "diffusers")?;
        save(&to.join(weights_file(name)), &self.tensors(name)?, &about)?;
        Ok(files::write_json(&to.join("config.json"), config)?)
    }

    fn folder(&self, to: &Path, watch: &mut dyn Watch) -> Result<(), Error> {
        whole_folder(to, |half| {
            watch.begin("writing", 3);
            for ((name, _), n) in self.base.components().into_iter().zip(1..) {
                self.component(&half.join(name), name)?;
                watch.at(n, name);
            }
            watch.end();
            files::write_json(
                &half.join("scheduler/scheduler_config.json"),
                &self.base.configs.scheduler,
            )?;
            let source = &self.base.path;
            let mut index = model_index(&self.base.configs.scheduler);
            if source.is_dir() {
                copy_files(&source.join("tokenizer"), &half.join("tokenizer"))?;
                index = super::folder::read_json(source, "model_index.json")?;
                for part in ["safety_checker", "feature_extractor"] {
                    if source.join(part).is_dir() {
                        copy_files(&source.join(part), &half.join(part))?;
                    } else {
                        index[part] = json!([null, null]);
                    }
                }
            } else if let Some(config) = &self.base.config_folder {
                copy_files(&config.join("tokenizer"), &half.join("tokenizer"))?;
            } else {
                Vocabulary::clip().save(&half.join("tokenizer"), 77, self.base.configs.pad())?;
            }
            Ok(files::write_json(&half.join("model_index.json"), &index)?)
        })
    }

    fn single_file(&self, to: &Path, watch: &mut dyn Watch) -> Result<(), Error> {
        let mut all = Vec::new();
        watch.begin("reading", 3);
        for ((name, _), n) in self.base.components().into_iter().zip(1..) {
            all.extend(to_compvis(name, &self.tensors(name)?)?);
            watch.at(n, name);
        }
        watch.end();
        // Signs that other programs look for, of no size.
        let sign =
            |name: &str| (name.to_owned(), Tensor::zeros([0], (Kind::Float, tch::Device::Cpu)));
        if self.base.configs.predicts_velocity() {
            all.push(sign("v_pred"));
        }
        if self.base.networks.scheduler.rescale_betas_zero_snr {
            all.push(sign("ztsnr"));
        }
        let about = self.about(
            self.base.configs.architecture(),
            "https://github.com/CompVis/stable-diffusion",
        )?;
        Ok(save(to, &all, &about)?)
    }

    fn alone(&self, to: &Path) -> Result<(), Error> {
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

    fn lora(
        &self,
        to: &Path,
        dialect: Dialect,
        rank: Option<i64>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<ModuleRank>, Error> {
        self.need_edit()?;
        let mut kept = Vec::new();
        let mut tensors = Vec::new();
        let (mut all, mut caught, mut outside) = (0.0, 0.0, 0);
        watch.begin("decomposing", self.edit.tensors.len() as u64);
        for ((name, new), n) in self.edit.tensors.iter().zip(1..) {
            let own = self.base.tensor(name)?.to_kind(Kind::Float);
            let change = no_grad(|| new.detach().to_kind(Kind::Float) - own);
            let energy = change.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
            all += energy;
            let adaptable = change.dim() >= 2
                && name.ends_with(".weight")
                && !name.contains("embedding")
                && !name.starts_with("vae.");
            if !adaptable {
                outside += 1;
            } else if energy > 0.0 {
                let part = decomposed(name, &change, rank)?;
                caught += part.energy;
                kept.push(ModuleRank {
                    name: name.clone(),
                    rank: part.factors.rank(),
                    energy: part.energy / energy,
                });
                tensors.extend(named_lora(dialect, &part.factors));
            }
            watch.at(n, "");
            if watch.interrupted() {
                return Err(Error::Interrupted);
            }
        }
        watch.end();
        if outside > 0 {
            watch.warn(&format!(
                "{outside} changed tensors are norms, biases or embeddings, which no LoRA holds; \
                 their change is left out and counts as lost"
            ));
        }
        let largest = kept.iter().map(|part| part.rank).max().unwrap_or(0);
        kept.push(ModuleRank { name: "in all".to_owned(), rank: largest, energy: caught / all });
        let tensors: Vec<(String, Tensor)> = tensors
            .into_iter()
            .map(|(name, tensor)| {
                // A scale is a whole number that 16 bits may not hold.
                let scale = name.rsplit_once('.').is_some_and(|(_, end)| end == "alpha");
                let kind = self.kind.filter(|_| !scale).unwrap_or(Kind::Float);
                (name, tensor.to_kind(kind))
            })
            .collect();
        let architecture = format!("{}/lora", self.base.configs.architecture());
        let mut about = self.about(&architecture, "https://github.com/kohya-ss/sd-scripts")?;
        about.push(("unsee.energy", format!("{:.6}", caught / all)));
        if dialect == Dialect::Kohya {
            about.push(("ss_network_module", "networks.lora".to_owned()));
            about.push(("ss_network_dim", largest.to_string()));
            about.push(("ss_network_alpha", largest.to_string()));
            about.push((
                "ss_base_model_version",
                if self.base.configs.is_second() { "sd_v2" } else { "sd_v1" }.to_owned(),
            ));
        }
        tensors.iter().try_for_each(|(name, tensor)| Self::fits(name, tensor))?;
        save(to, &tensors, &about)?;
        Ok(kept)
    }
}

/// The best approximation of a rank.
struct Decomposition {
    factors: LowRank,
    /// The sum of squares that it holds.
    energy: f64,
}

/// The singular value decomposition of a change `[outputs, inputs, …]`, cut at `rank` (Eckart &
/// Young 1936).
fn decomposed(name: &str, change: &Tensor, rank: Option<i64>) -> Result<Decomposition, Error> {
    let shape = change.size();
    let matrix = change.reshape([shape[0], -1]).to_kind(Kind::Double);
    let (u, s, v) = matrix.f_svd(true, true).map_err(crate::torch::Error::from)?;
    let full = s.size()[0];
    let rank = rank.unwrap_or(full).clamp(1, full);
    let kept = s.narrow(0, 0, rank);
    let energy = kept.square().sum(Kind::Double).double_value(&[]);
    let root = kept.sqrt();
    let up = (u.narrow(1, 0, rank) * &root).to_kind(Kind::Float);
    let down = (v.narrow(1, 0, rank) * &root).tr().to_kind(Kind::Float);
    let (up, down) = if shape.len() == 4 {
        (
            up.view([shape[0], rank, 1, 1]),
            down.contiguous().view([rank, shape[1], shape[2], shape[3]]),
        )
    } else {
        (up, down)
    };
    let (down, up) = (down.contiguous(), up.contiguous());
    let factors = LowRank { name: name.to_owned(), down, up, alpha: rank as f64 };
    Ok(Decomposition { factors, energy })
}

fn copy_files(from: &Path, to: &Path) -> Result<(), Error> {
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let path = entry?.path();
        if path.is_file() {
            fs_err::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn model_index(scheduler: &Value) -> Value {
    json!({
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [null, null],
        "image_encoder": [null, null],
        "requires_safety_checker": false,
        "safety_checker": [null, null],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"]
    })
}
