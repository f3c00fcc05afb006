//! CLIP folders as programs write them, and as people change them.

use serde_json::{Value, json};
use unsee::judge::{CandleClipEncoder, ClipEncoder as _, TorchClipEncoder};
use unsee::pictures::Picture;
use unsee::torch::Device;
use unsee::weights::{Weights, save_torch};

use super::tools::{Copy, evaluate, fails, has, judged, pictures, tensors};

const PROCESSOR: &str = "preprocessor_config.json";

fn judge() -> Copy {
    Copy::of("judge")
}

fn picture(side: usize) -> Picture {
    let rgb = (0..side * (side + 20) * 3).map(|i| ((i * 37) % 251) as u8).collect();
    Picture { width: side, height: side + 20, rgb }
}

/// What both engines see in a picture of another size than theirs.
fn seen(folder: &Copy) -> Vec<f32> {
    let candle = CandleClipEncoder::open(&folder.path)
        .unwrap()
        .image_features(&[picture(80)])
        .unwrap()
        .unit
        .remove(0);
    let torch = TorchClipEncoder::open(&folder.path, Device::CPU)
        .unwrap()
        .image_features(&[picture(80)])
        .unwrap()
        .unit
        .remove(0);
    let apart = candle.iter().zip(&torch).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 2e-5, "{apart}");
    torch
}

fn refused(folder: &Copy, words: &[&str]) {
    let engines = [
        CandleClipEncoder::open(&folder.path)
            .and_then(|encoder| encoder.image_features(&[picture(80)])),
        TorchClipEncoder::open(&folder.path, Device::CPU)
            .and_then(|encoder| encoder.image_features(&[picture(80)])),
    ];
    for seen in engines {
        has(&seen.err().unwrap_or_else(|| panic!("it saw: {words:?}")).to_string(), words);
    }
}

/// transformers 5 has the image processor inside `processor_config.json`.
#[test]
fn processors_of_transformers_5_are_read() {
    let plain = seen(&judge());
    let moved = |mean: f64| {
        let copy = judge();
        let mut config: Value = super::tools::json(&copy.path.join(PROCESSOR));
        config["image_mean"] = json!([mean, mean, mean]);
        fs_err::remove_file(copy.path.join(PROCESSOR)).unwrap();
        copy.json("processor_config.json", |all| {
            all["image_processor"] = config;
            all["processor_class"] = json!("CLIPProcessor");
        })
    };
    assert_eq!(seen(&moved(0.5)), plain);
    assert_ne!(seen(&moved(0.1)), plain);
    assert_ne!(seen(&judge().field(PROCESSOR, "image_mean", json!([0.1, 0.1, 0.1]))), plain);
}

/// Honoured by both engines alike.
#[test]
fn what_a_processor_says_is_done() {
    let plain = seen(&judge());
    for (field, value) in [
        ("do_normalize", json!(false)),
        ("do_resize", json!(false)),
        ("image_std", json!([0.3, 0.3, 0.3])),
        ("rescale_factor", json!(0.01)),
        ("resample", json!(2)),
        ("size", json!({"height": 64, "width": 64})),
        ("size", json!({"shortest_edge": 72})),
    ] {
        assert_ne!(seen(&judge().field(PROCESSOR, field, value)), plain, "{field}");
    }
    // The same, written as older versions did.
    for (field, value) in
        [("size", json!(64)), ("crop_size", json!(64)), ("do_convert_rgb", json!(false))]
    {
        assert_eq!(seen(&judge().field(PROCESSOR, field, value)), plain, "{field}");
    }
    for (field, value, words) in [
        ("resample", json!(0), "resample"),
        ("crop_size", json!({"height": 32, "width": 32}), "32x32"),
        ("do_center_crop", json!(false), "a picture of 80x100 pixels comes to 64x80"),
        ("do_pad", json!(true), "do_pad"),
        ("image_processor_type", json!("SiglipImageProcessor"), "image_processor_type"),
    ] {
        refused(&judge().field(PROCESSOR, field, value), &[words]);
    }
}

