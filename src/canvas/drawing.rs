//! What is in a picture, before any style: the parts of an object with their colours, and a ground.

use tiny_skia::Transform;

use super::SIDE;
use super::objects::Object;
use super::sketch::{PaintRole, Part, Sketch};
use super::splitmix::SplitMix64;

/// A colour with components in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colour {
    pub(super) r: f32,
    pub(super) g: f32,
    pub(super) b: f32,
}

impl Colour {
    pub(super) const WHITE: Self = Self::grey(1.0);
    pub(super) const BLACK: Self = Self::grey(0.0);

    pub(super) const fn new(r: f32, g: f32, b: f32) -> Self {
        Self { r, g, b }
    }

    pub(super) const fn grey(v: f32) -> Self {
        Self::new(v, v, v)
    }

    /// Hue in turns, saturation and value in [0, 1].
    pub(super) fn hsv(hue: f32, s: f32, v: f32) -> Self {
        let h = (hue - libm::floorf(hue)) * 6.0;
        let channel = |shift: f32| {
            let k = (shift + h) % 6.0;
            v - v * s * k.min(4.0 - k).clamp(0.0, 1.0)
        };
        Self::new(channel(5.0), channel(3.0), channel(1.0))
    }

    pub(super) fn mix(self, other: Self, t: f32) -> Self {
        let blend = |a: f32, b: f32| a + (b - a) * t;
        Self::new(blend(self.r, other.r), blend(self.g, other.g), blend(self.b, other.b))
    }

    pub(super) fn scale(self, k: f32) -> Self {
        Self::new(self.r * k, self.g * k, self.b * k).clamped()
    }

    pub(super) fn shift(self, d: f32) -> Self {
        Self::new(self.r + d, self.g + d, self.b + d).clamped()
    }

    pub(super) fn clamped(self) -> Self {
        Self::new(self.r.clamp(0.0, 1.0), self.g.clamp(0.0, 1.0), self.b.clamp(0.0, 1.0))
    }

    pub(super) fn luma(self) -> f32 {
        0.299 * self.r + 0.587 * self.g + 0.114 * self.b
    }

    /// The same hue at full strength: what a lamp or a glass pane would show.
    pub(super) fn vivid(self) -> Self {
        let high = self.r.max(self.g).max(self.b).max(1e-3);
        let low = self.r.min(self.g).min(self.b);
        let span = (high - low).max(0.12);
        let stretch = |v: f32| (v - low) / span;
        Self::new(stretch(self.r), stretch(self.g), stretch(self.b)).clamped()
    }
}

/// Where objects stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pose {
    /// Anywhere they fit, a little turned, of different sizes, facing either way.
    Free,
    /// In the middle, upright, of one size, facing one way, as sets of faces are aligned before a
    /// GAN learns from them.
    Aligned,
}

/// A drawing: what all styles show of picture `index`.
#[derive(Debug, Clone)]
pub struct Drawing {
    pub(super) parts: Vec<Part>,
    pub(super) ground: Colour,
    main: Colour,
    second: Colour,
    accent: Colour,
    seed: [u64; 3],
    mirror: f32,
}

/// Chances that a drawing is made of, at most.
pub const TRAITS: usize = 24;

impl Drawing {
    /// Picture `index` of `object` on the canvas of this seed.
    pub fn new(canvas_seed: u64, object: Object, index: u32, pose: Pose) -> Self {
        let seed = [canvas_seed, object as u64, u64::from(index)];
        let mut rng = SplitMix64::new(&seed);

        // The colour plan: a main hue, a second one beside or opposite it, a pale ground of a
        // third.
        let hue = rng.unit();
        let second =
            hue + if rng.unit() < 0.5 { rng.between(0.08, 0.17) } else { rng.between(0.4, 0.6) };
        let main = Colour::hsv(hue, rng.between(0.65, 0.95), rng.between(0.6, 0.9));
        let second = Colour::hsv(second, rng.between(0.55, 0.9), rng.between(0.55, 0.95));
        let accent = Colour::hsv(hue + rng.between(0.25, 0.35), 0.8, 0.95);
        let ground = Colour::hsv(rng.unit(), rng.between(0.08, 0.25), rng.between(0.88, 0.98));

        // The object's place, turn and size; its own space is [-1, 1]² with y downwards.
        let size = SIDE as f32 * rng.between(0.34, 0.42);
        let room = SIDE as f32 / 2.0 - size - 1.0;
        let x = SIDE as f32 / 2.0 + rng.between(-room, room);
        let y = SIDE as f32 / 2.0 + rng.between(-room, room);
        let turn = rng.between(-9.0, 9.0);
        let mirror = rng.sign();
        let (size, x, y, turn, mirror) = match pose {
            Pose::Free => (size, x, y, turn, mirror),
            Pose::Aligned => (SIDE as f32 * 0.4, SIDE as f32 / 2.0, SIDE as f32 / 2.0, 0.0, 1.0),
        };
        let position = Transform::from_scale(size * mirror, size)
            .post_concat(Transform::from_row(
                libm::cosf(turn.to_radians()),
                libm::sinf(turn.to_radians()),
                -libm::sinf(turn.to_radians()),
                libm::cosf(turn.to_radians()),
                0.0,
                0.0,
            ))
            .post_translate(x, y);

        let mut sketch = Sketch { parts: Vec::new() };
        object.sketch(&mut sketch, &mut rng);
        let parts = sketch
            .parts
            .into_iter()
            .filter_map(|part| Some(Part { path: part.path.transform(position)?, role: part.role }))
            .collect();
        Self { parts, ground, main, second, accent, seed, mirror }
    }

