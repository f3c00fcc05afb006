//! What goes onto a base: edits, parts of a UNet or text encoder as methods' published code saves
//! them, whole edited models, low-rank adapters. Each becomes an [`Edit`].

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checkpoint::unused;
use super::checkpoint_hints::CheckpointHints;
use super::{Checkpoint, Error, is_one};
use crate::sampler::Prediction;
use crate::torch::{Kind, Tensor, no_grad};
use crate::weights::{
    self, Edit, EmaChoice, Sampling, View, Weights, adapter_file, adapter_files, current_vae_names,
    from_compvis, is_compvis, is_lora, read_lora, vae_of_compvis, without_position_ids,
};

/// A file or folder that goes onto a base, and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// The file or folder.
    pub path: PathBuf,
    /// 1 is the whole change, 0 none of it.
    pub strength: f64,
}

impl std::str::FromStr for Adapter {
    type Err = String;

    /// `FILE`, or `FILE@STRENGTH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((path, strength)) = text.rsplit_once('@')
            && let Ok(strength) = strength.parse::<f64>()
        {
            if !strength.is_finite() {
                return Err(format!("a strength of {strength} cannot be used"));
            }
            return Ok(Self { path: path.into(), strength });
        }
        Ok(Self { path: text.into(), strength: 1.0 })
    }
}

impl std::fmt::Display for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        if is_one(&self.strength) {
            write!(f, "{path}")
        } else {
            write!(f, "{path}@{}", self.strength)
        }
    }
}

/// The adapters of a base as one edit, and what of their files was left.
#[derive(Debug)]
pub struct MergedAdapters {
    /// The change.
    pub edit: Edit,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What may well be wrong.
    pub warnings: Vec<String>,
}

/// Adapters while they are merged, one after the other.
#[derive(Debug, Default)]
pub(super) struct Merging {
    tensors: BTreeMap<String, Tensor>,
    recipes: Vec<String>,
    /// How to sample with them: the last that says it.
    sampling: Option<Sampling>,
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Merging {
    /// Keeps how a file says that it was made, or its name where it does not say it.
    pub(super) fn add_recipe(&mut self, adapter: &Adapter, metadata: &BTreeMap<String, String>) {
        let recipe = metadata.get("unsee.recipe").cloned();
        self.sampling = Sampling::said_in(metadata).or(self.sampling);
        self.recipes.push(recipe.unwrap_or_else(|| format!("\"{adapter}\"")));
    }

    /// Adds a file's tensor, `after`, to the change of the base's, `before`; says whether they
    /// differ.
    ///
    /// # Errors
    /// Another shape than the base's.
    pub(super) fn add(
        &mut self,
        full: String,
        before: &Tensor,
        after: Tensor,
        strength: f64,
    ) -> Result<bool, Error> {
        if after.size() != before.size() {
            return Err(Error::EditShape {
                name: full,
                found: after.size(),
                wanted: before.size(),
            });
        }
        // What did not change is no part of an edit; a file's rounding is compared as it is.
        if strength == 0.0 || after.equal(&before.to_kind(after.kind())) {
            return Ok(false);
        }
        let value = add_change(self.tensors.get(&full), before, after, strength);
        self.tensors.insert(full, value);
        Ok(true)
    }

    /// All of them as an edit of the base with this hash.
    pub(super) fn finish(mut self, base: String) -> MergedAdapters {
        let recipe = if self.recipes.len() == 1 {
            self.recipes.remove(0)
        } else {
            format!("[{}]", self.recipes.join(", "))
        };
        MergedAdapters {
            edit: Edit {
                base,
                recipe,
                tensors: self.tensors.into_iter().collect(),
                sampling: self.sampling,
                ..Edit::default()
            },
            notes: self.notes,
            warnings: self.warnings,
        }
    }
}

impl Checkpoint {
    /// Merges adapters into one edit of this base, one after the other.
    ///
    /// # Errors
    /// An edit of another base, a file in which nothing fits the base, tensors of other shapes, a
    /// choice of averaged weights that nothing has.
    pub fn merge(&self, adapters: &[Adapter], ema: EmaChoice) -> Result<MergedAdapters, Error> {
        if ema != EmaChoice::Auto
            && self.path.is_dir()
            && !adapters.iter().any(|adapter| is_file_of_model(&adapter.path))
        {
            return Err(Error::Folder {
                path: self.path.clone(),
                why:
                    "it is a folder, and nothing that goes onto it is a single file with two sets \
                    of weights, so that ema does not fit; leave it out"
                        .to_owned(),
            });
        }
        let hash = self.hash()?.to_hex().to_string();
        let mut merging = Merging::default();
        for adapter in adapters {
            let file = self.opened(adapter, ema, &mut merging)?;
            let metadata = file.metadata();
            if is_lora(&file) && self.is_of_the_other_prediction(&metadata) {
                merging.warnings.push(format!(
                    "{adapter}: it was made for a UNet that predicts otherwise than the base's, by \
                     what it says of itself"
                ));
            }
            merging.add_recipe(adapter, &metadata);
            if is_lora(&file) {
                self.merge_lora(adapter, &file, &mut merging)?;
            } else {
                self.merge_tensors(adapter, &file, &hash, &mut merging)?;
            }
        }
        Ok(merging.finish(hash))
    }