/// Where nothing says how pictures are prepared, what is assumed is said.
#[test]
fn what_is_assumed_of_a_processor_is_said() {
    let folder = pictures();
    let copy = judge();
    fs_err::remove_file(copy.path.join(PROCESSOR)).unwrap();
    let (_, said) = judged(&folder.path, &["--judge", copy.path.to_str().unwrap()]);
    has(&said, &[PROCESSOR, "assumed"]);
    let strange = judge().field(PROCESSOR, "of_tomorrow", json!(1));
    let (_, said) = judged(&folder.path, &["--judge", strange.path.to_str().unwrap()]);
    has(&said, &["of_tomorrow", "not known"]);
}

/// transformers writes what differs from a class' defaults, and used to write it twice.
#[test]
fn configurations_may_state_what_differs_alone() {
    let plain = seen(&judge());
    for towers in [["text_config", "text_config_dict"], ["vision_config", "vision_config_dict"]] {
        let copy = judge().json("config.json", |all| {
            let config = all[towers[0]].clone();
            all[towers[0]] = json!({});
            all[towers[1]] = config;
        });
        assert_eq!(seen(&copy), plain, "{towers:?}");
    }
    let copy = judge().json("config.json", |all| {
        for tower in ["text_config", "vision_config"] {
            let config = all[tower].as_object_mut().unwrap();
            config.retain(|_, value| *value != json!("quick_gelu") && *value != json!(1e-5));
        }
        all["text_config_dict"] = Value::Null;
        all["of_tomorrow"] = json!(3);
    });
    assert_eq!(seen(&copy), plain);
    // SD's own text encoder says 2 for the end of a text, which transformers reads as `the
    // largest`.
    for (field, value) in [("hidden_act", json!("relu")), ("model_type", json!("siglip"))] {
        let copy = judge().json("config.json", |all| match field {
            "model_type" => all[field] = value.clone(),
            _ => all["vision_config"][field] = value.clone(),
        });
        refused(&copy, &[field]);
    }
}

/// `pytorch_model.bin` alone, as older repositories have it.
#[test]
fn a_judge_in_a_bin_file_is_the_same() {
    let plain = judge();
    let copy = judge();
    let file = copy.path.join("model.safetensors");
    save_torch(&copy.path.join("pytorch_model.bin"), &[], &tensors(&file)).unwrap();
    fs_err::remove_file(&file).unwrap();
    assert_eq!(
        Weights::open(&copy.path.join("pytorch_model.bin")).unwrap().names().count(),
        tensors(&plain.path.join("model.safetensors")).len()
    );
    assert_eq!(seen(&copy), seen(&plain));
    let folder = pictures();
    let (one, _) = judged(&folder.path, &["--forget", "style:Mosaic"]);
    let (two, _) =
        judged(&folder.path, &["--forget", "style:Mosaic", "--judge", copy.path.to_str().unwrap()]);
    assert_eq!(one["judge"]["hash"], two["judge"]["hash"]);
    assert_eq!(one["scores"], two["scores"]);
}

/// A judge whose numbers are not finite says nothing of anything.
#[test]
fn a_spoilt_judge_is_refused() {
    let name = "visual_projection.weight";
    let copy = judge().weights(
        "model.safetensors",
        super::tools::with(name, |all| drop(all.get(0).fill_(f64::NAN))),
    );
    let folder = pictures();
    for engine in ["candle", "libtorch"] {
        let option = ["--judge", copy.path.to_str().unwrap(), "--engine", engine];
        has(&fails(&mut evaluate(&folder.path, &option), 1), &[name, "NaN or infinite"]);
    }
}

/// One name alone: a judge can say nothing else of any picture.
#[test]
fn what_cannot_be_told_apart_is_not_scored() {
    for (option, target, files) in [
        (["--styles", "Mosaic"], "style:Mosaic", "Woodcut"),
        (["--objects", "Cat"], "object:Cat", "Boat"),
    ] {
        let folder = pictures();
        for entry in fs_err::read_dir(&folder.path).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains(files) {
                fs_err::remove_file(path).unwrap();
            }
        }
        let text =
            fails(&mut evaluate(&folder.path, &[&option[..], &["--forget", target]].concat()), 1);
        has(&text, &[&target[target.len() - 3..], "in every picture"]);
    }
}
