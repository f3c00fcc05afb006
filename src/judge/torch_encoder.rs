//! CLIP in libtorch: for GPUs, and for gradients through the judge.

use std::path::Path;

use super::clip_folder::{ClipFolder, ClipSource};
use super::{ClipEncoder, Error, ImageFeatures, rows};
use crate::model::Builder;
use crate::model::clip::{Clip, unit};
use crate::pictures::Picture;
use crate::torch::{Device, Tensor, no_grad, stage};

/// CLIP over `model::clip`, in f32 everywhere: a verdict must not depend on the machine.
pub struct TorchClipEncoder {
    folder: ClipFolder,
    clip: Clip,
    device: Device,
}

impl std::fmt::Debug for TorchClipEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TorchClipEncoder")
    }
}

impl TorchClipEncoder {
    /// Opens any Hugging Face CLIP folder.
    ///
    /// # Errors
    /// A folder that holds no CLIP.
    pub fn open(folder: &Path, device: Device) -> Result<Self, Error> {
        let (folder, weights) = ClipFolder::open(folder)?;
        let clip = Clip::new(&folder.config, Builder::load(&weights, device))?;
        Ok(Self { folder, clip, device })
    }
}

impl ClipEncoder for TorchClipEncoder {
    fn image_features(&self, pictures: &[Picture]) -> Result<ImageFeatures, Error> {
        stage("looking at pictures", || {
            let batch = self.folder.preprocess.apply(pictures)?.to_device(self.device.tch());
            let embeddings = no_grad(|| self.clip.image_embeddings(&batch));
            let unit = no_grad(|| unit(&embeddings));
            Ok(ImageFeatures { unit: rows(&unit)?, embeddings: rows(&embeddings)? })
        })
    }

    fn text_features(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
        stage("reading texts", || {
            let ids: Vec<Tensor> =
                self.folder.ids(texts).iter().map(|ids| Tensor::from_slice(ids)).collect();
            let ids = Tensor::stack(&ids, 0).to_device(self.device.tch());
            rows(&no_grad(|| self.clip.text_features(&ids)))
        })
    }

    fn scale(&self) -> f32 {
        no_grad(|| self.clip.scale().double_value(&[]) as f32)
    }

    fn source(&self) -> &ClipSource {
        &self.folder.source
    }

    fn engine(&self) -> &'static str {
        "libtorch"
    }
}
