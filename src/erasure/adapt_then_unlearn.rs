//! Adapt-then-Unlearn (Tiwary, Guha, Panda, Prathosh, TMLR 2025, arXiv 2309.14054): generators are adapted to samples of
//! the concept, and the generator then learns from samples without it while it is repelled from where those went.
//!
//! `variant = "official"` keeps what the published code (at 163a354) does otherwise: the distance is `official`, the
//! repulsion's weight is a number (1 unless `gamma` is given) and not chosen from gradients, EL2 is multiplied by 100 with
//! α = γ, all latents are left to chance (no `oversample`, `keep` or `remind`), and the second stage goes all of its steps.
//! What was a plain defect in it (the loop over checkpoints on the disk at each step, classifiers in training mode,
//! unshuffled data) is not kept. It also goes on from optimizer states, and its second stage from the unaveraged
//! generator; here both stages begin with the averaged one and with new optimizers. The generator's average follows closely
//! at first (`rules.warm`), the mean path length begins with the first that is seen and not at 0, and of several adapted
//! models each draws two thirds of the negatives at most.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::feedback::Stop;
use super::repulsion::Repelled;
use super::tuning::{OnPositives, check_tuning, chosen};
use super::{Adapting, Distance, Erasure, Error, Feedback, Form, Repulsion, Variant};
use crate::generator::Synthesizer;
use crate::torch::Tensor;
use crate::training::{Plan, Rules};
use crate::watch::Watch;
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptThenUnlearn {
    /// Stage 1.
    pub adapt: Adapting,
    /// What keeps stage 2 away from stage 1's models.
    pub repulsion: Repulsion,
    /// Steps of stage 2, at most.
    pub steps: u64,
    /// Adam's learning rate, before it is corrected for the lazy penalties.
    pub lr: f64,
    /// Share of the steps, the last ones, over which the rate falls to nothing.
    pub cooldown: f64,
    /// Share of each batch that is drawn from latents which showed the concept. They are few, and the discriminator has
    /// much to learn about them: what they become then passes for a real picture sooner. 0 leaves all to chance.
    pub oversample: f64,
    /// How firmly the positives are held: the weight, beside the contest, of the mean absolute difference between what was
    /// drawn from their latents and what is drawn now. 0 leaves them to the discriminator, which only sees to it that
    /// pictures pass for some positive.
    pub keep: f64,
    /// Share of what the discriminator is told to be drawn that are the negatives' own pictures, so that it does not forget
    /// the concept once little of it is drawn.
    pub remind: f64,
    /// Beginnings of the names of the parameters that move (`style`, `convs`, `to_rgbs.3`, …); all where there is none.
    pub parameters: Vec<String>,
    /// The contest's rules.
    pub rules: Rules,
    /// When it is enough.
    pub stop: Stop,
    /// `paper` or `official`.
    pub variant: Variant,
}

impl Default for AdaptThenUnlearn {
    fn default() -> Self {
        Self {
            adapt: Adapting::default(),
            repulsion: Repulsion::default(),
            steps: 300,
            lr: 2e-3,
            cooldown: 0.0,
            oversample: 0.5,
            keep: 10.0,
            remind: 0.25,
            parameters: Vec::new(),
            rules: Rules::default(),
            stop: Stop::default(),
            variant: Variant::Paper,
        }
    }
}

/// What the published code multiplies EL2 with.
const OFFICIAL_EL2: f64 = 100.0;

impl AdaptThenUnlearn {
    /// Says what is wrong with the settings, before anything is loaded.
    ///
    /// # Errors
    /// A setting that makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        self.adapt.check()?;
        check_tuning(
            "adapt-then-unlearn",
            (self.steps, self.lr, self.cooldown),
            (self.oversample, self.keep, self.remind),
            &self.rules,
        )?;
        let Repulsion { gamma, ratio, alpha, .. } = self.repulsion;
        let negative = |value: f64| value.is_nan() || value < 0.0;
        if negative(ratio) || gamma.is_some_and(negative) || alpha.is_some_and(negative) {
            return Err(Error::Task(format!(
                "the repulsion's ratio is {ratio}, gamma {gamma:?} and alpha {alpha:?}; none is negative"
            )));
        }
        Ok(())
    }

    /// The repulsion, with what the variant says of it.
    fn repulsion(&self) -> Repulsion {
        if self.variant == Variant::Paper {
            return self.repulsion;
        }
        let gamma = self.repulsion.gamma.unwrap_or(1.0);
        let el2 = self.repulsion.form == Form::El2;
        Repulsion {
            distance: Distance::Official,
            gamma: Some(if el2 { OFFICIAL_EL2 } else { gamma }),
            alpha: Some(gamma),
            ..self.repulsion
        }
    }
}

impl<'m> Erasure<dyn Synthesizer + 'm, Feedback<'_>> for AdaptThenUnlearn {
    fn erase(
        &self,
        model: &mut (dyn Synthesizer + 'm),
        feedback: &Feedback,
        state: Option<&Path>,
        watch: &mut dyn Watch,
    ) -> Result<Edit, Error> {
        self.check()?;
        feedback.check()?;
        let model = &*model;
        let ensemble = self.adapt.ensemble(model, feedback, &self.parameters, state, watch)?;
        let moves = chosen(model, &self.parameters)?;
        let start: Vec<&Tensor> = moves.iter().map(|(_, own)| own).collect();
        let mut pull = Repelled::new(self.repulsion(), &ensemble).from(&start)?;
        let paper = self.variant == Variant::Paper;
        let ours = |setting: f64| if paper { setting } else { 0.0 };
        let stage2 = OnPositives {
            method: "adapt-then-unlearn",
            settings: serde_json::to_value(self).map_err(std::io::Error::other)?,
            plan: Plan { cooldown: self.cooldown, ..Plan::constant(self.steps, self.lr, feedback.seed) },
            oversample: ours(self.oversample),
            keep: ours(self.keep),
            remind: ours(self.remind),
            rules: &self.rules,
            stop: paper.then_some(self.stop),
            parameters: &self.parameters,
        };
        stage2.run(model, feedback, Some(&mut pull), state, watch)
    }
}
