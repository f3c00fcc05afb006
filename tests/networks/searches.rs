//! Searches over prompts against plain PyTorch (`tests/golden/searches.py`).

use std::path::Path;

use serde_json::{Value, json};
use unsee::generator::{Checkpoint, Denoiser as _, StableDiffusion};
use unsee::model::{Builder, Parameters, clip, unet, vae};
use unsee::prompt_search::{
    AllowedTokens, Ball, Error, Frames, Placement, PredictionTarget, SearchSettings, SimplexSearch,
    SoftSearch, Update, concept_vector, project, squared_distances,
};
use unsee::text::Vocabulary;
use unsee::torch::{Compute, Device, Kind, Precision, Tensor, set_threads};

use super::{formula, wave};

/// One component's folder.
fn component(folder: &Path, file: &str, config: &Value, fresh: &Parameters) {
    fs_err::create_dir_all(folder).unwrap();
    write(&folder.join("config.json"), config);
    formula(fresh, &folder.join(file));
}

fn write(file: &Path, json: &Value) {
    fs_err::write(file, json.to_string()).unwrap();
}

/// A small Stable Diffusion by the formula.
fn small(golden: &Value) -> StableDiffusion {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let fresh = || Builder::fresh(0, Device::CPU);
    let of = |name: &str| serde_json::from_value(golden[name].clone()).unwrap();
    let config: clip::TextConfig = of("text");
    let text = clip::TextModel::new(&config, fresh()).unwrap();
    component(&root.join("text_encoder"), "model.safetensors", &golden["text"], text.parameters());
    let weights = "diffusion_pytorch_model.safetensors";
    let config: unet::UnetConfig = serde_json::from_value(golden["unet"].clone()).unwrap();
    let denoiser = unet::UNet::new(&config, fresh()).unwrap();
    component(&root.join("unet"), weights, &golden["unet"], denoiser.parameters());
    let about = json!({
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": [4, 4],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "layers_per_block": 1, "norm_num_groups": 2, "scaling_factor": 0.18215,
    });
    let config: vae::VaeConfig = serde_json::from_value(about.clone()).unwrap();
    let autoencoder = vae::Vae::new(&config, fresh()).unwrap();
    component(&root.join("vae"), weights, &about, autoencoder.parameters());
    let end = "<|endoftext|>";
    Vocabulary::of(["ab"], usize::MAX).save(&root.join("tokenizer"), 8, end).unwrap();
    fs_err::create_dir_all(root.join("scheduler")).unwrap();
    let mut schedule = golden["schedule"].clone();
    schedule["_class_name"] = "DDIMScheduler".into();
    write(&root.join("scheduler/scheduler_config.json"), &schedule);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/miniature/model_index.json");
    fs_err::copy(shipped, root.join("model_index.json")).unwrap();
    let compute = Compute::new(Device::CPU, Precision::F32);
    StableDiffusion::load(&Checkpoint::open(&root.into()).unwrap(), compute).unwrap()
}

fn golden() -> Value {
    set_threads(1);
    serde_json::from_str(include_str!("../golden/searches.json")).unwrap()
}

