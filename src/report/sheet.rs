//! A contact sheet: numbered pictures, as many as fit on a page.

use super::grid::enlarge;
use super::lettering::{width, write};
use crate::pictures::Picture;

const PAPER: [u8; 3] = [255, 255, 255];
const INK: [u8; 3] = [32, 32, 36];
const LABEL: f32 = 15.0;
const LINE: usize = 18;
const MARGIN: usize = 10;
/// Pictures smaller than this are shown larger, by whole factors.
const SMALL: usize = 96;

/// Lays out pictures of one size, each over its caption.
pub fn contact_sheet(pictures: &[(String, Picture)], columns: usize) -> Picture {
    let sides = pictures.iter().map(|(_, picture)| picture.width.max(picture.height));
    let side = sides.max().unwrap_or(1);
    let factor = SMALL.div_ceil(side).max(1);
    let cell = side * factor;
    let columns = columns.clamp(1, pictures.len().max(1));
    let rows = pictures.len().div_ceil(columns);
    let across = MARGIN + columns * (cell + MARGIN);
    let down = MARGIN + rows * (cell + LINE + MARGIN);
    let mut sheet = Picture::filled(across, down, PAPER);
    for (i, (caption, picture)) in pictures.iter().enumerate() {
        let x = MARGIN + (i % columns) * (cell + MARGIN);
        let y = MARGIN + (i / columns) * (cell + LINE + MARGIN);
        sheet.paste(&enlarge(picture, factor), x, y);
        let left = x as f32 + (cell as f32 - width(caption, LABEL)) / 2.0;
        write(&mut sheet, caption, left, (y + cell) as f32, LABEL, INK);
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_is_there_with_its_number() {
        let pictures: Vec<(String, Picture)> =
            (1..=5).map(|n| (n.to_string(), Picture::filled(32, 32, [0, 0, 200]))).collect();
        let sheet = contact_sheet(&pictures, 3);
        assert_eq!(sheet.rgb.chunks(3).filter(|p| *p == [0, 0, 200]).count(), 5 * 96 * 96);
        assert!(sheet.rgb.chunks(3).any(|p| p == INK));
    }
}
