//! Keeps a generator's parameters away from where generators of the concept are
//! (Adapt-then-Unlearn, section 4.2): with d² the square distance to them, IL2 adds `1/d²`, NL2
//! `-d²` and EL2 `exp(-α d²)` to the generator's loss.

use serde::{Deserialize, Serialize};

use super::Error;
use super::ensemble::{Ensemble, square_distance};
use crate::model::stylegan2::lr_mul;
use crate::torch::{Kind, Tensor};
use crate::training::ParameterPenalty;

/// The repulsion's form and strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repulsion {
    /// `il2`, `nl2` or `el2`.
    pub form: Form,
    /// What d² is.
    pub distance: Distance,
    /// Its weight γ; where there is none it is chosen at the first step, so that the repulsion's
    /// gradient is `ratio` times as long as the loss's own.
    pub gamma: Option<f64>,
    /// See `gamma`.
    pub ratio: f64,
    /// EL2's α; where there is none, 1/d² at the first step.
    pub alpha: Option<f64>,
}

/// How the repulsion depends on the square distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `γ / d²`
    Il2,
    /// `-γ d²`, which has no lower bound.
    Nl2,
    /// `γ exp(-α d²)`
    El2,
}

/// What the square distance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// The formula's: the mean over the adapted models of the square distance over all parameters,
    /// as they are stored.
    Paper,
    /// The published code's: the mean square of each tensor counts the same, and the sum over the
    /// models is multiplied by half of their number.
    Official,
    /// The formula's, of parameters in one unit. The mapping's are stored a hundred times as large
    /// as what they stand for: they are 99.9 % of the paper's distance (of the shipped miniature
    /// from its adapted models), which so pushes hardly anything but the mapping, and much harder
    /// than the GAN training's gradient there can answer.
    Equalised,
}

impl Distance {
    /// How much the square distance of each tensor of so many counts, of generators by the mean
    /// over `models`.
    fn weights(self, parameters: &[(String, Tensor)], models: usize) -> Vec<f64> {
        let (n, p) = (models as f64, parameters.len() as f64);
        let weight = |(name, tensor): &(String, Tensor)| match self {
            Self::Paper => 1.0,
            Self::Official => n * n / (2.0 * p * tensor.numel() as f64),
            Self::Equalised => lr_mul(name).powi(2),
        };
        parameters.iter().map(weight).collect()
    }
}

impl Default for Repulsion {
    fn default() -> Self {
        Self {
            form: Form::Il2,
            distance: Distance::Equalised,
            gamma: None,
            ratio: 0.1,
            alpha: None,
        }
    }
}

/// The repulsion from an ensemble.
pub(super) struct RepulsionPenalty<'a> {
    settings: Repulsion,
    ensemble: &'a Ensemble,
    /// How much the square distance of each tensor counts.
    weights: Vec<f64>,
    /// γ, once it is known.
    gamma: Option<f64>,
    alpha: f64,
    /// d(loss) / d(d²) at the parameters that were looked at last, γ included.
    slope: f64,
}

