//! A procedural canvas of styles × objects, drawn at 64×64, that copies `UnlearnCanvas` in the
//! points that matter: fully crossed, and paired: picture `i` of every style shows the same drawing
//! `i`.
//!
//! The same bytes on each machine: `tiny-skia` draws, `libm` does the trigonometry, and every
//! choice comes from a generator that is seeded with (canvas seed, object, index). This room knows
//! nothing of tensors.

mod dots;
mod drawing;
mod ink;
mod layer;
mod objects;
mod paint;
mod prompt;
mod sketch;
mod splitmix;
mod styles;
mod tiles;
mod words;

pub use drawing::{Drawing, Pose, TRAITS};
pub use objects::Object;
pub use prompt::{Caption, Language, article_free_prompt, captions, spaced};
pub use styles::Style;

/// Pixels on a side.
pub const SIDE: usize = 64;

/// An RGB picture: `SIDE × SIDE × 3` bytes, row by row.
pub type Rgb = Vec<u8>;

/// Draws picture `index` of a cell.
pub fn draw(canvas_seed: u64, style: Style, object: Object, index: u32) -> Rgb {
    draw_posed(canvas_seed, style, object, index, Pose::Free)
}

/// The same picture with its object in another place.
pub fn draw_posed(canvas_seed: u64, style: Style, object: Object, index: u32, pose: Pose) -> Rgb {
    style.draw(&Drawing::new(canvas_seed, object, index, pose))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are part of the contract: the shipped judge was trained on them.
    #[test]
    fn every_cell_has_the_bytes_it_always_had() {
        let mut hasher = blake3::Hasher::new();
        for style in Style::ALL {
            for object in Object::ALL {
                hasher.update(&draw(1, *style, *object, 0));
                hasher.update(&draw(1, *style, *object, 7));
            }
        }
        let bytes = hasher.finalize().to_hex();
        assert_eq!(
            bytes.as_str(),
            "33bf22eb92865b624d3f181e0f7436c237177c0f20d920f41c77a99e02a87c13"
        );
    }

    #[test]
    fn pictures_of_a_cell_differ() {
        let a = draw(1, Style::Mosaic, Object::Fish, 0);
        assert_eq!(a.len(), SIDE * SIDE * 3);
        assert_eq!(a, draw(1, Style::Mosaic, Object::Fish, 0));
        assert_ne!(a, draw(1, Style::Mosaic, Object::Fish, 1));
        assert_ne!(a, draw(2, Style::Mosaic, Object::Fish, 0));
    }
}
