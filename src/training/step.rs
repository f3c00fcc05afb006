//! One step of a training: losses, gradients, and the parameters' move.

use super::scaler::Scaler;
use super::state::State;
use super::{Error, Lesson, Plan, Share};
use crate::torch::{Kind, Place, Rng, Tensor, Thrift, grad, grad_each, no_grad};

/// Whether each parameter moves as soon as its gradient is known: a common norm needs all gradients at once.
pub(super) fn one_by_one(plan: &Plan, place: Place) -> bool {
    place.memory == Thrift::Low && plan.clip.is_none()
}

/// One step; returns the loss.
pub(super) fn step(
    lesson: &mut dyn Lesson,
    plan: &Plan,
    state: &mut State,
    tensors: &[&Tensor],
    (lr, shares): (f64, &[Share]),
    place: Place,
) -> Result<f64, Error> {
    let (mut value, mut finite) = (0.0, true);
    let mut gradients: Vec<Option<Tensor>> = Vec::new();
    for &share in shares {
        let mut rng = Rng::for_step(plan.seed, lesson.name(), state.step);
        let _scope = place.scope();
        let loss = lesson.loss(state.step, &mut rng, share)?;
        value += loss.double_value(&[]);
        if !value.is_finite() {
            return Ok(value);
        }
        let loss = match state.scaler {
            Some(Scaler { factor, .. }) => loss * factor,
            None => loss,
        };
        if one_by_one(plan, place) {
            let (adam, lesson, scaler) = (&mut state.adam, &*lesson, state.scaler);
            grad_each(&loss, tensors, &mut |i, mut gradient| {
                if scaler.is_some_and(|scaler| !scaler.unscale(std::iter::once(&mut gradient))) {
                    finite = false;
                    return Ok(());
                }
                no_grad(|| lesson.shape(i, &mut gradient));
                adam.step_one(i, &gradient, lr)
            })?;
        } else {
            add(&mut gradients, grad(&loss, tensors)?);
        }
    }
    if !one_by_one(plan, place) {
        finite = state.scaler.is_none_or(|scaler| scaler.unscale(gradients.iter_mut().flatten()));
        if finite {
            if let Some(largest) = plan.clip {
                clip(&mut gradients, largest);
            }
            for (i, gradient) in gradients.iter_mut().enumerate() {
                if let Some(gradient) = gradient {
                    no_grad(|| lesson.shape(i, gradient));
                }
            }
            state.adam.step(&gradients, lr)?;
        }
    }
    if let Some(scaler) = &mut state.scaler {
        // A step that overflowed is left out (where parameters move one by one, those that overflowed); the next one
        // has a smaller factor.
        *scaler =
            scaler.after(finite).ok_or(Error::NotANumber { step: state.step, loss: f64::INFINITY, lr })?;
    }
    if let (Some(ema), Some(decay)) = (&mut state.ema, plan.ema) {
        ema.update(tensors.iter().copied(), decay, state.step);
    }
    Ok(value)
}

/// Adds a half's gradients to those of the half before.
fn add(sums: &mut Vec<Option<Tensor>>, more: Vec<Option<Tensor>>) {
    if sums.is_empty() {
        *sums = more;
        return;
    }
    no_grad(|| {
        for (sum, more) in sums.iter_mut().zip(more) {
            match (sum.as_mut(), more) {
                (Some(sum), Some(more)) => drop(sum.g_add_(&more)),
                (None, more) => *sum = more,
                (Some(_), None) => {}
            }
        }
    });
}

/// Scales the gradients so that their common norm is at most `largest`.
fn clip(gradients: &mut [Option<Tensor>], largest: f64) {
    no_grad(|| {
        let norms: Vec<Tensor> = gradients.iter().flatten().map(|g| g.to_kind(Kind::Float).norm()).collect();
        if norms.is_empty() {
            return;
        }
        let scale = (largest / (Tensor::stack(&norms, 0).norm() + 1e-6)).clamp_max(1.0);
        for gradient in gradients.iter_mut().flatten() {
            let _ = gradient.g_mul_(&scale);
        }
    });
}
