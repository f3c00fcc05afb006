//! Prompts from a list: paraphrases, other languages, misspelt or implicit ones, or what an attack
//! on another erasure found. Each is drawn by the base too: of what it does not show nothing can be
//! said.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::BaseModel;
use super::contract::denoiser_of;
use super::trials::{attacked_picture, keep};
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, Found, Trial,
    TrialArm, Verdict,
};
use crate::generator::{ImageRequest, Model};
use crate::settings::Configurable;

/// The attack with its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListedPrompts {
    /// The list, as `unsee generate --csv` takes it. Of a list with a column `concept` the rows of
    /// this concept are taken.
    pub csv: PathBuf,
}

/// The arm that says what the base shows of the list.
const BASE: &str = "base";

impl Configurable for ListedPrompts {
    fn name(&self) -> &'static str {
        "prompts"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        if self.csv.is_file() {
            return Ok(());
        }
        Err(format!(
            "prompts' csv is `{}`, which is no file; name a list of prompts",
            self.csv.display()
        ))
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.csv.clone()]
    }
}

impl Attack for ListedPrompts {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds::PROMPTS
    }

    fn prompt_list(&self) -> Option<&Path> {
        Some(&self.csv)
    }

    fn cost(&self, requests: usize) -> AttackCost {
        AttackCost { images: 2 * requests as u64, ..AttackCost::default() }
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let listed = &task.exposure.listed;
        let of_base = BaseModel::of(denoiser)?.lent(|| task.judge.verdicts(&model, listed))?;
        let pictures = task.judge.draw(&model, listed)?;
        let after = task.judge.judge(&pictures)?;
        let tried = |request: &ImageRequest, verdict: Verdict| {
            let mut trial = Trial::untried(request);
            if verdict.shows {
                trial.succeed(1, Found::of(request, verdict));
            }
            trial
        };
        let (mut base, mut attack) = (Vec::new(), Vec::new());
        for (i, request) in listed.iter().enumerate() {
            base.push(tried(request, of_base[i]));
            if !of_base[i].shows {
                continue;
            }
            if let Some(folder) = context.artifacts {
                let file = folder.join(attacked_picture(attack.len(), after[i].shows));
                keep(&pictures[i], &file, request, task, context, self.name())?;
            }
            attack.push(tried(request, after[i]));
        }
        if attack.is_empty() {
            context.watch.note(&format!(
                "prompts: the base shows the concept in none of the {} pictures of {}",
                listed.len(),
                self.csv.display()
            ));
        }
        let arm =
            |name: &str, trials| TrialArm { name: name.to_owned(), images: 1, steps: 0, trials };
        Ok(Findings::Trials(vec![arm(TrialArm::ATTACK, attack), arm(BASE, base)]))
    }
}
