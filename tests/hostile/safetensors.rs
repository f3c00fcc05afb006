//! Damaged safetensors files, and files of no format.

use std::path::PathBuf;

use super::cases::{Case, look, read};
use super::maker::Maker;

/// Headers that do not fit.
pub(crate) fn headers(make: &Maker) -> Vec<Case> {
    let header = |dtype: &str, shape: &str, from: usize, to: usize| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    vec![
        ("nothing", make.bytes("nothing", b""), read, "0 bytes"),
        ("seven bytes", make.bytes("seven", b"1234567"), read, "7 bytes"),
        (
            "a header of 2^63",
            make.bytes("huge.safetensors", &[&[0xff; 8][..], b"{}"].concat()),
            read,
            "sound",
        ),
        (
            "a header of 2 GB",
            make.bytes("large.safetensors", &[&(2_u64 << 30).to_le_bytes()[..], b"{}"].concat()),
            read,
            "sound",
        ),
        ("a header that is no JSON", make.dense("json.safetensors", "{nonsense", 0), read, "sound"),
        (
            "too few bytes",
            make.dense("few.safetensors", &header("F32", "[4]", 0, 16), 8),
            read,
            "sound",
        ),
        (
            "too many bytes",
            make.dense("many.safetensors", &header("F32", "[4]", 0, 16), 32),
            read,
            "sound",
        ),
        (
            "a shape that does not fit",
            make.dense("fit.safetensors", &header("F32", "[5]", 0, 16), 16),
            read,
            "sound",
        ),
        (
            "offsets turned round",
            make.dense("round.safetensors", &header("F32", "[4]", 16, 0), 16),
            read,
            "sound",
        ),
        ("a gap", make.dense("gap.safetensors", &header("F32", "[2]", 8, 16), 16), read, "sound"),
        (
            "a shape of 2^64",
            make.dense("shape.safetensors", &header("F32", "[4294967296,4294967296]", 0, 16), 16),
            read,
            "sound",
        ),
        (
            "an unknown type",
            make.dense("type.safetensors", &header("F31", "[4]", 0, 16), 16),
            read,
            "sound",
        ),
        (
            "a type that libtorch lacks",
            make.dense("e8.safetensors", &header("F8_E8M0", "[4]", 0, 4), 4),
            read,
            "no number type",
        ),
    ]
}

/// What is no file of weights at all.
pub(crate) fn of_no_format(make: &Maker) -> Vec<Case> {
    vec![
        ("a picture", make.bytes("p.safetensors", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), read, "sound"),
        (
            "a web page",
            make.bytes("page.safetensors", b"<!DOCTYPE html><html>Not found</html>"),
            read,
            "web page",
        ),
        (
            "a pointer of git lfs",
            make.bytes(
                "lfs.safetensors",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            ),
            read,
            "git lfs pull",
        ),
        ("a folder", make.0.clone(), look, "run.json"),
        ("a device", PathBuf::from("/dev/zero"), read, "regular file"),
        ("not there", make.0.join("absent"), look, "absent"),
    ]
}
