//! `StyleGAN2` against numbers of `rosinality/stylegan2-pytorch` at bef283a, on the CPU in f32 with
//! one thread (`golden/stylegan2.json`): `Generator(16, 32, 2)` and `Discriminator(16)` with
//! channel multiplier 2, gradients and second derivatives included. Weights, noise and latents
//! follow a formula, so there is no file of them.

use std::path::Path;

use serde_json::Value;
use unsee::generator::{Format, export_gan};
use unsee::model::Builder;
use unsee::model::stylegan2::{Discriminator, GeneratorNetwork, Noise, StyleGan2Config};
use unsee::torch::{Device, Kind, Tensor, grad, grad_of_grad, set_threads};
use unsee::weights::{Edit, Weights, read_stylegan, save};

fn golden() -> Value {
    set_threads(1);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stylegan2.json");
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

/// `n` numbers of unit variance from the `k`-th stream: `SplitMix64` over a counter.
fn unit(k: u64, n: usize) -> Vec<f64> {
    let number = |i: u64| {
        let mut z = (k << 32).wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        3.0_f64.sqrt() * (2.0 * ((z >> 11) as f64 / (1_u64 << 53) as f64) - 1.0)
    };
    (0..n as u64).map(number).collect()
}

fn tensor(k: u64, shape: &[i64], scale: f64, shift: f64) -> Tensor {
    let n: i64 = shape.iter().product();
    let values: Vec<f32> =
        unit(k, n as usize).iter().map(|&x| (shift + scale * f64::from(x as f32)) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// The formula's weights, as a file.
fn weights(golden: &Value, which: &str, first: u64, folder: &Path) -> Weights {
    let named: Vec<(String, Vec<i64>)> = serde_json::from_value(golden[which].clone()).unwrap();
    let tensors: Vec<(String, Tensor)> = (first..)
        .zip(named)
        .map(|(k, (name, shape))| {
            let (scale, shift) = match name.as_str() {
                n if n.ends_with("modulation.bias") => (0.1, 1.0),
                n if n.ends_with("bias") || n.ends_with("noise.weight") => (0.1, 0.0),
                n if n.starts_with("style.") && n.ends_with("weight") => (100.0, 0.0),
                _ => (1.0, 0.0),
            };
            let value = tensor(k, &shape, scale, shift);
            (name, value)
        })
        .collect();
    let file = folder.join(format!("{which}.safetensors"));
    save(&file, &tensors, &[]).unwrap();
    Weights::open(&file).unwrap()
}

fn check(what: &str, found: &Tensor, expected: &Value) {
    let shape: Vec<i64> = serde_json::from_value(expected["shape"].clone()).unwrap();
    assert_eq!(found.size(), shape, "{what}");
    let flat = found.detach().to_kind(Kind::Double).flatten(0, -1);
    let number = |value: &Value| value.as_f64().unwrap();
    let deviation = number(&expected["std"]);
    let near = |what: &str, a: f64, b: f64| {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(deviation), "{what}: {a} {b}");
    };
    near(
        &format!("{what}, mean"),
        flat.mean(Kind::Double).double_value(&[]),
        number(&expected["mean"]),
    );
    near(&format!("{what}, deviation"), flat.std(false).double_value(&[]), deviation);
    for pair in expected["at"].as_array().unwrap() {
        let at = pair[0].as_i64().unwrap();
        near(&format!("{what}[{at}]"), flat.double_value(&[at]), number(&pair[1]));
    }
}

fn near(what: &str, found: &Tensor, expected: &Value) {
    let found = Vec::<f64>::try_from(found.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let expected: Vec<f64> = match expected {
        Value::Array(values) => values.iter().map(|v| v.as_f64().unwrap()).collect(),
        value => vec![value.as_f64().unwrap()],
    };
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() <= 1e-4 * b.abs(), "{what}: {a} {b}");
    }
}

#[test]
fn the_formula_is_the_reference_s() {
    let wanted = [0.922_496_35, -1.295_466_55, 0.696_046_24, 0.460_296_87];
    for (a, b) in unit(1, 4).iter().zip(wanted) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn pictures_logits_and_derivatives_are_the_reference_s() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let config = StyleGan2Config::published(16, 32, 2, 2.0);
    let g = weights(&golden, "generator_parameters", 1, folder.path());
    let d = weights(&golden, "discriminator_parameters", 500, folder.path());
    let g = GeneratorNetwork::new(&config, Builder::load(&g, Device::CPU)).unwrap();
    let d = Discriminator::new(&config, Builder::load(&d, Device::CPU)).unwrap();
    g.parameters().train(true);
    d.parameters().train(true);
    let z = tensor(1000, &[2, 32], 1.0, 0.0);
    let noises: Vec<Tensor> = (0_u64..)
        .zip(config.noise_sides())
        .map(|(layer, side)| tensor(2000 + layer, &[2, 1, side, side], 1.0, 0.0))
        .collect();
    let noise = Noise::Given(&noises);

    let w = g.map(&z);
    check("w", &w, &golden["w"]);
    let styles = g.broadcast(&w).copy();
    let image = g.synthesize(&styles, noise);
    check("image", &image, &golden["image"]);
    let mean = w.mean_dim([0_i64].as_slice(), true, Kind::Float);
    let truncated = &mean + (&w - &mean) * 0.5;
    check("truncated", &g.synthesize(&g.broadcast(&truncated), noise), &golden["image_truncated"]);

    let clamped = image.detach().clamp(-1.0, 1.0).set_requires_grad(true);
    let logits = d.forward(&clamped);
    near("logits", &logits, &golden["logits"]);
    let slope = grad_of_grad(&logits.sum(Kind::Float), &[&clamped]).unwrap().remove(0).unwrap();
    let r1 = slope
        .square()
        .sum_dim_intlist([1_i64, 2, 3].as_slice(), false, Kind::Float)
        .mean(Kind::Float);
    near("R1", &r1, &golden["r1_penalty"]);

    let y = tensor(3000, &[2, 3, 16, 16], 1.0, 0.0) / 16.0;
    let slope =
        grad_of_grad(&(&image * y).sum(Kind::Float), &[&styles]).unwrap().remove(0).unwrap();
    let lengths = slope
        .square()
        .sum_dim_intlist([2_i64].as_slice(), false, Kind::Float)
        .mean_dim([1_i64].as_slice(), false, Kind::Float)
        .sqrt();
    near("path lengths", &lengths, &golden["path_lengths"]);
    let conv1 = g.parameters().get("conv1.conv.weight").unwrap();
    let second = grad(&lengths.square().mean(Kind::Float), &[conv1]).unwrap().remove(0).unwrap();
    check("second derivative", &second, &golden["path_grad_conv1"]);

    let image = g.synthesize(&g.broadcast(&g.map(&z)), noise);
    let loss = (-d.forward(&image)).softplus().mean(Kind::Float);
    near("generator's loss", &loss, &golden["g_loss"]);
    let colours = g.parameters().get("to_rgb1.conv.weight").unwrap();
    let gradient = grad(&loss, &[colours]).unwrap().remove(0).unwrap();
    check("its gradient", &gradient, &golden["g_grad_to_rgb1"]);
}

#[test]
fn the_published_sizes() {
    for (size, dim, multiplier, tensors, numbers) in [
        (32, 128, 2.0, 68, 17.39),
        (256, 512, 2.0, 110, 30.03),
        (256, 512, 1.0, 110, 24.77),
        (1024, 512, 2.0, 138, 30.37),
    ] {
        let config = StyleGan2Config::published(size, dim, 8, multiplier);
        let g = GeneratorNetwork::new(&config, Builder::fresh(0, Device::CPU)).unwrap();
        assert_eq!(g.parameters().iter().count(), tensors);
        assert!(
            (g.parameters().count() as f64 / 1e6 - numbers).abs() < 0.006,
            "{}",
            g.parameters().count()
        );
    }
    let config = StyleGan2Config::published(256, 512, 8, 2.0);
    let d = Discriminator::new(&config, Builder::fresh(0, Device::CPU)).unwrap();
    assert!(
        (d.parameters().count() as f64 / 1e6 - 28.86).abs() < 0.006,
        "{}",
        d.parameters().count()
    );
    for wrong in [
        StyleGan2Config::published(4, 32, 2, 1.0),
        StyleGan2Config { size: 24, ..config.clone() },
        StyleGan2Config { style_dim: 0, ..config },
    ] {
        assert!(GeneratorNetwork::new(&wrong, Builder::fresh(0, Device::CPU)).is_err());
    }
}

fn golden_file(name: &str) -> Weights {
    Weights::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gan").join(name))
        .unwrap()
}

/// The number at the start of a tensor tells its name (`golden/gan.py`).
fn first(name: &str, mark: &str) -> f64 {
    let crc = format!("{mark}{name}").bytes().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 },
        )
    });
    f64::from(!crc % 1000)
}

