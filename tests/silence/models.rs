//! Folders of diffusers: configurations, numbers that are not finite, guidance.

use std::path::Path;

use serde_json::{Value, json};
use unsee::pictures::Picture;
use unsee::torch::{Kind, Tensor};

use super::tools::{Copy, PROMPT, draw, fails, has, shipped, unsee, with};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

fn miniature() -> Copy {
    Copy::of("miniature")
}

fn first(tensor: &mut Tensor, value: f64) {
    let _ = tensor.flatten(0, -1).get(0).fill_(value);
}

/// A number that is not finite is found when the file is read, and its tensor named.
#[test]
fn numbers_that_are_not_finite_are_named() {
    for (file, name, value) in [
        (UNET, "conv_in.weight", f64::NAN),
        ("vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias", f64::INFINITY),
        ("text_encoder/model.safetensors", "text_model.final_layer_norm.weight", f64::NEG_INFINITY),
    ] {
        let text =
            miniature().weights(file, with(name, |tensor| first(tensor, value))).refused(&[]);
        has(&text, &[name, "NaN or infinite"]);
    }
}

/// Sound weights can overflow while they draw: then there is no picture, and it is said of which.
#[test]
fn a_picture_of_infinities_is_not_drawn() {
    let large = |tensor: &mut Tensor| *tensor = tensor.to_kind(Kind::Float) * 1e37;
    let text = miniature().weights(UNET, with("conv_out.weight", large)).refused(&["--seeds", "7"]);
    has(&text, &[PROMPT, "seed 7", "step", "NaN or infinite"]);
    let vae = "vae/diffusion_pytorch_model.safetensors";
    let text = miniature()
        .weights(vae, |all| {
            with("decoder.conv_norm_out.weight", large)(all);
            with("decoder.conv_out.weight", large)(all);
        })
        .refused(&[]);
    has(&text, &[PROMPT, "seed 0", "NaN or infinite"]);
}

/// As diffusers: guided above 1 alone.
#[test]
fn guidance_up_to_one_is_the_prompt_alone() {
    let drawn = |guidance: &str| {
        draw(&shipped("miniature"), &["--guidance", guidance]).unwrap().picture.rgb
    };
    let plain = drawn("1");
    assert!(plain == drawn("0") && plain == drawn("0.5"));
    assert!(plain != drawn("1.01") && plain != drawn("2"));
    let with_another_prompt = |prompt: &str| {
        let out = tempfile::tempdir().unwrap();
        let mut command = unsee();
        command
            .args(["generate", prompt, "--steps", "2", "--guidance", "0", "--model"])
            .arg(shipped("miniature"));
        super::tools::done(command.arg("--out").arg(out.path().join("o")));
        unsee::pictures::Picture::open(&out.path().join("o/0_0.png")).unwrap().rgb
    };
    assert!(plain != with_another_prompt("A Dog image in Woodcut style."));
    for wrong in ["inf", "nan", "-1", "-inf"] {
        has(
            &fails(unsee().args(["generate", "x", &format!("--guidance={wrong}")]), 2),
            &["guidance"],
        );
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("list.csv");
        fs_err::write(&csv, format!("prompt,evaluation_guidance\nx,2\nx,{wrong}\n")).unwrap();
        let mut command = unsee();
        command.arg("generate").arg("--csv").arg(&csv).arg("--out").arg(folder.path().join("out"));
        has(&fails(&mut command, 1), &["line 3", "evaluation_guidance", wrong]);
        assert!(!folder.path().join("out").exists());
    }
}

/// A scheduler's class that is not built is never drawn as another one.
#[test]
fn schedulers_that_are_not_built_are_refused_and_can_be_replaced() {
    for class in [
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
        "LCMScheduler",
        "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "DPMSolverSinglestepScheduler",
    ] {
        let model = miniature().field(SCHEDULER, "_class_name", json!(class));
        let model = model.json("model_index.json", |index| index["scheduler"][1] = json!(class));
        has(&model.refused(&[]), &[class, "DDIMScheduler", "EulerDiscreteScheduler", "--sampler"]);
        let drawn = model.draw(&["--sampler", "ddim"]).unwrap();
        assert_eq!(drawn.picture.rgb, draw(&shipped("miniature"), &[]).unwrap().picture.rgb);
    }
    let flow =
        miniature().field(SCHEDULER, "_class_name", json!("FlowMatchEulerDiscreteScheduler"));
    let flow = flow.json("model_index.json", |index| {
        index["scheduler"][1] = json!("FlowMatchEulerDiscreteScheduler");
    });
    has(&flow.refused(&["--sampler", "ddim"]), &["FlowMatchEulerDiscreteScheduler"]);
}

