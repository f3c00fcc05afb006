//! From features to classes. Text prompts, prototypes and probes are all the same in the end: a
//! matrix, a bias, and the largest logit wins.

use super::Error;
use crate::torch::{Adam, AdamSettings, Kind, Tensor, grad};

/// `logits = weight · features + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    weight: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

/// How a linear probe is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeSettings {
    /// Weight of ½‖W‖² beside the mean cross entropy.
    pub l2: f64,
    /// Steps of full-batch Adam.
    pub steps: usize,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self { l2: 1e-4, steps: 500 }
    }
}

impl Head {
    /// Cosines to one vector a class, times `scale`.
    pub fn cosine(rows: Vec<Vec<f32>>, scale: f32) -> Self {
        let bias = vec![0.0; rows.len()];
        let weight =
            rows.into_iter().map(|row| unit(&row).iter().map(|v| v * scale).collect()).collect();
        Self { weight, bias }
    }

    /// Cosines to the mean feature of each class.
    ///
    /// # Errors
    /// A class without an example.
    pub fn prototypes(
        features: &[Vec<f32>],
        labels: &[usize],
        classes: usize,
        scale: f32,
    ) -> Result<Self, Error> {
        let rows = (0..classes)
            .map(|class| {
                let examples: Vec<Vec<f32>> = features
                    .iter()
                    .zip(labels)
                    .filter(|&(_, &label)| label == class)
                    .map(|(f, _)| f.clone())
                    .collect();
                if examples.is_empty() {
                    return Err(Error::Head(format!(
                        "class {class} of {classes} has no example picture"
                    )));
                }
                Ok(mean(&examples))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self::cosine(rows, scale))
    }

    /// Multinomial logistic regression on frozen features.
    ///
    /// # Errors
    /// A class without an example.
    pub fn probe(
        features: &[Vec<f32>],
        labels: &[usize],
        classes: usize,
        settings: ProbeSettings,
    ) -> Result<Self, Error> {
        // Starting from the prototypes also checks that every class has examples.
        let start = Self::prototypes(features, labels, classes, 10.0)?;
        let width = features[0].len() as i64;
        let flat: Vec<f32> = features.iter().flatten().copied().collect();
        let x = Tensor::from_slice(&flat).view([-1, width]);
        let y = Tensor::from_slice(&labels.iter().map(|&label| label as i64).collect::<Vec<_>>());
        let flat: Vec<f32> = start.weight.iter().flatten().copied().collect();
        let w = Tensor::from_slice(&flat).view([-1, width]).set_requires_grad(true);
        let b = Tensor::zeros([classes as i64], (Kind::Float, tch::Device::Cpu))
            .set_requires_grad(true);
        let mut adam = Adam::new([&w, &b], AdamSettings::default())?;
        for step in 0..settings.steps {
            let logits = x.matmul(&w.tr()) + &b;
            let loss = logits.cross_entropy_for_logits(&y)
                + w.square().sum(Kind::Float) * (settings.l2 / 2.0);
            let rate = 0.5 * (1.0 - step as f64 / settings.steps as f64);
            adam.step(&grad(&loss, &[&w, &b])?, rate)?;
        }
        let flat =
            Vec::<f32>::try_from(w.detach().flatten(0, -1)).map_err(crate::torch::Error::from)?;
        let bias = Vec::<f32>::try_from(b.detach()).map_err(crate::torch::Error::from)?;
        Ok(Self { weight: flat.chunks(width as usize).map(<[f32]>::to_vec).collect(), bias })
    }

    /// One logit for each class.
    pub fn logits(&self, feature: &[f32]) -> Vec<f32> {
        self.weight
            .iter()
            .zip(&self.bias)
            .map(|(row, bias)| bias + row.iter().zip(feature).map(|(w, f)| w * f).sum::<f32>())
            .collect()
    }
}

/// The mean of unit vectors.
pub(super) fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        for (sum, v) in sum.iter_mut().zip(unit(row)) {
            *sum += v / rows.len() as f32;
        }
    }
    sum
}

fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    row.iter().map(|v| v / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(head: &Head, feature: &[f32]) -> usize {
        let logits = head.logits(feature);
        (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
    }

    #[test]
    fn three_ways_to_tell_left_from_right() {
        let features = vec![vec![1.0, 0.1], vec![0.9, -0.2], vec![-1.0, 0.1], vec![-0.8, 0.3]];
        let labels = [0, 0, 1, 1];
        let heads = [
            Head::cosine(vec![vec![2.0, 0.0], vec![-3.0, 0.0]], 10.0),
            Head::prototypes(&features, &labels, 2, 10.0).unwrap(),
            Head::probe(&features, &labels, 2, ProbeSettings::default()).unwrap(),
        ];
        for head in &heads {
            for (feature, &label) in features.iter().zip(&labels) {
                assert_eq!(best(head, feature), label, "{head:?}");
            }
        }
        assert!(Head::prototypes(&features, &labels, 3, 1.0).is_err());
    }
}
