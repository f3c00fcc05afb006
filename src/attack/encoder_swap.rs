//! The base's text encoder beside the edited UNet, and the other way round: whoever has the weights
//! can put either back, and an erasure that lies in one of them alone is undone by that.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::base_weights::BaseWeights;
use super::contract::denoiser_of;
use super::{
    Attack, AttackContext, AttackCost, AttackNeeds, AttackTask, Error, Findings, Found, Trial,
    TrialArm, Verdict,
};
use crate::generator::{Component, Model};
use crate::settings::Configurable;

/// The attack; it has no settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSwap {}

impl Configurable for EncoderSwap {
    fn name(&self) -> &'static str {
        "encoder-swap"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The arm in which the UNet is the base's.
const UNET: &str = "base unet";

impl Attack for EncoderSwap {
    fn needs(&self) -> AttackNeeds {
        AttackNeeds::PROMPTS
    }

    fn cost(&self, requests: usize) -> AttackCost {
        AttackCost { images: 3 * requests as u64, ..AttackCost::default() }
    }

    fn attack(
        &self,
        model: Model<'_>,
        task: &AttackTask<'_>,
        context: &mut AttackContext<'_>,
    ) -> Result<Findings, Error> {
        let denoiser = denoiser_of(&model, self.name())?;
        let requests = &task.exposure.requests;
        let judged = || task.judge.verdicts(&model, requests);
        let text = BaseWeights::of(denoiser, Component::TextEncoder)?;
        let unet = BaseWeights::of(denoiser, Component::Unet)?;
        let before = judged()?;
        let mut arms = Vec::new();
        for (name, swapped, other) in [(TrialArm::ATTACK, &text, &unet), (UNET, &unet, &text)] {
            let verdicts = if swapped.is_whole() {
                // Nothing was edited there: to put it back changes nothing.
                before.clone()
            } else if other.is_whole() {
                let part = if name == UNET { "UNet" } else { "text encoder" };
                context.watch.note(&format!(
                    "encoder-swap: the edit is of the {part} alone; with the base's {part} it is \
                     the base, which shows the concept in all of these pictures"
                ));
                vec![Verdict { shows: true, confirmed: None }; requests.len()]
            } else {
                let _base = swapped.lend();
                judged()?
            };
            let trials = requests.iter().zip(before.iter().zip(verdicts)).map(|(request, seen)| {
                let (before, with) = seen;
                let after = if before.shows { Some(0) } else { with.shows.then_some(1) };
                let verdict = if before.shows { *before } else { with };
                let mut trial = Trial::untried(request);
                if let Some(after) = after {
                    trial.succeed(after, Found::of(request, verdict));
                }
                trial
            });
            let trials = trials.collect();
            arms.push(TrialArm { name: name.to_owned(), images: 1, steps: 0, trials });
        }
        Ok(Findings::Trials(arms))
    }
}
