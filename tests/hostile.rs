//! Files from strangers: each wrong one gives one clear error, soon and in little memory, and
//! nothing in any of them is executed.
//!
//! One test alone in its process, whose peak of memory is looked at in the end.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use unsee::command::inspect::inspect;
use unsee::generator::{Adapter, Checkpoint};
use unsee::torch::{Device, Kind, Peak, Tensor};
use unsee::weights::{EmaChoice, Weights, save};

const SECOND: Duration = Duration::from_secs(1);
const MEMORY: u64 = 200 << 20;

/// What is done with a file, and a part of what must be said about it.
type Case = (&'static str, PathBuf, fn(&Path) -> Result<(), String>, &'static str);

fn look(path: &Path) -> Result<(), String> {
    inspect(path).map(drop).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<(), String> {
    let open = || {
        let file = Weights::open(path)?;
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        names.iter().try_for_each(|name| file.tensor(name).map(drop))
    };
    open().map_err(|error| error.to_string())
}

fn shards(path: &Path) -> Result<(), String> {
    Weights::open_sharded(path).map(drop).map_err(|error| error.to_string())
}

fn merge(path: &Path) -> Result<(), String> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/miniature");
    let base = Checkpoint::open(&models.as_path().into()).unwrap();
    base.merge(&[Adapter { path: path.to_owned(), strength: 1.0 }], EmaChoice::Auto)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn model(path: &Path) -> Result<(), String> {
    Checkpoint::open(&path.into()).map(drop).map_err(|error| error.to_string())
}

/// Writes the cases' files into a folder.
struct Maker(PathBuf);

impl Maker {
    fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    /// A zip archive of these records, stored as they are.
    fn zip(&self, name: &str, records: &[(&str, &[u8])]) -> PathBuf {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for (record, bytes) in records {
            zip.start_file(*record, stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        self.bytes(name, &bytes)
    }

    /// Dictionaries of one tensor, each in the next one under a hundred long names.
    fn names(&self, name: &str) -> PathBuf {
        let named = |memo: u8| {
            (0..100).flat_map(move |n: u8| {
                [
                    &b"X\x4a\x01\0\0"[..],
                    &[b'a' + n % 26, b'a' + n / 26],
                    &[b'x'; 328],
                    b"h",
                    &[memo],
                ]
                .concat()
            })
        };
        let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\0K\x01\x85K\x01\x85\x89NtRq\x000".to_vec();
        for memo in 0..3 {
            pickle.extend(b"}(");
            pickle.extend(named(memo));
            pickle.extend([&b"uq"[..], &[memo + 1], b"0"].concat());
        }
        pickle.extend(b"h\x03.");
        self.pickle(name, &pickle)
    }

    fn pickle(&self, name: &str, pickle: &[u8]) -> PathBuf {
        self.zip(name, &[("a/data.pkl", pickle), ("a/data/0", &[0; 16])])
    }

    /// A dictionary with one tensor, as a pickle would describe it.
    fn tensor(
        &self,
        name: &str,
        class: &str,
        offset: i32,
        shape: &[i32],
        strides: &[i32],
    ) -> PathBuf {
        let int = |n: i32| [&b"J"[..], &n.to_le_bytes()].concat();
        let ints = |all: &[i32]| {
            [&b"("[..], &all.iter().flat_map(|&n| int(n)).collect::<Vec<u8>>(), b"t"].concat()
        };
        let pickle = [
            &b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"[..],
            class.as_bytes(),
            b"\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ",
            &int(offset),
            &ints(shape),
            &ints(strides),
            b"\x89NtRs.",
        ]
        .concat();
        self.pickle(name, &pickle)
    }

    fn dense(&self, name: &str, header: &str, data: usize) -> PathBuf {
        let bytes =
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat();
        self.bytes(name, &bytes)
    }

    fn edit(&self, name: &str, base: &str) -> PathBuf {
        let path = self.0.join(name);
        let tensor = Tensor::zeros([1], (Kind::Float, tch::Device::Cpu));
        let about = [("unsee.base", base.to_owned()), ("unsee.edit", "1".to_owned())];
        save(&path, &[("unet.x".to_owned(), tensor)], &about).unwrap();
        path
    }

    fn tensors(&self, name: &str, tensors: &[(&str, &[i64])]) -> PathBuf {
        let path = self.0.join(name);
        let tensors: Vec<(String, Tensor)> = tensors
            .iter()
            .map(|(name, shape)| {
                ((*name).to_owned(), Tensor::zeros(*shape, (Kind::Float, tch::Device::Cpu)))
            })
            .collect();
        save(&path, &tensors, &[]).unwrap();
        path
    }
}

/// Hostile and damaged pickles.
#[expect(clippy::too_many_lines, reason = "a list")]
fn pickles(make: &Maker) -> Vec<Case> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles");
    let whole = fs_err::read(golden.join("zip.pt")).unwrap();
    let stream = fs_err::read(golden.join("stream.pt")).unwrap();
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
    let mut flipped = whole.clone();
    let end = flipped.len();
    flipped[end - 40..].fill(0xff);
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

/// Damaged safetensors files, and files of no format.
fn dense(make: &Maker) -> Vec<Case> {
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

/// Indexes of shards, folders, and files for a base.
#[expect(clippy::too_many_lines, reason = "a list")]
fn models(make: &Maker) -> Vec<Case> {
    let index = |name: &str, text: &str| make.bytes(name, text.as_bytes());
    let entry = |shard: &str| format!(r#"{{"weight_map": {{"w": "{shard}"}}}}"#);
    make.tensors("1.safetensors", &[("v", &[2])]);
    let folder = |name: &str, files: &[(&str, &str)]| {
        for (file, text) in files {
            make.bytes(&format!("{name}/{file}"), text.as_bytes());
        }
        make.0.join(name)
    };
    let sd = r#"{"_class_name": "StableDiffusionPipeline"}"#;
    vec![
        ("an index that leaves its \
            folder", index("i1.json", &entry("../1.safetensors")), shards, "beside"),
        ("an absolute path", index("i2.json", &entry("/etc/passwd")), shards, "beside"),
        ("an index of itself", index("i3.json", &entry("i3.json")), shards, "beside"),
        ("an index of indexes", index("i4.json", &entry("i1.json")), shards, "beside"),
        ("a hidden folder", index("i5.json", &entry("a\\u0000.safetensors")), shards, "NUL byte"),
        ("a shard that is not \
            there", index("i6.json", &entry("2.safetensors")), shards, "2.safetensors"),
        ("a shard without the tensor", index("i7.json", &entry("1.safetensors")), shards, "`w` is \
            not in"),
        ("an index of numbers", index("i8.json", r#"{"weight_map": [1, 2]}"#), shards, "cannot be \
            followed"),
        (
            "a pipeline of another kind",
            folder("flux", &[("model_index.json", r#"{"_class_name": "FluxPipeline"}"#)]),
            model,
            "FluxPipeline",
        ),
        ("a folder without weights", folder("bare", &[("model_index.json", sd)]), model, "cannot \
            be read"),
        (
            "a model_index that is none",
            folder("index", &[("model_index.json", "[")]),
            model,
            "model_index.json",
        ),
        ("a single file without a \
            UNet", make.tensors("single.safetensors", &[("a", &[1])]), model, "--edit"),
        (
            "a single file without an autoencoder",
            make.tensors(
                "vae.safetensors",
                &[
                    ("model.diffusion_model.input_blocks.0.0.weight", &[4, 4, 3, 3]),
                    ("cond_stage_model.transformer.text_model.x", &[1]),
                ],
            ),
            model,
            "autoencoder",
        ),
        (
            "SDXL's text encoder",
            make.tensors(
                "wide.safetensors",
                &[
                    (
                        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
                        &[320, 2048],
                    ),
                    ("first_stage_model.quant_conv.weight", &[1, 1, 1, 1]),
                    ("cond_stage_model.transformer.text_model.x", &[1]),
                ],
            ),
            model,
            "2048",
        ),
        (
            "joined queries that cannot be divided",
            make.tensors(
                "joined.safetensors",
                &[
                    ("model.diffusion_model.input_blocks.0.0.weight", &[1]),
                    ("first_stage_model.quant_conv.weight", &[1]),
                    ("cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight", &[4, 2]),
                ],
            ),
            model,
            "in_proj",
        ),
        (
            "half a LoRA",
            make.tensors(
                "half.safetensors",
                &[(
                    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight",
                    &[4, 2],
                )],
            ),
            merge,
            "one of its two",
        ),
        (
            "a LoRA of another model",
            make.tensors(
                "sdxl.safetensors",
                &[
                    ("lora_unet_no_such.lora_up.weight", &[4, 2]),
                    ("lora_unet_no_such.lora_down.weight", &[2, 4]),
                ],
            ),
            merge,
            "SDXL",
        ),
        (
            "a LoRA of another shape",
            make.tensors(
                "lora.safetensors",
                &[
                    ("lora_unet_conv_in.lora_up.weight", &[4, 2]),
                    ("lora_unet_conv_in.lora_down.weight", &[2, 4]),
                ],
            ),
            merge,
            "conv_in",
        ),
        ("LoHa", make.tensors("loha.safetensors", &[("lora_unet_conv_in.hada_w1_a", &[4, 2])]), merge, "LoHa"),
        (
            "an edit of a base in letters",
            make.edit("edits/style-Mosaic-salun.safetensors", "a\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"),
            merge,
            "the edit was made for",
        ),
        ("nothing of the base", make.tensors("none.safetensors", &[("foo", &[4])]), merge, "the base \
            has"),
        (
            "another shape than the base",
            make.tensors("shaped.safetensors", &[("conv_in.bias", &[4])]),
            merge,
            "conv_in.bias",
        ),
    ]
}

#[test]
fn every_wrong_file_gives_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let make = Maker(folder.path().to_owned());
    drop(fs_err::remove_file("/tmp/executed"));
    let cases: Vec<Case> =
        [pickles(&make), dense(&make), models(&make)].into_iter().flatten().collect();
    assert!(cases.len() >= 30);
    Peak::reset(Device::CPU);
    let mut wrong = Vec::new();
    for (what, path, open, wanted) in cases {
        let began = Instant::now();
        let said = open(&path);
        let taken = began.elapsed();
        let memory = Peak::read(Device::CPU).host;
        match said {
            Ok(()) => wrong.push(format!("{what}: nothing was said")),
            Err(text) if !text.contains(wanted) => {
                wrong.push(format!("{what}: `{wanted}` is not in: {text}"));
            }
            Err(text) if text.contains('\n') => {
                wrong.push(format!("{what}: more than a line: {text}"));
            }
            Err(_) if taken > SECOND => wrong.push(format!("{what}: {taken:?}")),
            Err(_) if memory > MEMORY => wrong.push(format!("{what}: {} MiB", memory >> 20)),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!Path::new("/tmp/executed").exists(), "something was executed");
}
