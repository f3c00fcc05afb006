//! A base with an edit as a diffusers folder, or one component of it.

use std::path::Path;

use serde_json::{Value, json};

use super::Edited;
use crate::files::{self, whole_folder};
use crate::generator::Error;
use crate::generator::folder::{read_json, weights_file};
use crate::text::Vocabulary;
use crate::watch::Watch;
use crate::weights::save;

impl Edited<'_> {
    /// Writes one component into a folder.
    pub(super) fn component(&self, to: &Path, name: &str) -> Result<(), Error> {
        let config = match name {
            "text_encoder" => &self.base.configs.text_encoder,
            "unet" => &self.base.configs.unet,
            _ => &self.base.configs.vae,
        };
        let about = self.about(self.base.configs.architecture(), "diffusers")?;
        save(&to.join(weights_file(name)), &self.tensors(name)?, &about)?;
        Ok(files::write_json(&to.join("config.json"), config)?)
    }

    /// Writes a complete folder.
    pub(super) fn folder(&self, to: &Path, watch: &mut dyn Watch) -> Result<(), Error> {
        whole_folder(to, |folder| {
            watch.begin("writing", 3);
            for ((name, _), n) in self.base.components().into_iter().zip(1..) {
                self.component(&folder.join(name), name)?;
                watch.at(n, name);
            }
            watch.end();
            files::write_json(
                &folder.join("scheduler/scheduler_config.json"),
                &self.base.configs.scheduler,
            )?;
            let source = &self.base.path;
            let mut index = model_index(&self.base.configs.scheduler);
            if source.is_dir() {
                copy_files(&source.join("tokenizer"), &folder.join("tokenizer"))?;
                index = read_json(source, "model_index.json")?;
                for part in ["safety_checker", "feature_extractor"] {
                    if source.join(part).is_dir() {
                        copy_files(&source.join(part), &folder.join(part))?;
                    } else {
                        index[part] = json!([null, null]);
                    }
                }
            } else if let Some(config) = &self.base.location.config {
                copy_files(&config.join("tokenizer"), &folder.join("tokenizer"))?;
            } else {
                Vocabulary::clip().save(&folder.join("tokenizer"), 77, self.base.configs.pad())?;
            }
            Ok(files::write_json(&folder.join("model_index.json"), &index)?)
        })
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<(), Error> {
    files::create_folder(to)?;
    for entry in fs_err::read_dir(from)? {
        let path = entry?.path();
        if path.is_file() {
            fs_err::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// The `model_index.json` of a model that came from a single file.
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
