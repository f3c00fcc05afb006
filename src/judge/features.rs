//! Networks whose features stand for pictures where whole sets of pictures are compared (FID, precision and recall).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clip_folder::{ClipFolder, hash};
use super::{BATCH, Error};
use crate::model::Builder;
use crate::model::clip::Clip;
use crate::pictures::Picture;
use crate::torch::{Device, Tensor, no_grad, stage};
use crate::weights::Weights;

/// Which network the features are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureCard {
    /// `CLIP` or `Inception-v3`.
    pub name: String,
    /// Where it was loaded from.
    pub path: PathBuf,
    /// Hash of its weights.
    pub hash: String,
}

/// A feature network.
pub struct Features {
    card: FeatureCard,
    folder: ClipFolder,
    clip: Clip,
    device: Device,
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Features").field("card", &self.card).finish_non_exhaustive()
    }
}

impl Features {
    /// A CLIP's embeddings of pictures, as they come: not brought to length 1 (Kynkäänniemi et al. 2023).
    ///
    /// # Errors
    /// A folder that holds no CLIP.
    pub fn clip(path: &Path, device: Device) -> Result<Self, Error> {
        let folder = ClipFolder::open(path)?;
        let weights = Weights::open(&folder.weights)?;
        let clip = Clip::new(&folder.config, Builder::load(&weights, device))?;
        let card =
            FeatureCard { name: "CLIP".to_owned(), path: fs_err::canonicalize(path)?, hash: hash(path)? };
        Ok(Self { card, folder, clip, device })
    }

    /// Which it is.
    pub fn card(&self) -> &FeatureCard {
        &self.card
    }

    /// Features of pictures, `[n, width]` on the CPU.
    ///
    /// # Errors
    /// Whatever the network says.
    pub fn of(&self, pictures: &[Picture]) -> Result<Tensor, Error> {
        let parts = pictures
            .chunks(BATCH)
            .map(|batch| {
                stage("looking at pictures", || {
                    let batch = self.folder.preprocess.apply(batch).to_device(self.device.tch());
                    Ok::<_, Error>(no_grad(|| self.clip.image_embeddings(&batch).to_device(tch::Device::Cpu)))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(&parts, 0))
    }
}
