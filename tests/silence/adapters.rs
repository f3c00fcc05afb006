//! Low-rank adapters in all dialects, words, edits.

use serde_json::json;
use unsee::torch::{Kind, Rng, Tensor};
use unsee::weights::save;

use super::tools::{Copy, PROMPT, done, draw, fails, has, shipped, tensors, unsee, with};

const MODULE: &str = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v";
const TEXT: &str = "encoder.layers.1.self_attn.q_proj";
const RANK: i64 = 4;

/// A half's name, of a module, whether that is the text encoder's, and whether it is the upper one.
type Dialect = fn(&str, bool, bool) -> String;

/// An adapter of two modules, one of each network; `name(module, is_text, is_up)` is its dialect.
fn adapter(name: impl Fn(&str, bool, bool) -> String) -> Vec<(String, Tensor)> {
    let mut rng = Rng::for_step(3, "adapter", 0);
    let mut all = Vec::new();
    for (module, text, (into, out)) in [(MODULE, false, (128, 192)), (TEXT, true, (128, 128))] {
        let mut half = |up: bool, shape: [i64; 2]| {
            let numbers = rng.normal(&shape) * 0.3;
            all.push((name(module, text, up), numbers));
        };
        half(false, [RANK, into]);
        half(true, [out, RANK]);
    }
    all
}

fn kohya(module: &str, text: bool, up: bool) -> String {
    let (network, inner) = if text { ("te", "text_model.") } else { ("unet", "") };
    let half = if up { "up" } else { "down" };
    format!("lora_{network}_{}.lora_{half}.weight", format!("{inner}{module}").replace('.', "_"))
}

fn peft(module: &str, text: bool, up: bool) -> String {
    let (network, inner) = if text { ("text_encoder", "text_model.") } else { ("unet", "") };
    format!("{network}.{inner}{module}.lora_{}.weight", if up { "B" } else { "A" })
}

fn drawn_with(file: &std::path::Path) -> Result<super::tools::Drawn, String> {
    draw(&shipped("miniature"), &["--edit", file.to_str().unwrap()])
}

fn saved(all: &[(String, Tensor)], about: &[(&str, String)]) -> Copy {
    let file = Copy::empty("lora.safetensors");
    save(&file.path, all, about).unwrap();
    file
}

/// The same adapter draws the same picture in whichever dialect it is saved.
#[test]
fn all_dialects_draw_the_same() {
    let plain = draw(&shipped("miniature"), &[]).unwrap().picture.rgb;
    let wanted = drawn_with(&saved(&adapter(kohya), &[]).path).unwrap().picture.rgb;
    assert_ne!(wanted, plain);
    let dialects: [(&str, Dialect); 4] = [
        ("PEFT's, of diffusers", peft),
        ("with an adapter's name", |module, text, up| {
            peft(module, text, up).replace(".weight", ".default_0.weight")
        }),
        ("transformers 5, PEFT's", |module, text, up| {
            peft(module, text, up).replace("text_model.", "")
        }),
        ("transformers 5, kohya's", |module, text, up| {
            kohya(module, text, up).replace("text_model_", "")
        }),
    ];
    for (dialect, name) in dialects {
        let drawn = drawn_with(&saved(&adapter(name), &[]).path)
            .unwrap_or_else(|text| panic!("{dialect}: {text}"));
        assert_eq!(drawn.picture.rgb, wanted, "{dialect}");
    }
}

