//! The base's text encoder beside the edited UNet, and the other way round: whoever has the weights
//! can put either back, and an erasure that lies in one of them alone is undone by that.
//!
//! Another text encoder than the base's can be given, as users put other models' beside a UNet.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::{BaseWeights, tensors_at};
use super::contract::denoiser_of;
use super::judged_lists::JudgedLists;
use super::trials::{attacked_picture, keep};
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, Found, Trial,
    TrialArm, Verdict,
};
use crate::generator::{Component, ImageRequest, Model};
use crate::settings::Configurable;
use crate::torch::Tensor;

/// The attack with its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderSwap {
    /// Another text encoder than the base's: a model, a part of one, an edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<PathBuf>,
}

impl Configurable for EncoderSwap {
    fn name(&self) -> &'static str {
        "encoder-swap"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        match self.text_encoder.as_ref().filter(|file| !file.exists()) {
            Some(file) => {
                Err(format!("encoder-swap's text_encoder {} does not exist", file.display()))
            }
            None => Ok(()),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        self.text_encoder.iter().cloned().collect()
    }
}

/// The arm in which the UNet is the base's.
const UNET: &str = "base unet";

impl EncoderSwap {
    /// What the given text encoder has otherwise than the base, by full name.
    fn given(&self, model: &Model<'_>) -> Result<Vec<(String, Tensor)>, Error> {
        let Some(path) = &self.text_encoder else { return Ok(Vec::new()) };
        let mut tensors = tensors_at(model.generator(), path)?;
        tensors.retain(|(name, _)| name.starts_with("text_encoder."));
        if tensors.is_empty() {
            return Err(Error::Task(format!(
                "encoder-swap's text_encoder {} holds no text encoder but the base's",
                path.display()
            )));
        }
        Ok(tensors)
    }
}

impl Attack for EncoderSwap {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds { adaptive: false, ..AttackNeeds::WEIGHTS }
    }

    fn cost(&self, requests: usize) -> AttackCost {
        AttackCost { images: 3 * requests as u64, ..AttackCost::default() }
    }

    fn suits(&self, model: &Model<'_>, _: &[String]) -> Result<(), String> {
        self.given(model).map(drop).map_err(|error| error.to_string())
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let requests = &task.exposure.requests;
        let text = BaseWeights::with(denoiser, Component::TextEncoder, &self.given(&model)?)?;
        let unet = BaseWeights::of(denoiser, Component::Unet)?;
        let mut lists = JudgedLists::open(&model, task, context);
        let before =
            lists.judge("encoder-swap (before)", requests, context, |_, _, _, _| Ok(()))?;
        let mut arms = Vec::new();
        for (name, swapped) in [(TrialArm::ATTACK, &text), (UNET, &unet)] {
            let trials = if swapped.is_whole() {
                // Nothing was edited there: to put it back changes nothing.
                trials(requests, &before, &before)
            } else {
                let _lent = swapped.lend();
                let list = format!("encoder-swap ({name})");
                let with = lists.judge(&list, requests, context, |i, picture, with, context| {
                    let ends = name == TrialArm::ATTACK && !before[i].shows;
                    let Some(folder) = context.artifacts.filter(|_| ends) else { return Ok(()) };
                    let file = folder.join(attacked_picture(i, with.shows));
                    keep(picture, &file, &requests[i], task, context, self.name())
                })?;
                trials(requests, &before, &with)
            };
            arms.push(TrialArm { name: name.to_owned(), images: 1, steps: 0, trials });
        }
        Ok(Findings::Trials(arms))
    }
}

/// A trial of each request, by what was seen of it before the swap and with it.
fn trials(requests: &[ImageRequest], before: &[Verdict], with: &[Verdict]) -> Vec<Trial> {
    let each = requests.iter().zip(before.iter().zip(with));
    each.map(|(request, (before, with))| {
        let mut trial = Trial::untried(request);
        if before.shows {
            trial.succeed(0, Found::of(request, *before));
        } else if with.shows {
            trial.succeed(1, Found::of(request, *with));
        }
        trial
    })
    .collect()
}