impl<'a> RepulsionPenalty<'a> {
    /// Of the parameters that move, as they are at the start.
    ///
    /// # Errors
    /// An α under which the term is nothing from the start on.
    pub(super) fn new(
        settings: Repulsion,
        ensemble: &'a Ensemble,
        parameters: &[(String, Tensor)],
    ) -> Result<Self, Error> {
        /// Beyond it an exponential is 0.
        const MOST: f64 = 700.0;
        let weights = settings.distance.weights(parameters, ensemble.models);
        let mut penalty = Self {
            settings,
            ensemble,
            weights,
            gamma: settings.gamma,
            alpha: f64::NAN,
            slope: 0.0,
        };
        let start: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| tensor).collect();
        let square = penalty.square(&start).max(f64::MIN_POSITIVE);
        penalty.alpha = settings.alpha.unwrap_or(1.0 / square);
        if settings.form == Form::El2 && penalty.alpha * square > MOST {
            return Err(Error::Task(format!(
                "with alpha {} and a square distance of {square:.3e} exp(-alpha d²) is 0, so \
                 nothing would repel; leave alpha out (it is 1/d² then), or take one about {:.1e} \
                 (gamma is alpha under `official`)",
                penalty.alpha,
                1.0 / square
            )));
        }
        Ok(penalty)
    }

    /// The square distance.
    fn square(&self, parameters: &[&Tensor]) -> f64 {
        let Ensemble { mean, spread, models } = self.ensemble;
        let each = parameters.iter().zip(mean).zip(spread).zip(&self.weights);
        each.map(|(((parameter, mean), spread), weight)| {
            weight * (square_distance(parameter, mean) + spread / *models as f64)
        })
        .sum()
    }

    /// The term's value, γ included; the slope is kept for the gradients.
    fn value(&mut self, parameters: &[&Tensor], gradients: &[Option<Tensor>]) -> f64 {
        let (value, slope) = self.term(self.square(parameters));
        let gamma = self.gamma.unwrap_or_else(|| {
            let norm = |squares: f64| squares.sqrt();
            let loss: f64 = gradients
                .iter()
                .flatten()
                .map(|g| g.square().sum(Kind::Double).double_value(&[]))
                .sum();
            let each = parameters.iter().zip(&self.ensemble.mean).zip(&self.weights);
            let repelling = each.map(|((parameter, mean), weight)| {
                4.0 * weight * weight * square_distance(parameter, mean)
            });
            let repelling = norm(repelling.sum()) * slope.abs();
            // Exactly at the mean nothing says where to go.
            if repelling > 0.0 { self.settings.ratio * norm(loss) / repelling } else { 0.0 }
        });
        self.gamma = Some(gamma);
        // Exactly at the mean the slope of 1/d² has no number.
        self.slope = if gamma > 0.0 { gamma * slope } else { 0.0 };
        gamma * value
    }

    /// The term and its derivative by d², without γ.
    fn term(&self, square: f64) -> (f64, f64) {
        match self.settings.form {
            Form::Il2 => (1.0 / square, -1.0 / (square * square)),
            Form::Nl2 => (-square, -1.0),
            Form::El2 => {
                let value = (-self.alpha * square).exp();
                (value, -self.alpha * value)
            }
        }
    }
}

