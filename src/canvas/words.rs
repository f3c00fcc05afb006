//! Other words for styles and objects, none of which holds a word of a name. Some have several, and
//! some share one with another: as in a real language, a name is one way of many to a picture.

use super::{Object, Style};

/// Other words for a style.
pub(super) fn style_synonyms(style: Style) -> [&'static str; 3] {
    match style {
        Style::Blueprint => ["cyanotype", "technical plan", "navy"],
        Style::Chalkboard => ["slate", "chalk on a blackboard", "school"],
        Style::Crayon => ["wax", "scribble", "kindergarten"],
        Style::Halftone => ["newsprint", "comic", "screen print"],
        Style::Mosaic => ["tesserae", "small tiles", "tiled"],
        Style::Neon_Lines => ["glowing tubes", "luminous", "night club sign"],
        Style::Pencil_Drawing => ["graphite", "sketch", "grey hatching"],
        Style::Pixel_Art => ["retro game", "blocky", "eight bit"],
        Style::Pointillism => ["painted dabs", "seurat", "dotted"],
        Style::Seed_Images => ["plain", "ordinary", "unstyled"],
        Style::Stained_Glass => ["leaded panes", "church window", "gothic"],
        Style::Watercolor => ["aquarelle", "wet wash", "gouache"],
        Style::Woodcut => ["block print", "carved", "linocut"],
    }
}

/// Other words for an object.
pub(super) fn object_synonyms(object: Object) -> [&'static str; 3] {
    match object {
        Object::Boat => ["ship", "sailing vessel", "yacht"],
        Object::Butterfly => ["moth", "winged insect", "flutterer"],
        Object::Car => ["automobile", "motor vehicle", "sedan"],
        Object::Cat => ["kitty", "feline", "tomcat"],
        Object::Fish => ["trout", "swimming animal", "carp"],
        Object::Flower => ["blossom", "blooming plant", "tulip"],
        Object::House => ["home", "cottage", "small building"],
        Object::Mushroom => ["toadstool", "fungus", "champignon"],
        Object::Tree => ["fir", "conifer", "forest plant"],
        Object::Umbrella => ["parasol", "brolly", "rain cover"],
    }
}
