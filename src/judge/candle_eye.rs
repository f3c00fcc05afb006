//! CLIP in candle: the default judge on a CPU, with no code in common with what it judges.
#![expect(unsafe_code, reason = "candle maps the weights' file")]

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::ClipModel;
use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig};
use candle_transformers::models::clip::vision_model::ClipVisionConfig;

use super::clip_folder::ClipFolder;
use super::{Error, Eye};
use crate::model::clip;
use crate::pictures::Picture;

/// CLIP over `candle-transformers`.
pub struct CandleEye {
    folder: ClipFolder,
    clip: ClipModel,
    scale: f32,
}

impl std::fmt::Debug for CandleEye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CandleEye")
    }
}

impl CandleEye {
    /// Opens a Hugging Face CLIP folder.
    ///
    /// # Errors
    /// A folder that holds no CLIP, or one with another activation than `quick_gelu`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = ClipFolder::open(path)?;
        let wrong = |why: String| Error::Folder { path: path.to_path_buf(), why };
        let (t, v) = (&folder.config.text_config, &folder.config.vision_config);
        if t.hidden_act != clip::Activation::QuickGelu || v.hidden_act != clip::Activation::QuickGelu {
            return Err(wrong(
                "its activation is gelu, candle's CLIP has quick_gelu; use the engine `libtorch`".to_owned(),
            ));
        }
        // Where a name is missing candle draws random numbers: check before.
        let weights = crate::weights::Weights::open(&folder.weights)?;
        for name in [
            "logit_scale",
            "text_projection.weight",
            "visual_projection.weight",
            "vision_model.embeddings.class_embedding",
        ] {
            if !weights.contains(name) {
                return Err(wrong(format!("`{name}` is missing{}", weights.hint(name))));
            }
        }
        let config = candle_transformers::models::clip::ClipConfig {
            text_config: ClipTextConfig {
                vocab_size: t.vocab_size as usize,
                embed_dim: t.hidden_size as usize,
                activation: Activation::QuickGelu,
                intermediate_size: t.intermediate_size as usize,
                max_position_embeddings: t.max_position_embeddings as usize,
                pad_with: None,
                num_hidden_layers: t.num_hidden_layers as usize,
                num_attention_heads: t.num_attention_heads as usize,
                projection_dim: folder.config.projection_dim as usize,
            },
            vision_config: ClipVisionConfig {
                embed_dim: v.hidden_size as usize,
                activation: Activation::QuickGelu,
                intermediate_size: v.intermediate_size as usize,
                num_hidden_layers: v.num_hidden_layers as usize,
                num_attention_heads: v.num_attention_heads as usize,
                projection_dim: folder.config.projection_dim as usize,
                num_channels: 3,
                image_size: v.image_size as usize,
                patch_size: v.patch_size as usize,
            },
            logit_scale_init_value: 2.6592,
            image_size: v.image_size as usize,
        };
        // SAFETY: the file's header was checked above; nobody writes a model's file in place.
        let vb =
            unsafe { VarBuilder::from_mmaped_safetensors(&[&folder.weights], DType::F32, &Device::Cpu)? };
        let scale = vb.get((), "logit_scale")?.to_scalar::<f32>()?.exp();
        let clip = ClipModel::new(vb, &config)?;
        Ok(Self { folder, clip, scale })
    }
}

impl Eye for CandleEye {
    fn pictures(&self, pictures: &[Picture]) -> Result<Vec<Vec<f32>>, Error> {
        let batch = self.folder.preprocess.apply(pictures).contiguous();
        let shape: Vec<usize> = batch.size().iter().map(|&n| n as usize).collect();
        let flat = Vec::<f32>::try_from(batch.flatten(0, -1)).map_err(crate::torch::Error::from)?;
        let features = self.clip.get_image_features(&Tensor::from_vec(flat, shape, &Device::Cpu)?)?;
        unit_rows(&features)
    }

    fn texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
        let ids = self.folder.ids(texts);
        let width = ids.first().map_or(0, Vec::len);
        let flat: Vec<u32> = ids.iter().flatten().map(|&id| id as u32).collect();
        let ids = Tensor::from_vec(flat, (texts.len(), width), &Device::Cpu)?;
        unit_rows(&self.clip.get_text_features(&ids)?)
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn engine(&self) -> &'static str {
        "candle"
    }
}

fn unit_rows(features: &Tensor) -> Result<Vec<Vec<f32>>, Error> {
    let length = features.sqr()?.sum_keepdim(1)?.sqrt()?;
    Ok(features.broadcast_div(&length)?.to_vec2()?)
}
