//! A search for vectors that stand for free tokens and need be no word's: projected gradient
//! descent (Madry et al. 2018; AdvUnlearn, Zhang et al. 2024, 2405.15234, section 4).

use serde::{Deserialize, Serialize};

use super::Error;
use crate::torch::{Adam, AdamSettings, Tensor, grad, no_grad};

/// How vectors move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Update {
    /// By Adam.
    Adam,
    /// By the gradient's sign alone, each number by the learning rate; in one step this is FGSM.
    Sign,
}

/// How far vectors may go from where they began, each free token by itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ball {
    /// At most so far by the Euclidean distance.
    L2(f64),
    /// At most so far in each number.
    Linf(f64),
}

impl Ball {
    /// The nearest change `[…, width]` within it.
    fn project(self, change: &Tensor) -> Tensor {
        match self {
            Self::L2(radius) => {
                let length = change.norm_scalaropt_dim(2, -1, true);
                change * (length.clamp_min(1e-12).reciprocal() * radius).clamp_max(1.0)
            }
            Self::Linf(radius) => change.clamp(-radius, radius),
        }
    }

    /// Its size.
    pub fn radius(self) -> f64 {
        match self {
            Self::L2(radius) | Self::Linf(radius) => radius,
        }
    }
}

/// How it searches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftSearch {
    /// Steps.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// How vectors move.
    pub update: Update,
    /// How far they may go.
    pub ball: Option<Ball>,
    /// Whether each step's gradient is added to those before (AdvUnlearn's published code).
    pub accumulate: bool,
}

impl SoftSearch {
    /// Moves vectors `[n, k, width]` from where they begin so that the loss of a step, a scalar,
    /// falls. Gives those after each step, the first being after one step.
    ///
    /// # Errors
    /// A loss without a graph, whatever the loss says.
    pub fn run<E: From<Error>>(
        &self,
        begin: &Tensor,
        mut loss: impl FnMut(u64, &Tensor) -> Result<Tensor, E>,
    ) -> Result<Vec<Tensor>, E> {
        let begin = begin.detach();
        let vectors = begin.copy().set_requires_grad(true);
        let settings = AdamSettings { decoupled: false, ..AdamSettings::default() };
        let mut adam = Adam::new([&vectors], settings).map_err(Error::from)?;
        let (mut path, mut sum) = (Vec::new(), begin.zeros_like());
        for step in 0..self.steps {
            let loss = loss(step, &vectors)?;
            let found = grad(&loss, &[&vectors]).map_err(Error::from)?.remove(0);
            let found = found.unwrap_or_else(|| begin.zeros_like());
            sum = if self.accumulate { &sum + found } else { found };
            match self.update {
                Update::Adam => {
                    adam.step(&[Some(sum.shallow_clone())], self.lr).map_err(Error::from)?;
                }
                Update::Sign => no_grad(|| {
                    let _ = vectors.detach().g_sub_(&(sum.sign() * self.lr));
                }),
            }
            if let Some(ball) = self.ball {
                no_grad(|| {
                    let change = ball.project(&(vectors.detach() - &begin));
                    vectors.detach().copy_(&(&begin + change));
                });
            }
            path.push(vectors.detach().copy());
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Kind, Rng};

    fn search(update: Update, ball: Option<Ball>) -> SoftSearch {
        SoftSearch { steps: 200, lr: 0.05, update, ball, accumulate: false }
    }

    fn towards(search: SoftSearch, target: &Tensor) -> Tensor {
        let distance =
            |_, vectors: &Tensor| Ok::<_, Error>((vectors - target).square().sum(Kind::Float));
        search.run(&target.zeros_like(), distance).unwrap().pop().unwrap()
    }

    #[test]
    fn it_goes_where_the_loss_falls_and_no_farther_than_it_may() {
        let target = Rng::new(2).normal(&[2, 3, 8]);
        for update in [Update::Adam, Update::Sign] {
            let free = towards(search(update, None), &target);
            assert!((&free - &target).abs().max().double_value(&[]) < 0.06);
            let bounded = towards(search(update, Some(Ball::Linf(0.5))), &target);
            assert!((&bounded - target.clamp(-0.5, 0.5)).abs().max().double_value(&[]) < 0.06);
            let bounded = towards(search(update, Some(Ball::L2(0.5))), &target);
            let length = bounded.norm_scalaropt_dim(2, -1, false);
            assert!((length - 0.5).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    fn one_signed_step_is_fgsm() {
        let target = Rng::new(2).normal(&[1, 1, 8]);
        let once = SoftSearch { steps: 1, ..search(Update::Sign, None) };
        assert!(towards(once, &target).allclose(&(target.sign() * 0.05), 1e-6, 1e-8, false));
    }
}
