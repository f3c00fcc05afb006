//! Generators that are no StyleGAN2 of three channels, and what a seed means.

use std::path::Path;

use serde_json::Value;
use unsee::model::Builder;
use unsee::model::stylegan2::{GeneratorNetwork, Noise, StyleGan2Config};
use unsee::pictures::Picture;
use unsee::torch::{Device, Kind, Rng, Tensor};
use unsee::weights::{Weights, read_stylegan, save};

use super::tools::{Copy, done, fails, has, json, shipped, unsee};

/// A small StyleGAN2 by chance, in rosinality's names.
fn chance() -> Vec<(String, Tensor)> {
    let config = StyleGan2Config {
        size: 16,
        style_dim: 8,
        mapping_layers: 2,
        channels: vec![16, 16, 8],
        group: 4,
        clamp: None,
    };
    let network = GeneratorNetwork::new(&config, Builder::fresh(1, Device::CPU)).unwrap();
    let mut rng = Rng::for_step(2, "noises", 0);
    let noises = config.noise_sides().into_iter().enumerate();
    let noises =
        noises.map(|(n, side)| (format!("noises.noise_{n}"), rng.normal(&[1, 1, side, side])));
    let noises: Vec<_> = noises.collect();
    let named = network.parameters().named().into_iter().chain(noises);
    named
        .map(|(name, tensor)| {
            let tensor = if name.ends_with("noise.weight") { tensor + 0.05 } else { tensor };
            (format!("g_ema.{name}"), tensor)
        })
        .collect()
}

fn saved(all: &[(String, Tensor)]) -> Copy {
    let file = Copy::empty("gan.safetensors");
    save(&file.path, all, &[]).unwrap();
    file
}

fn generate(model: &Path, more: &[&str]) -> (assert_cmd::Command, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let mut command = unsee();
    command
        .args(["generate", "--model"])
        .arg(model)
        .args(more)
        .arg("--out")
        .arg(out.path().join("o"));
    (command, out)
}

fn drawn(model: &Path, more: &[&str]) -> (Picture, Value) {
    let (mut command, out) = generate(model, more);
    done(&mut command);
    (Picture::open(&out.path().join("o/0_0.png")).unwrap(), json(&out.path().join("o/run.json")))
}

/// Each is named for what it is, and not for a file that it does not have.
#[test]
fn other_generators_are_named_for_what_they_are() {
    let small = || Tensor::zeros([4, 4], (Kind::Float, tch::Device::Cpu));
    for (names, kind) in [
        (&["synthesis.input.freqs", "synthesis.L0_36_1024.weight"][..], "StyleGAN3"),
        (&["feature_networks.cnn.weight", "synthesis.init.init.0.weight"], "projected GAN"),
        (&["generator.gen_z.weight"], "BigGAN"),
        (&["progression.0.conv.weight"], "progressive GAN"),
    ] {
        let all: Vec<_> = names.iter().map(|name| ((*name).to_owned(), small())).collect();
        let text = fails(&mut generate(&saved(&all).path, &[]).0, 1);
        has(&text, &[kind, "StyleGAN2"]);
        assert!(!text.contains("prompt") && !text.contains("config.json"), "{text}");
    }
}

/// One or four channels are no picture of three.
#[test]
fn other_numbers_of_channels_are_said() {
    for channels in [1, 4] {
        let all: Vec<_> = chance()
            .into_iter()
            .map(|(name, tensor)| {
                let shape = tensor.size();
                if name.contains("to_rgb") && shape.len() == 5 && name.ends_with("conv.weight") {
                    (
                        name,
                        Tensor::zeros(
                            [1, channels, shape[2], shape[3], shape[4]],
                            (Kind::Float, tch::Device::Cpu),
                        ),
                    )
                } else if name.contains("to_rgb") && shape == [1, 3, 1, 1] {
                    (name, Tensor::zeros([1, channels, 1, 1], (Kind::Float, tch::Device::Cpu)))
                } else {
                    (name, tensor)
                }
            })
            .collect();
        let text = fails(&mut generate(&saved(&all).path, &[]).0, 1);
        has(&text, &["channel", &channels.to_string()]);
        assert!(!text.contains("config.json"), "{text}");
    }
}

/// A number that is not finite, as in a diffusion model.
#[test]
fn numbers_that_are_not_finite_are_named() {
    let mut all = chance();
    let name = "g_ema.conv1.conv.weight";
    super::tools::with(name, |tensor| drop(tensor.flatten(0, -1).get(5).fill_(f64::NAN)))(&mut all);
    has(
        &fails(&mut generate(&saved(&all).path, &[]).0, 1),
        &["conv1.conv.weight", "NaN or infinite"],
    );
}