/// What `model_index.json` says is what diffusers makes, whatever the scheduler's own file says.
#[test]
fn two_names_for_one_scheduler_are_said() {
    let model = miniature()
        .json("model_index.json", |index| index["scheduler"][1] = json!("PNDMScheduler"));
    let model = model.field(SCHEDULER, "skip_prk_steps", json!(true));
    let drawn = model.draw(&[]).unwrap();
    has(&drawn.said, &["PNDMScheduler", "DDIMScheduler"]);
    assert_eq!(
        drawn.picture.rgb,
        draw(&shipped("miniature"), &["--sampler", "pndm"]).unwrap().picture.rgb
    );
}

/// As diffusers' pipeline, which forces both for latents.
#[test]
fn clipping_and_offset_are_forced_and_said() {
    let plain = draw(&shipped("miniature"), &[]).unwrap();
    for clip in [json!(true), Value::Null] {
        let model = miniature().json(SCHEDULER, |all| match &clip {
            Value::Null => drop(all.as_object_mut().unwrap().remove("clip_sample")),
            clip => all["clip_sample"] = clip.clone(),
        });
        let drawn = model.draw(&[]).unwrap();
        assert_eq!(drawn.picture.rgb, plain.picture.rgb);
        has(&drawn.said, &["clip_sample"]);
        has(&drawn.run["remarks"].to_string(), &["clip_sample"]);
    }
    let leading = |offset: i64| {
        let model = miniature().field(SCHEDULER, "timestep_spacing", json!("leading"));
        let model = model.field(SCHEDULER, "rescale_betas_zero_snr", json!(false));
        model.field(SCHEDULER, "steps_offset", json!(offset)).draw(&[]).unwrap()
    };
    let (none, one) = (leading(0), leading(1));
    assert_eq!(none.picture.rgb, one.picture.rgb);
    has(&none.said, &["steps_offset"]);
    assert!(!one.said.contains("steps_offset"), "{}", one.said);
}

/// A schedule that is given number by number is the schedule.
#[test]
fn betas_one_by_one_are_honoured() {
    let root =
        |n: f64| (0.00085_f64.sqrt() + n / 999.0 * (0.012_f64.sqrt() - 0.00085_f64.sqrt())).powi(2);
    let usual: Vec<f64> = (0..1000).map(|n| root(f64::from(n))).collect();
    let half: Vec<f64> = usual.iter().map(|beta| beta / 2.0).collect();
    let drawn = |betas: &[f64]| {
        let model = miniature().field(SCHEDULER, "trained_betas", json!(betas));
        model
            .field(SCHEDULER, "rescale_betas_zero_snr", json!(false))
            .draw(&[])
            .unwrap()
            .picture
            .rgb
    };
    let plain = miniature()
        .field(SCHEDULER, "rescale_betas_zero_snr", json!(false))
        .draw(&[])
        .unwrap()
        .picture;
    let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(apart(&drawn(&usual), &plain.rgb) <= 1);
    assert!(apart(&drawn(&half), &plain.rgb) > 8);
    let short = miniature().field(SCHEDULER, "trained_betas", json!([0.1, 0.2]));
    has(&short.refused(&[]), &["trained_betas", "1000"]);
}

/// Every field that would move diffusers' picture and moves nothing here is refused by its name.
#[test]
fn fields_of_which_nothing_is_built_are_refused_by_name() {
    for (file, field, value) in [
        (SCHEDULER, "prediction_type", json!("sample")),
        (SCHEDULER, "thresholding", json!(true)),
        (SCHEDULER, "beta_schedule", json!("sigmoid")),
        (SCHEDULER, "timestep_spacing", json!("uneven")),
        ("unet/config.json", "time_cond_proj_dim", json!(256)),
        ("unet/config.json", "class_embed_type", json!("timestep")),
        ("unet/config.json", "addition_embed_type", json!("text_time")),
        ("unet/config.json", "num_class_embeds", json!(3)),
        ("unet/config.json", "center_input_sample", json!(true)),
        ("unet/config.json", "mid_block_type", Value::Null),
        ("unet/config.json", "in_channels", json!(9)),
        ("unet/config.json", "in_channels", json!(8)),
        ("unet/config.json", "out_channels", json!(8)),
        ("unet/config.json", "dual_cross_attention", json!(true)),
        ("unet/config.json", "resnet_time_scale_shift", json!("scale_shift")),
        ("unet/config.json", "encoder_hid_dim", json!(64)),
        ("unet/config.json", "only_cross_attention", json!(true)),
        ("vae/config.json", "use_quant_conv", json!(false)),
        ("vae/config.json", "use_post_quant_conv", json!(false)),
        ("vae/config.json", "mid_block_add_attention", json!(false)),
        ("vae/config.json", "shift_factor", json!(0.1)),
        ("vae/config.json", "latents_mean", json!([0.1, 0.1, 0.1, 0.1])),
        ("text_encoder/config.json", "hidden_act", json!("swish")),
        ("model_index.json", "_class_name", json!("StableDiffusionXLPipeline")),
        ("model_index.json", "_class_name", json!("StableDiffusionInpaintPipeline")),
        ("model_index.json", "_class_name", json!("StableDiffusionInstructPix2PixPipeline")),
        ("model_index.json", "_class_name", json!("StableDiffusionDepth2ImgPipeline")),
        (
            "model_index.json",
            "text_encoder_2",
            json!(["transformers", "CLIPTextModelWithProjection"]),
        ),
        ("model_index.json", "depth_estimator", json!(["transformers", "DPTForDepthEstimation"])),
    ] {
        has(&miniature().field(file, field, value).refused(&[]), &[field]);
    }
}

