//! The canvas at a GAN's size: pictures, what they show, and a latent for each that stands for it.

use super::gallery::cells;
use super::{Gallery, Reals};
use crate::canvas::{Drawing, Object, Pose, SIDE, Style, TRAITS};
use crate::torch::{Device, Kind, Rng, Tensor};
use crate::watch::Watch;

/// Pixels on a side of what one sees from afar.
pub(super) const COARSE: i64 = 8;

/// Pictures of a canvas world.
pub(super) struct World {
    /// `[n, 3, size, size]`, bytes.
    pixels: Tensor,
    /// The same at [`COARSE`] pixels on a side, `[n, 3 COARSE²]` from -1 to 1.
    coarse: Tensor,
    /// Style and object of each, `[n, 2]`.
    classes: Tensor,
    /// The chances that each drawing is made of, as normal numbers, `[n, TRAITS]`.
    traits: Tensor,
}

impl World {
    /// Pictures 0 to `per_cell - 1` of each style × object, but for the styles and objects in `without`.
    pub(super) fn draw(
        world: u64,
        without: [&[String]; 2],
        per_cell: u32,
        pose: Pose,
        size: i64,
        device: Device,
        watch: &mut dyn Watch,
    ) -> Self {
        let gallery = Gallery::draw(world, 0, per_cell, pose, watch);
        let shrink = SIDE as i64 / size;
        let (mut pixels, mut coarse) = (Vec::new(), Vec::new());
        let (mut classes, mut traits) = (Vec::new(), Vec::new());
        for (cell, (style, object)) in cells().enumerate() {
            let out = |names: &[String], name: &str| names.iter().any(|own| own == name);
            if out(without[0], style.name()) || out(without[1], object.name()) {
                continue;
            }
            let (n, cell) = (gallery.per_cell(), cell as i64);
            let rows = Tensor::arange_start(cell * n, (cell + 1) * n, (Kind::Int64, tch::Device::Cpu));
            let own = gallery.pictures(&rows, Device::CPU);
            let own = own.avg_pool2d([shrink; 2], [shrink; 2], [0, 0], false, true, None);
            coarse.push(own.adaptive_avg_pool2d([COARSE; 2]).flatten(1, -1));
            pixels.push(((own + 1.0) * 127.5).round().to_kind(Kind::Uint8));
            let objects = Object::ALL.len() as i64;
            classes.push(Tensor::from_slice(&[cell / objects, cell % objects]).expand([n, 2], false));
            let each = (0..per_cell).flat_map(|index| Drawing::new(world, object, index, pose).traits());
            traits.push(Tensor::from_slice(&each.collect::<Vec<f32>>()).view([n, TRAITS as i64]));
        }
        let here = |tensors: &[Tensor]| Tensor::cat(tensors, 0).to_device(device.tch());
        // Uniform numbers to normal ones; the largest that a float holds below 1 and its counterpart are far enough out.
        let traits = (here(&traits).clamp(1e-4, 1.0 - 1e-4) * 2.0 - 1.0).erfinv() * std::f64::consts::SQRT_2;
        Self { pixels: here(&pixels), coarse: here(&coarse), classes: here(&classes), traits }
    }

    /// `n` of the pictures at random.
    pub(super) fn choose(&self, n: i64, rng: &mut Rng) -> Tensor {
        rng.below(self.pixels.size()[0], &[n]).to_device(self.pixels.device())
    }

    /// A latent `[n, dim]` for each of these pictures: normal numbers of which the largest of the first thirteen is the
    /// style's, the largest of the next ten the object's, the traits follow, and the rest stand for nothing.
    pub(super) fn latents(&self, rows: &Tensor, dim: i64, rng: &mut Rng) -> Tensor {
        let (n, classes) = (rows.size()[0], self.classes(rows));
        let mut parts = Vec::new();
        for (question, count) in [Style::ALL.len(), Object::ALL.len()].into_iter().enumerate() {
            let own = rng.normal(&[n, count as i64]).to_device(rows.device());
            parts.push(with_largest(&own, &classes.select(1, question as i64)));
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

/// Normal numbers `[n, k]` with the largest of each row exchanged into its class's place: the same as drawing again until
/// the class's is the largest.
fn with_largest(x: &Tensor, classes: &Tensor) -> Tensor {
    let (most, place) = x.max_dim(1, true);
    let at = classes.unsqueeze(1);
    let there = x.gather(1, &at, false);
    x.scatter(1, &place, &there).scatter(1, &at, &most)
}

impl Reals for World {
    fn some(&self, n: i64, rng: &mut Rng) -> (Tensor, Option<Tensor>) {
        let rows = self.choose(n, rng);
        (self.pictures(&rows), Some(self.classes(&rows)))
    }

    fn traced(&self, n: i64, dim: i64, rng: &mut Rng) -> Option<(Tensor, Tensor)> {
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
        let y = with_largest(&x, &classes);
        assert!(y.argmax(1, false).equal(&classes));
        assert!(y.sort(1, false).0.equal(&x.sort(1, false).0));
    }
}
