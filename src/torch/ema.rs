//! An exponential moving average of parameters.

use tch::Tensor;

use super::no_grad;

/// The average; starts as a copy.
#[derive(Debug)]
pub struct Ema {
    average: Vec<Tensor>,
}

impl Ema {
    /// A copy of the parameters.
    pub fn new<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) -> Self {
        no_grad(|| Self { average: parameters.into_iter().map(|p| p.detach().copy()).collect() })
    }

    /// Moves the average towards the parameters. The decay is warmed up, (1 + step) / (10 + step),
    /// so that the average of a short training is not its beginning.
    pub fn update<'a>(
        &mut self,
        parameters: impl IntoIterator<Item = &'a Tensor>,
        decay: f64,
        step: u64,
    ) {
        let step = step as f64;
        let weight = 1.0 - decay.min((1.0 + step) / (10.0 + step));
        no_grad(|| {
            for (average, parameter) in self.average.iter_mut().zip(parameters) {
                let _ = average.lerp_(&parameter.detach(), weight);
            }
        });
    }

    /// The averages, in the order of the parameters.
    pub fn average(&self) -> &[Tensor] {
        &self.average
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_slowly() {
        let p = Tensor::from_slice(&[0.0_f32]);
        let mut ema = Ema::new([&p]);
        let q = Tensor::from_slice(&[1.0_f32]);
        ema.update([&q], 0.9, 1_000_000);
        assert!((f64::try_from(&ema.average()[0]).unwrap() - 0.1).abs() < 1e-6);
    }
}
