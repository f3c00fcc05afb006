//! Weights in and out: other programs' files are read, what is written is read again to the bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use unsee::generator::{Adapter, Checkpoint, Edited, Embedding, Format, Location, StableDiffusion};
use unsee::generator::{Denoiser as _, Error};
use unsee::torch::{Choice, Compute, Device, Kind, Precision, Rng, Tensor};
use unsee::watch::Quiet;
use unsee::weights::{Dialect, Edit, EmaChoice, Weights, save, save_as};

fn miniature() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/miniature")
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles").join(name)
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(&path.into()).unwrap()
}

fn open_file(path: &Path) -> Checkpoint {
    Checkpoint::open(&Location {
        path: path.to_owned(),
        config: Some(miniature()),
        ..Location::default()
    })
    .unwrap()
}

/// Every tensor of a model by full name.
fn all(model: &Checkpoint) -> BTreeMap<String, Tensor> {
    model.names().into_iter().map(|name| (name.clone(), model.tensor(&name).unwrap())).collect()
}

/// An edit that changes some tensors wholly, some in a third of their numbers, and the rest not.
fn edit(base: &Checkpoint) -> Edit {
    let mut rng = Rng::new(5);
    let tensors = base
        .names()
        .into_iter()
        .filter(|name| name.contains("attn2") || name.contains("conv1") || name.contains("mlp.fc1"))
        .enumerate()
        .map(|(n, name)| {
            let weight = base.tensor(&name).unwrap().to_kind(Kind::Float);
            let noise = rng.normal(&weight.size()) * 0.01;
            let mask = rng
                .uniform(&weight.size())
                .lt(if n % 2 == 0 { 2.0 } else { 0.3 })
                .to_kind(Kind::Float);
            (name, weight + noise * mask)
        })
        .collect();
    Edit {
        base: base.hash().unwrap().to_hex().to_string(),
        recipe: "{\"method\":\"test\"}".to_owned(),
        tensors,
        ..Edit::default()
    }
}

fn write(base: &Checkpoint, edit: &Edit, kind: Option<Kind>, to: &Path, format: Format) {
    Edited { base, edit, kind }.export(to, format, &mut Quiet).unwrap();
}

fn adapter(path: &Path) -> [Adapter; 1] {
    [Adapter { path: path.to_owned(), strength: 1.0 }]
}

fn same(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, tensor) in a {
        assert_eq!(tensor.kind(), b[name].kind(), "{name}");
        assert!(tensor.equal(&b[name]), "{name}");
    }
}

#[test]
fn every_format_of_torch_save_holds_the_same_tensors() {
    let plain = Weights::open(&golden("plain.safetensors")).unwrap();
    for name in ["zip.pt", "stream.pt", "lightning.ckpt"] {
        let file = Weights::open(&golden(name)).unwrap();
        assert_eq!(file.hash().unwrap(), plain.hash().unwrap(), "{name}");
        for tensor in plain.names() {
            assert!(
                file.tensor(tensor).unwrap().equal(&plain.tensor(tensor).unwrap()),
                "{name}: {tensor}"
            );
        }
    }
}

#[test]
fn a_torchscript_s_tensors_are_read_and_its_program_is_not() {
    let plain = Weights::open(&golden("plain.safetensors")).unwrap();
    let script = Weights::open(&golden("script.pt")).unwrap();
    assert_eq!(script.names().collect::<Vec<_>>(), ["bias", "weight"]);
    for name in script.names() {
        let tensor = plain.tensor(&format!("linear.{name}")).unwrap();
        assert!(script.tensor(name).unwrap().equal(&tensor), "{name}");
    }
}

