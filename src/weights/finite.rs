//! Numbers that are none: looked for in a file's bytes, which is as fast as they can be read.

/// How many of the numbers in `bytes` are NaN or infinite; `dtype` is safetensors' name of their
/// type. Whole numbers never are.
pub(super) fn not_finite(bytes: &[u8], dtype: &str) -> i64 {
    // Of such a number all bits of the exponent are set.
    match dtype {
        "F16" => count16(bytes, 0x7c00),
        "BF16" => count16(bytes, 0x7f80),
        "F32" => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&four| i64::from(u32::from_le_bytes(four) & 0x7f80_0000 == 0x7f80_0000))
            .sum(),
        "F64" => {
            let exponent = 0x7ff0_0000_0000_0000;
            bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|&eight| i64::from(u64::from_le_bytes(eight) & exponent == exponent))
                .sum()
        }
        _ => 0,
    }
}

fn count16(bytes: &[u8], exponent: u16) -> i64 {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&two| i64::from(u16::from_le_bytes(two) & exponent == exponent))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_number_counts() {
        let singles: Vec<u8> =
            [0.0_f32, -1.5, f32::MAX, f32::MIN_POSITIVE, f32::NAN, f32::NEG_INFINITY]
                .iter()
                .flat_map(|n| n.to_le_bytes())
                .collect();
        assert_eq!(not_finite(&singles, "F32"), 2);
        let doubles: Vec<u8> =
            [1.0_f64, f64::INFINITY].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(not_finite(&doubles, "F64"), 1);
        let halves: Vec<u8> =
            [half::f16::MAX, half::f16::NAN].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(not_finite(&halves, "F16"), 1);
        let bfloats: Vec<u8> = [half::bf16::MAX, half::bf16::NEG_INFINITY]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        assert_eq!(not_finite(&bfloats, "BF16"), 1);
        assert_eq!(not_finite(&[0xff; 8], "I64"), 0);
    }
}