/// PEFT's own folder: names without a network, and `adapter_config.json`.
#[test]
fn peft_s_folders_are_read_at_their_strength() {
    let of_unet: Vec<_> = adapter(kohya).into_iter().take(2).collect();
    let wanted = |alpha: f64| {
        let mut all: Vec<_> =
            of_unet.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
        let module = all[0].0.replace(".lora_down.weight", ".alpha");
        all.push((module, Tensor::from(alpha)));
        drawn_with(&saved(&all, &[]).path).unwrap().picture.rgb
    };
    let folder = |settings: serde_json::Value| {
        let copy = Copy::empty("adapter");
        fs_err::create_dir(&copy.path).unwrap();
        let all: Vec<_> = adapter(|module, _, up| {
            format!("base_model.model.{module}.lora_{}.weight", if up { "B" } else { "A" })
        })
        .into_iter()
        .take(2)
        .collect();
        save(&copy.path.join("adapter_model.safetensors"), &all, &[]).unwrap();
        fs_err::write(copy.path.join("adapter_config.json"), settings.to_string()).unwrap();
        copy
    };
    let usual = |more: &[(&str, serde_json::Value)]| {
        let mut all =
            json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["to_v"]});
        for (field, value) in more {
            all[field] = value.clone();
        }
        folder(all)
    };
    let picture = |copy: &Copy| drawn_with(&copy.path).unwrap().picture.rgb;
    // `alpha / rank`; with `use_rslora` `alpha / √rank`, which is twice as much at a rank of 4.
    assert_eq!(picture(&usual(&[])), wanted(8.0));
    assert_eq!(picture(&usual(&[("use_rslora", json!(true))])), wanted(16.0));
    assert_eq!(picture(&usual(&[("alpha_pattern", json!({MODULE: 2}))])), wanted(2.0));
    for (field, value) in [
        ("use_dora", json!(true)),
        ("peft_type", json!("LOHA")),
        ("modules_to_save", json!(["conv_in"])),
        ("bias", json!("all")),
        ("fan_in_fan_out", json!(true)),
    ] {
        let text = drawn_with(&usual(&[(field, value)]).path)
            .err()
            .unwrap_or_else(|| panic!("{field} was drawn"));
        has(&text, &[field]);
    }
    let said = drawn_with(&usual(&[("of_tomorrow", json!(1))]).path).unwrap().said;
    has(&said, &["of_tomorrow", "adapter_config.json"]);
}

/// What diffusers writes beside an adapter in its file's metadata.
#[test]
fn metadata_of_diffusers_is_read() {
    let about = |rslora: bool| {
        let settings = json!({"unet.r": RANK, "unet.lora_alpha": 8, "unet.use_rslora": rslora,
            "text_encoder.r": RANK, "text_encoder.lora_alpha": 8,
            "text_encoder.use_rslora": rslora});
        saved(&adapter(peft), &[("lora_adapter_metadata", settings.to_string())])
    };
    let with_alpha = |alpha: f64| {
        let mut all = adapter(kohya);
        let modules: Vec<_> = all
            .iter()
            .filter_map(|(name, _)| name.strip_suffix(".lora_down.weight"))
            .map(str::to_owned)
            .collect();
        all.extend(
            modules.into_iter().map(|module| (format!("{module}.alpha"), Tensor::from(alpha))),
        );
        drawn_with(&saved(&all, &[]).path).unwrap().picture.rgb
    };
    assert_eq!(drawn_with(&about(false).path).unwrap().picture.rgb, with_alpha(8.0));
    assert_eq!(drawn_with(&about(true).path).unwrap().picture.rgb, with_alpha(16.0));
}