#[test]
fn a_folder_is_the_same_model_as_bin_files() {
    // PyTorch's zip archive of the miniature's UNet, as `save_pretrained(safe_serialization=False)`
    // writes it.
    let base = open(&miniature());
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("bin");
    write(&base, &Edit::default(), None, &root, Format::Folder);
    let unet = root.join("unet/diffusion_pytorch_model.safetensors");
    archive::write(&Weights::open(&unet).unwrap(), &root.join("unet/diffusion_pytorch_model.bin"));
    fs_err::remove_file(&unet).unwrap();
    assert_eq!(open(&root).hash().unwrap(), base.hash().unwrap());
}

#[test]
fn a_text_encoder_has_one_hash_under_both_of_its_names() {
    let base = open(&miniature());
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("five");
    write(&base, &Edit::default(), None, &root, Format::Folder);
    let file = root.join("text_encoder/model.safetensors");
    let weights = Weights::open(&file).unwrap();
    // As transformers 5 writes them.
    let bare: Vec<(String, Tensor)> = weights
        .names()
        .map(|name| {
            (name.strip_prefix("text_model.").unwrap().to_owned(), weights.tensor(name).unwrap())
        })
        .collect();
    save(&file, &bare, &[]).unwrap();
    assert_eq!(open(&root).hash().unwrap(), base.hash().unwrap());
    let single = folder.path().join("five.safetensors");
    write(&open(&root), &Edit::default(), None, &single, Format::SingleFile);
    assert_eq!(open_file(&single).hash().unwrap(), base.hash().unwrap());
}

#[test]
fn round_trips_are_equal_to_the_bit() {
    let base = open(&miniature());
    let edit = edit(&base);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (n, kind) in [None, Some(Kind::Float), Some(Kind::BFloat16)].into_iter().enumerate() {
        // base + edit → folder → single file → folder
        let (one, file, two) =
            (at(&format!("one{n}")), at(&format!("file{n}.safetensors")), at(&format!("two{n}")));
        write(&base, &edit, kind, &one, Format::Folder);
        write(&open(&one), &Edit::default(), None, &file, Format::SingleFile);
        write(&open_file(&file), &Edit::default(), None, &two, Format::Folder);
        let (one, two) = (open(&one), open(&two));
        same(&all(&one), &all(&two));
        assert_eq!(one.hash().unwrap(), two.hash().unwrap());
        assert_eq!(one.hash().unwrap(), open_file(&file).hash().unwrap());
        assert_ne!(one.hash().unwrap(), base.hash().unwrap());
    }
    // folder → edit → folder: what differs is found by comparing whole models
    let (one, alone, two) = (at("one0"), at("edits/style-Mosaic-salun.safetensors"), at("again"));
    let merged = base.merge(&adapter(&one), EmaChoice::Auto).unwrap().edit;
    write(&base, &merged, None, &alone, Format::Edit);
    write(
        &base,
        &base.merge(&adapter(&alone), EmaChoice::Auto).unwrap().edit,
        None,
        &two,
        Format::Folder,
    );
    same(&all(&open(&one)), &all(&open(&two)));
    let bytes = |path: &Path| fs_err::metadata(path).unwrap().len();
    assert!(bytes(&alone) * 2 < bytes(&one.join("unet/diffusion_pytorch_model.safetensors")));
    // and through a single file as what goes onto the base
    let merged = base.merge(&adapter(&at("file0.safetensors")), EmaChoice::Auto).unwrap().edit;
    let differ = all(&open(&one))
        .iter()
        .filter(|(name, new)| !new.equal(&base.tensor(name).unwrap()))
        .count();
    assert_eq!(merged.tensors.len(), differ);

    // Files say what they are.
    let about = Weights::open(&at("file0.safetensors")).unwrap().metadata();
    assert_eq!(about["modelspec.prediction_type"], "v");
    assert!(about["modelspec.architecture"].starts_with("stable-diffusion-v1"));
    let about = Weights::open(&alone).unwrap().metadata();
    assert_eq!(about["unsee.base"], base.hash().unwrap().to_hex().to_string());
    // Nothing is overwritten, and an edit of another base is refused.
    let again =
        Edited { base: &base, edit: &edit, kind: None }.export(&two, Format::Folder, &mut Quiet);
    assert!(matches!(again, Err(Error::Occupied(_))));
    let error = open(&at("one1")).merge(&adapter(&alone), EmaChoice::Auto).unwrap_err().to_string();
    assert!(error.contains("another") || error.contains("base"), "{error}");
}

