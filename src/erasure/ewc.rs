//! Elastic weight consolidation (Kirkpatrick et al. 2017, equation 3; for GANs Li et al. 2020):
//! weights that matter for what a network draws are held where they were.
//!
//! How much a weight matters is its Fisher information, here as Adapt-then-Unlearn's code computes
//! it: the mean square of the discriminator's logits' gradients over pictures of the generator's
//! own, for the weights of `convs` alone.

use super::Error;
use crate::generator::Synthesizer;
use crate::model::stylegan2::{Noise, unprefixed};
use crate::torch::{Rng, Tensor, grad_and_keep, no_grad, stage};
use crate::training::{GradientsFor, ParameterPenalty};

/// `λ/2 · Σ F (θ - θ₀)²`.
pub(super) struct Ewc {
    lambda: f64,
    /// `None` for weights that are not held.
    fisher: Vec<Option<Tensor>>,
    start: Vec<Tensor>,
}

/// Layers whose weights are held.
const HELD: &str = "convs.";
/// Pictures that are drawn at once.
const BATCH: i64 = 16;

impl Ewc {
    /// Measures how much each weight matters, over `pictures` samples; `lambda` is the penalty's
    /// weight.
    pub(super) fn measure(
        model: &dyn Synthesizer,
        parameters: &[(String, Tensor)],
        lambda: f64,
        pictures: i64,
        seed: u64,
    ) -> Result<Self, Error> {
        let held: Vec<usize> = (0..parameters.len())
            .filter(|&i| unprefixed(&parameters[i].0).starts_with(HELD))
            .collect();
        if held.is_empty() {
            return Err(Error::Task(format!(
                "elastic weights hold {} alone, and none of them moves; let some move \
                 (parameters), or do without (adapt.lambda = 0, or a method without them)",
                HELD.trim_end_matches('.')
            )));
        }
        let tensors: Vec<&Tensor> = held.iter().map(|&i| &parameters[i].1).collect();
        let (network, discriminator) = (model.network(), model.discriminator()?);
        let config = network.config();
        let named = |&i: &usize| (parameters[i].0.clone(), parameters[i].1.shallow_clone());
        let gradients = GradientsFor::only(held.iter().map(named).collect(), |_| true);
        let mut sums: Vec<Tensor> =
            no_grad(|| tensors.iter().map(|tensor| tensor.zeros_like()).collect());
        let measured = stage("measuring what matters", || -> Result<(), Error> {
            let device = model.compute().device;
            let mut done = 0;
            while done < pictures {
                // The discriminator compares pictures in groups.
                let (n, group) = (BATCH.min(pictures - done), config.group);
                let n = if n > group { n - n % group } else { n };
                let mut rng = Rng::for_step(seed, "fisher", done as u64);
                let z = rng.normal(&[n, config.style_dim]).to_device(device.tch());
                let noises = config.noises(n, &mut rng, device);
                let styles = network.broadcast(&network.map(&z));
                let logits =
                    discriminator.forward(&network.synthesize(&styles, Noise::Given(&noises)));
                for i in 0..n {
                    let gradients = grad_and_keep(&logits.get(i), &tensors)?;
                    no_grad(|| {
                        for (sum, gradient) in sums.iter_mut().zip(gradients) {
                            if let Some(gradient) = gradient {
                                let _ = sum.addcmul_(&gradient, &gradient);
                            }
                        }
                    });
                }
                done += n;
            }
            Ok(())
        });
        drop(gradients);
        measured?;
        let mut fisher: Vec<Option<Tensor>> = parameters.iter().map(|_| None).collect();
        for (i, sum) in held.into_iter().zip(sums) {
            fisher[i] = Some(sum / pictures as f64);
        }
        let start =
            no_grad(|| parameters.iter().map(|(_, tensor)| tensor.detach().copy()).collect());
        Ok(Self { lambda, fisher, start })
    }
}

impl ParameterPenalty for Ewc {
    fn fingerprint(&self) -> String {
        format!("elastic {}", self.lambda)
    }

    fn add_gradient(&self, i: usize, parameter: &Tensor, gradient: &mut Tensor) {
        if let Some(fisher) = &self.fisher[i] {
            let _ = gradient.g_add_(&((parameter - &self.start[i]) * fisher * self.lambda));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erasure::small::small_gan;
    use crate::torch::grad;

    #[test]
    fn where_nothing_can_be_held_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let model = small_gan(folder.path());
        let mut parameters = model.parameters();
        parameters.retain(|(name, _)| name.starts_with("g.style."));
        let error =
            Ewc::measure(&model, &parameters, 10.0, 2, 7).map(drop).unwrap_err().to_string();
        assert!(error.contains("none of them moves"), "{error}");
    }

    #[test]
    fn weights_of_convs_are_held_by_the_mean_square_of_their_gradients() {
        let folder = tempfile::tempdir().unwrap();
        let model = small_gan(folder.path());
        let parameters = model.parameters();
        let ewc = Ewc::measure(&model, &parameters, 10.0, 2, 7).unwrap();
        let (network, discriminator) = (model.network(), model.discriminator().unwrap());
        let mut rng = Rng::for_step(7, "fisher", 0);
        let z = rng.normal(&[2, 8]);
        let noises: Vec<Tensor> = network
            .config()
            .noise_sides()
            .iter()
            .map(|&side| rng.normal(&[2, 1, side, side]))
            .collect();
        for (i, (name, parameter)) in parameters.iter().enumerate() {
            assert_eq!(ewc.fisher[i].is_some(), unprefixed(name).starts_with(HELD), "{name}");
            let mut gradient = no_grad(|| parameter.detach().zeros_like());
            no_grad(|| ewc.add_gradient(i, &(parameter.detach() + 0.5), &mut gradient));
            let Some(fisher) = &ewc.fisher[i] else {
                assert!(gradient.abs().max().double_value(&[]) == 0.0, "{name}");
                continue;
            };
            let _ = parameter.set_requires_grad(true);
            let mean = (0..2).map(|k| {
                let styles = network.broadcast(&network.map(&z));
                let logits =
                    discriminator.forward(&network.synthesize(&styles, Noise::Given(&noises)));
                let slope = grad(&logits.get(k), &[parameter]).unwrap().remove(0).unwrap();
                slope.square() / 2.0
            });
            let mean = mean.reduce(|a, b| a + b).unwrap();
            let _ = parameter.set_requires_grad(false);
            let most = mean.max().double_value(&[]);
            assert!((fisher - &mean).abs().max().double_value(&[]) <= 1e-4 * most, "{name}");
            assert!((gradient - mean * 5.0).abs().max().double_value(&[]) <= 1e-3 * most, "{name}");
        }
    }
}
