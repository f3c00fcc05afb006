//! Whether a JPEG is whole. Decoders paint what is missing in grey, and say nothing.

/// What every JPEG begins with.
pub(super) const START: [u8; 2] = [0xff, 0xd8];

/// Whether the end marker is there: goes from marker to marker, through each scan's data.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let mut at = START.len();
    loop {
        // Markers may be filled up with 0xff.
        while bytes.get(at..at + 2).is_some_and(|two| two == [0xff, 0xff]) {
            at += 1;
        }
        let Some(&[0xff, marker]) = bytes.get(at..at + 2) else { return false };
        at += 2;
        match marker {
            0xd9 => return true,
            // These have no length.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let Some(&[high, low]) = bytes.get(at..at + 2) else { return false };
        at += usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            // A scan's data: 0xff stands before 0 where it is data, and before restarts.
            let is_marker =
                |two: &[u8]| two[0] == 0xff && !matches!(two[1], 0x00 | 0xd0..=0xd7 | 0xff);
            let Some(rest) = bytes.get(at..) else { return false };
            let Some(length) = rest.windows(2).position(is_marker) else { return false };
            at += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_anywhere_it_is_not_whole() {
        let picture = image::RgbImage::from_fn(40, 40, |x, y| {
            image::Rgb([x as u8 * 6, y as u8 * 6, (x * y) as u8])
        });
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut bytes).encode_image(&picture).unwrap();
        assert!(is_whole(&bytes));
        for end in 2..bytes.len() {
            assert!(!is_whole(&bytes[..end]), "{end} of {}", bytes.len());
        }
        // What cameras write behind it does no harm.
        bytes.extend([7; 100]);
        assert!(is_whole(&bytes));
    }
}
