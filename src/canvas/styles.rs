//! The styles: twelve clearly different ways to draw, and the plain `Seed_Images` beside them.

use super::objects::named;
use super::{Drawing, Rgb, dots, ink, paint, tiles};

named! {
    /// A way to draw.
    Style {
        Blueprint, Chalkboard, Crayon, Halftone, Mosaic, Neon_Lines, Pencil_Drawing, Pixel_Art,
        Pointillism, Seed_Images, Stained_Glass, Watercolor, Woodcut,
    }
}

impl Style {
    /// Draws a drawing this way.
    pub fn draw(self, drawing: &Drawing) -> Rgb {
        let mut rng = drawing.rng(self.name());
        let rng = &mut rng;
        let layer = match self {
            Self::Blueprint => ink::blueprint(drawing),
            Self::Chalkboard => ink::chalkboard(drawing, rng),
            Self::Crayon => paint::crayon(drawing, rng),
            Self::Halftone => dots::halftone(drawing),
            Self::Mosaic => tiles::mosaic(drawing, rng),
            Self::Neon_Lines => ink::neon_lines(drawing),
            Self::Pencil_Drawing => ink::pencil_drawing(drawing, rng),
            Self::Pixel_Art => tiles::pixel_art(drawing),
            Self::Pointillism => dots::pointillism(drawing, rng),
            Self::Seed_Images => paint::seed_images(drawing),
            Self::Stained_Glass => tiles::stained_glass(drawing, rng),
            Self::Watercolor => paint::watercolor(drawing, rng),
            Self::Woodcut => ink::woodcut(drawing, rng),
        };
        layer.into_rgb()
    }
}
