//! The ten objects: silhouettes that no two of which share, each with a few parts of other colours.

use super::sketch::PaintRole::{Accent, Dark, Light, Main, Second};
use super::sketch::Sketch;
use super::splitmix::SplitMix64;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names say it")]
        #[allow(non_camel_case_types, reason = "the variants' names are the file names")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// All of them, in the order of the answer sets.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in file names, with underscores.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }
    };
}
pub(super) use named;

named! {
    /// Something to draw.
    Object { Boat, Butterfly, Car, Cat, Fish, Flower, House, Mushroom, Tree, Umbrella }
}

impl Object {
    /// Draws the object into [-1, 1]².
    pub(super) fn sketch(self, s: &mut Sketch, rng: &mut SplitMix64) {
        match self {
            Self::Boat => boat(s, rng),
            Self::Butterfly => butterfly(s, rng),
            Self::Car => car(s, rng),
            Self::Cat => cat(s, rng),
            Self::Fish => fish(s, rng),
            Self::Flower => flower(s, rng),
            Self::House => house(s, rng),
            Self::Mushroom => mushroom(s, rng),
            Self::Tree => tree(s, rng),
            Self::Umbrella => umbrella(s, rng),
        }
    }
}

fn boat(s: &mut Sketch, rng: &mut SplitMix64) {
    let mast = rng.between(-0.1, 0.1);
    let top = rng.between(-1.0, -0.88);
    s.rectangle(Dark, mast - 0.05, top, mast + 0.05, 0.5);
    s.polygon(Second, &[(mast + 0.1, top + 0.08), (mast + 0.85, 0.3), (mast + 0.1, 0.3)]);
    s.polygon(Light, &[(mast - 0.1, top + 0.3), (mast - 0.7, 0.3), (mast - 0.1, 0.3)]);
    let keel = rng.between(0.5, 0.66);
    s.polygon(Main, &[(-0.98, 0.42), (0.98, 0.42), (keel, 0.95), (-keel, 0.95)]);
    s.polygon(Accent, &[(-0.93, 0.5), (0.93, 0.5), (0.87, 0.6), (-0.87, 0.6)]);
}

fn butterfly(s: &mut Sketch, rng: &mut SplitMix64) {
    let (upper, lower) = (rng.between(0.5, 0.58), rng.between(0.38, 0.46));
    let tilt = rng.between(24.0, 40.0);
    for side in [-1.0, 1.0] {
        s.tilted(Main, (side * 0.5, -0.36), (upper, 0.4), -side * tilt);
        s.tilted(Second, (side * 0.42, 0.48), (lower, 0.34), side * tilt);
        s.circle(Accent, side * 0.56, -0.4, 0.17);
        s.circle(Light, side * 0.45, 0.5, 0.13);
        s.polygon(
            Dark,
            &[(0.0, -0.55), (side * 0.24, -1.0), (side * 0.33, -0.97), (side * 0.07, -0.5)],
        );
    }
    s.ellipse(Dark, 0.0, 0.05, 0.12, 0.72);
}

fn car(s: &mut Sketch, rng: &mut SplitMix64) {
    let (front, back) = (rng.between(0.42, 0.62), rng.between(-0.78, -0.6));
    let roof = rng.between(-0.62, -0.5);
    s.polygon(Main, &[(back, -0.02), (back + 0.22, roof), (front - 0.36, roof), (front, -0.02)]);
    s.polygon(
        Light,
        &[(back + 0.14, -0.06), (back + 0.29, roof + 0.12), (-0.13, roof + 0.12), (-0.13, -0.06)],
    );
    s.polygon(
        Light,
        &[(0.0, -0.06), (0.0, roof + 0.12), (front - 0.42, roof + 0.12), (front - 0.16, -0.06)],
    );
    s.polygon(
        Main,
        &[(-1.0, 0.02), (-0.93, -0.05), (0.72, -0.05), (1.0, 0.12), (1.0, 0.46), (-1.0, 0.46)],
    );
    s.rectangle(Accent, 0.85, 0.12, 1.0, 0.24);
    let wheel = rng.between(0.25, 0.29);
    for x in [-0.55, 0.56] {
        s.circle(Dark, x, 0.46, wheel);
        s.circle(Light, x, 0.46, wheel * 0.45);
    }
}

