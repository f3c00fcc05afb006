//! Styles that are made of areas: the plain one, watercolour and crayon.

use super::SIDE;
use super::drawing::{Colour, Drawing};
use super::layer::{CanvasLayer, Hatch, inside};
use super::splitmix::SplitMix64;

/// The plain style, `UnlearnCanvas`' photographs: smooth shading from one light, a soft shadow, no
/// line.
pub(super) fn seed_images(drawing: &Drawing) -> CanvasLayer {
    let side = SIDE as f32;
    let mut sheet = CanvasLayer::filled(drawing.ground);
    sheet.each(|_, y, colour| colour.scale(1.04 - 0.3 * y as f32 / side));
    let mut shadow = CanvasLayer::clear();
    let mut object = CanvasLayer::clear();
    for part in &drawing.parts {
        if let Some(cast) =
            part.path.clone().transform(tiny_skia::Transform::from_translate(2.5, 3.0))
        {
            shadow.fill(&cast, Colour::grey(0.1), 1.0, None);
        }
        object.fill(&part.path, drawing.colour(part.role), 1.0, None);
    }
    shadow.blur(2);
    sheet.over(&shadow, 0.45);
    let unlit = sheet.clone();
    sheet.over(&object, 1.0);
    sheet.each(|x, y, colour| {
        if colour == unlit.get(x, y) {
            return colour;
        }
        let light = 1.22 - 0.6 * (x as f32 * 0.4 + y as f32 * 0.6) / side;
        colour.scale(light)
    });
    sheet
}

/// Thin washes that bleed, pool at their edges and let the paper through.
pub(super) fn watercolor(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let paper = Colour::new(0.985, 0.98, 0.96);
    let mut sheet = CanvasLayer::filled(paper);
    let mut wet = CanvasLayer::clear();
    for _ in 0..7 {
        let (x, y, r) = (rng.between(0.0, 64.0), rng.between(0.0, 64.0), rng.between(8.0, 18.0));
        wet.dot(x, y, r, drawing.ground.vivid().mix(paper, 0.6), None);
    }
    wet.blur(5);
    sheet.over(&wet, 0.55);
    let mut bleed = CanvasLayer::clear();
    let mut wash = CanvasLayer::clear();
    for part in &drawing.parts {
        let pigment = drawing.colour(part.role).mix(paper, 0.08);
        bleed.fill(&part.path, pigment, 1.0, None);
        wash.fill(&part.path, pigment.mix(paper, 0.12), 1.0, None);
        wash.stroke(&part.path, pigment.scale(0.6), 1.3, 0.75, None);
    }
    bleed.blur(3);
    sheet.over(&bleed, 0.55);
    // The pigment settles unevenly: a coarse field of 8×8 values, blended.
    let field: Vec<f32> = (0..81).map(|_| rng.between(0.6, 1.0)).collect();
    wash.erode(|x, y| {
        let (i, j, u, v) = (x / 8, y / 8, (x % 8) as f32 / 8.0, (y % 8) as f32 / 8.0);
        let at = |i: usize, j: usize| field[j * 9 + i];
        let top = at(i, j) + (at(i + 1, j) - at(i, j)) * u;
        let bottom = at(i, j + 1) + (at(i + 1, j + 1) - at(i, j + 1)) * u;
        top + (bottom - top) * v
    });
    sheet.over(&wash, 0.92);
    sheet.blur_slightly();
    sheet
}

/// Waxy strokes in one direction, with the paper's grain showing.
pub(super) fn crayon(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let mut sheet = CanvasLayer::filled(Colour::new(0.98, 0.98, 0.97));
    let mut wax = CanvasLayer::clear();
    let wide = Hatch {
        angle: -25.0,
        pitch: 5.5,
        width: 2.4,
        colour: drawing.ground.vivid().mix(Colour::WHITE, 0.35),
        alpha: 0.8,
    };
    wax.hatch(&wide, None, || rng.between(-1.6, 1.6));
    for part in &drawing.parts {
        let stick = drawing.colour(part.role);
        let mask = inside(&part.path);
        wax.fill(&part.path, stick.mix(Colour::WHITE, 0.45), 1.0, None);
        let strokes = Hatch { angle: 35.0, pitch: 2.7, width: 1.7, colour: stick, alpha: 0.95 };
        wax.hatch(&strokes, Some(&mask), || rng.between(-0.9, 0.9));
        wax.stroke(&part.path, stick.scale(0.75), 1.7, 1.0, None);
    }
    let mut grain = || if rng.unit() < 0.3 { rng.between(0.1, 0.6) } else { 1.0 };
    wax.erode(|_, _| grain());
    sheet.over(&wax, 1.0);
    sheet
}