/// The sizes of the networks in `golden/gan`.
fn small() -> StyleGan2Config {
    StyleGan2Config {
        size: 16,
        style_dim: 6,
        mapping_layers: 2,
        channels: vec![5, 4, 3],
        group: 4,
        clamp: None,
    }
}

/// NVIDIA's networks clamp the discriminator's activations too: beyond the clamp a picture's
/// strength says nothing more.
#[test]
fn a_clamped_discriminator_saturates() {
    let config = StyleGan2Config { clamp: Some(1.0), ..small() };
    let logits = |config: &StyleGan2Config, strength: f64| {
        let d = Discriminator::new(config, Builder::fresh(3, Device::CPU)).unwrap();
        let pictures = unsee::torch::Rng::new(1).normal(&[4, 3, 16, 16]).sign() + 0.5;
        d.forward(&(pictures * strength))
    };
    let apart = |config: &StyleGan2Config, a: f64, b: f64| {
        (logits(config, a) - logits(config, b)).abs().max().double_value(&[])
    };
    assert!(apart(&config, 1e4, 1e5) < 1e-6);
    assert!(apart(&StyleGan2Config { clamp: None, ..config.clone() }, 1e4, 1e5) > 1.0);
    // Where nothing reaches it, it does nothing.
    let (far, none) = (
        StyleGan2Config { clamp: Some(1e6), ..config.clone() },
        StyleGan2Config { clamp: None, ..config },
    );
    assert!((logits(&far, 1.0) - logits(&none, 1.0)).abs().max().double_value(&[]) < 1e-9);
}

