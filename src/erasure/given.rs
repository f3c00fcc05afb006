//! What was erased elsewhere: an edit, a LoRA, a model or a part of one as methods' published code
//! saves it. Nothing is trained; the files are laid onto the base, and what comes of it is drawn,
//! judged and attacked like any other erasure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, Cost, Error, Method, Needs, Pair, Task};
use crate::generator::{Adapter, Model};
use crate::settings::Configurable;
use crate::weights::{Edit, EmaChoice};

/// Files that go onto the base.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GivenEdit {
    /// The files or folders, in this order; with `@STRENGTH` behind one that much of it.
    pub files: Vec<String>,
    /// Whether a file's averaged UNet is taken.
    pub ema: EmaChoice,
}

impl GivenEdit {
    fn adapters(&self) -> Result<Vec<Adapter>, String> {
        self.files.iter().map(|file| file.parse()).collect()
    }
}

impl Configurable for GivenEdit {
    fn name(&self) -> &'static str {
        "given-edit"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        if self.files.is_empty() {
            return Err("given-edit has no files; name what goes onto the base".to_owned());
        }
        match self.adapters()?.iter().find(|adapter| !adapter.path.exists()) {
            Some(missing) => {
                Err(format!("given-edit's file {} does not exist", missing.path.display()))
            }
            None => Ok(()),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let adapters = self.adapters().unwrap_or_default();
        adapters.into_iter().map(|adapter| adapter.path).collect()
    }
}

impl Method for GivenEdit {
    fn needs(&self) -> Needs {
        Needs { model: None, ..Needs::PROMPTS }
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    fn suits(&self, model: &Model<'_>, _: &[Pair]) -> Result<(), String> {
        let laid = model.generator().lay(&self.adapters()?, self.ema);
        laid.map(drop).map_err(|error| error.to_string())
    }

    fn shortened(&self, _: u64, _: i64) -> Option<Box<dyn Method>> {
        None
    }

    fn erase(&self, model: Model, task: &Task, context: &mut Context) -> Result<Edit, Error> {
        let adapters = self.adapters().map_err(Error::Task)?;
        let laid = model.generator().lay(&adapters, self.ema)?;
        laid.notes.iter().for_each(|note| context.watch.note(note));
        laid.warnings.iter().for_each(|warning| context.watch.warn(warning));
        let made: Value = serde_json::from_str(&laid.edit.recipe).unwrap_or_default();
        let recipe = task.recipe_with(self, serde_json::json!({ "recipe": made }));
        Ok(Edit { recipe, ..laid.edit })
    }
}