/// Factors with numbers instead of names, in the order in which PyTorch went through the modules in
/// 2022.
#[test]
fn numbered_factors_find_their_modules() {
    let base: Vec<_> =
        tensors(&shipped("miniature").join("unet/diffusion_pytorch_model.safetensors"));
    let mut blocks: Vec<&str> =
        base.iter().filter_map(|(name, _)| name.strip_suffix(".attn1.to_q.weight")).collect();
    let position = |block: &str| {
        let part = ["down_blocks", "up_blocks", "mid_block"]
            .iter()
            .position(|part| block.starts_with(part))
            .unwrap();
        let numbers: Vec<u32> = block.split('.').filter_map(|part| part.parse().ok()).collect();
        (part, numbers)
    };
    blocks.sort_by_key(|block| position(block));
    let modules: Vec<String> = blocks
        .iter()
        .flat_map(|block| {
            let of = |attention: &str| {
                ["to_q", "to_k", "to_v", "to_out.0"]
                    .map(|part| format!("{block}.{attention}.{part}"))
            };
            of("attn1").into_iter().chain([format!("{block}.ff.net.0.proj")]).chain(of("attn2"))
        })
        .collect();
    let mut rng = Rng::for_step(5, "adapter", 0);
    let (mut numbered, mut named) = (Vec::new(), Vec::new());
    for (n, module) in modules.iter().enumerate() {
        let weight = &base.iter().find(|(name, _)| *name == format!("{module}.weight")).unwrap().1;
        let (out, into) = (weight.size()[0], weight.size()[1]);
        for (up, shape) in [(false, [RANK, into]), (true, [out, RANK])] {
            let numbers = rng.normal(&shape) * 0.1;
            numbered.push((format!("unet:{n}:{}", if up { "up" } else { "down" }), numbers.copy()));
            named.push((kohya(module, false, up), numbers));
        }
    }
    let one = drawn_with(&saved(&numbered, &[]).path).unwrap().picture.rgb;
    assert_eq!(one, drawn_with(&saved(&named, &[]).path).unwrap().picture.rgb);
    numbered.truncate(numbered.len() - 2);
    has(&drawn_with(&saved(&numbered, &[]).path).err().unwrap(), &["architecture"]);
}

