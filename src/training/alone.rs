//! One network that learns by one loss: losses, gradients, and the parameters' move.

use super::scaler::Scaler;
use super::sitting::Pupil;
use super::{Error, Lesson, Plan, Share};
use crate::torch::{
    Adam, AdamSettings, Ema, Kind, Place, Precision, Rng, Tensor, Thrift, grad, grad_each, no_grad, stage,
};
use crate::watch::Watch;

/// A lesson with its optimizer.
pub(super) struct Alone<'a> {
    lesson: &'a mut dyn Lesson,
    plan: &'a Plan,
    place: Place,
    named: Vec<(String, Tensor)>,
    adam: Adam,
    ema: Option<Ema>,
    /// For f16 alone.
    scaler: Option<Scaler>,
    /// A whole step, or two halves of it.
    shares: &'static [Share],
}

impl<'a> Alone<'a> {
    /// Before its first step.
    ///
    /// # Errors
    /// A parameter that cannot move.
    pub(super) fn new(lesson: &'a mut dyn Lesson, plan: &'a Plan, place: Place) -> Result<Self, Error> {
        let named = lesson.parameters();
        let settings = AdamSettings {
            betas: (0.9, plan.beta2),
            decay: plan.decay,
            decoupled: plan.decoupled,
            half_moments: place.memory == Thrift::Low,
            ..AdamSettings::default()
        };
        let tensors = || named.iter().map(|(_, tensor)| tensor);
        let rates = named.iter().map(|(name, _)| lesson.rate(name)).collect();
        Ok(Self {
            adam: Adam::new(tensors(), settings)?.with_rates(rates),
            ema: plan.ema.map(|_| Ema::new(tensors())),
            scaler: (place.precision == Precision::F16).then(Scaler::new),
            shares: &[Share::Whole],
            lesson,
            plan,
            place,
            named,
        })
    }

    /// What it learned: the average of the weights, or the weights.
    pub(super) fn into_weights(self) -> Vec<Tensor> {
        // The moments are twice the weights; they go before the weights are copied.
        let Self { adam, ema, named, .. } = self;
        drop(adam);
        match &ema {
            Some(ema) => ema.average().iter().map(Tensor::copy).collect(),
            None => no_grad(|| named.iter().map(|(_, tensor)| tensor.detach().copy()).collect()),
        }
    }

    /// Whether each parameter moves as soon as its gradient is known: a common norm needs all gradients at once.
    fn one_by_one(&self) -> bool {
        self.place.memory == Thrift::Low && self.plan.clip.is_none()
    }

    /// One step; returns the loss.
    fn try_step(&mut self, step: u64, lr: f64) -> Result<f64, Error> {
        let (mut value, mut finite, one_by_one) = (0.0, true, self.one_by_one());
        let tensors: Vec<&Tensor> = self.named.iter().map(|(_, tensor)| tensor).collect();
        let mut gradients: Vec<Option<Tensor>> = Vec::new();
        for &share in self.shares {
            let mut rng = Rng::for_step(self.plan.seed, self.lesson.name(), step);
            let _scope = self.place.scope();
            let loss = self.lesson.loss(step, &mut rng, share)?;
            value += loss.double_value(&[]);
            if !value.is_finite() {
                return Ok(value);
            }
            let loss = match self.scaler {
                Some(Scaler { factor, .. }) => loss * factor,
                None => loss,
            };
            if one_by_one {
                let (adam, lesson, scaler) = (&mut self.adam, &*self.lesson, self.scaler);
                grad_each(&loss, &tensors, &mut |i, mut gradient| {
                    if scaler.is_some_and(|scaler| !scaler.unscale(std::iter::once(&mut gradient))) {
                        finite = false;
                        return Ok(());
                    }
                    no_grad(|| lesson.shape(i, &mut gradient));
                    adam.step_one(i, &gradient, lr)
                })?;
            } else {
                add(&mut gradients, grad(&loss, &tensors)?);
            }
        }
        if !one_by_one {
            finite = self.scaler.is_none_or(|scaler| scaler.unscale(gradients.iter_mut().flatten()));
            if finite {
                if let Some(largest) = self.plan.clip {
                    clip(&mut gradients, largest);
                }
                for (i, gradient) in gradients.iter_mut().enumerate() {
                    if let Some(gradient) = gradient {
                        no_grad(|| self.lesson.shape(i, gradient));
                    }
                }
                self.adam.step(&gradients, lr)?;
            }
        }
        if let Some(scaler) = &mut self.scaler {
            // A step that overflowed is left out (where parameters move one by one, those that overflowed); the next
            // one has a smaller factor.
            *scaler = scaler.after(finite).ok_or(Error::NotANumber {
                step,
                loss: f64::INFINITY,
                lr,
                origin: "no factor of the loss is small enough for f16; use --precision bf16 or f32",
            })?;
        }
        if let (Some(ema), Some(decay)) = (&mut self.ema, self.plan.ema) {
            ema.update(tensors, decay, step);
        }
        Ok(value)
    }
}

impl Pupil for Alone<'_> {
    fn name(&self) -> &'static str {
        self.lesson.name()
    }

    fn facts(&self) -> String {
        let shape = |(name, tensor): &(String, Tensor)| format!("{name} {:?}", tensor.size());
        self.named.iter().map(shape).collect::<Vec<_>>().concat() + &self.lesson.facts()
    }

    fn step(&mut self, step: u64, lr: f64, watch: &mut dyn Watch) -> Result<f64, Error> {
        let name = self.lesson.name();
        match stage(name, || self.try_step(step, lr)) {
            // Nothing has moved yet, unless parameters move one by one.
            Err(error)
                if error.is_out_of_memory()
                    && self.shares.len() == 1
                    && self.lesson.divides()
                    && !self.one_by_one() =>
            {
                watch.warn(&format!(
                    "there is too little memory for a step of {name}; each is done in two halves from here on"
                ));
                self.shares = &[Share::First, Share::Second];
                stage(name, || self.try_step(step, lr))
            }
            other => other,
        }
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let weight = |(name, tensor): &(String, Tensor)| (format!("weight.{name}"), tensor.shallow_clone());
        let mut tensors: Vec<(String, Tensor)> = self.named.iter().map(weight).collect();
        if let Some(ema) = &self.ema {
            let averages = self.named.iter().zip(ema.average());
            tensors.extend(averages.map(|((name, _), own)| (format!("average.{name}"), own.shallow_clone())));
        }
        tensors.extend(self.adam.state().into_iter().map(|(name, tensor)| (format!("adam.{name}"), tensor)));
        tensors
    }

    fn numbers(&self) -> Vec<(&'static str, f64)> {
        match self.scaler {
            Some(Scaler { factor, good }) => vec![("scale", factor), ("scale_good", good as f64)],
            None => Vec::new(),
        }
    }

    fn recall(&mut self, name: &str, value: f64) {
        if let Some(Scaler { factor, good }) = &mut self.scaler {
            match name {
                "scale" => *factor = value,
                _ => *good = value as u64,
            }
        }
    }
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
