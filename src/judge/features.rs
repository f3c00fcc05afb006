//! Networks whose features stand for pictures where whole sets of pictures are compared (FID,
//! precision and recall).

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::clip_folder::ClipSource;
use super::{BATCH, ClipEncoder, Error, Evidence, Judge};
use crate::model::Builder;
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
}

enum FeatureNetwork {
    Clip(Rc<dyn ClipEncoder>),
    Inception { network: Box<Inception>, device: Device },
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Features").field("card", &self.card).finish_non_exhaustive()
    }
}

impl Features {
    /// The embeddings of pictures in a judge's own CLIP, as they come: not brought to length 1
    /// (Kynkäänniemi et al. 2023).
    pub fn of_judge(judge: &Judge) -> Self {
        let encoder = Rc::clone(&judge.encoder);
        let ClipSource { path, hash, fingerprint, .. } = encoder.source().clone();
        let all = format!("{fingerprint} {}", encoder.engine());
        let fingerprint = blake3::hash(all.as_bytes()).to_hex().to_string();
        let card = FeatureCard { name: "CLIP".to_owned(), path, hash, fingerprint };
        Self { card, network: FeatureNetwork::Clip(encoder) }
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
        let network = FeatureNetwork::Inception { network: Box::new(network), device };
        Ok(Self { card, network })
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
        let of_batch = |batch| match &self.network {
            FeatureNetwork::Clip(encoder) => Ok(matrix(&encoder.image_features(batch)?.embeddings)),
            FeatureNetwork::Inception { network, device } => stage("looking at pictures", || {
                let pictures = unit_range(batch)?.to_device(device.tch());
                Ok(no_grad(|| network.features(&pictures)).to_device(tch::Device::Cpu))
            }),
        };
        Ok(Tensor::cat(
            &pictures.chunks(BATCH).map(of_batch).collect::<Result<Vec<_>, Error>>()?,
            0,
        ))
    }

    /// What a judge says of one batch of pictures, and their features. A network that is both looks
    /// once.
    ///
    /// # Errors
    /// Whatever the networks say.
    pub fn and_evidence(
        &self,
        judge: &Judge,
        pictures: &[Picture],
    ) -> Result<(Tensor, Vec<Evidence>), Error> {
        match &self.network {
            FeatureNetwork::Clip(encoder) if Rc::ptr_eq(encoder, &judge.encoder) => {
                let seen = encoder.image_features(pictures)?;
                Ok((matrix(&seen.embeddings), judge.evidence(&seen.unit)))
            }
            _ => Ok((self.of(pictures)?, judge.see(pictures, None)?)),
        }
    }
}

/// Rows as a matrix.
fn matrix(rows: &[Vec<f32>]) -> Tensor {
    let width = rows.first().map_or(0, Vec::len) as i64;
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, width])
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
