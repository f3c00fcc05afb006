//! The canvas as the UNet learns from it: latents and text embeddings, computed once, because the
//! encoder and the text tower do not move.

use super::canvas_images::{CanvasImages, cells};
use crate::canvas::{Language, captions};
use crate::model::vae::Vae;
use crate::torch::{Compute, Kind, Tensor, no_grad};
use crate::watch::Watch;

/// Latents of all pictures, and embeddings of all captions.
#[derive(Debug)]
pub(super) struct EncodedCanvas {
    /// Scaled means and deviations of the latents, `[n, c, h, w]` each.
    pub(super) means: Tensor,
    pub(super) deviations: Tensor,
    /// `[cells, captions, tokens, width]`.
    pub(super) texts: Tensor,
    /// `[tokens, width]`.
    pub(super) empty: Tensor,
    /// Pictures of each cell.
    pub(super) per_cell: i64,
}

impl EncodedCanvas {
    /// Encodes the images and all captions. `embed` gives hidden states `[n, tokens, width]`.
    pub(super) fn new(
        vae: &Vae,
        images: &CanvasImages,
        language: Language,
        embed: &dyn Fn(&[String]) -> Tensor,
        compute: Compute,
        watch: &mut dyn Watch,
    ) -> Self {
        let scale = vae.config().scaling_factor;
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        watch.begin("encoding pictures", images.len() as u64);
        no_grad(|| {
            let _scope = compute.scope();
            for rows in images.batches(128) {
                let moments = vae.encode(&images.pictures(&rows, compute.device));
                means.push(moments.mean.to_kind(Kind::Float) * scale);
                deviations.push((moments.log_variance.to_kind(Kind::Float) * 0.5).exp() * scale);
                watch.at((means.len() * 128) as u64, "");
            }
        });
        watch.end();
        let texts = |(style, object)| {
            let captions = captions(language, style, object).into_iter();
            embed(&captions.map(|caption| caption.text).collect::<Vec<_>>())
        };
        let texts: Vec<Tensor> = no_grad(|| cells().map(texts).collect());
        let empty = no_grad(|| embed(&[String::new()]).squeeze_dim(0));
        Self {
            means: Tensor::cat(&means, 0),
            deviations: Tensor::cat(&deviations, 0),
            texts: Tensor::stack(&texts, 0),
            empty,
            per_cell: images.per_cell(),
        }
    }
}