#[test]
fn a_lora_of_full_rank_is_the_edit() {
    let base = open(&miniature());
    let mut edit = edit(&base);
    edit.tensors.retain(|(name, tensor)| {
        !name.starts_with("vae.") && name.ends_with(".weight") && tensor.dim() >= 2
    });
    let folder = tempfile::tempdir().unwrap();
    for (dialect, name) in
        [(Dialect::Kohya, "kohya.safetensors"), (Dialect::Peft, "peft.safetensors")]
    {
        let path = folder.path().join(name);
        let format = Format::Lora { dialect, rank: None };
        let kept = Edited { base: &base, edit: &edit, kind: None }
            .export(&path, format, &mut Quiet)
            .unwrap();
        assert_eq!(kept.len(), edit.tensors.len() + 1);
        assert!(kept.iter().all(|part| (part.energy - 1.0).abs() < 1e-9), "{kept:?}");
        let merged = base.merge(&adapter(&path), EmaChoice::Auto).unwrap().edit;
        assert_eq!(merged.tensors.len(), edit.tensors.len());
        for (name, wanted) in &edit.tensors {
            let found = &merged.tensors.iter().find(|(key, _)| key == name).unwrap().1;
            let apart = (found - wanted).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{name}: {apart}");
        }
        // Half of it is half of the change.
        let half = base.merge(&[Adapter { path, strength: 0.5 }], EmaChoice::Auto).unwrap().edit;
        let (name, wanted) = &edit.tensors[0];
        let weight = base.tensor(name).unwrap().to_kind(Kind::Float);
        let found = &half.tensors.iter().find(|(key, _)| key == name).unwrap().1;
        assert!(
            (found - (&weight + (wanted - &weight) * 0.5)).abs().max().double_value(&[]) < 1e-6
        );
    }
    // A cut one keeps less, and says how much.
    let path = folder.path().join("cut.safetensors");
    let format = Format::Lora { dialect: Dialect::Kohya, rank: Some(2) };
    let kept = Edited { base: &base, edit: &edit, kind: Some(Kind::Half) }
        .export(&path, format, &mut Quiet)
        .unwrap();
    let all = kept.last().unwrap();
    assert!(all.rank == 2 && all.energy > 0.01 && all.energy < 0.9, "{all:?}");
}

#[test]
fn parts_of_a_model_are_found_under_other_programs_names() {
    let base = open(&miniature());
    let edit = edit(&base);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.safetensors");
    let merged = |tensors: &[(String, Tensor)]| {
        save(&path, tensors, &[]).unwrap();
        base.merge(&adapter(&path), EmaChoice::Auto)
    };
    let inside = |component: &str| -> Vec<(String, Tensor)> {
        let strip = |(name, tensor): &(String, Tensor)| {
            Some((
                name.strip_prefix(component)?.strip_prefix('.')?.to_owned(),
                tensor.shallow_clone(),
            ))
        };
        edit.tensors.iter().filter_map(strip).collect()
    };
    // ESD's and UCE's files: diffusers' names of a part of the UNet
    let unet = inside("unet");
    let found = merged(&unet).unwrap().edit;
    assert_eq!(found.tensors.len(), unet.len());
    assert!(found.tensors.iter().all(|(name, _)| name.starts_with("unet.")));
    // AdvUnlearn's: the encoder behind its component's name, and once more without
    let text = inside("text_encoder");
    let mut twice: Vec<(String, Tensor)> =
        text.iter().map(|(name, t)| (format!("text_encoder.{name}"), t.shallow_clone())).collect();
    let bare = |name: &str| name.strip_prefix("text_model.").unwrap_or(name).to_owned();
    twice.extend(text.iter().map(|(name, t)| (bare(name), t.shallow_clone())));
    assert_eq!(merged(&twice).unwrap().edit.tensors.len(), text.len());
    // CompVis' names of a part of the UNet
    let theirs = unsee::weights::to_compvis("unet", &inside_all(&base)).unwrap();
    let some: Vec<(String, Tensor)> = theirs
        .into_iter()
        .filter(|(name, _)| name.contains("attn2"))
        .map(|(name, t)| (name, t.to_kind(Kind::Float) + 1.0))
        .collect();
    let found = merged(&some).unwrap().edit;
    assert_eq!(found.tensors.len(), some.len());
    assert!(found.tensors.iter().all(|(name, _)| name.contains("attn2")));
    // Nothing fits: both sides' names are shown.
    let error = merged(&[("some.thing".to_owned(), Tensor::from(1.0))]).unwrap_err().to_string();
    assert!(error.contains("some.thing") && error.contains("text_encoder."), "{error}");
    // Another shape
    let name = unet[0].0.clone();
    let error = merged(&[(name.clone(), Tensor::from_slice(&[1.0_f32]))]).unwrap_err().to_string();
    assert!(error.contains(&name), "{error}");
}

