//! Rows of pictures with labels: before over after, one column for each object, style, seed or
//! prompt.

use super::lettering::{width, write};
use crate::pictures::Picture;

/// A row of the grid.
#[derive(Debug, Clone)]
pub struct GridBand {
    /// Lines of the label at the left.
    pub label: Vec<String>,
    /// The pictures, of one size.
    pub pictures: Vec<Picture>,
    /// Whether its label is in the marking colour, so that it is found first.
    pub marked: bool,
    /// Whether a little room above sets it off from the row before.
    pub gap: bool,
}

const PAPER: [u8; 3] = [255, 255, 255];
const INK: [u8; 3] = [32, 32, 36];
const MARK: [u8; 3] = [196, 30, 58];
const TITLE: f32 = 20.0;
const LABEL: f32 = 15.0;
const LINE: f32 = 18.0;
const MARGIN: usize = 10;
const BETWEEN: usize = 3;
/// Pictures smaller than this are shown larger, by whole factors.
const SMALL: usize = 96;

/// Lays out the rows under a title and column heads.
pub fn grid(title: &str, columns: &[String], bands: &[GridBand]) -> Picture {
    let (mut cell_w, mut cell_h) = (1, 1);
    for picture in bands.iter().flat_map(|band| &band.pictures) {
        cell_w = cell_w.max(picture.width);
        cell_h = cell_h.max(picture.height);
    }
    let factor = SMALL.div_ceil(cell_w.max(cell_h)).max(1);
    let (cell_w, cell_h) = (cell_w * factor, cell_h * factor);
    // A row is as high as its label at least.
    let lines = bands.iter().map(|band| band.label.len()).max().unwrap_or(0);
    let cell_h = cell_h.max(lines * LINE as usize);
    let label_lines = bands.iter().flat_map(|band| &band.label);
    let label_w =
        label_lines.map(|line| width(line, LABEL).ceil() as usize).max().unwrap_or(0) + MARGIN;
    let count = bands.iter().map(|band| band.pictures.len()).max().unwrap_or(0);
    let heads: Vec<Vec<String>> = columns.iter().map(|head| wrap(head, cell_w as f32)).collect();
    let head_h = heads.iter().map(Vec::len).max().unwrap_or(0) * LINE as usize;
    let top = MARGIN + TITLE as usize + MARGIN + head_h + BETWEEN;
    let gaps = bands.iter().skip(1).filter(|band| band.gap).count() * MARGIN;
    let total_w = (MARGIN + label_w + count * (cell_w + BETWEEN) + MARGIN)
        .max(width(title, TITLE).ceil() as usize + 2 * MARGIN);
    let total_h = top + bands.len() * (cell_h + BETWEEN) + gaps + MARGIN;

    let mut sheet = Picture::filled(total_w, total_h, PAPER);
    write(&mut sheet, title, MARGIN as f32, MARGIN as f32, TITLE, INK);
    let left = MARGIN + label_w;
    for (i, lines) in heads.iter().enumerate().take(count) {
        for (j, line) in lines.iter().enumerate() {
            let x =
                (left + i * (cell_w + BETWEEN)) as f32 + (cell_w as f32 - width(line, LABEL)) / 2.0;
            let y = (MARGIN + TITLE as usize + MARGIN) as f32 + j as f32 * LINE;
            write(&mut sheet, line, x, y, LABEL, INK);
        }
    }
    let mut y = top;
    for (i, band) in bands.iter().enumerate() {
        if i > 0 && band.gap {
            y += MARGIN;
        }
        let ink = if band.marked { MARK } else { INK };
        let start = y as f32 + (cell_h as f32 - band.label.len() as f32 * LINE) / 2.0;
        for (j, line) in band.label.iter().enumerate() {
            write(&mut sheet, line, MARGIN as f32, start + j as f32 * LINE, LABEL, ink);
        }
        for (k, picture) in band.pictures.iter().enumerate() {
            sheet.paste(&enlarge(picture, factor), left + k * (cell_w + BETWEEN), y);
        }
        y += cell_h + BETWEEN;
    }
    sheet
}

/// Repeats each pixel.
pub(super) fn enlarge(picture: &Picture, factor: usize) -> Picture {
    let (width, height) = (picture.width * factor, picture.height * factor);
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let at = ((y / factor) * picture.width + x / factor) * 3;
            rgb.extend_from_slice(&picture.rgb[at..at + 3]);
        }
    }
    Picture { width, height, rgb }
}

/// Breaks a text at its spaces so that each line fits; a single long word is cut.
fn wrap(text: &str, room: f32) -> Vec<String> {
    const MOST: usize = 4;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), LABEL) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let cut = lines.len() > MOST;
    lines.truncate(MOST);
    for line in &mut lines {
        while width(line, LABEL) > room && line.chars().count() > 2 {
            line.pop();
        }
    }
    if let (true, Some(last)) = (cut, lines.last_mut()) {
        last.push('…');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_are_enlarged_and_everything_fits() {
        let band = |label: &str| GridBand {
            label: vec![label.to_owned(), "after".to_owned()],
            pictures: vec![Picture::filled(64, 64, [0, 0, 200]); 3],
            marked: true,
            gap: true,
        };
        let heads =
            ["Cat", "A very long prompt about boats in a storm", "Umbrella"].map(str::to_owned);
        let sheet = grid("Mosaic erased", &heads, &[band("Mosaic"), band("Pencil Drawing")]);
        let blue = sheet.rgb.chunks(3).filter(|p| *p == [0, 0, 200]).count();
        assert_eq!(blue, 2 * 3 * 128 * 128);
        assert!(sheet.rgb.chunks(3).any(|p| p == MARK));
    }

    #[test]
    fn long_heads_are_wrapped() {
        let lines = wrap("A very long prompt about boats in a storm at night with a dog", 100.0);
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| width(line, LABEL) <= 115.0));
    }
}
