//! Pictures as files: RGB pixels, read from PNG or JPEG, written as PNG with what made them inside.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

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
    /// The encoder failed.
    #[error("{path} cannot be written: {why}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoder's words.
        why: String,
    },
}

/// Ends of the names of files that are read as pictures.
pub const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Whether a file is a picture by its name.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
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

    /// Reads a PNG or JPEG; transparency is dropped.
    ///
    /// # Errors
    /// A file that is missing, or no such picture.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = fs_err::read(path)?;
        let decoded = image::load_from_memory(&bytes)
            .map_err(|error| Error::Decode { path: path.to_path_buf(), why: error.to_string() })?
            .into_rgb8();
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        Ok(Self { width, height, rgb: decoded.into_raw() })
    }

    /// Writes a PNG, whole or not at all, with text chunks (`parameters` is what A1111 reads).
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, path: &Path, texts: &[(&str, String)]) -> Result<(), Error> {
        let encode = |error: png::EncodingError| match error {
            png::EncodingError::IoError(error) => Error::Io(error),
            other => Error::Encode { path: path.to_path_buf(), why: other.to_string() },
        };
        crate::files::whole(path, |half| {
            let mut encoder =
                png::Encoder::new(BufWriter::new(half.as_file()), self.width as u32, self.height as u32);
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
        let reader = png::Decoder::new(file).read_info().map_err(|error| decode(error.to_string()))?;
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

    /// Copies `other` with its upper left corner at (`x`, `y`); what lies outside is cut off.
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        let across = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let (to, from) = (((y + row) * self.width + x) * 3, row * other.width * 3);
            self.rgb[to..to + across * 3].copy_from_slice(&other.rgb[from..from + across * 3]);
        }
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
    fn what_is_no_picture_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Picture::open(file.path()), Err(Error::Decode { .. })));
        assert!(matches!(Picture::open(Path::new("/nowhere.png")), Err(Error::Io(_))));
    }
}
