//! Indexes of shards, folders, and files for a base.

use super::cases::{Case, merge, model, shards};
use super::maker::Maker;

/// A module in CompVis' words and one in kohya's.
const CROSS_ATTENTION: &str = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2";
const SELF_ATTENTION: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1";

/// Indexes that lead elsewhere.
pub(crate) fn indexes(make: &Maker) -> Vec<Case> {
    let index = |name: &str, text: &str| make.bytes(name, text.as_bytes());
    let entry = |shard: &str| format!(r#"{{"weight_map": {{"w": "{shard}"}}}}"#);
    make.tensors("1.safetensors", &[("v", &[2])]);
    vec![
        (
            "an index that leaves its \
            folder",
            index("i1.json", &entry("../1.safetensors")),
            shards,
            "beside",
        ),
        ("an absolute path", index("i2.json", &entry("/etc/passwd")), shards, "beside"),
        ("an index of itself", index("i3.json", &entry("i3.json")), shards, "beside"),
        ("an index of indexes", index("i4.json", &entry("i1.json")), shards, "beside"),
        ("a hidden folder", index("i5.json", &entry("a\\u0000.safetensors")), shards, "NUL byte"),
        (
            "a shard that is not \
            there",
            index("i6.json", &entry("2.safetensors")),
            shards,
            "2.safetensors",
        ),
        (
            "a shard without the tensor",
            index("i7.json", &entry("1.safetensors")),
            shards,
            "`w` is \
            not in",
        ),
        (
            "an index of numbers",
            index("i8.json", r#"{"weight_map": [1, 2]}"#),
            shards,
            "cannot be \
            followed",
        ),
    ]
}

/// Folders and single files that are no Stable Diffusion, or not all of one.
pub(crate) fn models(make: &Maker) -> Vec<Case> {
    let folder = |name: &str, files: &[(&str, &str)]| {
        for (file, text) in files {
            make.bytes(&format!("{name}/{file}"), text.as_bytes());
        }
        make.0.join(name)
    };
    let sd = r#"{"_class_name": "StableDiffusionPipeline"}"#;
    vec![
        (
            "a pipeline of another kind",
            folder("flux", &[("model_index.json", r#"{"_class_name": "FluxPipeline"}"#)]),
            model,
            "FluxPipeline",
        ),
        (
            "a folder without weights",
            folder("bare", &[("model_index.json", sd)]),
            model,
            "cannot \
            be read",
        ),
        (
            "a model_index that is none",
            folder("index", &[("model_index.json", "[")]),
            model,
            "model_index.json",
        ),
        (
            "a single file without a \
            UNet",
            make.tensors("single.safetensors", &[("a", &[1])]),
            model,
            "--edit",
        ),
        (
            "a single file without an autoencoder",
            make.tensors(
                "vae.safetensors",
                &[
                    ("model.diffusion_model.input_blocks.0.0.weight", &[4, 4, 3, 3]),
                    ("cond_stage_model.transformer.text_model.x", &[1]),
                ],
            ),
            model,
            "autoencoder",
        ),
        (
            "SDXL's text encoder",
            make.tensors(
                "wide.safetensors",
                &[
                    (&format!("{CROSS_ATTENTION}.to_k.weight"), &[320, 2048]),
                    ("first_stage_model.quant_conv.weight", &[1, 1, 1, 1]),
                    ("cond_stage_model.transformer.text_model.x", &[1]),
                ],
            ),
            model,
            "2048",
        ),
        (
            "joined queries that cannot be divided",
            make.tensors(
                "joined.safetensors",
                &[
                    ("model.diffusion_model.input_blocks.0.0.weight", &[1]),
                    ("first_stage_model.quant_conv.weight", &[1]),
                    ("cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight", &[4, 2]),
                ],
            ),
            model,
            "in_proj",
        ),
    ]
}

/// Adapters and edits that do not fit the base.
pub(crate) fn adapters(make: &Maker) -> Vec<Case> {
    vec![
        (
            "half a LoRA",
            make.tensors(
                "half.safetensors",
                &[(&format!("{SELF_ATTENTION}_to_q.lora_up.weight"), &[4, 2])],
            ),
            merge,
            "one of its two",
        ),
        (
            "a LoRA of another model",
            make.tensors(
                "sdxl.safetensors",
                &[
                    ("lora_unet_no_such.lora_up.weight", &[4, 2]),
                    ("lora_unet_no_such.lora_down.weight", &[2, 4]),
                ],
            ),
            merge,
            "SDXL",
        ),
        (
            "a LoRA of another shape",
            make.tensors(
                "lora.safetensors",
                &[
                    ("lora_unet_conv_in.lora_up.weight", &[4, 2]),
                    ("lora_unet_conv_in.lora_down.weight", &[2, 4]),
                ],
            ),
            merge,
            "conv_in",
        ),
        (
            "LoHa",
            make.tensors("loha.safetensors", &[("lora_unet_conv_in.hada_w1_a", &[4, 2])]),
            merge,
            "LoHa",
        ),
        (
            "an edit of a base in letters",
            make.edit("edits/style-Mosaic-salun.safetensors", &format!("a{}", "\u{e9}".repeat(8))),
            merge,
            "the edit was made for",
        ),
        (
            "nothing of the base",
            make.tensors("none.safetensors", &[("foo", &[4])]),
            merge,
            "the base \
            has",
        ),
        (
            "another shape than the base",
            make.tensors("shaped.safetensors", &[("conv_in.bias", &[4])]),
            merge,
            "conv_in.bias",
        ),
    ]
}
