//! Styles that are made of dots.

use super::SIDE;
use tiny_skia::PathBuilder;

use super::drawing::{Colour, Drawing};
use super::layer::{CanvasLayer, TopRoles, inside};
use super::splitmix::SplitMix64;

/// One dark ink on yellow paper: a screen at 45° whose dots grow with the tone, inside outlines.
pub(super) fn halftone(drawing: &Drawing) -> CanvasLayer {
    const PITCH: f32 = 4.0;
    let paper = Colour::new(0.99, 0.94, 0.72);
    let ink = Colour::new(0.75, 0.05, 0.3);
    let screen = |sheet: &mut CanvasLayer, tone: f32, mask: Option<&tiny_skia::Mask>| {
        let radius = 0.71 * PITCH * libm::sqrtf(tone / std::f32::consts::PI);
        let mut dots = PathBuilder::new();
        for row in 0..=(SIDE as f32 / PITCH * 2.0) as i32 {
            for column in 0..=(SIDE as f32 / PITCH) as i32 {
                let shift = if row % 2 == 0 { 0.0 } else { PITCH / 2.0 };
                dots.push_circle(column as f32 * PITCH + shift, row as f32 * PITCH / 2.0, radius);
            }
        }
        if let Some(dots) = dots.finish() {
            sheet.fill(&dots, ink, 1.0, mask);
        }
    };
    let mut sheet = CanvasLayer::filled(paper);
    screen(&mut sheet, 0.08, None);
    for part in &drawing.parts {
        let tone = Drawing::tone(part.role);
        sheet.fill(&part.path, if tone > 0.9 { ink } else { paper }, 1.0, None);
        if (0.2..0.9).contains(&tone) {
            screen(&mut sheet, tone, Some(&inside(&part.path)));
        }
        sheet.stroke(&part.path, ink, 1.5, 1.0, None);
    }
    sheet
}

/// Dabs of pure colour beside each other, no line anywhere; the object's dabs are denser.
pub(super) fn pointillism(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let plan = TopRoles::of(drawing);
    let mut sheet = CanvasLayer::filled(Colour::new(0.97, 0.95, 0.9));
    for (pitch, object) in [(3.4_f32, false), (2.5, true)] {
        let n = (SIDE as f32 / pitch) as i32;
        for row in 0..=n {
            for column in 0..=n {
                let x = column as f32 * pitch + rng.between(-0.7, 0.7);
                let y = row as f32 * pitch + rng.between(-0.7, 0.7);
                let (twist, light, radius) =
                    (rng.between(-0.1, 0.1), rng.between(-0.13, 0.13), rng.between(1.1, 1.45));
                let role = plan.at(x.max(0.0) as usize, y.max(0.0) as usize);
                let colour = match role {
                    Some(role) if object => drawing.colour(role),
                    None if !object => drawing.ground.vivid().mix(Colour::WHITE, 0.45),
                    _ => continue,
                };
                let dab = Colour::new(colour.r + twist, colour.g - twist, colour.b + twist / 2.0)
                    .shift(light);
                sheet.dot(x, y, radius, dab, None);
            }
        }
    }
    sheet
}
