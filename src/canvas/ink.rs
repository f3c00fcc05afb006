//! Styles that are made of lines: pencil, blueprint, woodcut, chalk and neon.
//! Each part hides what lies behind it, is shaded by lines inside it, and gets an outline.

use super::drawing::{Colour, Drawing};
use super::layer::{CanvasLayer, Hatch, inside};
use super::sketch::PaintRole;
use super::splitmix::SplitMix64;

pub(super) fn pencil_drawing(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let paper = Colour::new(0.97, 0.96, 0.94);
    let graphite = Colour::grey(0.22);
    let mut sheet = CanvasLayer::filled(paper);
    let ground = Hatch { angle: 20.0, pitch: 6.0, width: 0.6, colour: graphite, alpha: 0.18 };
    sheet.hatch(&ground, None, || rng.between(-1.0, 1.0));
    for part in &drawing.parts {
        let tone = Drawing::tone(part.role);
        let mask = inside(&part.path);
        sheet.fill(&part.path, paper.mix(graphite, tone * 0.25), 1.0, None);
        let hatch = Hatch { angle: -45.0, pitch: 2.6, width: 0.9, colour: graphite, alpha: tone };
        if tone > 0.2 {
            sheet.hatch(&hatch, Some(&mask), || rng.between(-0.5, 0.5));
        }
        if tone > 0.6 {
            sheet.hatch(&Hatch { angle: 40.0, alpha: tone * 0.7, ..hatch }, Some(&mask), || {
                rng.between(-0.5, 0.5)
            });
        }
        sheet.stroke(&part.path, graphite, 1.1, 0.95, None);
    }
    sheet
}

pub(super) fn blueprint(drawing: &Drawing) -> CanvasLayer {
    let blue = Colour::new(0.08, 0.24, 0.56);
    let chalk = Colour::new(0.88, 0.94, 1.0);
    let mut sheet = CanvasLayer::filled(blue);
    for angle in [0.0, 90.0] {
        let grid = Hatch { angle, pitch: 8.0, width: 0.7, colour: chalk, alpha: 0.28 };
        sheet.hatch(&grid, None, || 0.0);
    }
    for part in &drawing.parts {
        sheet.fill(&part.path, blue, 1.0, None);
        let mask = inside(&part.path);
        let hatch = match part.role {
            PaintRole::Main => None,
            PaintRole::Second => Some((45.0, 3.2)),
            PaintRole::Accent => Some((-45.0, 3.2)),
            PaintRole::Dark => Some((0.0, 1.8)),
            PaintRole::Light => Some((90.0, 4.0)),
        };
        if let Some((angle, pitch)) = hatch {
            let lines = Hatch { angle, pitch, width: 0.7, colour: chalk, alpha: 0.5 };
            sheet.hatch(&lines, Some(&mask), || 0.0);
        }
        sheet.stroke(&part.path, chalk, 1.1, 1.0, None);
    }
    sheet
}

pub(super) fn woodcut(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let paper = Colour::new(0.93, 0.86, 0.7);
    let black = Colour::new(0.1, 0.07, 0.06);
    let mut sheet = CanvasLayer::filled(paper);
    let sky =
        Hatch { angle: rng.between(-4.0, 4.0), pitch: 4.0, width: 1.5, colour: black, alpha: 1.0 };
    sheet.hatch(&sky, None, || rng.between(-0.6, 0.6));
    // A cut-away rim sets the object off from the lines of the sky.
    for part in &drawing.parts {
        sheet.stroke(&part.path, paper, 5.5, 1.0, None);
    }
    for part in &drawing.parts {
        let mask = inside(&part.path);
        let (fill, lines) = match part.role {
            PaintRole::Main => (black, Some((55.0, 4.2))),
            PaintRole::Second => (paper, Some((-50.0, 3.4))),
            PaintRole::Dark => (black, None),
            PaintRole::Accent | PaintRole::Light => (paper, None),
        };
        sheet.fill(&part.path, fill, 1.0, None);
        if let Some((angle, pitch)) = lines {
            let colour = if fill == black { paper } else { black };
            let cut = Hatch { angle, pitch, width: 1.2, colour, alpha: 1.0 };
            sheet.hatch(&cut, Some(&mask), || rng.between(-0.4, 0.4));
        }
        sheet.stroke(&part.path, black, 1.7, 1.0, None);
    }
    sheet
}

pub(super) fn chalkboard(drawing: &Drawing, rng: &mut SplitMix64) -> CanvasLayer {
    let board = Colour::new(0.12, 0.2, 0.17);
    let mut sheet = CanvasLayer::filled(board);
    let smear = Hatch { angle: 12.0, pitch: 9.0, width: 5.0, colour: Colour::WHITE, alpha: 0.035 };
    sheet.hatch(&smear, None, || rng.between(-3.0, 3.0));
    let mut chalk = CanvasLayer::clear();
    for part in &drawing.parts {
        let stick = match part.role {
            PaintRole::Dark => Colour::grey(0.75),
            role => drawing.colour(role).vivid().mix(Colour::WHITE, 0.55),
        };
        let mask = inside(&part.path);
        chalk.fill(&part.path, board, 1.0, None);
        let scribble = Hatch { angle: 60.0, pitch: 3.0, width: 1.6, colour: stick, alpha: 0.5 };
        chalk.hatch(&scribble, Some(&mask), || rng.between(-0.8, 0.8));
        chalk.stroke(&part.path, stick, 1.9, 1.0, None);
    }
    let mut grain = || if rng.unit() < 0.25 { rng.between(0.25, 0.6) } else { 1.0 };
    chalk.erode(|_, _| grain());
    sheet.over(&chalk, 1.0);
    sheet
}

pub(super) fn neon_lines(drawing: &Drawing) -> CanvasLayer {
    let night = Colour::new(0.03, 0.02, 0.07);
    let tube = |role: PaintRole| match role {
        PaintRole::Dark => Colour::new(0.55, 0.25, 1.0),
        PaintRole::Light => Colour::new(0.75, 1.0, 1.0),
        role => drawing.colour(role).vivid(),
    };
    let mut lines = CanvasLayer::filled(night);
    let mut halo = CanvasLayer::filled(Colour::BLACK);
    for part in &drawing.parts {
        for (layer, back, width) in [(&mut lines, night, 1.7), (&mut halo, Colour::BLACK, 2.6)] {
            layer.fill(&part.path, back, 1.0, None);
            layer.stroke(&part.path, tube(part.role), width, 1.0, None);
        }
        lines.stroke(&part.path, Colour::WHITE, 0.5, 0.6, None);
    }
    halo.blur(2);
    lines.glow(&halo, 0.9);
    lines
}
