//! CLIP in candle: the default judge on a CPU, with no code in common with what it judges.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::candle_clip::CandleClip;
use super::clip_folder::{ClipFolder, ClipSource};
use super::{ClipEncoder, Error, ImageFeatures};
use crate::model::clip::divides;
use crate::pictures::Picture;
use crate::torch::Kind;
use crate::weights::Weights;

/// CLIP over candle.
pub struct CandleClipEncoder {
    folder: ClipFolder,
    clip: CandleClip,
}

impl std::fmt::Debug for CandleClipEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CandleClipEncoder")
    }
}

impl CandleClipEncoder {
    /// Opens a Hugging Face CLIP folder.
    ///
    /// # Errors
    /// A folder that holds no CLIP.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (folder, weights) = ClipFolder::open(path)?;
        divides(&folder.config)?;
        let clip =
            CandleClip::new(&folder.config, tensors(&weights)?).map_err(|error| match error {
                candle_core::Error::CannotFindTensor { path: name } => {
                    let why = format!("`{name}` is missing{}", weights.hint(&name));
                    Error::Folder { path: path.to_path_buf(), why }
                }
                other => Error::Candle(other),
            })?;
        Ok(Self { folder, clip })
    }
}

impl ClipEncoder for CandleClipEncoder {
    fn image_features(&self, pictures: &[Picture]) -> Result<ImageFeatures, Error> {
        let batch = here(&self.folder.preprocess.apply(pictures)?.contiguous())?;
        let embeddings = self.clip.image_features(&batch)?;
        Ok(ImageFeatures { unit: unit_rows(&embeddings)?, embeddings: embeddings.to_vec2()? })
    }

    fn text_features(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
        let ids = self.folder.ids(texts);
        let width = ids.first().map_or(0, Vec::len);
        let flat: Vec<u32> = ids.iter().flatten().map(|&id| id as u32).collect();
        let ids = Tensor::from_vec(flat, (texts.len(), width), &Device::Cpu)?;
        unit_rows(&self.clip.text_features(&ids)?)
    }

    fn scale(&self) -> f32 {
        self.clip.scale()
    }

    fn source(&self) -> &ClipSource {
        &self.folder.source
    }

    fn engine(&self) -> &'static str {
        "candle"
    }
}

/// A file's tensors in candle, in f32.
fn tensors(weights: &Weights) -> Result<HashMap<String, Tensor>, Error> {
    let read =
        |name: &str| Ok((name.to_owned(), here(&weights.floats(name)?.to_kind(Kind::Float))?));
    weights.names().map(read).collect()
}

fn here(tensor: &crate::torch::Tensor) -> Result<Tensor, Error> {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let flat = Vec::<f32>::try_from(tensor.flatten(0, -1)).map_err(crate::torch::Error::from)?;
    Ok(Tensor::from_vec(flat, shape, &Device::Cpu)?)
}

fn unit_rows(features: &Tensor) -> Result<Vec<Vec<f32>>, Error> {
    let length = features.sqr()?.sum_keepdim(1)?.sqrt()?;
    Ok(features.broadcast_div(&length)?.to_vec2()?)
}
