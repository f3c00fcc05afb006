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

/// What Python left of a model, and the rows that are printed about it.
struct Parity {
    name: String,
    root: PathBuf,
    reference: Weights,
    device: Device,
}

impl Parity {
    fn known(&self, name: &str) -> Tensor {
        self.reference.tensor(name).unwrap()
    }

    fn row(&self, what: &str, sampler: &str, difference: String) {
        println!("| {} | {what} | {sampler} | {difference} |", self.name);
    }

    fn check(&self, what: &str, found: &Tensor, wanted: &str) {
        let difference = apart(found, &self.known(wanted));
        self.row(what, "", format!("{difference:.1e} relative"));
        assert!(difference <= 1e-4, "{what}: {difference}");
    }

    fn tokenizer(&self) {
        let tokenizer =
            Tokenizer::open(&self.root.join("model/tokenizer"), 77, &mut Vec::new()).unwrap();
        let ids: Vec<Tensor> = ["a photograph of an astronaut riding a horse", ""]
            .map(|prompt| Tensor::from_slice(&tokenizer.encode(prompt).ids))
            .into();
        assert!(Tensor::stack(&ids, 0).equal(&self.known("ids")));
        let Ok(text) = fs_err::read_to_string(self.root.join("strings.json")) else { return };
        let strings: Vec<(String, Vec<i64>)> = serde_json::from_str(&text).unwrap();
        let differs = |(prompt, ids): &&(String, Vec<i64>)| {
            tokenizer.encode(prompt).ids[..ids.len()] != ids[..]
        };
        let wrong: Vec<_> = strings.iter().filter(differs).map(|(prompt, _)| prompt).collect();
        self.row("tokenizer", "", format!("{} of {} strings differ", wrong.len(), strings.len()));
        assert!(wrong.is_empty(), "{:?}", &wrong[..wrong.len().min(5)]);
    }

    /// Each with weights of its own in memory, one after the other.
    fn networks(&self) {
        let model = self.root.join("model");
        let open =
            |component: &str, file: &str| Weights::open(&model.join(component).join(file)).unwrap();
        no_grad(|| {
            let weights = open("text_encoder", "model.safetensors");
            let config = config(&model.join("text_encoder/config.json"));
            let text = TextModel::new(&config, Builder::load(&weights, self.device)).unwrap();
            self.check("text encoder", &text.forward(&self.known("ids")), "text");
        });
        no_grad(|| {
            let weights = open("vae", "diffusion_pytorch_model.safetensors");
            let config = config(&model.join("vae/config.json"));
            let vae = Vae::new(&config, Builder::load(&weights, self.device)).unwrap();
            let moments = vae.encode(&self.known("picture"));
            let moments = Tensor::cat(&[moments.mean, moments.log_variance], 1);
            self.check("VAE, encoder", &moments, "moments");
            let latent = self.known("latent").narrow(2, 0, 64).narrow(3, 0, 64).contiguous();
            self.check("VAE, decoder", &vae.decode(&latent), "decoded");
        });
        no_grad(|| {
            let weights = open("unet", "diffusion_pytorch_model.safetensors");
            let config = config(&model.join("unet/config.json"));
            let unet = UNet::new(&config, Builder::load(&weights, self.device)).unwrap();
            let text = self.known("text").narrow(0, 0, 1);
            let found = unet.forward(&self.known("latent"), &self.known("timestep"), &text);
            self.check("UNet", &found, "prediction");
        });
    }

    fn pictures(&self) {
        let model = self.root.join("model");
        let checkpoint = Checkpoint::open(&model.as_path().into()).unwrap();
        let compute = Compute::new(self.device, Precision::F32);
        let pipeline = StableDiffusion::load(&checkpoint, compute).unwrap();
        let mut wrong = Vec::new();
        for image in self.reference.names().filter(|name| name.starts_with("image.")) {
            let sampler = image.strip_prefix("image.").unwrap();
            let wanted = self.known(image);
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
            let found = Tensor::from_slice(&picture.rgb).view(shape).permute([2, 0, 1]);
            let difference = found.to_kind(Kind::Float) - (wanted * 255.0).round();
            let difference = difference.abs().max().double_value(&[]);
            self.row("picture", sampler, format!("{difference}/255"));
            if difference > 2.0 {
                wrong.push(format!("{sampler}: {difference}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// The same model in other files: 16 bits in shards, pickles, and through a single file.
    fn files(&self) {
        let open = |path: &Path| Checkpoint::open(&path.into()).unwrap();
        let (half, bin) = (open(&self.root.join("fp16")), open(&self.root.join("bin")));
        let hash = half.hash().unwrap();
        let same = if hash == bin.hash().unwrap() { "equal" } else { "differ" };
        self.row("files", "", format!("fp16 shards and .bin {same}"));
        assert_eq!(hash, bin.hash().unwrap());
        let sd21 = self.name == "sd21";
        let file = self.root.join(if sd21 { "sd21-768-v.safetensors" } else { "sd15.safetensors" });
        if !file.exists() {
            let edited = Edited { base: &bin, edit: &Edit::default(), kind: None };
            edited.export(&file, Format::SingleFile, &mut Quiet).unwrap();
        }
        let single = Checkpoint::open(&Location::from(file.as_path())).unwrap();
        assert_eq!(hash, single.hash().unwrap());
        let load = |checkpoint: &Checkpoint| {
            StableDiffusion::load(checkpoint, Compute::new(self.device, Precision::F32)).unwrap()
        };
        let (single, folder) = (load(&single), load(&half));
        let read = |model: &StableDiffusion| model.condition(&["a photo"]).unwrap();
        assert!(read(&single).states.equal(&read(&folder).states));
        let predicts = |model: &StableDiffusion| model.schedule().config.prediction_type;
        assert_eq!(predicts(&single), predicts(&folder));
        self.row("files", "", "single file, its own configuration: equal".to_owned());
    }
}

#[test]
fn full_size_models_are_equal_to_diffusers() {
    let Some(root) = std::env::var_os("UNSEE_PARITY").map(PathBuf::from) else {
        println!(
            "skipped: full-size models take minutes and 20 GB of disk; `make parity` makes them"
        );
        return;
    };
    let name = root.file_name().unwrap().to_string_lossy().into_owned();
    let reference = Weights::open(&root.join("reference.safetensors")).unwrap();
    let device = Device::open(Choice::Cpu).unwrap();
    let parity = Parity { name, root, reference, device };
    parity.tokenizer();
    parity.networks();
    parity.pictures();
    parity.files();
}
