//! Styles that are made of tiles: mosaic, pixel art and stained glass.

use tiny_skia::PathBuilder;

use super::SIDE;
use super::drawing::{Colour, Drawing};
use super::layer::{CanvasLayer, TopRoles};
use super::sketch::PaintRole;
use super::splitmix::SplitMix64;

const TILE: usize = 4;

/// Uneven stones in dark mortar.
pub(super) fn mosaic(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let plan = TopRoles::of(drawing);
    let mut sheet = CanvasLayer::filled(Colour::new(0.3, 0.28, 0.26));
    for top in (0..SIDE).step_by(TILE) {
        for left in (0..SIDE).step_by(TILE) {
            let stone = plan.tile(left, top, TILE).map_or(drawing.ground, |role| match role {
                PaintRole::Dark => Colour::new(0.3, 0.22, 0.3),
                role => drawing.colour(role),
            });
            let stone = stone.shift(rng.between(-0.09, 0.09));
            let (dx, dy) = (rng.between(0.0, 0.5), rng.between(0.0, 0.5));
            sheet.rectangle(left as f32 + dx, top as f32 + dy, 3.1, 3.1, stone);
        }
    }
    sheet
}

/// Big square pixels, few colours, a dark rim on the object's edge, a ground in two tints.
pub(super) fn pixel_art(drawing: &Drawing) -> CanvasLayer {
    let plan = TopRoles::of(drawing);
    let n = SIDE / TILE;
    let cells: Vec<Option<PaintRole>> =
        (0..n * n).map(|i| plan.tile(i % n * TILE, i / n * TILE, TILE)).collect();
    let few = |c: Colour| {
        let step = |v: f32| libm::roundf(v * 4.0) / 4.0;
        Colour::new(step(c.r), step(c.g), step(c.b))
    };
    let mut sheet = CanvasLayer::clear();
    for (i, &cell) in cells.iter().enumerate() {
        let (x, y) = (i % n, i / n);
        let bare = |x: usize, y: usize| x < n && y < n && cells[y * n + x].is_none();
        let rim = bare(x.wrapping_sub(1), y)
            || bare(x + 1, y)
            || bare(x, y.wrapping_sub(1))
            || bare(x, y + 1);
        let colour = match cell {
            Some(role) if rim => few(drawing.colour(role).scale(0.5)),
            Some(role) => few(drawing.colour(role)),
            None if y * 3 >= n * 2 => few(drawing.ground.vivid().mix(Colour::WHITE, 0.3)),
            None => few(drawing.ground.vivid().mix(Colour::WHITE, 0.62)),
        };
        let (left, top, side) = ((x * TILE) as f32, (y * TILE) as f32, TILE as f32);
        sheet.rectangle(left, top, side, side, colour);
    }
    sheet
}

/// Glowing panes between black leads; the ground is cut by rays.
pub(super) fn stained_glass(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let lead = Colour::new(0.05, 0.05, 0.06);
    let centre = SIDE as f32 / 2.0;
    let mut sheet = CanvasLayer::clear();
    let rays = 9;
    let start = rng.between(0.0, 360.0);
    let tint = rng.between(0.5, 0.65);
    let corner = |k: usize| {
        let angle = (start + 360.0 * k as f32 / rays as f32).to_radians();
        (centre + 60.0 * libm::cosf(angle), centre + 60.0 * libm::sinf(angle))
    };
    for k in 0..rays {
        let (a, b) = (corner(k), corner(k + 1));
        let mut pane = PathBuilder::new();
        pane.move_to(centre, centre);
        pane.line_to(a.0, a.1);
        pane.line_to(b.0, b.1);
        pane.close();
        if let Some(pane) = pane.finish() {
            let glass = Colour::hsv(tint + rng.between(-0.06, 0.06), 0.55, rng.between(0.6, 0.95));
            sheet.fill(&pane, glass, 1.0, None);
            sheet.stroke(&pane, lead, 1.5, 1.0, None);
        }
    }
    for part in &drawing.parts {
        let glass = match part.role {
            PaintRole::Dark => Colour::new(0.3, 0.1, 0.42),
            PaintRole::Light => Colour::new(1.0, 0.95, 0.6),
            role => drawing.colour(role).vivid().scale(0.95),
        };
        sheet.fill(&part.path, glass, 1.0, None);
        sheet.stroke(&part.path, lead, 2.1, 1.0, None);
    }
    // Daylight behind the window
    let (lx, ly) = (rng.between(14.0, 50.0), rng.between(10.0, 34.0));
    sheet.each(|x, y, colour| {
        let (dx, dy) = (x as f32 - lx, y as f32 - ly);
        let light = 0.38 * (1.0 - (dx * dx + dy * dy) / 900.0).max(0.0);
        if colour.luma() < 0.12 { colour } else { colour.mix(Colour::WHITE, light) }
    });
    sheet
}
