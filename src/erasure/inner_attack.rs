//! The attack that an adversarial training is to withstand, and its settings.

use serde::{Deserialize, Serialize};

use crate::prompt_search::{Ball, Placement, Update};

/// The attack that each step is to withstand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InnerAttack {
    /// Where its tokens stand.
    pub placement: Placement,
    /// How many they are.
    pub count: usize,
    /// Steps.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// How vectors move; `sign` in one step is the fast form.
    pub update: Update,
    /// How far they may go from where they began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ball: Option<Ball>,
    /// How often it begins anew; the best is kept.
    pub restarts: u64,
    /// Where it begins.
    pub begin: Begin,
    /// Steps of unlearning from one attack to the next.
    pub every: u64,
}

/// Where an attack begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// With words by chance.
    Random,
    /// With what the last attack on the same prompt found.
    Latest,
}

impl Default for InnerAttack {
    fn default() -> Self {
        Self {
            placement: Placement::Prefix,
            count: 1,
            steps: 30,
            lr: 1e-3,
            update: Update::Adam,
            ball: None,
            restarts: 1,
            begin: Begin::Random,
            every: 1,
        }
    }
}

impl InnerAttack {
    /// Whether it begins with what the last one found.
    pub(super) fn begins_with_latest(&self) -> bool {
        self.begin == Begin::Latest
    }

    /// Whether what it finds is added to the prompt's own tokens.
    pub(super) fn adds(&self) -> bool {
        self.placement == Placement::Add
    }

    /// Says what is wrong with it.
    ///
    /// # Errors
    /// The first complaint.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.steps < 1 || self.restarts < 1 || self.every < 1 || (self.count < 1 && !self.adds())
        {
            return Err(format!(
                "AdvUnlearn's attack has {} steps, {} restarts, one every {} and {} tokens; all \
                 are at least 1",
                self.steps, self.restarts, self.every, self.count
            ));
        }
        let radius = self.ball.map_or(1.0, Ball::radius);
        if [self.lr, radius].iter().any(|number| !number.is_finite() || *number <= 0.0) {
            return Err(format!(
                "AdvUnlearn's attack has lr {} and a ball of {radius}; both are above 0",
                self.lr
            ));
        }
        Ok(())
    }
}
