//! One network that learns by one loss: losses, gradients, and the parameters' move.

use super::grad_scaler::GradScaler;
use super::{Error, MicroBatch, Objective, TrainConfig, Trainable};
use crate::torch::{
    Adam, AdamSettings, Compute, Ema, Kind, MemoryMode, Precision, Rng, Tensor, grad, grad_each,
    no_grad, stage,
};
use crate::watch::Watch;

/// An objective with its optimizer.
pub(super) struct SingleNetwork<'a> {
    objective: &'a mut dyn Objective,
    plan: &'a TrainConfig,
    compute: Compute,
    named: Vec<(String, Tensor)>,
    adam: Adam,
    ema: Option<Ema>,
    /// For f16 alone.
    scaler: Option<GradScaler>,
    /// A whole step, or two halves of it.
    micro_batches: &'static [MicroBatch],
}

impl<'a> SingleNetwork<'a> {
    /// Before its first step.
    ///
    /// # Errors
    /// A parameter that cannot move.
    pub(super) fn new(
        objective: &'a mut dyn Objective,
        plan: &'a TrainConfig,
        compute: Compute,
    ) -> Result<Self, Error> {
        let named = objective.parameters();
        let settings = AdamSettings {
            betas: (0.9, plan.beta2),
            decay: plan.decay,
            decoupled: plan.decoupled,
            half_moments: compute.memory == MemoryMode::Low,
            ..AdamSettings::default()
        };
        let tensors = || named.iter().map(|(_, tensor)| tensor);
        let rates = named.iter().map(|(name, _)| objective.lr_scale(name)).collect();
        Ok(Self {
            adam: Adam::new(tensors(), settings)?.with_rates(rates),
            ema: plan.ema.map(|_| Ema::new(tensors())),
            scaler: (compute.precision == Precision::F16).then(GradScaler::new),
            micro_batches: &[MicroBatch::Whole],
            objective,
            plan,
            compute,
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

    /// Whether each parameter moves as soon as its gradient is known: a common norm needs all
    /// gradients at once.
    fn one_by_one(&self) -> bool {
        self.compute.memory == MemoryMode::Low && self.plan.clip.is_none()
    }

    /// One step; returns the loss.
    fn try_step(&mut self, step: u64, lr: f64) -> Result<f64, Error> {
        let (mut value, mut finite, one_by_one) = (0.0, true, self.one_by_one());
        let tensors: Vec<&Tensor> = self.named.iter().map(|(_, tensor)| tensor).collect();
        let mut gradients: Vec<Option<Tensor>> = Vec::new();
        for &micro_batch in self.micro_batches {
            let mut rng = Rng::for_step(self.plan.seed, self.objective.name(), step);
            let _scope = self.compute.scope();
            let loss = self.objective.loss(step, &mut rng, micro_batch)?;
            value += loss.double_value(&[]);
            if !value.is_finite() {
                return Ok(value);
            }
            let loss = match self.scaler {
                Some(GradScaler { factor, .. }) => loss * factor,
                None => loss,
            };
            if one_by_one {
                let (adam, objective, scaler) = (&mut self.adam, &*self.objective, self.scaler);
                grad_each(&loss, &tensors, &mut |i, mut gradient| {
                    if scaler.is_some_and(|scaler| !scaler.unscale(std::iter::once(&mut gradient)))
                    {
                        finite = false;
                        return Ok(());
                    }
                    no_grad(|| objective.mask_gradient(i, &mut gradient));
                    adam.step_one(i, &gradient, lr)
                })?;
            } else {
                add(&mut gradients, grad(&loss, &tensors)?);
            }
        }
        if !one_by_one {
            finite =
                self.scaler.is_none_or(|scaler| scaler.unscale(gradients.iter_mut().flatten()));
            if finite {
                if let Some(largest) = self.plan.clip {
                    clip(&mut gradients, largest);
                }
                for (i, gradient) in gradients.iter_mut().enumerate() {
                    if let Some(gradient) = gradient {
                        no_grad(|| self.objective.mask_gradient(i, gradient));
                    }
                }
                self.adam.step(&gradients, lr)?;
            }
        }
        if let Some(scaler) = &mut self.scaler {
            // A step that overflowed is left out (where parameters move one by one, those that
            // overflowed); the next one has a smaller factor.
            *scaler = scaler.after(finite).ok_or(Error::NotANumber {
                step,
                loss: f64::INFINITY,
                lr,
                origin: "no factor of the loss is small enough for f16; use --precision bf16 or \
                    f32",
            })?;
        }
        if let (Some(ema), Some(decay)) = (&mut self.ema, self.plan.ema) {
            ema.update(tensors, decay, step);
        }
        Ok(value)
    }
}

impl Trainable for SingleNetwork<'_> {
    fn name(&self) -> &'static str {
        self.objective.name()
    }

    fn fingerprint(&self) -> String {
        let shape = |(name, tensor): &(String, Tensor)| format!("{name} {:?}", tensor.size());
        self.named.iter().map(shape).collect::<Vec<_>>().concat() + &self.objective.fingerprint()
    }

    fn step(&mut self, step: u64, lr: f64, watch: &mut dyn Watch) -> Result<f64, Error> {
        let name = self.objective.name();
        match stage(name, || self.try_step(step, lr)) {
            // Nothing has moved yet, unless parameters move one by one.
            Err(error)
                if error.is_out_of_memory()
                    && self.micro_batches.len() == 1
                    && self.objective.splits()
                    && !self.one_by_one() =>
            {
                watch.warn(&format!(
                    "there is too little memory for a step of {name}; each is done in two halves \
                     from here on"
                ));
                self.micro_batches = &[MicroBatch::First, MicroBatch::Second];
                stage(name, || self.try_step(step, lr))
            }
            other => other,
        }
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let weight =
            |(name, tensor): &(String, Tensor)| (format!("weight.{name}"), tensor.shallow_clone());
        let mut tensors: Vec<(String, Tensor)> = self.named.iter().map(weight).collect();
        if let Some(ema) = &self.ema {
            let averages = self.named.iter().zip(ema.average());
            let named = |((name, _), average): (&(String, Tensor), &Tensor)| {
                (format!("average.{name}"), average.shallow_clone())
            };
            tensors.extend(averages.map(named));
        }
        tensors.extend(
            self.adam.state().into_iter().map(|(name, tensor)| (format!("adam.{name}"), tensor)),
        );
        let state = self.objective.state().into_iter();
        tensors.extend(state.map(|(name, tensor)| (format!("objective.{name}"), tensor)));
        tensors
    }

    fn loss_falls(&self) -> bool {
        self.objective.loss_falls()
    }

    fn done(&self) -> bool {
        self.objective.done()
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        match self.scaler {
            Some(GradScaler { factor, good }) => {
                vec![("scale", factor), ("scale_good", good as f64)]
            }
            None => Vec::new(),
        }
    }

    fn load_scalar(&mut self, name: &str, value: f64) {
        if let Some(GradScaler { factor, good }) = &mut self.scaler {
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
        let norms: Vec<Tensor> =
            gradients.iter().flatten().map(|g| g.to_kind(Kind::Float).norm()).collect();
        if norms.is_empty() {
            return;
        }
        let scale = (largest / (Tensor::stack(&norms, 0).norm() + 1e-6)).clamp_max(1.0);
        for gradient in gradients.iter_mut().flatten() {
            let _ = gradient.g_mul_(&scale);
        }
    });
}
