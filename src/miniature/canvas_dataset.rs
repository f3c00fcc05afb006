//! The canvas at a GAN's size: pictures, what they show, and a latent for each that stands for it.

use super::canvas_images::{CanvasImages, cells};
use super::left_out::LeftOut;
use crate::canvas::{Drawing, Object, Pose, SIDE, Style, TRAITS};
use crate::torch::{Device, Kind, Rng, Tensor};
use crate::training::RealImages;
use crate::watch::Watch;

/// Pixels on a side of what one sees from afar.
pub(super) const COARSE: i64 = 8;

/// Which pictures of the canvas there are.
pub(super) struct CanvasSelection<'a> {
    /// The canvas' seed.
    pub(super) seed: u64,
    /// Pictures of each style × object.
    pub(super) per_cell: u32,
    pub(super) pose: Pose,
    pub(super) left_out: LeftOut<'a>,
}

/// Pictures of the canvas.
pub(super) struct CanvasDataset {
    /// `[n, 3, size, size]`, bytes.
    pixels: Tensor,
    /// The same at [`COARSE`] pixels on a side, `[n, 3 COARSE²]` from -1 to 1.
    coarse: Tensor,
    /// Style and object of each, `[n, 2]`.
    classes: Tensor,
    /// The chances that each drawing is made of, as normal numbers, `[n, TRAITS]`.
    traits: Tensor,
    /// 0 for each style, then for each object that occurs, and minus infinity for those that do
    /// not: no region of the noise stands for them.
    absent: Tensor,
}

impl CanvasDataset {
    /// The pictures of a selection at `size` pixels on a side.
    pub(super) fn draw(
        selection: &CanvasSelection<'_>,
        size: i64,
        device: Device,
        watch: &mut dyn Watch,
    ) -> Self {
        let &CanvasSelection { seed, per_cell, pose, left_out } = selection;
        let images = CanvasImages::draw(seed, per_cell, pose, watch);
        let mask = |occurs: bool| if occurs { 0.0 } else { f32::NEG_INFINITY };
        let styles = Style::ALL.iter().map(|&style| mask(left_out.has_style(style)));
        let objects = Object::ALL.iter().map(|&object| mask(left_out.has_object(object)));
        let absent = Tensor::from_slice(&styles.chain(objects).collect::<Vec<f32>>());
        let shrink = SIDE as i64 / size;
        let (mut pixels, mut coarse) = (Vec::new(), Vec::new());
        let (mut classes, mut traits) = (Vec::new(), Vec::new());
        for (cell, (style, object)) in cells().enumerate() {
            if !left_out.has_style(style) || !left_out.has_object(object) {
                continue;
            }
            let (n, cell) = (images.per_cell(), cell as i64);
            let rows =
                Tensor::arange_start(cell * n, (cell + 1) * n, (Kind::Int64, tch::Device::Cpu));
            let pictures = images.pictures(&rows, Device::CPU);
            let pictures = pictures.avg_pool2d([shrink; 2], [shrink; 2], [0, 0], false, true, None);
            coarse.push(pictures.adaptive_avg_pool2d([COARSE; 2]).flatten(1, -1));
            pixels.push(((pictures + 1.0) * 127.5).round().to_kind(Kind::Uint8));
            let objects = Object::ALL.len() as i64;
            classes
                .push(Tensor::from_slice(&[cell / objects, cell % objects]).expand([n, 2], false));
            let each =
                (0..per_cell).flat_map(|index| Drawing::new(seed, object, index, pose).traits());
            traits.push(Tensor::from_slice(&each.collect::<Vec<f32>>()).view([n, TRAITS as i64]));
        }
        let here = |tensors: &[Tensor]| Tensor::cat(tensors, 0).to_device(device.tch());
        // Uniform numbers to normal ones; the largest that a float holds below 1 and its
        // counterpart are far enough out.
        let traits =
            (here(&traits).clamp(1e-4, 1.0 - 1e-4) * 2.0 - 1.0).erfinv() * std::f64::consts::SQRT_2;
        Self {
            pixels: here(&pixels),
            coarse: here(&coarse),
            classes: here(&classes),
            traits,
            absent: here(&[absent]),
        }
    }

    /// What is added to a latent's first numbers before the largest of them says its class.
    pub(super) fn absent(&self) -> &Tensor {
        &self.absent
    }

