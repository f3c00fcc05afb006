//! Files of weights, right and wrong, and the pictures that they draw.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use unsee::torch::{Kind, Tensor};
use unsee::weights::{Edit, Weights, save};

use super::tools::{Spoil, draw_with, failure, json, models, spoiled, unsee, with_models, write};

/// Shards with an index and a file in `fp16` are the same model, by hash and by picture.
#[test]
fn other_layouts_of_the_same_weights() {
    let folder = spoiled("unet/diffusion_pytorch_model.safetensors", |path| {
        let whole = Weights::open(path).unwrap();
        let mut map = serde_json::Map::new();
        let mut shards: [Vec<(String, Tensor)>; 2] = [Vec::new(), Vec::new()];
        for (i, name) in whole.names().enumerate() {
            shards[i % 2].push((name.to_owned(), whole.tensor(name).unwrap()));
            let shard = format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", i % 2 + 1);
            map.insert(name.to_owned(), shard.into());
        }
        for (i, shard) in shards.iter().enumerate() {
            let name = format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", i + 1);
            save(&path.with_file_name(name), shard, &[]).unwrap();
        }
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        write(
            &path.with_file_name("diffusion_pytorch_model.safetensors.index.json"),
            &index.to_string(),
        );
        fs_err::remove_file(path).unwrap();
        let vae = path.parent().unwrap().with_file_name("vae");
        let from = vae.join("diffusion_pytorch_model.safetensors");
        fs_err::rename(from, vae.join("diffusion_pytorch_model.fp16.safetensors")).unwrap();
    });
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    draw_with(&models().join("miniature"), &one).assert().success();
    draw_with(&folder.path().join("m"), &two).assert().success();
    let hash = |run: &Path| json(&run.join("run.json"))["hashes"]["model"].clone();
    assert_eq!(hash(&one), hash(&two));
    let picture = |run: &Path| fs_err::read(run.join("0_0.png")).unwrap();
    assert_eq!(picture(&one), picture(&two));
}

/// A picture depends on its seed and sampler alone, not on the batch, also where fresh noise is
/// added.
#[test]
fn every_sampler_draws() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = std::collections::HashSet::new();
    for sampler in ["ddim", "pndm", "dpm++", "dpm++karras", "euler", "euler_a", "heun", "lms"] {
        let draw = |seeds: &str, batch: &str| {
            let out = folder.path().join(format!("{sampler}-{seeds}-{batch}"));
            unsee()
                .args([
                    "generate",
                    "A Cat image in Mosaic style.",
                    "-q",
                    "--steps",
                    "4",
                    "--sampler",
                    sampler,
                ])
                .args(["--seeds", seeds, "--batch", batch, "--model"])
                .arg(models().join("miniature"))
                .arg("--out")
                .arg(&out)
                .assert()
                .success();
            unsee::pictures::Picture::open(&out.join("0_0.png")).unwrap()
        };
        let (alone, with_others) = (draw("7", "1"), draw("7,8,9", "3"));
        let apart =
            alone.rgb.iter().zip(&with_others.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(apart <= 1, "{sampler}: {apart}/255");
        assert!(seen.insert(alone.rgb), "{sampler} draws what another one draws");
    }
    let error = failure(
        {
            let mut command = unsee();
            command.args(["generate", "x", "--sampler", "eulr"]);
            command
        },
        2,
    );
    assert!(error.contains("euler_a"), "{error}");
}