    /// The chances that colours, place, turn, size and shape came of, each uniform in [0, 1):
    /// drawings of the same object with nearly the same traits look nearly the same.
    pub fn traits(&self) -> [f32; TRAITS] {
        /// Which of them says whether the object is mirrored: a coin, of which the number's
        /// fraction says nothing.
        const MIRROR: usize = 15;
        let mut rng = SplitMix64::new(&self.seed);
        let mut traits = [0.0; TRAITS].map(|_: f32| rng.unit());
        traits[MIRROR] = f32::midpoint(traits[MIRROR], f32::from(u8::from(self.mirror > 0.0)));
        traits
    }

    /// The colour of a role in this drawing's plan.
    pub(super) fn colour(&self, role: PaintRole) -> Colour {
        match role {
            PaintRole::Main => self.main,
            PaintRole::Second => self.second,
            PaintRole::Accent => self.accent,
            PaintRole::Dark => Colour::grey(0.13),
            PaintRole::Light => Colour::grey(0.95),
        }
    }

    /// How dark a role is in a style with one ink: always told apart from the ground, 0 is paper.
    pub(super) fn tone(role: PaintRole) -> f32 {
        match role {
            PaintRole::Main => 0.62,
            PaintRole::Second => 0.4,
            PaintRole::Accent => 0.5,
            PaintRole::Dark => 0.95,
            PaintRole::Light => 0.1,
        }
    }

    /// Random numbers for a style; each style has its own, so that adding one changes no other.
    pub(super) fn rng(&self, style: &str) -> SplitMix64 {
        let name = style
            .bytes()
            .fold(0_u64, |hash, byte| hash.wrapping_mul(0x100_0000_01B3) ^ u64::from(byte));
        SplitMix64::new(&[self.seed[0], self.seed[1], self.seed[2], name])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left, top, right and bottom of everything that is drawn.
    fn bounds(pose: Pose, object: Object, index: u32) -> [f32; 4] {
        let parts = Drawing::new(1, object, index, pose).parts;
        let each = parts.iter().map(|part| part.path.bounds());
        each.map(|rect| [rect.left(), rect.top(), rect.right(), rect.bottom()])
            .reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])
            .unwrap()
    }

    #[test]
    fn aligned_objects_stand_in_one_place() {
        let widest = |pose: Pose, object: Object| {
            let all: Vec<[f32; 4]> = (0..20).map(|index| bounds(pose, object, index)).collect();
            let spread = |side: usize| {
                let edges = || all.iter().map(|bounds| bounds[side]);
                edges().fold(f32::MIN, f32::max) - edges().fold(f32::MAX, f32::min)
            };
            (0..4).map(spread).fold(0.0, f32::max)
        };
        for &object in Object::ALL {
            let (aligned, free) = (widest(Pose::Aligned, object), widest(Pose::Free, object));
            // What is left is the shape's own.
            assert!(aligned < 8.0 && aligned < 0.7 * free, "{} {aligned} {free}", object.name());
        }
    }

    #[test]
    fn a_pose_changes_no_colour() {
        let [free, aligned] = [Pose::Free, Pose::Aligned]
            .map(|pose| Drawing::new(1, Object::Car, 3, pose).colour(PaintRole::Main));
        assert_eq!(free, aligned);
    }
}
