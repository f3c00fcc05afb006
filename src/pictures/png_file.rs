//! Whether a PNG is whole, without decoding it: every chunk says its length and the checksum of its
//! content.

const START: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];

/// Whether all chunks of a PNG are there and as they were written.
pub fn is_whole_png(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(&START) else { return false };
    loop {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return false };
        let length = u32::from_be_bytes(*length) as usize;
        let Some(chunk) = after.get(..length.saturating_add(4)) else { return false };
        let Some(checksum) = after.get(chunk.len()..chunk.len() + 4) else { return false };
        if crc32fast::hash(chunk).to_be_bytes() != checksum {
            return false;
        }
        rest = &after[chunk.len() + 4..];
        if chunk.starts_with(b"IEND") {
            return rest.is_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::Picture;

    #[test]
    fn a_bit_or_an_end_that_is_missing_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        Picture::filled(9, 7, [1, 2, 3]).save(&file, &[("k", "text".to_owned())]).unwrap();
        let bytes = fs_err::read(&file).unwrap();
        assert!(is_whole_png(&bytes));
        for at in 0..bytes.len() {
            assert!(!is_whole_png(&bytes[..at]), "cut at {at}");
            let mut other = bytes.clone();
            other[at] ^= 4;
            assert!(!is_whole_png(&other), "flipped at {at}");
        }
    }
}
