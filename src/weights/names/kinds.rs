//! What a file of weights is, from its tensors' names.

use super::compvis::is_compvis;
use super::lora::{is_lora, split};
use super::lora_numbered::numbered;
use super::stylegan::is_stylegan;
use crate::weights::{Edit, Weights};

/// What a file of weights is, in one phrase.
pub fn describe(file: &Weights) -> String {
    if Edit::is_in(file) {
        describe_edit(file)
    } else if is_lora(file) {
        describe_lora(file)
    } else if is_stylegan(file) {
        describe_stylegan(file)
    } else if is_compvis(file) {
        describe_compvis(file)
    } else if file.contains("emb_params") || any(file, "string_to_param") {
        "an embedding (textual inversion)".to_owned()
    } else {
        describe_component(file)
    }
}

/// Whether a tensor's name contains `part`.
fn any(file: &Weights, part: &str) -> bool {
    file.names().any(|name| name.contains(part))
}

/// How many tensors' names contain `part`.
fn count(file: &Weights, part: &str) -> usize {
    file.names().filter(|name| name.contains(part)).count()
}

fn describe_edit(file: &Weights) -> String {
    let masked = count(file, "#mask");
    let how = if masked > 0 {
        format!(", {masked} of its tensors as mask and values")
    } else {
        String::new()
    };
    format!("an edit that unsee wrote{how}")
}

fn describe_lora(file: &Weights) -> String {
    let ranks: Vec<i64> = file
        .names()
        .filter(|name| {
            split(name).is_some_and(|half| !half.up) || numbered(name).is_some_and(|(_, _, up)| !up)
        })
        .filter_map(|name| file.info(name)?.shape.first().copied())
        .collect();
    let dialect = if file.names().any(|name| numbered(name).is_some()) {
        "cloneofsimo's numbers"
    } else if any(file, ".lora_down.") {
        "kohya's names"
    } else if any(file, ".lora_A.") {
        "PEFT's names"
    } else {
        "diffusers' old names"
    };
    match (ranks.iter().min(), ranks.iter().max()) {
        (Some(low), Some(high)) if low == high => {
            format!("a LoRA in {dialect}, rank {low}, {} modules", ranks.len())
        }
        (Some(low), Some(high)) => {
            format!("a LoRA in {dialect}, ranks {low} to {high}, {} modules", ranks.len())
        }
        _ => "an adapter that is no LoRA".to_owned(),
    }
}

fn describe_stylegan(file: &Weights) -> String {
    let both = any(file, "g_ema.") || any(file, "G_ema.");
    let dialect = if any(file, "synthesis.b4.const") { "NVIDIA's" } else { "rosinality's" };
    let discriminator = if any(file, "final_conv.") || any(file, "b4.out.") {
        " and its discriminator"
    } else {
        ""
    };
    let averaged = if both { ", with averaged weights" } else { "" };
    format!("a StyleGAN2 generator{discriminator} in {dialect} names{averaged}")
}

fn describe_compvis(file: &Weights) -> String {
    let key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
    let width = file.info(key).and_then(|info| info.shape.get(1).copied());
    let version = match width {
        Some(768) => "Stable Diffusion 1.x",
        Some(1024) => "Stable Diffusion 2.x",
        Some(2048) => "Stable Diffusion XL, which cannot be loaded",
        _ => "a Stable Diffusion of its own sizes",
    };
    let whole = any(file, "first_stage_model.") && any(file, "cond_stage_model.");
    let part = if whole { "a single file in CompVis' names" } else { "a UNet in CompVis' names" };
    let averaged = if any(file, "model_ema.") { ", with averaged weights" } else { "" };
    format!("{part}: {version}{averaged}")
}

/// What a file is that holds one component under diffusers' or transformers' names.
fn describe_component(file: &Weights) -> String {
    let any = |part: &str| any(file, part);
    let unet = any("down_blocks.") || any("up_blocks.") || any("mid_block.");
    if any("decoder.up_blocks.") && any("encoder.down_blocks.") {
        "an autoencoder in diffusers' names".to_owned()
    } else if any("vision_model.") && any("text_model.") {
        "a CLIP in transformers' names".to_owned()
    } else if unet && file.contains("conv_in.weight") && file.contains("conv_out.weight") {
        "a UNet in diffusers' names".to_owned()
    } else if unet {
        format!(
            "a part of a UNet in diffusers' names ({} tensors of attention on the text)",
            count(file, ".attn2.")
        )
    } else if any("token_embedding.weight") && any("encoder.layers.") {
        "a text encoder in transformers' names".to_owned()
    } else if any("encoder.layers.") {
        "a part of a text encoder in transformers' names".to_owned()
    } else {
        "weights of something that is not known".to_owned()
    }
}