/// What was found, to 1e-5 of its size.
fn near(what: &str, found: &Tensor, wanted: &Value) {
    let flat = Vec::<f64>::try_from(found.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let size = flat.iter().map(|v| v.abs()).sum::<f64>();
    let close = |a: f64, wanted: &Value| (a - wanted.as_f64().unwrap()).abs() < 1e-5 * size;
    assert!(close(flat.iter().sum(), &wanted["sum"]) && close(size, &wanted["abs"]), "{what}");
    let mean = size / flat.len() as f64;
    for (i, wanted) in wanted["first"].as_array().unwrap().iter().enumerate() {
        let wanted = wanted.as_f64().unwrap();
        let apart = (flat[i] - wanted).abs();
        assert!(apart < 1e-5 * mean.max(wanted.abs()), "{what}[{i}]: {} {wanted}", flat[i]);
    }
}

fn frames(model: &StableDiffusion) -> Frames {
    Frames::new(model, &["ab b", "b ab"], Placement::Prefix, 2).unwrap()
}

fn prediction(phase: f64) -> PredictionTarget {
    PredictionTarget {
        noisy: wave(&[2, 4, 8, 8], phase, 1.0),
        timesteps: Tensor::from_slice(&[100_i64, 700]),
        target: wave(&[2, 4, 8, 8], 1.9, 1.0),
    }
}

#[test]
fn the_inner_attack_s_loss_and_gradient() {
    let golden = golden();
    let (model, wanted) = (small(&golden), &golden["prediction"]);
    let (frames, free) = (frames(&model), wave(&[2, 2, 16], 0.6, 0.3));
    let errors = prediction(0.4).errors(&model, &model.encode(&frames.fill(&model, &free)));
    for (i, wanted) in wanted["errors"].as_array().unwrap().iter().enumerate() {
        let apart = errors.double_value(&[i as i64]) / wanted.as_f64().unwrap() - 1.0;
        assert!(apart.abs() < 1e-5, "{apart}");
    }
    // Together and one by one.
    for batch in [2, 1] {
        let gradient = prediction(0.4).gradient(&model, &frames, &free, batch).unwrap();
        near("gradient", &gradient, &wanted["gradient"]);
    }
}

#[test]
fn five_steps_of_projected_gradient_descent() {
    let golden = golden();
    let (model, begin) = (small(&golden), wave(&[2, 2, 16], 0.6, 0.3));
    let frames = frames(&model);
    for (name, update, ball) in
        [("adam", Update::Adam, None), ("sign", Update::Sign, Some(Ball::Linf(0.02)))]
    {
        let search = SoftSearch { steps: 5, lr: 1e-2, update, ball, accumulate: false };
        let path = search.run(&begin, |step, free| {
            let conditioning = model.encode(&frames.fill(&model, free));
            let prediction = prediction(0.4 + step as f64);
            Ok::<_, Error>(prediction.errors(&model, &conditioning).sum(Kind::Float))
        });
        near(name, path.unwrap().last().unwrap(), &golden["soft"][name]);
    }
}

#[test]
fn the_simplex_s_nearest_point() {
    let found = Vec::<f64>::try_from(
        project(&wave(&[3, 2, 20], 0.5, 0.8)).to_kind(Kind::Double).flatten(0, -1),
    );
    for (found, wanted) in found.unwrap().iter().zip(golden()["simplex"].as_array().unwrap()) {
        assert!((found - wanted.as_f64().unwrap()).abs() < 1e-6);
    }
}

#[test]
fn a_block_of_unlearn_diff_atk() {
    let golden = golden();
    let (model, wanted) = (small(&golden), &golden["block"]);
    let frames = frames(&model);
    let allowed = AllowedTokens::all(&model).unwrap();
    let mut search = SimplexSearch::new(&allowed, 2, 2, SearchSettings::SIMPLEX).unwrap();
    let (rows, clean) = (Tensor::from_slice(&[0_i64, 1]), wave(&[2, 4, 8, 8], 2.2, 1.0));
    let timesteps = Tensor::from_slice(&[510_i64, 510]);
    for step in 0..4 {
        let phase = f64::from(step);
        let uniforms = ((wave(&[2, 2], 0.9 + phase, 1.0).to_kind(Kind::Double) + 1.0) / 2.0)
            .to_kind(Kind::Float);
        let noise = wave(&[2, 4, 8, 8], 1.4 + phase, 1.0);
        let prediction = PredictionTarget::of_noise(&model, &clean, &noise, &timesteps);
        let gradient = |vectors: &Tensor| {
            let drawn = allowed.tokens(&allowed.nearest(vectors));
            let drawn = Vec::<i64>::try_from(drawn.flatten(0, -1)).unwrap();
            assert_eq!(json!(drawn), wanted["drawn"][step as usize]);
            prediction.gradient(&model, &frames, vectors, 2)
        };
        search.step(&rows, &uniforms, gradient).unwrap();
        let step = step as usize;
        near(&format!("step {step}"), &search.state()[0].1, &wanted["weights"][step]);
    }
    let likeliest = Vec::<i64>::try_from(search.likeliest(&rows).flatten(0, -1)).unwrap();
    assert_eq!(json!(likeliest), wanted["likeliest"]);
}

/// Ring-A-Bell's: how far words are from a prompt and three times what a concept adds.
#[test]
fn the_fitness_of_words() {
    let golden = golden();
    let (model, wanted) = (small(&golden), &golden["bell"]);
    let pair = |with: &str, without: &str| [with.to_owned(), without.to_owned()];
    let vector = concept_vector(&model, &[pair("ab b", "b"), pair("b ab", "b b")]).unwrap();
    // Where a prompt starts, nothing is added.
    near("vector", &vector.narrow(0, 1, 7), &wanted["vector"]);
    let target = model.condition(&["b"]).unwrap().states.squeeze_dim(0) + vector * 3.0;
    let words = model.condition(&["ab ab", "ab b", "b ab", "b b"]).unwrap().states;
    let found = squared_distances(&words, &target);
    for (i, wanted) in wanted["distances"].as_array().unwrap().iter().enumerate() {
        let apart = found.double_value(&[i as i64]) / wanted.as_f64().unwrap() - 1.0;
        assert!(apart.abs() < 1e-5, "{i}: {apart}");
    }
}

/// P4D's projection: the word that a vector counts as.
#[test]
fn the_nearest_words() {
    let golden = golden();
    let model = small(&golden);
    let allowed = AllowedTokens::all(&model).unwrap();
    let found = allowed.tokens(&allowed.nearest(&wave(&[2, 3, 16], 0.8, 1.0)));
    let found = Vec::<i64>::try_from(found.flatten(0, -1)).unwrap();
    assert_eq!(json!(found), golden["nearest"]);
}
