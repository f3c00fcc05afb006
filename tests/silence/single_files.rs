//! Models in one file: averaged weights, what the UNet predicts, how the autoencoder is spelt,
//! parts that are not there.

use std::path::Path;

use unsee::torch::{Kind, Tensor};
use unsee::weights::save;

use serde_json::json;

use super::tools::{Copy, Drawn, draw, has, shipped, tensors, with};

/// The file with its configuration beside, which no single file brings.
fn drawn(file: &Path, options: &[&str]) -> Result<Drawn, String> {
    let config = shipped("miniature");
    draw(file, &[&["--config", config.to_str().unwrap()], options].concat())
}

/// A way of kohya's of saving: averaged weights that are older than the others. As diffusers, the
/// others are taken.
#[test]
fn two_unets_in_one_file_are_said_and_can_be_chosen() {
    let file = Copy::single_file().weights("", |all| {
        let averaged: Vec<_> = all
            .iter()
            .filter_map(|(name, tensor)| {
                Some((name.strip_prefix("model.diffusion_model.")?, tensor))
            })
            .map(|(name, tensor)| {
                (
                    format!("model_ema.diffusion_model{}", name.replace('.', "")),
                    tensor.to_kind(Kind::Float) * 0.9,
                )
            })
            .collect();
        all.extend(averaged);
    });
    let plain = draw(&shipped("miniature"), &[]).unwrap();
    let seen = drawn(&file.path, &[]).unwrap();
    assert_eq!(seen.picture.rgb, plain.picture.rgb);
    has(&seen.said, &["two UNets", "--ema yes", "%"]);
    has(&seen.run["remarks"].to_string(), &["two UNets"]);
    let averaged = drawn(&file.path, &["--ema", "yes"]).unwrap();
    assert_ne!(averaged.picture.rgb, plain.picture.rgb);
    has(&averaged.said, &["two UNets", "--ema no"]);
    // The same as an edit.
    let laid = |ema: &str| {
        draw(&shipped("miniature"), &["--edit", file.path.to_str().unwrap(), "--ema", ema]).unwrap()
    };
    assert_eq!(laid("auto").picture.rgb, plain.picture.rgb);
    assert_eq!(laid("yes").picture.rgb, averaged.picture.rgb);
    has(&laid("auto").said, &["two UNets"]);
}

/// A miniature whose last timestep has signal, so that both predictions draw.
fn with_signal() -> Copy {
    let model = Copy::of("miniature");
    model.field("scheduler/scheduler_config.json", "rescale_betas_zero_snr", json!(false))
}

/// All of the places that say so, before the configuration, and what the user says before them.
#[test]
fn a_file_says_what_its_unet_predicts() {
    let config = with_signal();
    let config =
        config.field("scheduler/scheduler_config.json", "prediction_type", json!("epsilon"));
    let taken = |file: &Copy, options: &[&str]| {
        let folder = ["--config", config.path.to_str().unwrap()];
        draw(&file.path, &[&folder, options].concat()).map(|drawn| (drawn.picture.rgb, drawn.said))
    };
    let plain = Copy::single_file();
    let saved = |about: &[(&str, String)], more: Option<&str>| {
        let file = Copy::empty("m.safetensors");
        let mut all = tensors(&plain.path);
        all.retain(|(name, _)| name != "v_pred" && name != "ztsnr");
        all.extend(
            more.map(|name| (name.to_owned(), Tensor::zeros([0], (Kind::Float, tch::Device::Cpu)))),
        );
        save(&file.path, &all, about).unwrap();
        file
    };
    let bare = saved(&[], None);
    let (epsilon, said) = taken(&bare, &[]).unwrap();
    assert!(!said.contains("predict"), "{said}");
    let velocity = taken(&bare, &["--prediction", "v_prediction"]).unwrap().0;
    assert_ne!(epsilon, velocity);
    let (rgb, said) = taken(&saved(&[], Some("v_pred")), &[]).unwrap();
    assert_eq!(rgb, velocity);
    has(&said, &["its tensor v_pred says", "v_prediction", "epsilon"]);
    assert_eq!(
        taken(&saved(&[], Some("v_pred")), &["--prediction", "epsilon"]).unwrap().0,
        epsilon
    );
    let (_, said) = taken(&saved(&[], Some("ztsnr")), &["--prediction", "v_prediction"]).unwrap();
    has(&said, &["zero terminal SNR"]);
    for (word, wanted) in [("v", &velocity), ("epsilon", &epsilon)] {
        let file = saved(&[("modelspec.prediction_type", word.to_owned())], None);
        assert_eq!(&taken(&file, &[]).unwrap().0, wanted, "{word}");
    }
    for (yaml, wanted) in [("    parameterization: \"v\"\n", &velocity), ("", &epsilon)] {
        let head = "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n";
        fs_err::write(bare.path.with_extension("yaml"), format!("{head}{yaml}")).unwrap();
        assert_eq!(&taken(&bare, &[]).unwrap().0, wanted, "{yaml}");
    }
    fs_err::write(bare.path.with_extension("yaml"), "parameterization: x0\n").unwrap();
    has(&taken(&bare, &[]).unwrap_err(), &["parameterization", "x0"]);
    // What `export` writes says so itself.
    let (_, said) = taken(&plain, &[]).unwrap();
    has(&said, &["its tensor v_pred says", "zero terminal SNR"]);
}