    fn merge_lora(
        &self,
        adapter: &Adapter,
        file: &Weights,
        merging: &mut Merging,
    ) -> Result<(), Error> {
        let names = self.names();
        let (mut all, mut changed) = (0, 0);
        for factors in read_lora(file, names.iter().map(String::as_str), &mut merging.notes)? {
            let weight = match merging.tensors.get(&factors.name) {
                Some(edited) => edited.shallow_clone(),
                None => self.tensor(&factors.name)?,
            };
            let after = factors.added(file, &weight, adapter.strength)?;
            all += 1;
            changed += usize::from(!after.equal(&weight.to_kind(Kind::Float)));
            merging.tensors.insert(factors.name.clone(), after);
        }
        let note = format!("{adapter}: a low-rank adapter of {all} modules");
        if changed == 0 {
            merging.warnings.push(format!("{note}, which changes none of them: it has no effect"));
        } else {
            merging.notes.push(note);
        }
        Ok(())
    }

    /// An edit, a whole model or a part of one.
    fn merge_tensors(
        &self,
        adapter: &Adapter,
        file: &Weights,
        hash: &str,
        merging: &mut Merging,
    ) -> Result<(), Error> {
        let (values, left) = if Edit::is_in(file) {
            (Edit::read(file, hash, |full| self.tensor(full))?.tensors, 0)
        } else {
            self.find_part(file, &adapter.path)?
        };
        let (fit, mut changed) = (values.len(), 0);
        for (full, after) in values {
            let before = self.tensor(&full)?;
            changed += usize::from(merging.add(full, &before, after, adapter.strength)?);
        }
        let others = if left == 0 { String::new() } else { format!(", {left} others were left") };
        let note = format!(
            "{adapter}: {fit} tensors fit the base, {changed} of them differ from it{others}"
        );
        if changed == 0 {
            merging.warnings.push(format!("{note}: it has no effect"));
        } else if left > fit {
            merging.warnings.push(format!(
                "{note}: it is of another kind than the base, or under names that are not known"
            ));
        } else {
            merging.notes.push(note);
        }
        Ok(())
    }

    /// A file under the names that the base has, whatever it is: a diffusers folder, PEFT's, a
    /// single file or a part.
    fn opened(
        &self,
        adapter: &Adapter,
        ema: EmaChoice,
        merging: &mut Merging,
    ) -> Result<Weights, Error> {
        let Merging { notes, warnings, .. } = merging;
        let path = &adapter.path;
        if path.is_dir() {
            if let Some(file) = adapter_file(path) {
                if let Some(other) = adapter_files(path).into_iter().find(|other| *other != file) {
                    warnings.push(format!(
                        "{adapter}: {} is taken, and {} beside it is not; name the file itself to \
                         take that",
                        file.display(),
                        other.display()
                    ));
                }
                return Ok(Weights::open(&file)?);
            }
            let folder = Self::open(&path.as_path().into())?;
            notes.extend(folder.notes().iter().cloned());
            let others = self.other_settings(&folder);
            if !others.is_empty() {
                warnings.push(format!(
                    "{adapter}: only its weights go onto the base; its settings are not taken, of \
                     which other than the base's are {}",
                    others.join(", ")
                ));
            }
            return Ok(Weights::joined(folder.components().into_iter()));
        }
        let file = Weights::open(path)?;
        if let Some(vae) = vae_of_compvis(&file)? {
            return Ok(Weights::joined([("vae", &current_vae_names(&vae)?)].into_iter()));
        }
        if !is_model(&file) {
            return Ok(file);
        }
        let predicts = CheckpointHints::of(&file, path)?.prediction;
        if predicts.is_some_and(|predicts| predicts != self.networks.scheduler.prediction_type) {
            warnings.push(format!(
                "{adapter}: its UNet predicts otherwise than the base's, by what it says of \
                 itself; only weights go onto the base, whose settings stay: --prediction changes \
                 them"
            ));
        }
        let parts = from_compvis(&file, ema)?;
        warnings.extend(parts.averages.as_ref().and_then(|averages| averages.warning(path)));
        if !parts.left.is_empty() {
            notes.push(unused(path, "the file", &parts.left));
        }
        let text_encoder = without_position_ids(&parts.text_encoder, notes)?;
        let all = [
            ("text_encoder", text_encoder),
            ("unet", parts.unet),
            ("vae", current_vae_names(&parts.vae)?),
        ];
        Ok(Weights::joined(all.iter().map(|(component, weights)| (*component, weights))))
    }