fn cat(s: &mut Sketch, rng: &mut SplitMix64) {
    // A face: two ears, eyes with slits, a nose and whiskers.
    let ear = rng.between(0.92, 1.0);
    for side in [-1.0, 1.0] {
        s.polygon(Main, &[(side * 0.86, -0.05), (side * 0.8, -ear), (side * 0.12, -0.55)]);
        s.polygon(Second, &[(side * 0.72, -0.3), (side * 0.69, -ear + 0.24), (side * 0.33, -0.53)]);
    }
    s.ellipse(Main, 0.0, 0.13, rng.between(0.86, 0.93), 0.74);
    s.ellipse(Light, 0.0, 0.52, 0.36, 0.25);
    for side in [-1.0, 1.0] {
        s.ellipse(Accent, side * 0.39, 0.0, 0.19, 0.21);
        s.ellipse(Dark, side * 0.39, 0.0, 0.08, 0.18);
        for y in [0.4, 0.56] {
            s.polygon(
                Dark,
                &[
                    (side * 0.3, y),
                    (side * 1.0, y - 0.1),
                    (side * 1.0, y - 0.03),
                    (side * 0.3, y + 0.05),
                ],
            );
        }
    }
    s.polygon(Dark, &[(-0.13, 0.32), (0.13, 0.32), (0.0, 0.48)]);
}

fn fish(s: &mut Sketch, rng: &mut SplitMix64) {
    let (tail, height) = (rng.between(0.4, 0.52), rng.between(0.44, 0.54));
    s.polygon(Second, &[(0.42, 0.0), (1.0, -tail), (0.86, 0.0), (1.0, tail)]);
    s.polygon(Second, &[(-0.35, -0.3), (0.1, -height - 0.34), (0.35, -0.25)]);
    s.polygon(Second, &[(-0.15, 0.3), (0.1, height + 0.22), (0.3, 0.25)]);
    s.ellipse(Main, -0.2, 0.0, 0.78, height);
    for x in [-0.2, 0.1] {
        s.polygon(
            Accent,
            &[
                (x, -height * 0.86),
                (x + 0.13, -height * 0.8),
                (x + 0.13, height * 0.8),
                (x, height * 0.86),
            ],
        );
    }
    s.circle(Light, -0.62, -0.1, 0.16);
    s.circle(Dark, -0.64, -0.1, 0.08);
}

fn flower(s: &mut Sketch, rng: &mut SplitMix64) {
    let y = -0.36;
    s.rectangle(Second, -0.06, 0.0, 0.06, 1.0);
    s.tilted(Second, (0.32, 0.62), (0.34, 0.14), -32.0);
    s.tilted(Second, (-0.32, 0.76), (0.34, 0.14), 32.0);
    let petals = 5 + rng.below(3);
    let turn = rng.between(0.0, 360.0);
    for k in 0..petals {
        let angle = (turn + 360.0 * k as f32 / petals as f32).to_radians();
        let (sin, cos) = (libm::sinf(angle), libm::cosf(angle));
        s.tilted(Main, (0.37 * cos, y + 0.37 * sin), (0.28, 0.2), angle.to_degrees());
    }
    s.circle(Accent, 0.0, y, 0.2);
}

