//! A generator learns the finest stripes that each of its levels can hold.
//!
//! A level's doubling is followed by a blur that lets none of the finest stripes through, so that
//! no grid shows where none belongs. A screen of dots a few pixels apart can then only come from a
//! chain: stripes of one level, twice as wide in the next, give stripes of half the width where the
//! activation bends them, and so on from the learned constant. A generator that learns from
//! pictures alone does not find it, for no link is of use before the last one is there. So here
//! each link is asked for by itself: the features of each level must say, by a linear layer that is
//! thrown away afterwards, where the stripes are.

use crate::model::stylegan2::StyleGan2Config;
use crate::torch::{Device, Kind, Tensor};

/// Stripes across, down, and squares of a chessboard.
const PATTERNS: i64 = 3;

/// Linear layers that read the stripes from features.
pub(super) struct StripeProbe {
    /// `[3, c, 1, 1]` for each level below the last, whose stripes are a pixel wide.
    readers: Vec<Tensor>,
    /// `[1, 3, side, side]` of ±1.
    stripes: Vec<Tensor>,
}

impl StripeProbe {
    /// Before anything is learned.
    pub(super) fn new(config: &StyleGan2Config, device: Device) -> Self {
        let channels = &config.channels[..config.channels.len() - 1];
        let compute = (Kind::Float, device.tch());
        let reader = |&c: &i64| Tensor::zeros([PATTERNS, c, 1, 1], compute).set_requires_grad(true);
        let stripes = |level: usize| {
            let side = 4_i64 << level;
            let signs = Tensor::arange(side, compute).remainder(2.0) * -2.0 + 1.0;
            let across = signs.view([1, side]).expand([side, side], false);
            Tensor::stack(&[across.shallow_clone(), across.tr(), &across * across.tr()], 0)
                .unsqueeze(0)
        };
        Self {
            readers: channels.iter().map(reader).collect(),
            stripes: (0..channels.len()).map(stripes).collect(),
        }
    }

    /// Its weights.
    pub(super) fn parameters(&self) -> Vec<(String, Tensor)> {
        let named =
            |(i, reader): (usize, &Tensor)| (format!("stripes.{i}"), reader.shallow_clone());
        self.readers.iter().enumerate().map(named).collect()
    }

    /// How far what is read from features `[n, c, side, side]` of level `level` is from the
    /// stripes; `None` for the last level.
    pub(super) fn missed(&self, level: usize, features: &Tensor) -> Option<Tensor> {
        let (reader, stripes) = (self.readers.get(level)?, self.stripes.get(level)?);
        let read = features.conv2d::<Tensor>(reader, None, [1, 1], [0, 0], [1, 1], 1);
        Some((read.to_kind(Kind::Float) - stripes).square().mean(Kind::Float))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Builder;
    use crate::model::stylegan2::{GeneratorNetwork, Noise};
    use crate::torch::{Compute, MemoryMode, Precision, Rng, no_grad};
    use crate::training::{Error, MicroBatch, Objective, TrainConfig, train};
    use crate::watch::Quiet;

    /// The stripes alone.
    struct Chain<'a>(&'a GeneratorNetwork, &'a StripeProbe);

    impl Chain<'_> {
        fn missed(&self, rng: &mut Rng) -> Vec<Tensor> {
            let config = self.0.config();
            let z = rng.normal(&[4, config.style_dim]);
            let noises = config.noises(4, rng, Device::CPU);
            let mut missed = Vec::new();
            let mut see =
                |level: usize, features: &Tensor| missed.extend(self.1.missed(level, features));
            let _ = self.0.synthesize_with_hook(
                &self.0.broadcast(&self.0.map(&z)),
                Noise::Given(&noises),
                &mut see,
            );
            missed
        }
    }

    impl Objective for Chain<'_> {
        fn name(&self) -> &'static str {
            "chain"
        }

        fn parameters(&self) -> Vec<(String, Tensor)> {
            self.0.parameters().named_leaves().into_iter().chain(self.1.parameters()).collect()
        }

        fn loss(&mut self, _: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, Error> {
            Ok(Tensor::stack(&self.missed(rng), 0).mean(Kind::Float))
        }
    }

    #[test]
    fn every_level_but_the_last_learns_its_stripes() {
        let config = StyleGan2Config {
            size: 32,
            style_dim: 8,
            mapping_layers: 2,
            channels: vec![12; 4],
            group: 4,
            clamp: None,
        };
        let generator = GeneratorNetwork::new(&config, Builder::fresh(1, Device::CPU)).unwrap();
        generator.parameters().train(true);
        let probe = StripeProbe::new(&config, Device::CPU);
        let mut chain = Chain(&generator, &probe);
        let missed = |chain: &Chain| -> Vec<f64> {
            let missed = no_grad(|| chain.missed(&mut Rng::new(2)));
            missed.iter().map(|missed| missed.double_value(&[])).collect()
        };
        // A reader that knows nothing says 0, which is 1 from all stripes.
        assert_eq!(missed(&chain), [1.0; 3]);
        let compute =
            Compute { device: Device::CPU, precision: Precision::F32, memory: MemoryMode::Fast };
        train(&mut chain, &TrainConfig::constant(300, 1e-2, 1), compute, None, &mut Quiet).unwrap();
        let after = missed(&chain);
        assert!(after.iter().all(|&missed| missed < 0.3), "{after:?}");
    }
}