    /// Whether a file's metadata say that it belongs to a UNet of the other prediction.
    fn is_of_the_other_prediction(&self, metadata: &BTreeMap<String, String>) -> bool {
        let velocity = match (
            metadata.get("modelspec.prediction_type"),
            metadata.get("ss_v_parameterization"),
        ) {
            (Some(text), _) => text.starts_with('v'),
            (None, Some(text)) => text == "True",
            (None, None) => return false,
        };
        velocity != (self.networks.scheduler.prediction_type == Prediction::VPrediction)
    }

    /// A tensor with an edit on it.
    ///
    /// # Errors
    /// A name that is not there.
    pub fn edited_tensor(&self, edit: &Edit, full: &str) -> Result<Tensor, Error> {
        match edit.tensors.iter().find(|(name, _)| name == full) {
            Some((_, tensor)) => Ok(tensor.shallow_clone()),
            None => self.tensor(full),
        }
    }

    /// Full names of all weights, component by component.
    pub fn names(&self) -> Vec<String> {
        let named = |(component, weights): (&str, &Weights)| {
            weights.names().map(|name| format!("{component}.{name}")).collect::<Vec<_>>()
        };
        self.components().into_iter().flat_map(named).collect()
    }

    /// One of the base's tensors by full name.
    ///
    /// # Errors
    /// A name that is not there.
    pub fn tensor(&self, full: &str) -> Result<Tensor, Error> {
        let (component, name) = full.split_once('.').unwrap_or((full, ""));
        let found = self.components().into_iter().find(|(known, _)| *known == component);
        match found {
            Some((_, weights)) => Ok(weights.tensor(name)?),
            None => Err(Error::EditShape {
                name: full.to_owned(),
                found: Vec::new(),
                wanted: Vec::new(),
            }),
        }
    }

    /// What of a file fits the base, under whichever of the known names, and how many tensors do
    /// not.
    fn find_part(
        &self,
        file: &Weights,
        path: &Path,
    ) -> Result<(Vec<(String, Tensor)>, usize), Error> {
        let names = self.names();
        let known: HashMap<&str, &str> = names
            .iter()
            .flat_map(|full| spellings(full).into_iter().map(move |short| (short, full.as_str())))
            .collect();
        let unet_name = weights::unet_names_of_compvis(self.unet.names());
        let full_of = |name: &str| {
            // AdvUnlearn's files hold the encoder twice, once with its component's name before it.
            if let Some(full) = known.get(name) {
                return Some((*full).to_owned());
            }
            let translated = unet_name(name)?;
            known.get(translated.as_str()).map(|full| (*full).to_owned())
        };
        let foreign = ["controlnet_", "motion_modules", "adapter.body.", "image_proj."];
        if let Some(name) = file.names().find(|name| foreign.iter().any(|mark| name.contains(mark)))
        {
            return Err(Error::Request(format!(
                "{}: it is a network beside the UNet (ControlNet, motion module, image adapter), \
                 by its tensor `{name}`; those are not built",
                path.display()
            )));
        }
        let found = file
            .renamed(|name| full_of(name).map(|full| (full, View::Whole)).into_iter().collect())?;
        let others =
            file.names().filter(|name| full_of(name).is_none() && !name.ends_with("position_ids"));
        let left = file.beside().len() + others.count();
        if found.is_empty() {
            let sample = |names: &mut dyn Iterator<Item = &str>| {
                names.take(3).collect::<Vec<_>>().join(", ")
            };
            return Err(Error::NothingFits {
                path: path.to_path_buf(),
                theirs: sample(&mut file.names()),
                ours: sample(&mut names.iter().map(String::as_str)),
            });
        }
        let values = found.names().map(|full| Ok((full.to_owned(), found.floats(full)?)));
        Ok((values.collect::<Result<_, Error>>()?, left))
    }
}

/// Whether a file is a model in `CompVis`' names, and no part of one.
fn is_model(file: &Weights) -> bool {
    let beside = ["first_stage_model.", "cond_stage_model."];
    is_compvis(file) && file.names().any(|name| beside.iter().any(|part| name.starts_with(part)))
}

fn is_file_of_model(path: &Path) -> bool {
    path.is_file() && Weights::open(path).is_ok_and(|file| is_model(&file))
}

/// A tensor with a file's change to the base on it, over what `earlier` files made of it: each
/// change is against the base, so that none undoes another's.
fn add_change(earlier: Option<&Tensor>, before: &Tensor, after: Tensor, strength: f64) -> Tensor {
    if earlier.is_none() && is_one(&strength) {
        return after;
    }
    no_grad(|| {
        let before = before.to_kind(Kind::Float);
        let change = (after.to_kind(Kind::Float) - &before) * strength;
        earlier.map_or(before, |earlier| earlier.to_kind(Kind::Float)) + change
    })
}

/// The names under which a tensor of the base may be in a file.
fn spellings(full: &str) -> Vec<&str> {
    let Some((component, inside)) = full.split_once('.') else { return vec![full] };
    let mut names = vec![full, inside];
    if component == "text_encoder"
        && let Some(bare) = inside.strip_prefix("text_model.")
    {
        names.push(bare);
    }
    names
}