#[test]
fn everyone_s_files_are_the_same_networks() {
    let config = small();
    let rosinality = read_stylegan(&golden_file("zip.pt")).unwrap();
    let network = |weights: &Weights| -> Vec<String> {
        weights.names().filter(|name| *name != "latent_avg").map(str::to_owned).collect()
    };
    let wanted = network(&rosinality.generator);
    let numbered = |weights: &Weights, mark: &str| {
        for name in weights.names() {
            let tensor = weights.tensor(name).unwrap().flatten(0, -1);
            let n = tensor.numel() as i64;
            let (low, high) = (tensor.double_value(&[0]), tensor.double_value(&[n - 1]));
            assert!((low - first(name, mark)).abs() < 1e-3, "{name}: {low}");
            assert!((high - low - (n - 1) as f64 / 7.0).abs() < 1e-2, "{name}: {low} to {high}");
        }
    };
    for name in ["zip.pt", "stream.pt", "bare.pt", "nvidia3.pkl", "nvidia4.pkl"] {
        let gan = read_stylegan(&golden_file(name)).unwrap();
        let nvidia = name.starts_with("nvidia");
        assert_eq!(StyleGan2Config::of(&gan.generator).unwrap(), config, "{name}");
        assert_eq!(
            (gan.clamp, gan.group),
            if nvidia { (Some(256.0), Some(2)) } else { (None, None) }
        );
        assert_eq!(gan.trained.is_some(), name != "bare.pt");
        assert_eq!(network(&gan.generator), wanted, "{name}");
        assert_eq!(gan.generator.contains("latent_avg"), name != "bare.pt");
        numbered(&gan.generator, "");
        if let Some(trained) = gan.trained.filter(|_| !nvidia) {
            numbered(&trained, "raw.");
        }
        GeneratorNetwork::new(&config, Builder::load(&gan.generator, Device::CPU)).unwrap();
        if let Some(discriminator) = gan.discriminator {
            numbered(&discriminator, "");
            Discriminator::new(&config, Builder::load(&discriminator, Device::CPU)).unwrap();
        }
    }
    assert!(!Path::new("/tmp/executed").exists(), "a network's source was executed");
}

