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
        let mut dice = drawing.dice(self.name());
        let dice = &mut dice;
        let layer = match self {
            Self::Blueprint => ink::blueprint(drawing),
            Self::Chalkboard => ink::chalkboard(drawing, dice),
            Self::Crayon => paint::crayon(drawing, dice),
            Self::Halftone => dots::halftone(drawing),
            Self::Mosaic => tiles::mosaic(drawing, dice),
            Self::Neon_Lines => ink::neon_lines(drawing),
            Self::Pencil_Drawing => ink::pencil_drawing(drawing, dice),
            Self::Pixel_Art => tiles::pixel_art(drawing),
            Self::Pointillism => dots::pointillism(drawing, dice),
            Self::Seed_Images => paint::seed_images(drawing),
            Self::Stained_Glass => tiles::stained_glass(drawing, dice),
            Self::Watercolor => paint::watercolor(drawing, dice),
            Self::Woodcut => ink::woodcut(drawing, dice),
        };
        layer.into_rgb()
    }
}