#[test]
fn models_that_are_wrong() {
    const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
    let length = |n: u64| {
        move |path: &Path| {
            use std::io::Seek as _;
            let mut file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
            file.rewind().unwrap();
            file.write_all(&n.to_le_bytes()).unwrap();
        }
    };
    let overlap = |path: &Path| {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 12]);
        fs_err::File::create(path).unwrap().write_all(&bytes).unwrap();
    };
    let dtype = |path: &Path| {
        let text = fs_err::read(path).unwrap();
        let text = String::from_utf8_lossy(&text[8..40_000.min(text.len())]).into_owned();
        let name = text.split('"').find(|part| part.starts_with("conv_in")).unwrap().to_owned();
        let header = format!(r#"{{"{name}":{{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 8]);
        fs_err::File::create(path).unwrap().write_all(&bytes).unwrap();
    };
    let shorten = |path: &Path| {
        let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 100).unwrap();
    };
    let replace = |from: &'static str, to: &'static str| {
        move |path: &Path| {
            let text = fs_err::read_to_string(path).unwrap();
            assert!(text.contains(from), "{text}");
            write(path, &text.replace(from, to));
        }
    };
    let cases: Vec<(&str, Spoil, &str)> = vec![
        (UNET, Box::new(shorten), "is no sound file of weights"),
        (UNET, Box::new(length(1 << 60)), "is no sound file of weights"),
        (UNET, Box::new(overlap), "is no sound file of weights"),
        (UNET, Box::new(dtype), "F64|config wants|missing"),
        (UNET, Box::new(|path| fs_err::remove_file(path).unwrap()), "is missing"),
        (
            "unet/config.json",
            Box::new(replace("\"CrossAttnDownBlock2D\"", "\"MagicBlock\"")),
            "MagicBlock",
        ),
        (
            "unet/config.json",
            Box::new(replace("\"cross_attention_dim\": 32", "\"cross_attention_dim\": 48")),
            "the text encoder writes 32",
        ),
        ("unet/config.json", Box::new(replace("{", "[")), "config.json"),
        (
            "model_index.json",
            Box::new(replace("StableDiffusionPipeline", "FluxPipeline")),
            "FluxPipeline",
        ),
        ("tokenizer/merges.txt", Box::new(|path| fs_err::remove_file(path).unwrap()), "merges.txt"),
        (
            "scheduler/scheduler_config.json",
            Box::new(replace("scaled_linear", "sigmoid")),
            "sigmoid",
        ),
    ];
    for (file, spoil, wanted) in cases {
        let folder = spoiled(file, spoil);
        let began = Instant::now();
        let text = failure(draw_with(&folder.path().join("m"), &folder.path().join("out")), 1);
        assert!(wanted.split('|').any(|wanted| text.contains(wanted)), "{file}: {text}");
        assert!(!folder.path().join("out").exists(), "{file}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    let near = models().join("minature");
    let text = failure(draw_with(&near, &models().join("never")), 1);
    assert!(text.contains("did you mean") && text.contains("miniature"), "{text}");
}

#[test]
fn an_edit_for_another_base_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edits/style-Mosaic-salun.safetensors");
    let tensor = Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu));
    let edit = Edit {
        base: "0123456789abcdef".to_owned(),
        recipe: String::new(),
        tensors: vec![("unet.x".to_owned(), tensor.shallow_clone())],
        ..Edit::default()
    };
    edit.save(&file).unwrap();
    let draw = |file: &Path| {
        let mut command = draw_with(&models().join("miniature"), &folder.path().join("out"));
        command.arg("--edit").arg(file);
        command
    };
    let text = failure(draw(&file), 1);
    assert!(text.contains("0123456789ab") && text.contains("base"), "{text}");

    let plain = folder.path().join("plain.safetensors");
    save(&plain, &[("x".to_owned(), tensor)], &[]).unwrap();
    assert!(failure(draw(&plain), 1).contains("fits the base"));
}

#[test]
fn generate_from_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    write(
        &list,
        "\u{feff}case_number,prompt,evaluation_seed,evaluation_guidance,source\r\n7,\"a cat\nin \
         two lines\",4290749014,1,x\r\n9,a boat,3,,y\r\n",
    );
    let out = folder.path().join("out");
    let mut command = with_models(unsee());
    command.args(["generate", "-q", "--steps", "2", "--csv"]).arg(&list).arg("--out").arg(&out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    let texts = unsee::pictures::Picture::texts(&out.join("7_0.png")).unwrap();
    let parameters = &texts.iter().find(|(key, _)| key == "parameters").unwrap().1;
    assert!(
        parameters.contains("Seed: 4290749014") && parameters.contains("CFG scale: 1,"),
        "{parameters}"
    );
    let table = fs_err::read_to_string(out.join("pictures.csv")).unwrap();
    assert!(table.starts_with("file,seed,case_number,prompt"), "{table}");
    assert!(table.contains("9_0.png,3,9,a boat"), "{table}");

    // As many at once as fit: measured once, then it stays so.
    let fitting = folder.path().join("fitting");
    let draw = |seeds: &str| {
        let mut command = with_models(unsee());
        command.args([
            "generate", "a boat", "-q", "--steps", "2", "--batch", "auto", "--seeds", seeds,
            "--out",
        ]);
        command.arg(&fitting).assert().success();
        json(&fitting.join("run.json"))["batch"].as_u64().unwrap()
    };
    let batch = draw("1,2,3");
    assert!(batch.is_power_of_two() && batch <= 32, "{batch}");
    let record = fs_err::read_to_string(fitting.join("run.json")).unwrap();
    write(
        &fitting.join("run.json"),
        &record.replace(&format!("\"batch\": {batch},"), "\"batch\": 2,"),
    );
    fs_err::remove_file(fitting.join("0_1.png")).unwrap();
    assert_eq!(draw("1,2,3"), 2);

    // A picture does not depend on its company (in f32, up to the last bit of rounding).
    let alone = folder.path().join("alone");
    let mut command = with_models(unsee());
    command.args(["generate", "a boat", "-q", "--steps", "2", "--seeds", "3", "--out"]).arg(&alone);
    command.assert().success();
    let open = |path: &Path| unsee::pictures::Picture::open(path).unwrap();
    let (a, b) = (open(&out.join("9_0.png")), open(&alone.join("0_0.png")));
    assert!(a.rgb.iter().zip(&b.rgb).all(|(a, b)| a.abs_diff(*b) <= 1));

    for (text, wanted) in [
        ("text\na\n", "no column `prompt`"),
        ("prompt,evaluation_seed\na,x\n", "evaluation_seed is `x`"),
        ("prompt\n", "no prompt"),
        ("case_number,prompt\n1,a\n1,b\n", "case_number"),
    ] {
        write(&list, text);
        let mut command = with_models(unsee());
        command.args(["generate", "--csv"]).arg(&list).arg("--out").arg(folder.path().join("bad"));
        let error = failure(command, 1);
        assert!(error.contains(wanted), "{error}");
        assert!(!folder.path().join("bad").exists());
    }
}
