//! `StyleGAN2` files from strangers: each wrong one gives one clear error, soon, and nothing in any
//! of them is executed.
//!
//! They are made of the good ones in `golden/gan`: tensors are taken away, replaced or renamed, and
//! bytes are changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use unsee::generator::{StyleGan2, Synthesizer as _};
use unsee::torch::{Compute, Device, Kind, Precision, Tensor};
use unsee::weights::{Weights, save};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gan").join(name)
}

type Named = BTreeMap<String, Tensor>;

/// Every tensor of the good checkpoint.
fn good() -> Named {
    let file = Weights::open(&golden("zip.pt")).unwrap();
    file.names().map(|name| (name.to_owned(), file.tensor(name).unwrap())).collect()
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu))
}

struct Maker(PathBuf);

impl Maker {
    /// A file of the good tensors with a change.
    fn changed(&self, name: &str, change: impl FnOnce(&mut Named)) -> PathBuf {
        let mut tensors = good();
        change(&mut tensors);
        self.tensors(name, tensors)
    }

    fn tensors(&self, name: &str, tensors: Named) -> PathBuf {
        let path = self.0.join(format!("{name}.safetensors"));
        save(&path, &tensors.into_iter().collect::<Vec<_>>(), &[]).unwrap();
        path
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs_err::File::create(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
            .unwrap();
        path
    }

    /// One of the good files with each `from` in its bytes replaced by `to`.
    fn replaced(&self, source: &str, name: &str, from: &[u8], to: &[u8]) -> PathBuf {
        let bytes = fs_err::read(golden(source)).unwrap();
        let mut out = Vec::new();
        let (mut at, mut found) = (0, 0);
        while at < bytes.len() {
            if bytes[at..].starts_with(from) {
                out.extend_from_slice(to);
                at += from.len();
                found += 1;
            } else {
                out.push(bytes[at]);
                at += 1;
            }
        }
        assert!(found > 0, "{name}: {} is not in {source}", String::from_utf8_lossy(from));
        self.bytes(name, &out)
    }
}

/// What it is, the file, and a part of what must be said about it.
type Case = (&'static str, PathBuf, &'static str);

fn set(tensors: &mut Named, name: &str, tensor: Tensor) {
    drop(tensors.insert(name.to_owned(), tensor));
}

fn drop_name(tensors: &mut Named, name: &str) {
    assert!(tensors.remove(name).is_some(), "{name}");
}

fn ema(name: &str) -> String {
    format!("g_ema.{name}")
}

/// Networks that are none.
fn incomplete(make: &Maker) -> Vec<Case> {
    let keep = |tensors: &mut Named, start: &str| tensors.retain(|name, _| name.starts_with(start));
    vec![
        ("a discriminator alone", make.changed("d", |t| keep(t, "d.")), "discriminator alone"),
        (
            "nothing of a GAN",
            make.tensors("unet", [("unet.conv_in.weight".to_owned(), zeros(&[4, 4]))].into()),
            "no StyleGAN2",
        ),
        ("only a mean style", make.changed("mean", |t| keep(t, "latent_avg")), "no StyleGAN2"),
        (
            "a StyleGAN3",
            make.changed("three", |t| set(t, "G_ema.synthesis.L0_36_512.weight", zeros(&[2]))),
            "StyleGAN3",
        ),
        (
            "no constant",
            make.changed("constant", |t| drop_name(t, &ema("input.input"))),
            "input.input",
        ),
        (
            "no mapping",
            make.changed("mapping", |t| t.retain(|name, _| !name.starts_with("g_ema.style"))),
            "style.1.weight",
        ),
        (
            "no bias in the mapping",
            make.changed("bias", |t| drop_name(t, &ema("style.2.bias"))),
            "style.2.bias",
        ),
        (
            "no first convolution",
            make.changed("conv1", |t| drop_name(t, &ema("conv1.conv.weight"))),
            "conv1.conv.weight",
        ),
        (
            "a level without its second convolution",
            make.changed("level", |t| drop_name(t, &ema("convs.3.conv.weight"))),
            "convs.3.conv.weight",
        ),
        (
            "a level without colours",
            make.changed("colour", |t| drop_name(t, &ema("to_rgbs.0.conv.weight"))),
            "no StyleGAN2",
        ),
        (
            "no noise strength",
            make.changed("strength", |t| drop_name(t, &ema("conv1.noise.weight"))),
            "conv1.noise.weight",
        ),
    ]
}

/// Tensors of a generator in shapes that make no network.
fn misshapen(make: &Maker) -> Vec<Case> {
    vec![
        (
            "a mapping that is not square",
            make.changed("square", |t| set(t, &ema("style.2.weight"), zeros(&[6, 5]))),
            "[6, 5]",
        ),
        (
            "a constant of 5 pixels",
            make.changed("five", |t| set(t, &ema("input.input"), zeros(&[1, 5, 5, 5]))),
            "[1, 5, 5, 5]",
        ),
        (
            "a constant of no channel",
            make.changed("none", |t| set(t, &ema("input.input"), zeros(&[1, 0, 4, 4]))),
            "from 1 to",
        ),
        (
            "a constant of one dimension",
            make.changed("flat", |t| set(t, &ema("input.input"), zeros(&[80]))),
            "no StyleGAN2",
        ),
        (
            "a scalar for a constant",
            make.changed("scalar", |t| set(t, &ema("input.input"), zeros(&[]))),
            "no StyleGAN2",
        ),
        (
            "a scalar in the mapping",
            make.changed("point", |t| set(t, &ema("style.1.weight"), zeros(&[]))),
            "no StyleGAN2",
        ),
        (
            "a convolution of 5 × 5",
            make.changed("wide", |t| set(t, &ema("convs.1.conv.weight"), zeros(&[1, 4, 4, 5, 5]))),
            "[1, 4, 4, 5, 5]",
        ),
        (
            "a modulation of another width",
            make.changed("width", |t| {
                set(t, &ema("convs.0.conv.modulation.weight"), zeros(&[5, 7]));
            }),
            "[5, 7]",
        ),
    ]
}

/// What does not fit the rest, and what is no number.
fn unfit(make: &Maker) -> Vec<Case> {
    vec![
        (
            "noise of another size",
            make.changed("noise", |t| set(t, &ema("noises.noise_2"), zeros(&[1, 1, 9, 9]))),
            "[1, 1, 9, 9]",
        ),
        (
            "a mean style of another width",
            make.changed("avg", |t| set(t, "latent_avg", zeros(&[7]))),
            "latent_avg",
        ),
        (
            "a million channels",
            make.changed("many", |t| set(t, &ema("convs.0.activate.bias"), zeros(&[1 << 20]))),
            "from 1 to",
        ),
        (
            "a discriminator of another size",
            make.changed("other", |t| drop_name(t, "d.convs.2.skip.1.weight")),
            "convs.2.skip.1.weight",
        ),
        (
            "a discriminator without a verdict",
            make.changed("verdict", |t| drop_name(t, "d.final_linear.1.weight")),
            "final_linear.1.weight",
        ),
        (
            "a discriminator of other channels",
            make.changed("hidden", |t| set(t, "d.final_linear.0.weight", zeros(&[5, 81]))),
            "[5, 81]",
        ),
        (
            "weights that are no numbers",
            make.changed("nan", |t| set(t, &ema("style.1.bias"), zeros(&[6]) / 0.0)),
            "NaN or infinite",
        ),
        (
            "weights without end",
            make.changed("inf", |t| set(t, "latent_avg", zeros(&[6]) + f64::INFINITY)),
            "NaN or infinite",
        ),
    ]
}

/// NVIDIA's pickles.
fn nvidia(make: &Maker) -> Vec<Case> {
    let nvidia = fs_err::read(golden("nvidia4.pkl")).unwrap();
    let stream = fs_err::read(golden("stream.pt")).unwrap();
    let global = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n";
    let load = b"ctorch.storage\n_load_from_bytes\n";
    vec![
        (
            "an NVIDIA file that ends early",
            make.bytes("cut.pkl", &nvidia[..nvidia.len() / 2]),
            "cut.pkl",
        ),
        ("an NVIDIA file that begins late", make.bytes("late.pkl", &nvidia[40..]), "late.pkl"),
        (
            "an NVIDIA file that calls the system",
            make.replaced("nvidia3.pkl", "system.pkl", global, b"cos\nsystem\n"),
            "os.system",
        ),
        (
            "an NVIDIA file that evaluates",
            make.replaced("nvidia3.pkl", "eval.pkl", load, b"cbuiltins\neval\n"),
            "builtins.eval",
        ),
        (
            "an NVIDIA file that unpickles again",
            make.replaced("nvidia3.pkl", "again.pkl", load, b"cpickle\nloads\n"),
            "pickle.loads",
        ),
        (
            "an NVIDIA file of TensorFlow's time",
            make.replaced("nvidia3.pkl", "tf.pkl", global, b"cdnnlib.tflib.network\nNetwork\n"),
            "dnnlib.tflib",
        ),
        (
            "an NVIDIA file with other streams",
            make.replaced("nvidia3.pkl", "magic.pkl", &stream[2..14], b"\x8a\x0aAAAAAAAAAA"),
            "magic.pkl",
        ),
        (
            "an NVIDIA file of labelled pictures",
            make.replaced(
                "nvidia3.pkl",
                "labels.pkl",
                b"X\x03\x00\x00\x00fc0",
                b"X\x05\x00\x00\x00embed",
            ),
            "label",
        ),
    ]
}

/// Checkpoints of `PyTorch`, and what is none.
fn checkpoints(make: &Maker) -> Vec<Case> {
    let stream = fs_err::read(golden("stream.pt")).unwrap();
    let zip = fs_err::read(golden("zip.pt")).unwrap();
    vec![
        (
            "a checkpoint that ends early",
            make.bytes("cut.pt", &stream[..stream.len() - 100]),
            "cut.pt",
        ),
        ("a zip that ends early", make.bytes("cutzip.pt", &zip[..zip.len() - 100]), "cutzip.pt"),
        (
            "a checkpoint with a call",
            make.replaced(
                "stream.pt",
                "call.pt",
                b"ccollections\nOrderedDict\n",
                b"cposix\nsystem\n",
            ),
            "posix.system",
        ),
        ("an empty file", make.bytes("empty.pkl", b""), "empty.pkl"),
        ("a text", make.bytes("text.pkl", b"this is no pickle at all, but a text"), "text.pkl"),
        ("a folder", make.0.clone(), ""),
    ]
}

#[test]
fn every_wrong_file_gets_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let compute = Compute::new(Device::CPU, Precision::F32);
    StyleGan2::load(&golden("zip.pt"), compute).unwrap();
    let trap = Path::new("/tmp/executed"); // what the source code in NVIDIA's files would write
    assert!(!trap.exists());
    let make = Maker(folder.path().to_owned());
    let kinds = [incomplete, misshapen, unfit, nvidia, checkpoints];
    let cases: Vec<Case> = kinds.iter().flat_map(|cases| cases(&make)).collect();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut wrong = Vec::new();
    for (what, path, wanted) in cases {
        let began = Instant::now();
        // Only learning needs a discriminator: a wrong one says so when it is asked for.
        let opened =
            StyleGan2::load(&path, compute).and_then(|model| model.discriminator().map(drop));
        let message =
            opened.map_or_else(|error| error.to_string(), |()| "it was loaded".to_owned());
        let as_wanted =
            message.contains(wanted) && !message.contains('\n') && message != "it was loaded";
        if !as_wanted || began.elapsed() > Duration::from_secs(1) {
            wrong.push(format!(
                "{what}: wanted «{wanted}», found «{message}» in {:?}",
                began.elapsed()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(!trap.exists(), "something in a file was executed");
}
