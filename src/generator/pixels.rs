//! Pixels on their way between tensors and pictures.

use super::Error;
use crate::pictures::Picture;
use crate::torch::{IndexOp, Kind, Tensor};

/// The first picture of which not all numbers are finite, from `finite` `[n]`.
pub(super) fn first_not_finite(finite: &Tensor) -> Option<usize> {
    let each = Vec::<bool>::try_from(finite.to_device(tch::Device::Cpu)).unwrap_or_default();
    each.iter().position(|finite| !finite)
}

/// Pixels `[n, 3, h, w]` in [0, 1] to pictures; rounded as diffusers does.
pub(super) fn to_pictures(pixels: &Tensor) -> Result<Vec<Picture>, Error> {
    let (n, _, height, width) = pixels.size4().map_err(crate::torch::Error::from)?;
    let bytes = (pixels * 255.0)
        .round()
        .to_kind(Kind::Uint8)
        .permute([0, 2, 3, 1])
        .contiguous()
        .to_device(tch::Device::Cpu)
        .flatten(1, 3);
    (0..n)
        .map(|i| {
            let rgb = Vec::<u8>::try_from(bytes.i(i)).map_err(crate::torch::Error::from)?;
            Ok(Picture { width: width as usize, height: height as usize, rgb })
        })
        .collect()
}

/// Pictures of one size to `[n, 3, h, w]` in [0, 1].
pub(super) fn to_tensor(pictures: &[Picture]) -> Result<Tensor, Error> {
    let each = pictures
        .iter()
        .map(|picture| {
            let first = &pictures[0];
            if (picture.width, picture.height) != (first.width, first.height) {
                return Err(Error::Request(format!(
                    "pictures of {}x{} and {}x{} pixels cannot be in one batch",
                    picture.width, picture.height, first.width, first.height
                )));
            }
            let shape = [picture.height as i64, picture.width as i64, 3];
            Ok(Tensor::from_slice(&picture.rgb).view(shape).permute([2, 0, 1]))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::stack(&each, 0).to_kind(Kind::Float) / 255.0)
}
