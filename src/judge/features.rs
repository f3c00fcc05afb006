//! Networks whose features stand for pictures where whole sets of pictures are compared (FID,
//! precision and recall).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clip_folder::{ClipFolder, ClipSource};
use super::{BATCH, Error};
use crate::model::Builder;
use crate::model::clip::Clip;
use crate::model::inception::Inception;
use crate::pictures::Picture;
use crate::torch::{Device, Kind, Tensor, no_grad, stage};
use crate::weights::{Weights, read_inception};

/// Which network the features are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureCard {
    /// `CLIP` or `Inception-v3`.
    pub name: String,
    /// Where it was loaded from.
    pub path: PathBuf,
    /// Hash of its weights.
    pub hash: String,
    /// Hash of all that decides what they are.
    #[serde(default)]
    pub fingerprint: String,
}

/// A feature network.
pub struct Features {
    card: FeatureCard,
    network: FeatureNetwork,
    device: Device,
}

enum FeatureNetwork {
    Clip { folder: Box<ClipFolder>, clip: Box<Clip> },
    Inception(Box<Inception>),
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Features").field("card", &self.card).finish_non_exhaustive()
    }
}

impl Features {
    /// A CLIP's embeddings of pictures, as they come: not brought to length 1 (Kynkäänniemi et al.
    /// 2023).
    ///
    /// # Errors
    /// A folder that holds no CLIP.
    pub fn clip(path: &Path, device: Device) -> Result<Self, Error> {
        let (folder, weights) = ClipFolder::open(path)?;
        let clip = Clip::new(&folder.config, Builder::load(&weights, device))?;
        let ClipSource { path, hash, fingerprint, .. } = folder.source.clone();
        let card = FeatureCard { name: "CLIP".to_owned(), path, hash, fingerprint };
        let network = FeatureNetwork::Clip { folder: Box::new(folder), clip: Box::new(clip) };
        Ok(Self { card, network, device })
    }

    /// Inception-v3 for FID, from a file of `pytorch-fid`'s weights (safetensors, a state dict or a
    /// `TorchScript`), whose numbers are equal then, or from NVIDIA's `TorchScript`.
    ///
    /// # Errors
    /// A file that holds no such network.
    pub fn inception(path: &Path, device: Device) -> Result<Self, Error> {
        let weights = Weights::open(path)?;
        let network = Inception::new(&Builder::load(&read_inception(&weights)?, device))?;
        let hash = weights.hash()?.to_hex().to_string();
        let card = FeatureCard {
            name: "Inception-v3".to_owned(),
            path: fs_err::canonicalize(path)?,
            fingerprint: hash.clone(),
            hash,
        };
        Ok(Self { card, network: FeatureNetwork::Inception(Box::new(network)), device })
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
                    let here = |x: Tensor| x.to_device(self.device.tch());
                    let prepared = match &self.network {
                        FeatureNetwork::Clip { folder, .. } => folder.preprocess.apply(batch)?,
                        FeatureNetwork::Inception(_) => unit_range(batch)?,
                    };
                    let features = no_grad(|| match &self.network {
                        FeatureNetwork::Clip { clip, .. } => clip.image_embeddings(&here(prepared)),
                        FeatureNetwork::Inception(inception) => inception.features(&here(prepared)),
                    });
                    Ok::<_, Error>(features.to_device(tch::Device::Cpu))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(&parts, 0))
    }
}

/// Pictures of one size as `[n, 3, h, w]` from 0 to 1.
fn unit_range(pictures: &[Picture]) -> Result<Tensor, Error> {
    let size = |picture: &Picture| (picture.width, picture.height);
    if let Some(other) = pictures.iter().find(|picture| size(picture) != size(&pictures[0])) {
        return Err(Error::Head(format!(
            "pictures of {}x{} and {}x{} pixels cannot be compared by Inception-v3's features in \
             one batch; bring them to one size",
            pictures[0].width, pictures[0].height, other.width, other.height
        )));
    }
    let each = |picture: &Picture| {
        let (w, h) = (picture.width as i64, picture.height as i64);
        Tensor::from_slice(&picture.rgb).view([h, w, 3]).permute([2, 0, 1])
    };
    Ok(Tensor::stack(&pictures.iter().map(each).collect::<Vec<_>>(), 0).to_kind(Kind::Float)
        / 255.0)
}
