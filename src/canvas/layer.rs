//! A sheet to draw on, and the plan of a drawing: which part lies where.

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, PixmapPaint,
    Shader, Stroke, Transform,
};

use super::drawing::{Colour, Drawing};
use super::sketch::PaintRole;
use super::{Rgb, SIDE};

/// An RGBA sheet of `SIDE × SIDE` pixels.
#[derive(Debug, Clone)]
pub(super) struct CanvasLayer(Pixmap);

fn paint(colour: Colour, alpha: f32) -> Paint<'static> {
    let c = colour.clamped();
    let colour = Color::from_rgba(c.r, c.g, c.b, alpha.clamp(0.0, 1.0)).unwrap_or(Color::BLACK);
    Paint { shader: Shader::SolidColor(colour), anti_alias: true, ..Paint::default() }
}

impl CanvasLayer {
    pub(super) fn clear() -> Self {
        Self(Pixmap::new(SIDE as u32, SIDE as u32).expect("a small sheet"))
    }

    pub(super) fn filled(colour: Colour) -> Self {
        let mut layer = Self::clear();
        for y in 0..SIDE {
            for x in 0..SIDE {
                layer.set(x, y, colour);
            }
        }
        layer
    }

    pub(super) fn fill(&mut self, path: &Path, colour: Colour, alpha: f32, inside: Option<&Mask>) {
        self.0.fill_path(
            path,
            &paint(colour, alpha),
            FillRule::Winding,
            Transform::identity(),
            inside,
        );
    }

    pub(super) fn stroke(
        &mut self,
        path: &Path,
        colour: Colour,
        width: f32,
        alpha: f32,
        inside: Option<&Mask>,
    ) {
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.0.stroke_path(path, &paint(colour, alpha), &stroke, Transform::identity(), inside);
    }

    /// Parallel lines over the whole sheet, `angle` in degrees; `wobble` moves their ends.
    pub(super) fn hatch(
        &mut self,
        hatch: &Hatch,
        inside: Option<&Mask>,
        mut wobble: impl FnMut() -> f32,
    ) {
        let side = SIDE as f32;
        let (sin, cos) =
            (libm::sinf(hatch.angle.to_radians()), libm::cosf(hatch.angle.to_radians()));
        let mut builder = PathBuilder::new();
        let mut offset = -side;
        while offset < side {
            let mut at = |along: f32| {
                let across = offset + wobble();
                (side / 2.0 + along * cos - across * sin, side / 2.0 + along * sin + across * cos)
            };
            let (a, b) = (at(-side), at(side));
            builder.move_to(a.0, a.1);
            builder.line_to(b.0, b.1);
            offset += hatch.pitch;
        }
        if let Some(path) = builder.finish() {
            self.stroke(&path, hatch.colour, hatch.width, hatch.alpha, inside);
        }
    }

