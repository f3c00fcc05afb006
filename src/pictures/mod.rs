//! Pictures as files: RGB pixels, read from PNG, JPEG or WebP as viewers show them, written as PNG
//! with what made them inside.

mod jpeg;
mod listing;
mod png_file;

use std::io::{BufWriter, Cursor};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageReader};

pub use listing::{Listing, is_picture, list, list_deep, sole};
pub use png_file::is_whole_png;

/// Why a picture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Its content.
    #[error("{path} is no picture that can be read: {why}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's words.
        why: String,
    },
    /// Two files for one picture.
    #[error("{first} and {second} are the same picture twice; remove one of them")]
    Twice {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A file that is not there, under any of the ends that are read.
    #[error("{stem}.png is missing (nor is there a .jpg, .jpeg or .webp)", stem = .0.display())]
    Missing(PathBuf),
    /// A file of somebody else's, which is not overwritten.
    #[error("{path} is there already and is no picture that unsee wrote; nothing is overwritten: \
        name another file, or remove it", path = .0.display())]
    Foreign(PathBuf),
    /// The encoder failed.
    #[error("{path} cannot be written: {why}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoder's words.
        why: String,
    },
}

/// By which laid out pictures, grids and sheets, say who wrote them.
const SOFTWARE: (&str, &str) = ("Software", "unsee");

/// What was done to pictures while they were read.
#[derive(Debug, Default)]
pub struct Remarks {
    turned: Vec<PathBuf>,
    transparent: Vec<PathBuf>,
    animated: Vec<PathBuf>,
}

impl Remarks {
    /// In sentences, for the user.
    pub fn sentences(&self) -> Vec<String> {
        [
            (&self.turned, "turned as the camera's note in it (EXIF) says"),
            (&self.transparent, "laid over white: it is transparent"),
            (&self.animated, "read as its first picture: it moves"),
        ]
        .into_iter()
        .filter_map(|(files, what)| {
            let first = files.first()?;
            let more = match files.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            Some(format!("{} was {what}{more}", first.display()))
        })
        .collect()
    }
}