    /// `n` of the pictures at random.
    pub(super) fn choose(&self, n: i64, rng: &mut Rng) -> Tensor {
        rng.below(self.pixels.size()[0], &[n]).to_device(self.pixels.device())
    }

    /// A latent `[n, dim]` for each of these pictures: normal numbers of which the largest of the
    /// first thirteen is the style's, the largest of the next ten the object's, the traits follow,
    /// and the rest stand for nothing.
    pub(super) fn latents(&self, rows: &Tensor, dim: i64, rng: &mut Rng) -> Tensor {
        let (n, classes) = (rows.size()[0], self.classes(rows));
        let (mut parts, mut from) = (Vec::new(), 0);
        for (question, count) in
            [Style::ALL.len() as i64, Object::ALL.len() as i64].into_iter().enumerate()
        {
            let numbers = rng.normal(&[n, count]).to_device(rows.device());
            let absent = self.absent.narrow(0, from, count);
            parts.push(with_largest(&numbers, &absent, &classes.select(1, question as i64)));
            from += count;
        }
        parts.push(self.traits.index_select(0, rows));
        let rest = dim - parts.iter().map(|part| part.size()[1]).sum::<i64>();
        parts.push(rng.normal(&[n, rest.max(0)]).to_device(rows.device()));
        Tensor::cat(&parts, 1).narrow(1, 0, dim)
    }

    /// `n` pictures at random `[n, 3, size, size]`, and a latent `[n, dim]` for each.
    pub(super) fn with_latents(&self, n: i64, dim: i64, rng: &mut Rng) -> (Tensor, Tensor) {
        let rows = self.choose(n, rng);
        (self.pictures(&rows), self.latents(&rows, dim, rng))
    }

    /// Style and object `[n, 2]`.
    pub(super) fn classes(&self, rows: &Tensor) -> Tensor {
        self.classes.index_select(0, rows)
    }

    /// What one sees of them from afar, `[n, 3 COARSE²]`.
    pub(super) fn coarse(&self, rows: &Tensor) -> Tensor {
        self.coarse.index_select(0, rows)
    }

    /// The pictures `[n, 3, size, size]` from -1 to 1.
    pub(super) fn pictures(&self, rows: &Tensor) -> Tensor {
        self.pixels.index_select(0, rows).to_kind(Kind::Float) / 127.5 - 1.0
    }
}

/// Normal numbers `[n, k]` with the largest of each row exchanged into its class's place: the same
/// as drawing again until the class's is the largest. What `absent` `[k]` sets to minus infinity is
/// no class, and stays as it is.
fn with_largest(x: &Tensor, absent: &Tensor, classes: &Tensor) -> Tensor {
    let (most, largest) = (x + absent).max_dim(1, true);
    let at = classes.unsqueeze(1);
    let there = x.gather(1, &at, false);
    x.scatter(1, &largest, &there).scatter(1, &at, &most)
}

impl RealImages for CanvasDataset {
    fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
        let rows = self.choose(n, rng);
        (self.pictures(&rows), Some(self.classes(&rows)))
    }

    fn some_with_latents(&self, n: i64, dim: i64, rng: &mut Rng) -> Option<(Tensor, Tensor)> {
        Some(self.with_latents(n, dim, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_the_class_s_and_nothing_is_lost() {
        let x = Rng::new(3).normal(&[50, 7]);
        let classes = Rng::new(4).below(7, &[50]);
        let all = Tensor::zeros([7], (Kind::Float, tch::Device::Cpu));
        let y = with_largest(&x, &all, &classes);
        assert!(y.argmax(1, false).equal(&classes));
        assert!(y.sort(1, false).0.equal(&x.sort(1, false).0));
    }

    #[test]
    fn what_does_not_occur_has_no_latents_of_its_own() {
        let x = Rng::new(3).normal(&[50, 7]);
        let absent = Tensor::from_slice(&[0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0, 0.0, 0.0]);
        // Classes without the third.
        let classes = Rng::new(4).below(6, &[50]);
        let classes = &classes + classes.ge(2).to_kind(Kind::Int64);
        let y = with_largest(&x, &absent, &classes);
        assert!((&y + &absent).argmax(1, false).equal(&classes));
        // Its number is chance as ever, and is the largest as often as chance has it.
        assert!(y.select(1, 2).equal(&x.select(1, 2)));
        assert!(y.argmax(1, false).eq(2).any().int64_value(&[]) == 1);
    }
}