/// The autoencoder's attention has been called by four sets of names, and its matrices are saved
/// 2-D or 1×1.
#[test]
fn every_spelling_of_the_autoencoder_is_read() {
    const ATTENTION: [(&str, &str, &str); 5] = [
        ("norm.", "group_norm.", "group_norm."),
        ("q.", "to_q.", "query."),
        ("k.", "to_k.", "key."),
        ("v.", "to_v.", "value."),
        ("proj_out.", "to_out.0.", "proj_attn."),
    ];
    let plain = draw(&shipped("miniature"), &[]).unwrap();
    for newer in [true, false] {
        for square in [true, false] {
            let file = Copy::single_file().weights("", |all| {
                for (name, tensor) in all.iter_mut() {
                    let Some((front, rest)) = name.split_once("mid.attn_1.") else { continue };
                    let (_, new, old) =
                        ATTENTION.into_iter().find(|(key, ..)| rest.starts_with(key)).unwrap();
                    let key =
                        ATTENTION.into_iter().find(|(key, ..)| rest.starts_with(key)).unwrap().0;
                    let other = if newer { new } else { old };
                    let renamed = format!("{front}mid.attn_1.{other}{}", &rest[key.len()..]);
                    if tensor.dim() == 4 && !square {
                        *tensor = tensor.squeeze();
                    }
                    *name = renamed;
                }
            });
            let read = drawn(&file.path, &[]).unwrap();
            assert_eq!(read.picture.rgb, plain.picture.rgb);
            assert_eq!(read.run["hashes"]["model"], plain.run["hashes"]["model"]);
        }
    }
}

/// Networks are shared alone: what is missing is named, and can be brought by a folder.
#[test]
fn parts_that_are_not_there_are_named_and_can_be_brought() {
    let plain = draw(&shipped("miniature"), &[]).unwrap();
    for (prefix, part) in [("first_stage_model.", "vae"), ("cond_stage_model.", "text_encoder")] {
        let file = Copy::single_file()
            .weights("", |all| all.retain(|(name, _)| !name.starts_with(prefix)));
        let text = draw(&file.path, &[]).err().unwrap();
        assert!(!text.contains("cut off"), "{text}");
        has(&text, &["--config"]);
        let brought = drawn(&file.path, &[]).unwrap();
        assert_eq!(brought.picture.rgb, plain.picture.rgb);
        has(&brought.said, &[part]);
    }
}

/// A tensor that belongs to no component is said.
#[test]
fn tensors_that_nothing_uses_are_said() {
    let file = Copy::single_file().weights("", |all| {
        all.push(("of_tomorrow.weight".to_owned(), Tensor::from_slice(&[1_f32])));
    });
    let said = drawn(&file.path, &[]).map_or_else(|refused| refused, |drawn| drawn.said);
    has(&said, &["of_tomorrow.weight"]);
}

/// Whole numbers are no weights: int8 files need scales that are somewhere else.
#[test]
fn quantized_weights_are_refused() {
    let name = "unet/diffusion_pytorch_model.safetensors";
    let model = Copy::of("miniature").weights(
        name,
        with("conv_in.weight", |tensor| *tensor = (&*tensor * 100.0).to_kind(Kind::Int8)),
    );
    has(&model.refused(&[]), &["conv_in.weight", "I8", "quantised"]);
}