/// An RGB picture, 8 bits a channel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// `width × height × 3` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self { width, height, rgb: colour.repeat(width * height) }
    }

    /// Reads a picture as viewers show it: turned as its EXIF says, transparency over white.
    ///
    /// # Errors
    /// A file that is missing, cut off, or no such picture.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_noting(path, &mut Remarks::default())
    }

    /// [`Self::open`], with a remark where that was not the file's pixels as they lie there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_noting(path: &Path, remarks: &mut Remarks) -> Result<Self, Error> {
        let wrong = |why: String| Error::Decode { path: path.to_path_buf(), why };
        let bytes = fs_err::read(path)?;
        if bytes.starts_with(&jpeg::START) && !jpeg::is_whole(&bytes) {
            return Err(wrong(
                "it is a JPEG that ends in the middle; was it cut off while it was copied?"
                    .to_owned(),
            ));
        }
        let decoded = || -> image::ImageResult<(DynamicImage, Orientation)> {
            let mut decoder =
                ImageReader::new(Cursor::new(&bytes)).with_guessed_format()?.into_decoder()?;
            let orientation = decoder.orientation()?;
            Ok((DynamicImage::from_decoder(decoder)?, orientation))
        };
        if is_animated(&bytes) {
            remarks.animated.push(path.to_path_buf());
        }
        let (mut image, orientation) = decoded().map_err(|error| wrong(error.to_string()))?;
        if orientation != Orientation::NoTransforms {
            image.apply_orientation(orientation);
            remarks.turned.push(path.to_path_buf());
        }
        let (width, height) = (image.width() as usize, image.height() as usize);
        if !image.color().has_alpha() {
            return Ok(Self { width, height, rgb: image.into_rgb8().into_raw() });
        }
        let rgba = image.into_rgba8();
        if rgba.pixels().any(|pixel| pixel.0[3] < u8::MAX) {
            remarks.transparent.push(path.to_path_buf());
        }
        let over_white = |pixel: &image::Rgba<u8>| {
            let [r, g, b, alpha] = pixel.0.map(u32::from);
            [r, g, b].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
        };
        Ok(Self { width, height, rgb: rgba.pixels().flat_map(over_white).collect() })
    }

    /// Writes a picture that a user named: nothing but a picture that this program wrote is
    /// overwritten.
    ///
    /// # Errors
    /// Something else is there; the folder cannot be written.
    pub fn save_as(&self, path: &Path) -> Result<(), Error> {
        Self::may_be_written(path)?;
        self.save_sheet(path)
    }

    /// Writes a grid or a sheet of a run, which says that it is one.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_sheet(&self, path: &Path) -> Result<(), Error> {
        self.save(path, &[(SOFTWARE.0, SOFTWARE.1.to_owned())])
    }

    /// Whether a file is a grid or a sheet that this program laid out, and no picture of a model.
    pub fn is_sheet(path: &Path) -> bool {
        Self::texts(path).is_ok_and(|texts| {
            texts.iter().any(|(key, text)| (key.as_str(), text.as_str()) == SOFTWARE)
        })
    }

    /// Whether [`Self::save_as`] may write to a path; asked before the work begins.
    ///
    /// # Errors
    /// Something else is there.
    pub fn may_be_written(path: &Path) -> Result<(), Error> {
        if fs_err::symlink_metadata(path).is_err() {
            return Ok(());
        }
        if Self::is_sheet(path) { Ok(()) } else { Err(Error::Foreign(path.to_path_buf())) }
    }

    /// Writes a PNG, whole or not at all, with text chunks (`parameters` is what A1111 reads).
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, path: &Path, texts: &[(&str, String)]) -> Result<(), Error> {
        let encode = |error: png::EncodingError| match error {
            png::EncodingError::IoError(error) => Error::Io(crate::files::at(path, &error)),
            other => Error::Encode { path: path.to_path_buf(), why: other.to_string() },
        };
        crate::files::whole(path, |half| {
            let mut encoder = png::Encoder::new(
                BufWriter::new(half.as_file()),
                self.width as u32,
                self.height as u32,
            );
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            for (key, text) in texts {
                encoder.add_itxt_chunk((*key).to_owned(), text.clone()).map_err(encode)?;
            }
            let mut writer = encoder.write_header().map_err(encode)?;
            writer.write_image_data(&self.rgb).map_err(encode)?;
            writer.finish().map_err(encode)
        })
    }

    /// The text chunks of a PNG that [`Self::save`] wrote.
    ///
    /// # Errors
    /// A file that is missing, or no PNG.
    pub fn texts(path: &Path) -> Result<Vec<(String, String)>, Error> {
        let decode = |why: String| Error::Decode { path: path.to_path_buf(), why };
        let file = std::io::BufReader::new(fs_err::File::open(path)?);
        let reader =
            png::Decoder::new(file).read_info().map_err(|error| decode(error.to_string()))?;
        reader
            .info()
            .utf8_text
            .iter()
            .map(|chunk| {
                let text = chunk.get_text().map_err(|error| decode(error.to_string()))?;
                Ok((chunk.keyword.clone(), text))
            })
            .collect()
    }

    /// The middle square, `side` pixels wide.
    #[must_use]
    pub fn fitted(self, side: usize) -> Self {
        if (self.width, self.height) == (side, side) {
            return self;
        }
        let (width, height) = (self.width as u32, self.height as u32);
        let square = width.min(height);
        let Some(whole) = image::RgbImage::from_raw(width, height, self.rgb) else {
            return Self::filled(side, side, [128; 3]);
        };
        let (x, y) = ((width - square) / 2, (height - square) / 2);
        let middle = image::imageops::crop_imm(&whole, x, y, square, square).to_image();
        let (side32, bicubic) = (side as u32, image::imageops::FilterType::CatmullRom);
        let fitted = image::imageops::resize(&middle, side32, side32, bicubic);
        Self { width: side, height: side, rgb: fitted.into_raw() }
    }

    /// [`Self::fitted`]; adds to `cut` where edges are lost.
    #[must_use]
    pub fn fitted_noting(self, side: usize, cut: &mut usize) -> Self {
        *cut += usize::from(self.width != self.height);
        self.fitted(side)
    }

    /// So blurred that it shows no more than a few patches of colour.
    #[must_use]
    pub fn blurred(&self) -> Self {
        let (width, height) = (self.width as u32, self.height as u32);
        match image::RgbImage::from_raw(width, height, self.rgb.clone()) {
            Some(whole) => {
                let sigma = self.width.max(self.height) as f32 / 7.0;
                Self { rgb: image::imageops::fast_blur(&whole, sigma).into_raw(), ..*self }
            }
            // A picture whose pixels do not fit its size shows nothing either.
            None => Self::filled(self.width, self.height, [128; 3]),
        }
    }

    /// The deviation of the pixels from their mean, over all channels: 0 for a picture of one
    /// colour, some 50 for a photograph.
    pub fn contrast(&self) -> f32 {
        let n = (self.rgb.len() / 3).max(1) as f64;
        let variance = |channel: usize| {
            let values = || self.rgb.iter().skip(channel).step_by(3).map(|&byte| f64::from(byte));
            let mean = values().sum::<f64>() / n;
            values().map(|value| (value - mean).powi(2)).sum::<f64>() / n
        };
        ((variance(0) + variance(1) + variance(2)) / 3.0).sqrt() as f32
    }

    /// Copies `other` with its upper left corner at (`x`, `y`); what lies outside is cut off.
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        let across = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let (to, from) = (((y + row) * self.width + x) * 3, row * other.width * 3);
            self.rgb[to..to + across * 3].copy_from_slice(&other.rgb[from..from + across * 3]);
        }
    }
}