/// What is no product of two factors is refused by its kind.
#[test]
fn other_kinds_of_adapters_are_refused_by_kind() {
    let module = kohya(MODULE, false, true).replace(".lora_up.weight", "");
    for (end, kind) in [
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("dora_scale", "DoRA"),
        ("oft_blocks", "OFT"),
        ("lora_mid.weight", "LoCon"),
        ("w_norm", "norm"),
        ("on_input", "IA3"),
        ("diff", "full-difference"),
    ] {
        let mut all = adapter(kohya);
        all.push((format!("{module}.{end}"), Tensor::from_slice(&[1_f32])));
        let text =
            drawn_with(&saved(&all, &[]).path).err().unwrap_or_else(|| panic!("{end} was drawn"));
        has(&text, &[kind]);
        assert!(!text.contains("cut off"), "{text}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let mut all = adapter(kohya);
    let name = all[1].0.clone();
    with(&name, |tensor| drop(tensor.get(0).get(0).fill_(f64::INFINITY)))(&mut all);
    has(&drawn_with(&saved(&all, &[]).path).err().unwrap(), &[&name, "NaN or infinite"]);
    let word = saved(
        &[(
            "emb_params".to_owned(),
            Tensor::full([1, 128], f64::NAN, (Kind::Float, tch::Device::Cpu)),
        )],
        &[],
    );
    let option = format!("pet={}", word.path.display());
    has(
        &draw(&shipped("miniature"), &["--embedding", &option]).err().unwrap(),
        &["NaN or infinite"],
    );
}

/// An edit that changes nothing, parts that nothing takes.
#[test]
fn what_has_no_effect_is_said() {
    let unet = shipped("miniature").join("unet/diffusion_pytorch_model.safetensors");
    let drawn = drawn_with(&unet).unwrap();
    has(&drawn.said, &["0 of them differ", "no effect"]);
    has(&drawn.run["remarks"].to_string(), &["no effect"]);
    let mut all = tensors(&unet);
    all.push(("of_tomorrow.weight".to_owned(), Tensor::from_slice(&[1_f32])));
    has(&drawn_with(&saved(&all, &[]).path).unwrap().said, &["1 others were left"]);
    let lora = saved(&adapter(kohya), &[]);
    let none =
        draw(&shipped("miniature"), &["--edit", &format!("{}@0", lora.path.display())]).unwrap();
    has(&none.said, &["no effect"]);
}

/// A model's folder that draws otherwise than the base, not by its weights alone.
#[test]
fn a_folder_s_configuration_does_not_come_with_its_weights() {
    let folder = Copy::of("miniature").field(
        "scheduler/scheduler_config.json",
        "prediction_type",
        json!("epsilon"),
    );
    let folder = folder
        .field("scheduler/scheduler_config.json", "rescale_betas_zero_snr", json!(false))
        .weights(
            "unet/diffusion_pytorch_model.safetensors",
            with("conv_in.bias", |bias| drop(bias.get(0).fill_(0.5))),
        );
    let said = drawn_with(&folder.path).unwrap().said;
    has(&said, &["scheduler.prediction_type", "not taken"]);
}

/// Learned words: whatever the case, as whole words alone, and never in silence.
#[test]
fn words_are_whole_and_of_any_case() {
    const TABLE: &str = "text_model.embeddings.token_embedding.weight";
    let vocabulary = super::tools::json(&shipped("miniature").join("tokenizer/vocab.json"));
    let all = tensors(&shipped("miniature").join("text_encoder/model.safetensors"));
    let table = &all.iter().find(|(name, _)| name == TABLE).unwrap().1;
    let vector = |word: &str| {
        table.get(vocabulary[word].as_i64().unwrap()).unsqueeze(0).to_kind(Kind::Float)
    };
    let file = saved(&[("emb_params".to_owned(), vector("cat</w>"))], &[]);
    let prompted = |prompt: &str, word: Option<&str>| {
        let out = tempfile::tempdir().unwrap();
        let mut command = unsee();
        command.args(["generate", prompt, "--steps", "2", "--model"]).arg(shipped("miniature"));
        if let Some(word) = word {
            command.args(["--embedding", &format!("{word}={}", file.path.display())]);
        }
        let (_, said) = done(command.arg("--out").arg(out.path().join("o")));
        (unsee::pictures::Picture::open(&out.path().join("o/0_0.png")).unwrap().rgb, said)
    };
    let wanted = prompted("A cat image in Mosaic style.", None).0;
    for prompt in [
        "A EasyNegative image in Mosaic style.",
        "A easynegative image in Mosaic style.",
        "A EASYNEGATIVE image in Mosaic style.",
    ] {
        let (rgb, said) = prompted(prompt, Some("EasyNegative"));
        assert!(rgb == wanted, "{prompt}");
        assert!(!said.contains("no effect"), "{said}");
    }
    // `mosa` is no word of `Mosaic`.
    let (rgb, said) = prompted(PROMPT, Some("mosa"));
    assert!(rgb == prompted(PROMPT, None).0);
    has(&said, &["mosa", "no effect"]);
    let none = fails(
        unsee().args([
            "generate",
            PROMPT,
            "--embedding",
            "x=/nowhere/file.pt",
            "--out",
            "/nowhere/x",
        ]),
        1,
    );
    has(&none, &["/nowhere/file.pt"]);
}

/// Each file's change is added to the others': none undoes what another did.
#[test]
fn files_lie_on_top_of_each_other() {
    let unet = tensors(&shipped("miniature").join("unet/diffusion_pytorch_model.safetensors"));
    let part = |name: &str, by: f64| {
        let all = unet.iter().filter(|(key, _)| key == name);
        saved(
            &all.map(|(key, tensor)| (key.clone(), tensor.to_kind(Kind::Float) * (1.0 + by)))
                .collect::<Vec<_>>(),
            &[],
        )
    };
    let drawn = |files: &[&Copy]| {
        let options: Vec<&str> =
            files.iter().flat_map(|file| ["--edit", file.path.to_str().unwrap()]).collect();
        draw(&shipped("miniature"), &options).unwrap().picture.rgb
    };
    let name = &format!("{MODULE}.weight");
    let (one, two, both) = (part(name, 2.0), part(name, -3.0), part(name, -1.0));
    let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let wanted = drawn(&[&both]);
    assert!(
        apart(&drawn(&[&one, &two]), &wanted) <= 1 && apart(&drawn(&[&two, &one]), &wanted) <= 1
    );
    assert!(apart(&drawn(&[&two]), &wanted) > 1);
    // A LoRA under a part of the same module stays too.
    let lora = saved(&adapter(kohya), &[]);
    assert!(apart(&drawn(&[&lora, &one]), &drawn(&[&one, &lora])) <= 1);
    assert!(apart(&drawn(&[&lora, &one]), &drawn(&[&one])) > 1);
}

/// What a file says of a module twice, or of none, and what it was made for.
#[test]
fn contradictions_in_an_adapter_are_refused_or_said() {
    let twice = saved(&adapter(kohya).into_iter().chain(adapter(peft)).collect::<Vec<_>>(), &[]);
    has(&drawn_with(&twice.path).err().unwrap(), &["twice"]);
    let mut alone = adapter(kohya);
    alone.push(("lora_unet_of_tomorrow.alpha".to_owned(), Tensor::from(1.0)));
    has(
        &drawn_with(&saved(&alone, &[]).path).unwrap().said,
        &["lora_unet_of_tomorrow.alpha", "do nothing"],
    );
    for about in [("modelspec.prediction_type", "epsilon"), ("ss_v_parameterization", "False")] {
        let file = saved(&adapter(kohya), &[(about.0, about.1.to_owned())]);
        has(&drawn_with(&file.path).unwrap().said, &["predicts otherwise"]);
    }
    let mut none = adapter(kohya);
    none.iter_mut()
        .filter(|(name, _)| name.contains("lora_up"))
        .for_each(|(_, tensor)| *tensor = tensor.zeros_like());
    has(&drawn_with(&saved(&none, &[]).path).unwrap().said, &["no effect"]);
    let control =
        saved(&[("controlnet_cond_embedding.conv_in.weight".to_owned(), Tensor::from(1.0))], &[]);
    has(&drawn_with(&control.path).err().unwrap(), &["ControlNet"]);
    // An autoencoder in CompVis' names, with their prefix or not.
    let file = Copy::single_file();
    let vae = |prefix: bool| {
        let all = tensors(&file.path).into_iter().filter_map(|(name, tensor)| {
            let bare = name.strip_prefix("first_stage_model.")?.to_owned();
            let tensor = if bare == "decoder.conv_out.bias" { tensor + 0.3 } else { tensor };
            Some((if prefix { name } else { bare }, tensor))
        });
        drawn_with(&saved(&all.collect::<Vec<_>>(), &[]).path).unwrap()
    };
    let (with, without) = (vae(true), vae(false));
    assert_eq!(with.picture.rgb, without.picture.rgb);
    has(&with.said, &["1 of them differ"]);
}

/// What a format has no place for is said, and numbers that it does not hold are refused.
#[test]
fn exports_say_what_they_leave_out() {
    let mut all = tensors(&shipped("miniature").join("unet/diffusion_pytorch_model.safetensors"));
    all.retain(|(name, _)| name.starts_with(MODULE));
    let of_unet: Vec<_> = all
        .iter()
        .map(|(name, t)| (format!("unet.{name}"), t.to_kind(Kind::Float) + 0.1))
        .collect();
    let edit = saved(&of_unet, &[]);
    let export = |options: &[&str], file: &Copy| {
        let mut command = unsee();
        command.arg("export").args(options).arg("--edit").arg(&file.path);
        command
    };
    let out = tempfile::tempdir().unwrap();
    let (_, said) = done(export(&["--as", "vae"], &edit).arg(out.path().join("vae")));
    has(&said, &["not of the vae", "not in what is written"]);
    let large: Vec<_> = of_unet.iter().map(|(name, t)| (name.clone(), t * 1e6)).collect();
    let large = saved(&large, &[]);
    let text = fails(
        export(&["--as", "edit", "--dtype", "f16"], &large).arg(out.path().join("e.safetensors")),
        1,
    );
    has(&text, &["too large for Half", "bf16"]);
    assert!(!out.path().join("e.safetensors").exists());
    fails(export(&["--as", "lora", "--rank", "0"], &edit).arg(out.path().join("l")), 2);
    let single = Copy::single_file();
    let names: Vec<String> = tensors(&single.path).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"v_pred".to_owned()) && names.contains(&"ztsnr".to_owned()));
}
