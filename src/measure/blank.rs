//! Pictures that show nothing: of one colour, or all the same whatever was asked for. A judge must
//! call them something, and whatever it is, UA counts it as forgotten.

/// What says of a picture whether it shows anything.
#[derive(Debug, Clone, Copy)]
pub struct PictureStats<'a> {
    /// Deviation of its pixels, 0 to 127.
    pub contrast: f32,
    /// All that a judge said of it.
    pub logits: &'a [f32],
}

/// Below this deviation of pixels, in 255ths, a picture shows nothing.
const LEAST_CONTRAST: f32 = 3.0;
/// Logits of other pictures differ by more, even of one prompt: they are a hundred times a cosine.
const ALIKE: f32 = 0.02;

/// How many of the pictures are blank, or the same as another one of them.
pub fn blank(pictures: &[PictureStats]) -> usize {
    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < ALIKE);
    let is_blank = |i: usize, picture: &PictureStats| {
        picture.contrast < LEAST_CONTRAST
            || (!picture.logits.is_empty())
                && pictures
                    .iter()
                    .enumerate()
                    .any(|(j, other)| j != i && same(picture.logits, other.logits))
    };
    pictures.iter().enumerate().filter(|&(i, picture)| is_blank(i, picture)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_colour_or_all_the_same() {
        let of = |contrast: f32, logits: &'static [f32]| PictureStats { contrast, logits };
        assert_eq!(blank(&[of(50.0, &[1.0, 2.0]), of(40.0, &[1.0, 3.0])]), 0);
        assert_eq!(blank(&[of(0.5, &[1.0, 2.0]), of(40.0, &[1.0, 3.0])]), 1);
        assert_eq!(
            blank(&[of(50.0, &[1.0, 2.0]), of(50.0, &[1.001, 2.0]), of(50.0, &[4.0, 2.0])]),
            2
        );
        assert_eq!(blank(&[]), 0);
    }
}
