//! Pictures to the numbers that a CLIP was trained on: shortest edge to the model's size (bicubic, in
//! 8 bits, as Pillow does), the middle square, mean and deviation of each channel.

use std::path::Path;

use serde::Deserialize;

use super::Error;
use crate::pictures::Picture;
use crate::torch::{Kind, Tensor};

/// `preprocessor_config.json`.
#[derive(Debug, Clone, Deserialize)]
struct File {
    #[serde(default = "openai_mean")]
    image_mean: [f32; 3],
    #[serde(default = "openai_std")]
    image_std: [f32; 3],
}

fn openai_mean() -> [f32; 3] {
    [0.481_454_66, 0.457_827_5, 0.408_210_73]
}

fn openai_std() -> [f32; 3] {
    [0.268_629_55, 0.261_302_6, 0.275_777_1]
}

/// The steps before a vision tower.
#[derive(Debug, Clone)]
pub(super) struct Preprocess {
    side: i64,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Preprocess {
    /// Reads `preprocessor_config.json`; `OpenAI`'s numbers where there is none.
    pub(super) fn open(folder: &Path, side: i64) -> Result<Self, Error> {
        let path = folder.join("preprocessor_config.json");
        let text = if path.exists() { fs_err::read_to_string(&path)? } else { "{}".to_owned() };
        let file: File = serde_json::from_str(&text).map_err(|error| Error::Folder {
            path: folder.to_path_buf(),
            why: format!("preprocessor_config.json: {error}"),
        })?;
        Ok(Self { side, mean: file.image_mean, std: file.image_std })
    }

    /// Pictures of any sizes to `[n, 3, side, side]`, f32.
    pub(super) fn apply(&self, pictures: &[Picture]) -> Tensor {
        let each: Vec<Tensor> = pictures.iter().map(|picture| self.square(picture)).collect();
        let batch = Tensor::stack(&each, 0).to_kind(Kind::Float) / 255.0;
        let channel = |values: &[f32; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]);
        (batch - channel(&self.mean)) / channel(&self.std)
    }

    /// One picture to `[3, side, side]`, u8.
    fn square(&self, picture: &Picture) -> Tensor {
        let (w, h) = (picture.width as i64, picture.height as i64);
        let pixels = Tensor::from_slice(&picture.rgb).view([h, w, 3]).permute([2, 0, 1]).contiguous();
        if (w, h) == (self.side, self.side) {
            return pixels;
        }
        // transformers: the longer edge is cut down to a whole number.
        let short = w.min(h);
        let (nw, nh) = (w * self.side / short, h * self.side / short);
        let resized = if (nw, nh) == (w, h) {
            pixels
        } else {
            pixels.unsqueeze(0).internal_upsample_bicubic2d_aa([nh, nw], false, None, None).squeeze_dim(0)
        };
        resized.narrow(1, (nh - self.side) / 2, self.side).narrow(2, (nw - self.side) / 2, self.side)
    }
}