/// Whether a WebP or a PNG is an animation, by its first chunk, or by the one that stands before
/// its pixels.
fn is_animated(bytes: &[u8]) -> bool {
    match bytes {
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            b'V',
            b'P',
            b'8',
            b'X',
            rest @ ..,
        ] => rest.get(4).is_some_and(|flags| flags & 0x02 != 0),
        [0x89, b'P', b'N', b'G', rest @ ..] => {
            let chunk = |bytes: &[u8], name: &[u8]| bytes.windows(4).position(|four| four == name);
            let pixels = chunk(rest, b"IDAT").unwrap_or(rest.len());
            chunk(&rest[..pixels], b"acTL").is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_texts_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.png");
        let mut picture = Picture::filled(5, 4, [1, 2, 3]);
        picture.paste(&Picture::filled(9, 9, [200, 100, 0]), 3, 3);
        picture.save(&path, &[("parameters", "a cat, naïve\nSteps: 20".to_owned())]).unwrap();
        assert_eq!(Picture::open(&path).unwrap(), picture);
        let texts = Picture::texts(&path).unwrap();
        assert_eq!(texts, [("parameters".to_owned(), "a cat, naïve\nSteps: 20".to_owned())]);
    }

    #[test]
    fn fitted_is_the_middle_square() {
        let mut wide = Picture::filled(30, 10, [255, 0, 0]);
        wide.paste(&Picture::filled(10, 10, [0, 0, 255]), 10, 0);
        assert_eq!(wide.fitted(20), Picture::filled(20, 20, [0, 0, 255]));
        assert_eq!(Picture::filled(9, 9, [1, 2, 3]).fitted(9), Picture::filled(9, 9, [1, 2, 3]));
    }

    #[test]
    fn nothing_of_others_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thesis.png");
        crate::files::write(&path, b"a thesis").unwrap();
        let picture = Picture::filled(2, 2, [1, 2, 3]);
        assert!(matches!(picture.save_as(&path), Err(Error::Foreign(_))));
        assert_eq!(fs_err::read(&path).unwrap(), b"a thesis");
        picture.save(&path, &[]).unwrap();
        assert!(matches!(picture.save_as(&path), Err(Error::Foreign(_))));
        fs_err::remove_file(&path).unwrap();
        picture.save_as(&path).unwrap();
        picture.save_as(&path).unwrap();
    }

    #[test]
    fn what_is_of_one_colour_has_no_contrast() {
        assert_eq!(Picture::filled(9, 9, [255, 0, 9]).contrast(), 0.0);
        let mut half = Picture::filled(8, 8, [0; 3]);
        half.paste(&Picture::filled(8, 4, [100; 3]), 0, 0);
        assert!((half.contrast() - 50.0).abs() < 1e-3);
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Picture::open(file.path()), Err(Error::Decode { .. })));
        assert!(matches!(Picture::open(Path::new("/nowhere.png")), Err(Error::Io(_))));
    }
}