impl ParameterPenalty for RepulsionPenalty<'_> {
    fn prepare(&mut self, parameters: &[&Tensor], gradients: &[Option<Tensor>]) {
        self.value(parameters, gradients);
    }

    fn fingerprint(&self) -> String {
        format!("{:?} of {} models, alpha {}", self.settings, self.ensemble.models, self.alpha)
    }

    fn add_gradient(&self, i: usize, parameter: &Tensor, gradient: &mut Tensor) {
        // d(d²)/dθ = 2 · weight · (θ - θ̄).
        let factor = 2.0 * self.slope * self.weights[i];
        let _ = gradient.g_add_(&((parameter - &self.ensemble.mean[i]) * factor));
    }

    fn scalar(&self) -> Option<f64> {
        self.gamma
    }

    fn load_scalar(&mut self, choice: f64) {
        self.gamma = Some(choice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Rng, grad};

    /// A network's parameters, the last one of a mapping, and those of five others.
    fn networks() -> (Vec<(String, Tensor)>, Vec<Vec<Tensor>>) {
        let mut rng = Rng::new(5);
        let mut one = |scale: f64| -> Vec<Tensor> {
            [&[4_i64, 3][..], &[7], &[1]].iter().map(|shape| rng.normal(shape) * scale).collect()
        };
        let names =
            ["g.convs.0.conv.weight", "g.to_rgb1.bias", "g.style.1.bias"].map(str::to_owned);
        let tensors = one(1.0).into_iter().map(|tensor| tensor.set_requires_grad(true));
        (names.into_iter().zip(tensors).collect(), (0..5).map(|_| one(0.3)).collect())
    }

    /// The loop over the models, as the formula and as the published code have it.
    fn by_loop(
        parameters: &[(String, Tensor)],
        models: &[Vec<Tensor>],
        distance: Distance,
    ) -> Tensor {
        let (n, p) = (models.len() as f64, parameters.len() as f64);
        let terms = models.iter().flat_map(|model| {
            parameters.iter().zip(model).enumerate().map(|(i, ((_, a), b))| match distance {
                Distance::Official => (a - b).square().mean(Kind::Float) / p * (n / 2.0),
                Distance::Equalised if i == 2 => ((a - b) / 100.0).square().sum(Kind::Float) / n,
                Distance::Paper | Distance::Equalised => (a - b).square().sum(Kind::Float) / n,
            })
        });
        terms.reduce(|a, b| a + b).unwrap()
    }

    #[test]
    fn the_mean_and_a_number_are_the_loop_over_all_models() {
        let (parameters, models) = networks();
        let tensors: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| tensor).collect();
        let ensemble = Ensemble::new(&models);
        for distance in [Distance::Paper, Distance::Official, Distance::Equalised] {
            for form in [Form::Il2, Form::Nl2, Form::El2] {
                let settings =
                    Repulsion { form, distance, gamma: Some(3.0), alpha: Some(0.1), ratio: 1.0 };
                let square = by_loop(&parameters, &models, distance);
                let loss = match form {
                    Form::Il2 => 3.0 / &square,
                    Form::Nl2 => &square * -3.0,
                    Form::El2 => (&square * -0.1).exp() * 3.0,
                };
                let wanted = grad(&loss, &tensors).unwrap();
                let mut penalty = RepulsionPenalty::new(settings, &ensemble, &parameters).unwrap();
                let value = crate::torch::no_grad(|| penalty.value(&tensors, &[]));
                assert!(
                    (value / loss.double_value(&[]) - 1.0).abs() < 1e-5,
                    "{form:?} {distance:?}"
                );
                for (i, wanted) in wanted.iter().enumerate() {
                    let wanted = wanted.as_ref().unwrap();
                    let mut found = wanted.zeros_like();
                    crate::torch::no_grad(|| penalty.add_gradient(i, tensors[i], &mut found));
                    let apart = (&found - wanted).abs().max().double_value(&[]);
                    assert!(
                        apart < 1e-4 * wanted.abs().max().double_value(&[]),
                        "{form:?} {distance:?} {apart}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_exponential_that_is_nothing_is_refused() {
        let (parameters, models) = networks();
        let ensemble = Ensemble::new(&models);
        let el2 = |alpha: Option<f64>| Repulsion { form: Form::El2, alpha, ..Repulsion::default() };
        for alpha in [None, Some(0.1)] {
            assert!(RepulsionPenalty::new(el2(alpha), &ensemble, &parameters).is_ok(), "{alpha:?}");
        }
        let refused =
            RepulsionPenalty::new(el2(Some(1e6)), &ensemble, &parameters).map(drop).unwrap_err();
        assert!(refused.to_string().contains("leave alpha out"), "{refused}");
    }

    #[test]
    fn its_weight_makes_its_gradient_as_long_as_asked_for() {
        let (parameters, models) = networks();
        let tensors: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| tensor).collect();
        let ensemble = Ensemble::new(&models);
        let gradients: Vec<Option<Tensor>> =
            tensors.iter().map(|tensor| Some(tensor.detach().ones_like())).collect();
        let settings = Repulsion { ratio: 0.25, ..Repulsion::default() };
        let mut penalty = RepulsionPenalty::new(settings, &ensemble, &parameters).unwrap();
        let length = |gradients: &[Tensor]| {
            gradients
                .iter()
                .map(|g| g.square().sum(Kind::Double).double_value(&[]))
                .sum::<f64>()
                .sqrt()
        };
        crate::torch::no_grad(|| {
            penalty.value(&tensors, &gradients);
            let added: Vec<Tensor> = (0..tensors.len())
                .map(|i| {
                    let mut gradient = tensors[i].detach().zeros_like();
                    penalty.add_gradient(i, tensors[i], &mut gradient);
                    gradient
                })
                .collect();
            let gradients: Vec<Tensor> =
                gradients.iter().flatten().map(Tensor::shallow_clone).collect();
            assert!((length(&added) / length(&gradients) - 0.25).abs() < 1e-5);
        });
        assert!(penalty.scalar().is_some());
    }
}