fn inside_all(base: &Checkpoint) -> Vec<(String, Tensor)> {
    let (_, unet) = base.components().into_iter().find(|(name, _)| *name == "unet").unwrap();
    unet.names().map(|name| (name.to_owned(), unet.tensor(name).unwrap())).collect()
}

#[test]
fn averaged_weights_are_taken_where_they_are_asked_for() {
    let base = open(&miniature());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.ckpt.safetensors");
    let plain = folder.path().join("plain.safetensors");
    write(&base, &Edit::default(), None, &plain, Format::SingleFile);
    let file = Weights::open(&plain).unwrap();
    let mut tensors: Vec<(String, Tensor)> =
        file.names().map(|name| (name.to_owned(), file.tensor(name).unwrap())).collect();
    let averaged: Vec<(String, Tensor)> = tensors
        .iter()
        .filter(|(name, _)| name.starts_with("model.diffusion_model."))
        .map(|(name, t)| {
            (format!("model_ema.{}", name["model.".len()..].replace('.', "")), t + 1.0)
        })
        .collect();
    tensors.extend(averaged);
    save(&path, &tensors, &[]).unwrap();
    let unet_of = |ema: &str| {
        let (path, config) = (path.clone(), Some(miniature()));
        let ema = ema.parse().unwrap();
        Checkpoint::open(&Location { path, config, ema, prediction: None }).unwrap()
    };
    let name = "unet.conv_in.weight";
    let weight = base.tensor(name).unwrap();
    assert!(unet_of("no").tensor(name).unwrap().equal(&weight));
    assert!(unet_of("yes").tensor(name).unwrap().equal(&(&weight + 1.0)));
    // As diffusers takes them, with a warning that says how far they are apart.
    assert!(unet_of("auto").tensor(name).unwrap().equal(&weight));
    for (ema, words) in [("auto", "--ema yes"), ("no", "--ema yes"), ("yes", "--ema no")] {
        let warnings = unet_of(ema).warnings().join("\n");
        assert!(warnings.contains("two UNets") && warnings.contains(words), "{warnings}");
    }
    let none = Location {
        path: plain,
        config: Some(miniature()),
        ema: "yes".parse().unwrap(),
        prediction: None,
    };
    assert!(Checkpoint::open(&none).unwrap_err().to_string().contains("model_ema"));
}

