//! Sheets of samples that are drawn while a GAN trains.

use std::path::PathBuf;

use crate::model::stylegan2::{GeneratorNetwork, Noise};
use crate::pictures::Picture;
use crate::torch::{Device, Kind, Rng, no_grad};
use crate::training::{EarlyStopping, Error};

/// Writes a sheet of samples now and then, so that one can see how it goes; it scores nothing.
pub(super) struct SampleSheets<'a> {
    pub(super) generator: &'a GeneratorNetwork,
    /// Steps from one sheet to the next.
    pub(super) every: u64,
    pub(super) folder: PathBuf,
    pub(super) device: Device,
}

/// Samples on a sheet's side.
const SHEET: i64 = 13;

impl EarlyStopping for SampleSheets<'_> {
    fn every(&self) -> u64 {
        self.every
    }

    fn evaluate(&mut self, step: u64) -> Result<Option<f64>, Error> {
        let config = self.generator.config();
        let mut rng = Rng::new(0);
        let n = SHEET * SHEET;
        let z = rng.normal(&[n, config.style_dim]).to_device(self.device.tch());
        let noises = config.noises(n, &mut rng, self.device);
        let side = SHEET * config.size;
        let sheet = no_grad(|| {
            let styles = self.generator.broadcast(&self.generator.map(&z));
            let drawn = self.generator.synthesize(&styles, Noise::Given(&noises));
            let rows =
                drawn.view([SHEET, SHEET, 3, config.size, config.size]).permute([0, 3, 1, 4, 2]);
            let bytes = ((rows.reshape([side, side, 3]) + 1.0) * 127.5).clamp(0.0, 255.0).round();
            bytes.to_kind(Kind::Uint8).to_device(tch::Device::Cpu).flatten(0, -1)
        });
        let bytes = Vec::<u8>::try_from(&sheet).map_err(crate::torch::Error::from)?;
        let picture = Picture { width: side as usize, height: side as usize, rgb: bytes };
        picture
            .save(&self.folder.join(format!("samples-{step:06}.png")), &[])
            .map_err(std::io::Error::other)?;
        Ok(None)
    }

    fn target(&self) -> f64 {
        f64::INFINITY
    }
}
