//! The parts of an object while they are put together.

use tiny_skia::{Path, PathBuilder};

/// What a part of an object is painted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaintRole {
    /// The object's main colour.
    Main,
    /// Its second colour.
    Second,
    /// A small, contrasting colour.
    Accent,
    /// Nearly black.
    Dark,
    /// Nearly white.
    Light,
}

/// One closed shape, in pixels.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) path: Path,
    pub(super) role: PaintRole,
}

/// Collects the parts of an object, back to front, in [-1, 1]² with y downwards.
#[derive(Debug)]
pub(super) struct Sketch {
    pub(super) parts: Vec<Part>,
}

impl Sketch {
    pub(super) fn shape(&mut self, role: PaintRole, build: impl FnOnce(&mut PathBuilder)) {
        let mut builder = PathBuilder::new();
        build(&mut builder);
        builder.close();
        if let Some(path) = builder.finish() {
            self.parts.push(Part { path, role });
        }
    }

    pub(super) fn polygon(&mut self, role: PaintRole, points: &[(f32, f32)]) {
        self.shape(role, |b| {
            b.move_to(points[0].0, points[0].1);
            for &(x, y) in &points[1..] {
                b.line_to(x, y);
            }
        });
    }

    pub(super) fn rectangle(
        &mut self,
        role: PaintRole,
        left: f32,
        top: f32,
        right: f32,
        bottom: f32,
    ) {
        self.polygon(role, &[(left, top), (right, top), (right, bottom), (left, bottom)]);
    }

    pub(super) fn ellipse(&mut self, role: PaintRole, x: f32, y: f32, rx: f32, ry: f32) {
        self.tilted(role, (x, y), (rx, ry), 0.0);
    }

    pub(super) fn circle(&mut self, role: PaintRole, x: f32, y: f32, r: f32) {
        self.ellipse(role, x, y, r, r);
    }

    /// An ellipse turned by `turn` degrees around its centre.
    pub(super) fn tilted(
        &mut self,
        role: PaintRole,
        centre: (f32, f32),
        radii: (f32, f32),
        turn: f32,
    ) {
        const K: f32 = 0.552_284_8; // a quarter circle as a cubic
        let (sin, cos) = (libm::sinf(turn.to_radians()), libm::cosf(turn.to_radians()));
        let at = |u: f32, v: f32| {
            let (u, v) = (u * radii.0, v * radii.1);
            (centre.0 + u * cos - v * sin, centre.1 + u * sin + v * cos)
        };
        self.shape(role, |b| {
            let start = at(1.0, 0.0);
            b.move_to(start.0, start.1);
            for (p, q, end) in [
                ((1.0, K), (K, 1.0), (0.0, 1.0)),
                ((-K, 1.0), (-1.0, K), (-1.0, 0.0)),
                ((-1.0, -K), (-K, -1.0), (0.0, -1.0)),
                ((K, -1.0), (1.0, -K), (1.0, 0.0)),
            ] {
                let (p, q, end) = (at(p.0, p.1), at(q.0, q.1), at(end.0, end.1));
                b.cubic_to(p.0, p.1, q.0, q.1, end.0, end.1);
            }
        });
    }
}
