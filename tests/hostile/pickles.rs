//! Hostile and damaged pickles.

use std::path::{Path, PathBuf};

use super::cases::{Case, read};
use super::maker::Maker;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles")
}

/// Calls, of functions and of what is none.
pub(crate) fn calls(make: &Maker) -> Vec<Case> {
    let golden = golden();
    vec![
        ("a call that Python made", golden.join("call.pt"), read, "posix.system"),
        ("a whole module", golden.join("module.pt"), read, "torch.nn.modules.linear.Linear"),
        ("no tensor", golden.join("list.pt"), read, "no tensor"),
        (
            "eval",
            make.pickle("eval.pt", b"cbuiltins\neval\nX\x01\0\0\x001\x85R."),
            read,
            "builtins.eval",
        ),
        (
            "eval by stack",
            make.pickle("stack.pt", b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93)R."),
            read,
            "builtins.exec",
        ),
        ("INST", make.pickle("inst.pt", b"(ios\nsystem\n."), read, "INST"),
        ("OBJ", make.pickle("obj.pt", b"(cos\nsystem\no."), read, "os.system"),
        ("EXT", make.pickle("ext.pt", b"\x80\x02\x82\x01."), read, "EXT"),
        ("a call of what was made", make.pickle("made.pt", b"}X\x01\0\0\0a)R."), read, "no name"),
        ("protocol 255", make.pickle("protocol.pt", b"\x80\xff."), read, "protocol 255"),
    ]
}

/// Instructions that lead nowhere or never end.
pub(crate) fn instructions(make: &Maker) -> Vec<Case> {
    let big = [b"\x80\x02]q\0(".to_vec(), b"h\0".repeat(400_000), b"e.".to_vec()].concat();
    let mut laughs = b"\x80\x02}q\x000".to_vec();
    for n in 0..40_u8 {
        // {x: previous, y: previous}
        laughs.extend(
            [b"}(X\x01\0\0\0xh".as_slice(), &[n], b"X\x01\0\0\0yh", &[n], b"uq", &[n + 1], b"0"]
                .concat(),
        );
    }
    laughs.extend(b"}X\x01\0\0\0ah\x28s.");
    let deep = [b"\x80\x02N".to_vec(), vec![0x85; 900_000], b".".to_vec()].concat();
    vec![
        (
            "a text of 4 GB",
            make.pickle("text.pt", b"\x80\x02X\xff\xff\xff\xffa."),
            read,
            "announced",
        ),
        (
            "bytes of 2^63",
            make.pickle("bytes.pt", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fa."),
            read,
            "announced",
        ),
        ("no end", make.pickle("end.pt", b"\x80\x02}"), read, "ends inside"),
        ("an empty stack", make.pickle("empty.pt", b"\x80\x02."), read, "empty stack"),
        (
            "an endless memo",
            make.pickle("memo.pt", b"\x80\x02j\xff\xff\xff\xff."),
            read,
            "never stored",
        ),
        (
            "a dictionary in itself",
            make.pickle("self.pt", b"\x80\x02}q\0X\x01\0\0\0ah\0s."),
            read,
            "without end",
        ),
        ("dictionaries that multiply", make.pickle("laughs.pt", &laughs), read, "without end"),
        (
            "names that multiply",
            make.names("names.pt"),
            read,
            "longer than 16777216 bytes together",
        ),
        ("very deep", make.pickle("deep.pt", &deep), read, "no tensor"),
        ("a list of itself", make.pickle("big.pt", &big), read, "no tensor"),
        (
            "a million instructions",
            make.pickle("long.pt", &b"N0".repeat(600_000)),
            read,
            "instructions",
        ),
    ]
}

/// Tensors that do not fit their storage.
pub(crate) fn tensors(make: &Maker) -> Vec<Case> {
    vec![
        (
            "a negative size",
            make.tensor("negative.pt", "FloatStorage", 0, &[-1], &[1]),
            read,
            "shape",
        ),
        (
            "a huge size",
            make.tensor("huge.pt", "FloatStorage", 0, &[i32::MAX, i32::MAX, i32::MAX], &[1, 1, 1]),
            read,
            "leave its storage",
        ),
        (
            "steps that leave",
            make.tensor("steps.pt", "FloatStorage", 0, &[2, 2], &[i32::MAX, 1]),
            read,
            "leave its storage",
        ),
        (
            "steps of nought, a tensor larger than its file",
            make.tensor("nought.pt", "FloatStorage", 0, &[i32::MAX, 4], &[0, 0]),
            read,
            "leave its storage",
        ),
        (
            "an offset that leaves",
            make.tensor("offset.pt", "FloatStorage", 4, &[1], &[1]),
            read,
            "leave its storage",
        ),
        (
            "a negative offset",
            make.tensor("before.pt", "FloatStorage", -1, &[1], &[1]),
            read,
            "leave its storage",
        ),
        (
            "steps of another length",
            make.tensor("rank.pt", "FloatStorage", 0, &[2], &[1, 1]),
            read,
            "belong together",
        ),
        (
            "too wide a type",
            make.tensor("wide.pt", "DoubleStorage", 0, &[4], &[1]),
            read,
            "leave its storage",
        ),
        (
            "an unknown storage",
            make.tensor("quant.pt", "QInt8Storage", 0, &[4], &[1]),
            read,
            "QInt8Storage",
        ),
    ]
}

/// Archives and streams.
pub(crate) fn containers(make: &Maker) -> Vec<Case> {
    let golden = golden();
    let whole = fs_err::read(golden.join("zip.pt")).unwrap();
    let stream = fs_err::read(golden.join("stream.pt")).unwrap();
    let mut flipped = whole.clone();
    let end = flipped.len();
    flipped[end - 40..].fill(0xff);
    vec![
        (
            "no storage",
            make.zip(
                "storage.pt",
                &[(
                    "a/data.pkl",
                    &fs_err::read(make.tensor("t.pt", "FloatStorage", 0, &[4], &[1])).unwrap()
                        [37..],
                )],
            ),
            read,
            "pickle",
        ),
        ("a zip without data.pkl", make.zip("other.pt", &[("a/b", b"c")]), read, "data.pkl"),
        (
            "big-endian",
            make.zip("endian.pt", &[("a/data.pkl", b"}."), ("a/byteorder", b"big")]),
            read,
            "big-endian",
        ),
        ("a truncated zip", make.bytes("cut.pt", &whole[..whole.len() / 2]), read, "zip"),
        ("a zip with a broken directory", make.bytes("flip.pt", &flipped), read, "zip"),
        (
            "a truncated stream",
            make.bytes("cut2.pt", &stream[..stream.len() - 5]),
            read,
            "ends before",
        ),
        ("the head of a stream", make.bytes("head.pt", &stream[..40]), read, "ends"),
        ("a stream of another kind", make.bytes("pickle.pt", b"\x80\x02}."), read, "neither"),
    ]
}