/// A field that nobody has heard of, a tensor that nothing uses: once on stderr, and in `run.json`.
#[test]
fn what_is_ignored_is_said() {
    let plain = draw(&shipped("miniature"), &[]).unwrap();
    assert!(!plain.said.contains("ignored"), "{}", plain.said);
    for file in [
        SCHEDULER,
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "model_index.json",
    ] {
        let drawn = miniature().field(file, "of_tomorrow", json!(1)).draw(&[]).unwrap();
        assert_eq!(drawn.said.matches("of_tomorrow").count(), 1, "{}", drawn.said);
        has(&drawn.said, &[file, "not known"]);
        has(&drawn.run["remarks"].to_string(), &["of_tomorrow"]);
        assert_eq!(drawn.picture.rgb, plain.picture.rgb);
    }
    for file in [UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
    {
        let model = miniature().weights(file, |all| {
            all.push(("add_embedding.weight".to_owned(), Tensor::from_slice(&[1_f32])));
        });
        let drawn = model.draw(&[]);
        let said = drawn.map_or_else(|refused| refused, |drawn| drawn.said);
        has(&said, &["add_embedding.weight"]);
    }
}

/// What a configuration does not say has the Python class' default.
#[test]
fn configurations_may_state_what_differs_alone() {
    let plain = draw(&shipped("miniature"), &[]).unwrap();
    let model = miniature()
        .json("unet/config.json", |all| {
            for usual in [
                "norm_num_groups",
                "norm_eps",
                "use_linear_projection",
                "flip_sin_to_cos",
                "freq_shift",
                "act_fn",
                "in_channels",
                "out_channels",
            ] {
                all.as_object_mut().unwrap().remove(usual);
            }
        })
        .json(SCHEDULER, |all| {
            for usual in ["num_train_timesteps", "set_alpha_to_one", "steps_offset"] {
                all.as_object_mut().unwrap().remove(usual);
            }
        });
    assert_eq!(model.draw(&[]).unwrap().picture.rgb, plain.picture.rgb);
}

/// Positions are counted, whatever the file says of them; where it is wrong it is said.
#[test]
fn position_ids_are_no_part_of_a_model() {
    const FILE: &str = "text_encoder/model.safetensors";
    const NAME: &str = "text_model.embeddings.position_ids";
    let plain = draw(&shipped("miniature"), &[]).unwrap();
    let count = 32;
    let put = |ids: Tensor| {
        miniature().weights(FILE, |all| {
            all.retain(|(name, _)| name != NAME);
            all.push((NAME.to_owned(), ids));
        })
    };
    let right: Vec<i64> = (0..count).collect();
    let floats: Vec<f32> = right.iter().map(|n| *n as f32).collect();
    let wrong: Vec<i64> = right.iter().map(|n| n * 2 % count).collect();
    for (ids, is_wrong) in [
        (Tensor::from_slice(&right).view([1, -1]), false),
        (Tensor::from_slice(&floats).view([1, -1]), false),
        (Tensor::from_slice(&wrong).view([1, -1]), true),
    ] {
        let drawn = put(ids).draw(&[]).unwrap();
        assert_eq!(drawn.picture.rgb, plain.picture.rgb);
        assert_eq!(drawn.run["hashes"]["model"], plain.run["hashes"]["model"]);
        assert_eq!(drawn.said.contains("position_ids"), is_wrong, "{}", drawn.said);
    }
    let whole = put(Tensor::from_slice(&right).view([1, -1]));
    let edit = whole.path.join(FILE);
    let drawn = draw(&shipped("miniature"), &["--edit", edit.to_str().unwrap()]).unwrap();
    assert_eq!(drawn.picture.rgb, plain.picture.rgb);
}

/// A word of `added_tokens.json` or of `added_tokens_decoder` is one token.
#[test]
fn added_tokens_are_read() {
    const FILE: &str = "text_encoder/model.safetensors";
    const TABLE: &str = "text_model.embeddings.token_embedding.weight";
    let plain = miniature();
    let vocabulary = super::tools::json(&plain.path.join("tokenizer/vocab.json"));
    let cat = vocabulary["cat</w>"].as_i64().unwrap();
    let size = vocabulary.as_object().unwrap().len() as i64;
    // The new word has the vector of `cat`: the picture must be the same.
    let grown = || {
        miniature()
            .weights(
                FILE,
                with(TABLE, |table| *table = Tensor::cat(&[&*table, &table.narrow(0, cat, 1)], 0)),
            )
            .field("text_encoder/config.json", "vocab_size", json!(size + 1))
    };
    let prompted = |model: &Copy, prompt: &str| {
        let out = model.beside(&format!("out-{}", prompt.len()));
        let mut command = unsee();
        command
            .args(["generate", prompt, "--steps", "2", "--model"])
            .arg(&model.path)
            .arg("--out")
            .arg(&out);
        super::tools::done(&mut command);
        unsee::pictures::Picture::open(&out.join("0_0.png")).unwrap().rgb
    };
    let wanted = prompted(&plain, "A cat image in Mosaic style.");
    let one = grown().json("tokenizer/added_tokens.json", |all| all["<pet>"] = json!(size));
    assert_eq!(prompted(&one, "A <pet> image in Mosaic style."), wanted);
    let other = grown().json("tokenizer/tokenizer_config.json", |all| {
        all["added_tokens_decoder"][size.to_string()] = json!({
            "content": "<pet>", "lstrip": false, "normalized": false, "rstrip": false,
            "single_word": false, "special": false,
        });
    });
    assert_eq!(prompted(&other, "A <pet> image in Mosaic style."), wanted);
    assert_ne!(prompted(&grown(), "A <pet> image in Mosaic style."), wanted);
}

/// A size that the UNet cannot halve evenly is drawn as diffusers draws it: what is cut off is not
/// seen.
#[test]
fn odd_sizes_are_drawn_as_diffusers_draws_them() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/odd_size.png");
    let drawn = draw(&shipped("miniature"), &["--size", "88x72"]).unwrap().picture;
    let wanted = Picture::open(&golden).unwrap();
    assert_eq!((drawn.width, drawn.height), (88, 72));
    let apart = drawn.rgb.iter().zip(&wanted.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(apart <= 2, "{apart}/255");
}

/// What fills prompts, as transformers reads it: Stable Diffusion 2's folders say it in
/// `special_tokens_map.json` alone.
#[test]
fn padding_is_read_where_transformers_reads_it() {
    const MAP: &str = "tokenizer/special_tokens_map.json";
    const CONFIG: &str = "tokenizer/tokenizer_config.json";
    let plain = draw(&shipped("miniature"), &[]).unwrap().picture.rgb;
    let both =
        miniature().field(MAP, "pad_token", json!("!")).field(CONFIG, "pad_token", json!("!"));
    let both = both.draw(&[]).unwrap().picture.rgb;
    assert_ne!(both, plain);
    assert_eq!(
        miniature().field(MAP, "pad_token", json!("!")).draw(&[]).unwrap().picture.rgb,
        both
    );
    let listed = miniature()
        .field(MAP, "pad_token", json!("!"))
        .json(CONFIG, |all| all["added_tokens_decoder"] = json!({}));
    let drawn = listed.draw(&[]).unwrap();
    assert_eq!(drawn.picture.rgb, plain);
    has(&drawn.said, &["pad_token", "special_tokens_map.json"]);
    has(
        &miniature().field(MAP, "additional_special_tokens", json!(["<pet>"])).refused(&[]),
        &["<pet>", "added_tokens.json"],
    );
}

/// Files whose own text would be read otherwise by their library.
#[test]
fn what_is_not_said_has_the_class_default() {
    // diffusers' PNDM draws with Runge-Kutta steps unless told otherwise.
    let model = miniature()
        .field(SCHEDULER, "_class_name", json!("PNDMScheduler"))
        .json("model_index.json", |index| index["scheduler"][1] = json!("PNDMScheduler"));
    has(&model.refused(&[]), &["skip_prk_steps", "--sampler"]);
    let size = miniature()
        .json("unet/config.json", |all| drop(all.as_object_mut().unwrap().remove("sample_size")));
    has(&size.draw(&["--size", "64x64"]).unwrap().said, &["sample_size", "64 is assumed"]);
}