#[test]
fn a_learned_word_stands_for_its_vectors() {
    let compute = Compute::new(Device::open(Choice::Cpu).unwrap(), Precision::F32);
    let mut model = StableDiffusion::load(&open(&miniature()), compute).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cat-copy.safetensors");
    // The vectors of `cat` itself: a prompt with the new word must be read as one with the old.
    let vocabulary = fs_err::read_to_string(miniature().join("tokenizer/vocab.json")).unwrap();
    let vocabulary: BTreeMap<String, i64> = serde_json::from_str(&vocabulary).unwrap();
    let base = open(&miniature());
    let table =
        base.names().into_iter().find(|name| name.ends_with("token_embedding.weight")).unwrap();
    let vector = base.tensor(&table).unwrap().get(vocabulary["cat</w>"]).unsqueeze(0);
    save_as(&path, &[("emb_params".to_owned(), vector.contiguous())], Kind::Float, &[]).unwrap();
    let word = model.learn(&Embedding { path: path.clone(), word: None }).unwrap();
    assert_eq!(word, "cat-copy");
    let read = |prompt: &str| model.condition(&[prompt]).unwrap();
    assert!(
        read("A cat-copy image in Mosaic style.")
            .states
            .equal(&read("A Cat image in Mosaic style.").states)
    );
    assert!(!read("A cat-copies image").states.equal(&read("A Cat image").states));
    let again = model.learn(&Embedding { path: path.clone(), word: None }).unwrap_err().to_string();
    assert!(again.contains("cat-copy"), "{again}");
    // torch.nn.ParameterDict, which the first textual inversions were saved in; two vectors, 64
    // wide
    let file = "new=".to_owned() + golden("word.pt").to_str().unwrap();
    let width = base.tensor(&table).unwrap().size()[1];
    let learned = model.learn(&file.parse().unwrap());
    if width == 64 {
        assert_eq!(learned.unwrap(), "new");
    } else {
        let error = learned.unwrap_err().to_string();
        assert!(error.contains("[2, 64]") && error.contains(&width.to_string()), "{error}");
    }
}

/// Writes tensors as `torch.save` does, for the files that the tests need and Python is not there
/// to make.
mod archive {
    use std::io::Write as _;

    use super::*;

    pub(super) fn write(weights: &Weights, to: &Path) {
        let mut zip = zip::ZipWriter::new(fs_err::File::create(to).unwrap().into_parts().0);
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        let mut pickle = b"\x80\x02}(".to_vec();
        for (key, name) in weights.names().enumerate() {
            let tensor = weights.tensor(name).unwrap();
            let class = match tensor.kind() {
                Kind::Half => "HalfStorage",
                Kind::Int64 => "LongStorage",
                _ => "FloatStorage",
            };
            let text = |pickle: &mut Vec<u8>, text: &str| {
                pickle.push(b'X');
                pickle.extend((text.len() as u32).to_le_bytes());
                pickle.extend(text.as_bytes());
            };
            let sizes = |pickle: &mut Vec<u8>, sizes: &[i64]| {
                pickle.push(b'(');
                for size in sizes {
                    pickle.push(b'J');
                    pickle.extend((*size as i32).to_le_bytes());
                }
                pickle.push(b't');
            };
            text(&mut pickle, name);
            pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text(&mut pickle, "storage");
            pickle.extend(format!("ctorch\n{class}\n").as_bytes());
            text(&mut pickle, &key.to_string());
            text(&mut pickle, "cpu");
            sizes(&mut pickle, &[]);
            pickle.extend(b"tQK\x00");
            let shape = tensor.size();
            sizes(&mut pickle, &shape);
            let strides: Vec<i64> =
                (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
            sizes(&mut pickle, &strides);
            pickle.extend(b"\x89)tR");
            zip.start_file(format!("archive/data/{key}"), stored).unwrap();
            let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            let count = bytes.len();
            tensor
                .contiguous()
                .view_dtype(Kind::Uint8)
                .flatten(0, -1)
                .copy_data_u8(&mut bytes, count);
            zip.write_all(&bytes).unwrap();
        }
        pickle.extend(b"u.");
        zip.start_file("archive/data.pkl", stored).unwrap();
        zip.write_all(&pickle).unwrap();
        zip.finish().unwrap();
    }
}
