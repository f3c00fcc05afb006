//! Full-size Stable Diffusion against Python's diffusers on the same random weights: `make parity`.
//!
//! `UNSEE_PARITY` names the folder that `golden/parity.py` made; without it there is nothing to
//! compare. Prints a table: component, model, sampler, maximal difference.

#![expect(clippy::print_stdout, reason = "prints the table")]

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use unsee::generator::{
    Checkpoint, Denoiser as _, Edited, Format, Generator as _, ImageRequest, Location, Seeding,
    StableDiffusion,
};
use unsee::model::{Builder, clip::TextModel, unet::UNet, vae::Vae};
use unsee::text::Tokenizer;
use unsee::torch::{Choice, Compute, Device, Kind, Precision, Tensor, no_grad};
use unsee::watch::Quiet;
use unsee::weights::{Edit, Weights};

/// The largest difference, relative to the largest number.
fn apart(found: &Tensor, wanted: &Tensor) -> f64 {
    assert_eq!(found.size(), wanted.size());
    let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
    let wanted = wanted.to_kind(Kind::Double);
    largest(&(found.to_kind(Kind::Double) - &wanted)) / largest(&wanted)
}

fn config<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn full_size_models_are_equal_to_diffusers() {
    let Some(root) = std::env::var_os("UNSEE_PARITY").map(PathBuf::from) else {
        println!(
            "skipped: full-size models take minutes and 20 GB of disk; `make parity` makes them"
        );
        return;
    };
    let name = root.file_name().unwrap().to_string_lossy().into_owned();
    let reference = Weights::open(&root.join("reference.safetensors")).unwrap();
    let known = |name: &str| reference.tensor(name).unwrap();
    let row = |what: &str, sampler: &str, difference: String| {
        println!("| {name} | {what} | {sampler} | {difference} |");
    };
    let check = |what: &str, found: &Tensor, wanted: &str| {
        let difference = apart(found, &known(wanted));
        row(what, "", format!("{difference:.1e} relative"));
        assert!(difference <= 1e-4, "{what}: {difference}");
    };
    let device = Device::open(Choice::Cpu).unwrap();
    let model = root.join("model");
    let open =
        |component: &str, file: &str| Weights::open(&model.join(component).join(file)).unwrap();

    let tokenizer = Tokenizer::open(&model.join("tokenizer"), 77, &mut Vec::new()).unwrap();
    let ids: Vec<Tensor> = ["a photograph of an astronaut riding a horse", ""]
        .map(|prompt| Tensor::from_slice(&tokenizer.encode(prompt).ids))
        .into();
    assert!(Tensor::stack(&ids, 0).equal(&known("ids")));
    if let Ok(text) = fs_err::read_to_string(root.join("strings.json")) {
        let strings: Vec<(String, Vec<i64>)> = serde_json::from_str(&text).unwrap();
        let differs = |(prompt, ids): &&(String, Vec<i64>)| {
            tokenizer.encode(prompt).ids[..ids.len()] != ids[..]
        };
        let wrong: Vec<_> = strings.iter().filter(differs).map(|(prompt, _)| prompt).collect();
        row("tokenizer", "", format!("{} of {} strings differ", wrong.len(), strings.len()));
        assert!(wrong.is_empty(), "{:?}", &wrong[..wrong.len().min(5)]);
    }
    no_grad(|| {
        let weights = open("text_encoder", "model.safetensors");
        let text = TextModel::new(
            &config(&model.join("text_encoder/config.json")),
            Builder::load(&weights, device),
        )
        .unwrap();
        check("text encoder", &text.forward(&known("ids")), "text");
    });
    no_grad(|| {
        let weights = open("vae", "diffusion_pytorch_model.safetensors");
        let vae =
            Vae::new(&config(&model.join("vae/config.json")), Builder::load(&weights, device))
                .unwrap();
        let moments = vae.encode(&known("picture"));
        check("VAE, encoder", &Tensor::cat(&[moments.mean, moments.log_variance], 1), "moments");
        let latent = known("latent").narrow(2, 0, 64).narrow(3, 0, 64).contiguous();
        check("VAE, decoder", &vae.decode(&latent), "decoded");
    });
    no_grad(|| {
        let weights = open("unet", "diffusion_pytorch_model.safetensors");
        let unet =
            UNet::new(&config(&model.join("unet/config.json")), Builder::load(&weights, device))
                .unwrap();
        let text = known("text").narrow(0, 0, 1);
        check("UNet", &unet.forward(&known("latent"), &known("timestep"), &text), "prediction");
    });

    let checkpoint = Checkpoint::open(&model.as_path().into()).unwrap();
    let pipeline =
        StableDiffusion::load(&checkpoint, Compute::new(device, Precision::F32)).unwrap();
    let mut wrong = Vec::new();
    for image in reference.names().filter(|name| name.starts_with("image.")) {
        let sampler = image.strip_prefix("image.").unwrap();
        let wanted = known(image);
        let request = ImageRequest {
            prompt: "a photograph of an astronaut riding a horse".to_owned(),
            negative: String::new(),
            seed: 4_290_749_014,
            guidance: 7.5,
            steps: 20,
            sampler: sampler.parse().unwrap(),
            size: (wanted.size()[2], wanted.size()[1]),
            truncation: 1.0,
            blend: None,
            seeding: Seeding::default(),
        };
        let picture = &pipeline.draw(&[request], &mut Quiet).unwrap()[0];
        let shape = [picture.height as i64, picture.width as i64, 3];
        let found =
            Tensor::from_slice(&picture.rgb).view(shape).permute([2, 0, 1]).to_kind(Kind::Float);
        let difference = (found - (wanted * 255.0).round()).abs().max().double_value(&[]);
        row("picture", sampler, format!("{difference}/255"));
        if difference > 2.0 {
            wrong.push(format!("{sampler}: {difference}"));
        }
    }
    drop(pipeline);
    assert!(wrong.is_empty(), "{wrong:?}");

    // The same model in other files: 16 bits in shards, pickles, and through a single file.
    let open = |path: &Path| Checkpoint::open(&path.into()).unwrap();
    let (half, bin) = (open(&root.join("fp16")), open(&root.join("bin")));
    let hash = half.hash().unwrap();
    row(
        "files",
        "",
        format!(
            "fp16 shards and .bin {}",
            if hash == bin.hash().unwrap() { "equal" } else { "differ" }
        ),
    );
    assert_eq!(hash, bin.hash().unwrap());
    let file =
        root.join(if name == "sd21" { "sd21-768-v.safetensors" } else { "sd15.safetensors" });
    if !file.exists() {
        let edited = Edited { base: &bin, edit: &Edit::default(), kind: None };
        edited.export(&file, Format::SingleFile, &mut Quiet).unwrap();
    }
    let single = Checkpoint::open(&Location::from(file.as_path())).unwrap();
    assert_eq!(hash, single.hash().unwrap());
    let single = StableDiffusion::load(&single, Compute::new(device, Precision::F32)).unwrap();
    let folder = StableDiffusion::load(&half, Compute::new(device, Precision::F32)).unwrap();
    let read = |model: &StableDiffusion| model.condition(&["a photo"]).unwrap();
    assert!(read(&single).states.equal(&read(&folder).states));
    assert_eq!(single.schedule().config.prediction_type, folder.schedule().config.prediction_type);
    row("files", "", "single file, its own configuration: equal".to_owned());
}
