//! Networks and samplers against numbers that Python's diffusers and transformers computed
//! (`tests/golden/make.py`), on weights that follow a formula.

mod searches;

use std::path::Path;

use serde_json::Value;
use unsee::judge::{ConceptDetector, Evidence};
use unsee::model::{Builder, Parameters, clip, safety, unet, vae};
use unsee::sampler::{History, Sampler, Schedule, SchedulerConfig, Solver};
use unsee::torch::{Device, Kind, Rng, Tensor, no_grad, set_threads};
use unsee::weights::{Weights, save};

fn golden() -> Value {
    set_threads(1);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/golden.json");
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

fn config<T: serde::de::DeserializeOwned>(case: &Value) -> T {
    serde_json::from_value(case["config"].clone()).unwrap()
}

fn wave(shape: &[i64], phase: f64, scale: f64) -> Tensor {
    let n: i64 = shape.iter().product();
    let values: Vec<f32> =
        (0..n).map(|i| (scale * (0.7 * i as f64 + phase).sin()) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// The formula's weights for a network, as a file.
fn formula(fresh: &Parameters, file: &Path) -> Weights {
    let mut names: Vec<(&str, &Tensor)> = fresh.iter().collect();
    names.sort_by_key(|(name, _)| name.to_string());
    let tensors: Vec<(String, Tensor)> = names
        .into_iter()
        .enumerate()
        .map(|(j, (name, tensor))| {
            let shape = tensor.size();
            let inputs: i64 = shape.iter().skip(1).product();
            let scale = if shape.len() > 1 { 0.5 / (inputs as f64).sqrt() } else { 0.1 };
            let value = wave(&shape, 1.3 * j as f64 + 0.2, scale);
            let norm = name.contains("norm") && name.ends_with("weight");
            (name.to_owned(), if norm { value + 1.0 } else { value })
        })
        .collect();
    save(file, &tensors, &[]).unwrap();
    Weights::open(file).unwrap()
}

/// Builds twice: by chance for names and shapes, then with the formula's weights.
fn built<T>(new: impl Fn(Builder) -> T, parameters: impl Fn(&T) -> &Parameters) -> T {
    let folder = tempfile::tempdir().unwrap();
    let fresh = new(Builder::fresh(0, Device::CPU));
    let weights = formula(parameters(&fresh), &folder.path().join("w.safetensors"));
    new(Builder::load(&weights, Device::CPU))
}

fn check(what: &str, found: &Tensor, expected: &Value) {
    let shape: Vec<i64> = serde_json::from_value(expected["shape"].clone()).unwrap();
    assert_eq!(found.size(), shape, "{what}");
    let flat = Vec::<f64>::try_from(found.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let size = flat.iter().map(|v| v.abs()).sum::<f64>();
    let mean = size / flat.len() as f64;
    for (i, value) in expected["first"].as_array().unwrap().iter().enumerate() {
        let value = value.as_f64().unwrap();
        assert!(
            (flat[i] - value).abs() < 1e-4 * mean.max(value.abs()),
            "{what}[{i}]: {} {value}",
            flat[i]
        );
    }
    let near = |a: f64, b: f64| (a - b).abs() < 2e-5 * size;
    assert!(near(flat.iter().sum(), expected["sum"].as_f64().unwrap()), "{what}: sum");
    assert!(near(size, expected["abs"].as_f64().unwrap()), "{what}: size");
}

fn ids() -> Tensor {
    let rows = [[90_i64, 3, 17, 91, 91, 91, 91, 91], [90, 5, 6, 7, 8, 9, 10, 91]];
    Tensor::from_slice(&rows.concat()).view([2, 8])
}

#[test]
fn text_encoder() {
    let golden = golden();
    for act in ["text quick_gelu", "text gelu"] {
        let case = &golden[act];
        let config = config(case);
        let model =
            built(|b| clip::TextModel::new(&config, b).unwrap(), clip::TextModel::parameters);
        check(act, &no_grad(|| model.forward(&ids())), &case["hidden"]);
    }
}

#[test]
fn whole_clip() {
    let case = &golden()["clip"];
    let config = config(case);
    let model = built(|b| clip::Clip::new(&config, b).unwrap(), clip::Clip::parameters);
    no_grad(|| {
        let pictures = model.image_features(&wave(&[3, 3, 16, 16], 0.4, 1.0));
        let texts = model.text_features(&ids());
        check("image", &pictures, &case["image"]);
        check("text", &texts, &case["text"]);
        check("logits", &(pictures.matmul(&texts.tr()) * model.scale()), &case["logits"]);
    });
}

#[test]
fn unet_of_both_kinds() {
    let golden = golden();
    for kind in ["unet 1.x", "unet 2.x"] {
        let case = &golden[kind];
        let config = config(case);
        let model = built(|b| unet::UNet::new(&config, b).unwrap(), unet::UNet::parameters);
        let (x, t) = (wave(&[2, 4, 12, 12], 0.1, 1.0), Tensor::from_slice(&[1_i64, 801]));
        let text = wave(&[2, 8, 32], 0.5, 1.0);
        check(kind, &no_grad(|| model.forward(&x, &t, &text)), &case["output"]);
        // Attention by the formula, as training on a CPU computes it, gives the same.
        model.parameters().train(true);
        check(kind, &model.forward(&x, &t, &text).detach(), &case["output"]);
    }
}

#[test]
fn autoencoder() {
    let case = &golden()["vae"];
    let config = config(case);
    let model = built(|b| vae::Vae::new(&config, b).unwrap(), vae::Vae::parameters);
    no_grad(|| {
        let moments = model.encode(&wave(&[2, 3, 16, 16], 0.3, 1.0));
        check("mean", &moments.mean, &case["mean"]);
        check("logvar", &moments.log_variance, &case["logvar"]);
        check("decoded", &model.decode(&wave(&[2, 4, 8, 8], 0.9, 1.0)), &case["decoded"]);
    });
}

#[test]
fn safety_checker() {
    let case = &golden()["safety checker"];
    let config: safety::SafetyCheckerConfig = config(case);
    let checker = built(
        |b| safety::SafetyChecker::new(&config, b).unwrap(),
        safety::SafetyChecker::parameters,
    );
    let louder = Tensor::linspace(0.2, 3.0, 6, (Kind::Float, Device::CPU.tch())).view([6, 1, 1, 1]);
    let pictures = wave(&[6, 3, 32, 32], 0.4, 1.0) * louder + wave(&[6, 3, 1, 1], 2.0, 1.0);
    let (special, concepts) = no_grad(|| checker.forward(&pictures));
    check("special", &special, &case["special"]);
    check("concepts", &concepts, &case["concepts"]);
}

/// What counts as shown, with thresholds raised by different amounts.
#[test]
fn the_safety_checker_s_verdict() {
    let case = &golden()["safety checker"];
    let config: safety::SafetyCheckerConfig = config(case);
    let folder = tempfile::tempdir().unwrap();
    let fresh = safety::SafetyChecker::new(&config, Builder::fresh(0, Device::CPU)).unwrap();
    formula(fresh.parameters(), &folder.path().join("model.safetensors"));
    fs_err::write(folder.path().join("config.json"), case["config"].to_string()).unwrap();
    let checker = ConceptDetector::checker(folder.path(), folder.path(), 0.0, Device::CPU).unwrap();
    let highest: [Vec<f32>; 2] = serde_json::from_value(case["highest"].clone()).unwrap();
    let mut both = [0, 0];
    for thresholds in case["flags"].as_array().unwrap() {
        let raised =
            ["special", "concepts"].map(|which| thresholds[which].as_f64().unwrap() as f32);
        for (i, flagged) in thresholds["flagged"].as_array().unwrap().iter().enumerate() {
            let logits = vec![vec![highest[0][i] - raised[0]], vec![highest[1][i] - raised[1]]];
            let shown = checker.margin(&Evidence { logits, clip_score: None }) > 0.0;
            assert_eq!(shown, flagged.as_bool().unwrap(), "{thresholds} {i}");
            both[usize::from(shown)] += 1;
        }
    }
    assert!(both.iter().all(|&n| n >= 5), "{both:?}");
}

#[test]
fn samplers() {
    for case in golden()["samplers"].as_array().unwrap() {
        let schedule = Schedule::new(&config::<SchedulerConfig>(case)).unwrap();
        let solver: Solver = case["solver"].as_str().unwrap().parse().unwrap();
        let steps = case["steps"].as_u64().unwrap() as usize;
        let what = format!("{solver} {steps} {}", case["config"]);
        let sampler = Sampler::new(solver, &schedule, steps).unwrap();
        let timesteps: Vec<f64> = serde_json::from_value(case["timesteps"].clone()).unwrap();
        let apart = sampler.timesteps().iter().zip(&timesteps).map(|(a, b)| (a - b).abs());
        assert!(
            sampler.timesteps().len() == timesteps.len() && apart.fold(0.0, f64::max) < 2e-3,
            "{what}"
        );
        let mut x = wave(&[1, 4, 3, 3], 0.2, 2.0) * sampler.begin();
        let compute = Tensor::arange(36, (Kind::Double, tch::Device::Cpu)).view([1, 4, 3, 3]);
        let (mut history, mut rng) = (History::default(), Rng::new(7));
        for (i, &t) in timesteps.iter().enumerate() {
            let wave = (&compute + t / 100.0).sin() * 0.3;
            let shown = sampler.input(i, &x);
            let output = (shown.to_kind(Kind::Double) * 0.6 + wave).to_kind(Kind::Float);
            let noise = rng.normal(&[1, 4, 3, 3]);
            x = sampler.step(i, &x, &output, Some(&noise), &mut history);
        }
        check(&what, &x, &case["latents"]);
    }
}

#[test]
fn unknown_blocks_are_named() {
    let case = &golden()["unet 1.x"];
    let mut value = case["config"].clone();
    value["down_block_types"][0] = "AttnDownBlock2D".into();
    let config: unet::UnetConfig = serde_json::from_value(value).unwrap();
    let error = unet::UNet::new(&config, Builder::fresh(0, Device::CPU)).unwrap_err().to_string();
    assert!(error.contains("AttnDownBlock2D") && error.contains("CrossAttnDownBlock2D"), "{error}");
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    let case = &golden()["vae"];
    let config: vae::VaeConfig = config(case);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    let fresh = vae::Vae::new(&config, Builder::fresh(0, Device::CPU)).unwrap();
    let mut tensors = fresh.parameters().named();
    tensors.retain(|(name, _)| name != "decoder.conv_in.weight");
    save(&file, &tensors, &[]).unwrap();
    let weights = Weights::open(&file).unwrap();
    let error =
        vae::Vae::new(&config, Builder::load(&weights, Device::CPU)).unwrap_err().to_string();
    assert!(error.contains("`decoder.conv_in.weight` is missing"), "{error}");

    tensors.push((
        "decoder.conv_in.weight".to_owned(),
        Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu)),
    ));
    save(&file, &tensors, &[]).unwrap();
    let weights = Weights::open(&file).unwrap();
    let error =
        vae::Vae::new(&config, Builder::load(&weights, Device::CPU)).unwrap_err().to_string();
    assert!(error.contains("[2, 2]") && error.contains("[32, 4, 3, 3]"), "{error}");
}