fn house(s: &mut Sketch, rng: &mut SplitMix64) {
    let (wall, eaves) = (rng.between(0.64, 0.74), rng.between(-0.22, -0.1));
    s.rectangle(Dark, 0.34, -0.92, 0.56, -0.3);
    s.rectangle(Main, -wall, eaves - 0.02, wall, 0.95);
    s.polygon(Second, &[(-0.98, eaves), (0.0, rng.between(-1.0, -0.88)), (0.98, eaves)]);
    let door = rng.between(-0.5, -0.36);
    s.rectangle(Dark, door, 0.3, door + 0.36, 0.95);
    s.rectangle(Light, 0.1, 0.12, 0.52, 0.52);
    s.rectangle(Accent, 0.28, 0.12, 0.34, 0.52);
}

fn mushroom(s: &mut Sketch, rng: &mut SplitMix64) {
    let (waist, foot) = (rng.between(0.2, 0.26), rng.between(0.34, 0.42));
    s.polygon(Light, &[(-waist, 0.0), (waist, 0.0), (foot, 0.95), (-foot, 0.95)]);
    s.polygon(Second, &[(-0.4, 0.1), (0.4, 0.1), (0.3, 0.32), (-0.3, 0.32)]);
    let top = rng.between(-1.0, -0.85);
    s.shape(Main, |b| {
        b.move_to(-0.96, 0.12);
        b.cubic_to(-0.95, top - 0.25, 0.95, top - 0.25, 0.96, 0.12);
        b.quad_to(0.0, 0.3, -0.96, 0.12);
    });
    s.circle(Light, rng.between(-0.1, 0.1), -0.58, 0.19);
    s.circle(Light, -0.5, rng.between(-0.25, -0.12), 0.16);
    s.circle(Light, 0.48, rng.between(-0.25, -0.12), 0.18);
}

fn tree(s: &mut Sketch, rng: &mut SplitMix64) {
    // A fir: nothing else here is a stack of triangles.
    s.rectangle(Dark, -0.13, 0.6, 0.13, 1.0);
    let width = rng.between(0.72, 0.84);
    s.polygon(Main, &[(-width, 0.68), (0.0, -0.1), (width, 0.68)]);
    s.polygon(Second, &[(-width * 0.8, 0.26), (0.0, -0.52), (width * 0.8, 0.26)]);
    s.polygon(Main, &[(-width * 0.58, -0.22), (0.0, -1.0), (width * 0.58, -0.22)]);
    for (x, y) in [(-0.3, 0.5), (0.28, 0.46), (0.02, 0.1), (-0.12, -0.42)] {
        s.circle(Accent, x + rng.between(-0.08, 0.08), y, 0.1);
    }
}

fn umbrella(s: &mut Sketch, rng: &mut SplitMix64) {
    let top = rng.between(-0.95, -0.85);
    s.rectangle(Dark, -0.05, -0.1, 0.05, 0.72);
    // The handle's hook
    s.shape(Dark, |b| {
        b.move_to(-0.05, 0.68);
        b.cubic_to(-0.05, 1.08, 0.45, 1.08, 0.45, 0.68);
        b.line_to(0.34, 0.68);
        b.cubic_to(0.34, 0.9, 0.06, 0.9, 0.05, 0.68);
    });
    let edge = |b: &mut tiny_skia::PathBuilder, from: f32, to: f32| {
        b.quad_to(f32::midpoint(from, to), -0.18, to, 0.08);
    };
    s.shape(Main, |b| {
        b.move_to(-1.0, 0.08);
        b.cubic_to(-0.9, top - 0.2, 0.9, top - 0.2, 1.0, 0.08);
        edge(b, 1.0, 0.34);
        edge(b, 0.34, -0.34);
        edge(b, -0.34, -1.0);
    });
    s.shape(Second, |b| {
        b.move_to(-0.34, 0.08);
        b.quad_to(-0.34, top + 0.3, 0.0, top + 0.1);
        b.quad_to(0.34, top + 0.3, 0.34, 0.08);
        edge(b, 0.34, -0.34);
    });
    s.rectangle(Dark, -0.04, top - 0.08, 0.04, top + 0.14);
}
