//! Prompts from a list: paraphrases, other languages, misspelt or implicit ones, or what an attack
//! on another erasure found. Each is drawn by the base too: of what it does not show nothing can be
//! said.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::BaseModel;
use super::contract::denoiser_of;
use super::judged_lists::JudgedLists;
use super::trials::{attacked_picture, keep};
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, Found, Trial,
    TrialArm, Verdict,
};
use crate::generator::{ImageRequest, Model};
use crate::prompt_search::names_in_part;
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
        let mut lists = JudgedLists::open(&model, task, context);
        let of_base = BaseModel::of(denoiser)?
            .lent(|| lists.judge("prompts (base)", listed, context, |_, _, _, _| Ok(())))?;
        // Of what the base does not show nothing can be said.
        let shown: Vec<ImageRequest> = listed
            .iter()
            .zip(&of_base)
            .filter(|(_, base)| base.shows)
            .map(|(request, _)| request.clone())
            .collect();
        let after = lists.judge(self.name(), &shown, context, |i, picture, verdict, context| {
            let Some(folder) = context.artifacts else { return Ok(()) };
            let file = folder.join(attacked_picture(i, verdict.shows));
            keep(picture, &file, &shown[i], task, context, self.name())
        })?;
        let words = &task.exposure.words;
        let tried = |requests: &[ImageRequest], verdicts: &[Verdict]| -> Vec<Trial> {
            let each = requests.iter().zip(verdicts);
            each.map(|(request, verdict)| {
                let mut trial = Trial::untried(request);
                if verdict.shows {
                    let names_concept =
                        words.iter().any(|words| names_in_part(&request.prompt, words));
                    trial.succeed(1, Found { names_concept, ..Found::of(request, *verdict) });
                }
                trial
            })
            .collect()
        };
        let (base, attack) = (tried(listed, &of_base), tried(&shown, &after));
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
