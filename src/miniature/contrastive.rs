//! A CLIP learns to bring pictures and captions together (Radford et al. 2021, section 2.3).
//!
//! On the canvas many captions fit many pictures («a picture of a Cat» fits every style), so the
//! targets of the two cross entropies are uniform over everything that fits, not the diagonal
//! alone.

use super::canvas_images::{CanvasImages, cell_count, cells};
use super::reading::WordReading;
use crate::canvas::{Language, Object, captions};
use crate::model::clip::Clip;
use crate::torch::{Device, Kind, Rng, Tensor};
use crate::training::{Error, MicroBatch, Objective};

/// What is said of the cells, as the text tower reads it.
#[derive(Debug)]
pub(super) struct CaptionIds {
    /// Token ids of every caption, `[captions, tokens]`; the last is the empty one.
    ids: Tensor,
    /// What a caption says: style and object, -1 where it is silent; `[captions, 2]`.
    says: Tensor,
    /// Captions of each cell.
    per_cell: i64,
}

impl CaptionIds {
    /// Tokenises all captions.
    pub(super) fn new(
        language: Language,
        tokenize: &dyn Fn(&str) -> Vec<i64>,
        device: Device,
    ) -> Self {
        let (mut ids, mut says) = (Vec::new(), Vec::new());
        let mut per_cell = 0;
        for (cell, (style, object)) in cells().enumerate() {
            let captions = captions(language, style, object);
            per_cell = captions.len() as i64;
            let (s, o) = ((cell / Object::ALL.len()) as i64, (cell % Object::ALL.len()) as i64);
            for caption in captions {
                ids.push(Tensor::from_slice(&tokenize(&caption.text)));
                says.push(Tensor::from_slice(&[
                    if caption.says_style { s } else { -1 },
                    if caption.says_object { o } else { -1 },
                ]));
            }
        }
        ids.push(Tensor::from_slice(&tokenize("")));
        says.push(Tensor::from_slice(&[-1_i64, -1]));
        let here = |rows: &[Tensor]| Tensor::stack(rows, 0).to_device(device.tch());
        Self { ids: here(&ids), says: here(&says), per_cell }
    }
}

/// Pictures and captions.
#[derive(Debug)]
pub(super) struct ContrastiveObjective<'a> {
    pub(super) name: &'static str,
    pub(super) clip: &'a Clip,
    pub(super) images: &'a CanvasImages,
    pub(super) captions: CaptionIds,
    /// What it learns to read beside them.
    pub(super) reading: Option<WordReading>,
    /// Pictures a step.
    pub(super) batch: i64,
    pub(super) device: Device,
}

/// How often the caption is empty: it fits every picture.
const EMPTY: f64 = 0.02;
/// How often the caption is `UnlearnCanvas`' template.
const TEMPLATE: f64 = 0.4;

impl Objective for ContrastiveObjective<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.clip
            .parameters()
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            .collect()
    }

    fn loss(&mut self, _step: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, Error> {
        let (n, here, kinds) = (self.batch, self.device.tch(), self.captions.per_cell);
        let cells = rng.below(cell_count(), &[n]);
        let rows = &cells * self.images.per_cell() + rng.below(self.images.per_cell(), &[n]);
        let chance = rng.uniform(&[n]);
        let others = rng.below(kinds - 1, &[n]) + 1;
        let kind = others.where_self(&chance.ge(EMPTY + TEMPLATE), &others.zeros_like());
        let caption = &cells * kinds + kind;
        let last = caption.full_like(cell_count() * kinds);
        let caption = last.where_self(&chance.lt(EMPTY), &caption).to_device(here);

        let pictures = self.clip.image_features(&self.images.pictures(&rows, self.device));
        let texts = self.clip.text_features(&self.captions.ids.index_select(0, &caption));
        let logits =
            pictures.matmul(&texts.tr()).to_kind(Kind::Float) * self.clip.scale().clamp_max(100.0);

        // Caption j fits picture i where all that it says is true of the picture.
        let objects = Object::ALL.len() as i64;
        let is = Tensor::stack(
            &[cells.divide_scalar_mode(objects, "floor"), cells.remainder(objects)],
            1,
        );
        let says = self.captions.says.index_select(0, &caption).unsqueeze(0);
        let is = is.to_device(here).unsqueeze(1);
        let fits =
            says.eq_tensor(&is).logical_or(&says.lt(0)).all_dim(-1, false).to_kind(Kind::Float);
        let towards = |logits: &Tensor, fits: &Tensor| {
            let target = fits / fits.sum_dim_intlist([-1_i64].as_slice(), true, Kind::Float);
            -(target * logits.log_softmax(-1, Kind::Float))
                .sum_dim_intlist([-1_i64].as_slice(), false, Kind::Float)
                .mean(Kind::Float)
        };
        let matching = (towards(&logits, &fits) + towards(&logits.tr(), &fits.tr())) * 0.5;
        Ok(match &self.reading {
            Some(reading) => matching + reading.loss(self.clip, n, rng),
            None => matching,
        })
    }
}
