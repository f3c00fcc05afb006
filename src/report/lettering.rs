//! Text in pictures, in the bundled `DejaVu` Sans (its licence lies beside it).

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

use crate::pictures::Picture;

const FONT: &[u8] = include_bytes!("DejaVuSans.ttf");

fn font() -> FontRef<'static> {
    FontRef::try_from_slice(FONT).expect("the bundled font")
}

/// Width of a line in pixels.
pub(super) fn width(text: &str, size: f32) -> f32 {
    let font = font();
    let scaled = font.as_scaled(PxScale::from(size));
    text.chars().map(|c| scaled.h_advance(scaled.glyph_id(c))).sum()
}

/// Writes a line whose upper left corner is at (`x`, `y`).
pub(super) fn write(picture: &mut Picture, text: &str, x: f32, y: f32, size: f32, ink: [u8; 3]) {
    let font = font();
    let scaled = font.as_scaled(PxScale::from(size));
    let mut pen = point(x, y + scaled.ascent());
    for c in text.chars() {
        let mut glyph = scaled.scaled_glyph(c);
        glyph.position = pen;
        pen.x += scaled.h_advance(glyph.id);
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let bounds = outline.px_bounds();
        outline.draw(|dx, dy, cover| {
            let (px, py) =
                (bounds.min.x as i64 + i64::from(dx), bounds.min.y as i64 + i64::from(dy));
            if px < 0 || py < 0 || px >= picture.width as i64 || py >= picture.height as i64 {
                return;
            }
            let at = (py as usize * picture.width + px as usize) * 3;
            for (value, ink) in picture.rgb[at..at + 3].iter_mut().zip(ink) {
                *value = (f32::from(*value) * (1.0 - cover) + f32::from(ink) * cover).round() as u8;
            }
        });
    }
}