#[test]
fn what_is_written_is_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gan");
    let same = |a: &Weights, b: &Weights| {
        assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
        for name in a.names() {
            assert!(a.tensor(name).unwrap().equal(&b.tensor(name).unwrap()), "{name}");
        }
    };
    for from in ["zip.pt", "stream.pt", "bare.pt", "nvidia3.pkl", "nvidia4.pkl"] {
        let before = read_stylegan(&golden_file(from)).unwrap();
        for (format, end) in [(Format::Rosinality, "pt"), (Format::Safetensors, "safetensors")] {
            let to = folder.path().join(format!("{from}.{end}"));
            export_gan(&golden.join(from), &Edit::default(), &to, format, None).unwrap();
            let after = read_stylegan(&Weights::open(&to).unwrap()).unwrap();
            same(&before.generator, &after.generator);
            for (a, b) in
                [(&before.trained, &after.trained), (&before.discriminator, &after.discriminator)]
            {
                assert_eq!(a.is_some(), b.is_some(), "{from}");
                if let (Some(a), Some(b)) = (a, b) {
                    same(a, b);
                }
            }
            // rosinality's checkpoints have no place for what NVIDIA's say of themselves.
            if format == Format::Safetensors {
                assert_eq!((before.clamp, before.group), (after.clamp, after.group));
            }
            assert!(
                export_gan(&golden.join(from), &Edit::default(), &to, format, None).is_err(),
                "something was overwritten"
            );
        }
    }
    let error = export_gan(
        &golden.join("zip.pt"),
        &Edit::default(),
        &folder.path().join("x"),
        Format::Folder,
        None,
    );
    assert!(error.unwrap_err().to_string().contains("--as rosinality"));
}

/// The files of rosinality's format hold all that its networks want to find, filters included.
#[test]
fn a_checkpoint_has_every_tensor_that_the_reference_wants() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("c.pt");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gan");
    let lost =
        export_gan(&golden.join("nvidia4.pkl"), &Edit::default(), &to, Format::Rosinality, None)
            .unwrap();
    assert!(lost[0].contains("does not load ["), "{lost:?}");
    let (written, reference) = (Weights::open(&to).unwrap(), golden_file("zip.pt"));
    for network in ["g_ema.", "d.", "latent_avg"] {
        let shapes = |weights: &Weights| -> Vec<(String, Vec<i64>)> {
            let names = weights.names().filter(|name| name.starts_with(network));
            names.map(|name| (name.to_owned(), weights.info(name).unwrap().shape)).collect()
        };
        assert_eq!(shapes(&written), shapes(&reference));
    }
    let kernel = written.tensor("g_ema.convs.0.conv.blur.kernel").unwrap();
    assert!((kernel.sum(Kind::Float).double_value(&[]) - 4.0).abs() < 1e-6);
}