    pub(super) fn dot(
        &mut self,
        x: f32,
        y: f32,
        radius: f32,
        colour: Colour,
        inside: Option<&Mask>,
    ) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.fill(&path, colour, 1.0, inside);
        }
    }

    pub(super) fn rectangle(&mut self, x: f32, y: f32, w: f32, h: f32, colour: Colour) {
        if let Some(rect) = tiny_skia::Rect::from_xywh(x, y, w, h) {
            self.0.fill_rect(rect, &paint(colour, 1.0), Transform::identity(), None);
        }
    }

    /// Lays `top` over this sheet.
    pub(super) fn over(&mut self, top: &Self, opacity: f32) {
        let how = PixmapPaint { opacity, ..PixmapPaint::default() };
        self.0.draw_pixmap(0, 0, top.0.as_ref(), &how, Transform::identity(), None);
    }

    /// Adds the light of `top`, as lamps do.
    pub(super) fn glow(&mut self, top: &Self, strength: f32) {
        for (below, above) in self.0.data_mut().iter_mut().zip(top.0.data()) {
            *below = (f32::from(*below) + strength * f32::from(*above)).min(255.0) as u8;
        }
    }

    /// Two box blurs of `radius` pixels, edges repeated.
    pub(super) fn blur(&mut self, radius: usize) {
        for _ in 0..2 {
            for step in [4, SIDE * 4] {
                let source = self.0.data().to_vec();
                let data = self.0.data_mut();
                for line in 0..SIDE {
                    let start = line * if step == 4 { SIDE * 4 } else { 4 };
                    for channel in 0..4 {
                        for i in 0..SIDE {
                            let mut sum = 0_u32;
                            for k in 0..=2 * radius {
                                let j = (i + k).saturating_sub(radius).min(SIDE - 1);
                                sum += u32::from(source[start + j * step + channel]);
                            }
                            data[start + i * step + channel] =
                                (sum / (2 * radius as u32 + 1)) as u8;
                        }
                    }
                }
            }
        }
    }

    /// A blur of less than a pixel: the mean of the sheet and its blurred self.
    pub(super) fn blur_slightly(&mut self) {
        let mut soft = self.clone();
        soft.blur(1);
        self.over(&soft, 0.5);
    }

    /// Multiplies the opacity pixel by pixel: grain, gaps, rough edges.
    pub(super) fn erode(&mut self, mut keep: impl FnMut(usize, usize) -> f32) {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let k = keep(x, y).clamp(0.0, 1.0);
                for value in &mut self.0.data_mut()[(y * SIDE + x) * 4..][..4] {
                    *value = (f32::from(*value) * k) as u8;
                }
            }
        }
    }

    /// The colour of a pixel of an opaque sheet.
    pub(super) fn get(&self, x: usize, y: usize) -> Colour {
        let at = (y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)) * 4;
        let data = self.0.data();
        let part = |i: usize| f32::from(data[at + i]) / 255.0;
        Colour::new(part(0), part(1), part(2))
    }

    pub(super) fn set(&mut self, x: usize, y: usize, colour: Colour) {
        let c = colour.clamped();
        let byte = |v: f32| (v * 255.0 + 0.5) as u8;
        self.0.data_mut()[(y * SIDE + x) * 4..][..4].copy_from_slice(&[
            byte(c.r),
            byte(c.g),
            byte(c.b),
            255,
        ]);
    }

    /// Changes each pixel of an opaque sheet.
    pub(super) fn each(&mut self, mut change: impl FnMut(usize, usize, Colour) -> Colour) {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let colour = change(x, y, self.get(x, y));
                self.set(x, y, colour);
            }
        }
    }

    pub(super) fn into_rgb(self) -> Rgb {
        self.0.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }
}

/// Parallel lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hatch {
    pub(super) angle: f32,
    pub(super) pitch: f32,
    pub(super) width: f32,
    pub(super) colour: Colour,
    pub(super) alpha: f32,
}

/// The inside of a path.
pub(super) fn inside(path: &Path) -> Mask {
    let mut mask = Mask::new(SIDE as u32, SIDE as u32).expect("a small mask");
    mask.fill_path(path, FillRule::Winding, true, Transform::identity());
    mask
}

/// Which role lies on top at each pixel; `None` is ground.
pub(super) struct TopRoles(Vec<Option<PaintRole>>);

impl TopRoles {
    pub(super) fn of(drawing: &Drawing) -> Self {
        let mut roles = vec![None; SIDE * SIDE];
        for part in &drawing.parts {
            let mask = inside(&part.path);
            for (role, &covered) in roles.iter_mut().zip(mask.data()) {
                if covered > 127 {
                    *role = Some(part.role);
                }
            }
        }
        Self(roles)
    }

    pub(super) fn at(&self, x: usize, y: usize) -> Option<PaintRole> {
        self.0[y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)]
    }

    /// The role that a tile shows: the most frequent one, where the object wins over the ground as
    /// soon as it covers a quarter, so that thin parts survive.
    pub(super) fn tile(&self, left: usize, top: usize, size: usize) -> Option<PaintRole> {
        const ROLES: [PaintRole; 5] = [
            PaintRole::Main,
            PaintRole::Second,
            PaintRole::Accent,
            PaintRole::Dark,
            PaintRole::Light,
        ];
        let mut counts = [0_usize; 5];
        for y in top..top + size {
            for x in left..left + size {
                if let Some(role) = self.at(x, y) {
                    counts[ROLES.iter().position(|&r| r == role).unwrap_or(0)] += 1;
                }
            }
        }
        let covered: usize = counts.iter().sum();
        let best = (0..5).max_by_key(|&i| (counts[i], 5 - i))?;
        (covered * 4 >= size * size).then_some(ROLES[best])
    }
}