/// NVIDIA's scripts draw a seed's latent by numpy and have one noise for all: `--seeding nvidia`
/// does the same.
#[test]
fn seeds_can_be_nvidia_s() {
    let model = saved(&chance());
    let (ours, _) = drawn(&model.path, &["--seeds", "3"]);
    let (nvidia, run) = drawn(&model.path, &["--seeds", "3", "--seeding", "nvidia"]);
    assert_ne!(ours, nvidia);
    has(&run["recipe"].to_string(), &["nvidia"]);
    // numpy's `RandomState(3).randn(1, 8)`, and the file's own noise.
    let numbers = [
        1.788_628_5_f32,
        0.436_509_85,
        0.096_497_47,
        -1.863_492_7,
        -0.277_388_2,
        -0.354_758_98,
        -0.082_741_48,
        -0.627_000_7,
    ];
    let gan = read_stylegan(&Weights::open(&model.path).unwrap()).unwrap();
    let config = StyleGan2Config::of_file(&gan).unwrap();
    let network =
        GeneratorNetwork::new(&config, Builder::load(&gan.generator, Device::CPU)).unwrap();
    let styles = network.broadcast(&network.map(&Tensor::from_slice(&numbers).view([1, 8])));
    let pixels = network.synthesize(&styles, Noise::Given(network.noises())).detach();
    let bytes = (pixels * 127.5 + 128.0).clamp(0.0, 255.0).floor().to_kind(Kind::Uint8);
    let wanted =
        Vec::<u8>::try_from(bytes.permute([0, 2, 3, 1]).contiguous().flatten(0, -1)).unwrap();
    let apart = wanted.iter().zip(&nvidia.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(apart <= 1, "{apart}/255");
    let texts = {
        let (mut command, out) = generate(&model.path, &["--seeds", "3", "--seeding", "nvidia"]);
        done(&mut command);
        Picture::texts(&out.path().join("o/0_0.png")).unwrap()
    };
    assert!(
        texts.iter().any(|(_, text)| text.contains("Seed: 3 (as NVIDIA's scripts)")),
        "{texts:?}"
    );
    for (more, words) in [
        (&["--seeds", "4294967296", "--seeding", "nvidia"][..], "4294967295"),
        (&["--seeds", "1", "--mix", "4294967296@3", "--seeding", "nvidia"], "4294967295"),
    ] {
        has(&fails(&mut generate(&model.path, more).0, 1), &[words, "--seeding nvidia"]);
    }
    let mut of_diffusion = unsee();
    of_diffusion
        .args(["generate", "x", "--seeding", "nvidia", "--model"])
        .arg(shipped("miniature"));
    has(&fails(of_diffusion.args(["--out", "/nowhere/x"]), 1), &["--seeding", "StyleGAN2"]);
    has(&fails(unsee().args(["generate", "--seeding", "numpy"]), 2), &["torch or nvidia"]);
}

/// A study of a GAN is as strict as one of a diffusion model.
#[test]
fn settings_of_a_study_that_make_no_sense_are_refused_at_once() {
    let folder = Copy::empty("p.toml");
    let text = fs_err::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/gan-adapt-then-unlearn.toml"),
    )
    .unwrap();
    fs_err::write(&folder.path, text).unwrap();
    for (set, words) in [
        ("concept.forget=[\"object:Cat\",\"object:Cat\"]", "object:Cat"),
        ("concept.forget=[]", "nothing to forget"),
    ] {
        let mut command = unsee();
        command.arg("run").arg(&folder.path).args(["--set", set, "--out"]).arg(folder.beside("o"));
        has(&fails(&mut command, 1), &[words]);
        assert!(!folder.beside("o/scores.json").exists());
    }
}

/// A gap is no smaller network, and what a file beside the weights says of noise does not come with
/// them.
#[test]
fn gaps_and_what_does_not_come_along_are_said() {
    let mut all = chance();
    all.retain(|(name, _)| !name.starts_with("g_ema.style.1."));
    has(&fails(&mut generate(&saved(&all).path, &[]).0, 1), &["style.2"]);
    let mut without = chance();
    without.retain(|(name, _)| !name.contains("noises."));
    let bare = saved(&without);
    drawn(&bare.path, &["--seeds", "1"]);
    has(
        &fails(&mut generate(&bare.path, &["--seeds", "1", "--seeding", "nvidia"]).0, 1),
        &["no noise of its own"],
    );
    let model = saved(&chance());
    let same = drawn_with(&model.path, &model.path);
    has(&same, &["changes nothing of the base"]);
    let mut other = chance();
    super::tools::with("g_ema.conv1.conv.weight", |tensor| *tensor = &*tensor * 1.5)(&mut other);
    has(&drawn_with(&model.path, &saved(&other).path), &["whose own noise stays"]);
}

fn drawn_with(model: &Path, edit: &Path) -> String {
    done(&mut generate(model, &["--seeds", "1", "--edit", edit.to_str().unwrap()]).0).1
}
