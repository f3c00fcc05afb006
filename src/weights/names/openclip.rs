//! `OpenCLIP`'s names of a text encoder, as Stable Diffusion 2.x checkpoints have it.
//!
//! Its queries, keys and values lie in one matrix. Facts: `open_clip/transformer.py`, and what
//! diffusers makes of it: it leaves out the last of the 24 layers, because Stable Diffusion 2 reads
//! the layer before it.

use super::modules::Modules;
use crate::torch::Tensor;
use crate::weights::{Error, View, Weights};

/// The width of Stable Diffusion 2.x' encoder, which is `OpenCLIP`'s (CLIP ViT-L's is 768).
const WIDTH: i64 = 1024;

/// Whether these are the tensors, under transformers' names, of an encoder that Stable Diffusion
/// 2.x has.
pub(super) fn is_openclip(tensors: &[(String, Tensor)]) -> bool {
    tensors
        .iter()
        .any(|(name, tensor)| name.ends_with("final_layer_norm.weight") && tensor.size() == [WIDTH])
}

fn modules(layers: usize) -> Modules {
    let mut modules = Modules::default();
    modules.add("text_model.embeddings.token_embedding", "token_embedding");
    modules.add("text_model.embeddings.position_embedding.weight", "positional_embedding");
    modules.add("text_model.final_layer_norm", "ln_final");
    for i in 0..layers {
        for (ours, theirs) in [
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            ("self_attn.out_proj", "attn.out_proj"),
        ] {
            modules.add(
                format!("text_model.encoder.layers.{i}.{ours}"),
                format!("transformer.resblocks.{i}.{theirs}"),
            );
        }
    }
    modules
}

const PARTS: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

/// The encoder behind `prefix` under transformers' names, without its last layer.
///
/// # Errors
/// Tensors that cannot be divided.
pub(super) fn from_openclip(file: &Weights, prefix: &str) -> Result<Weights, Error> {
    let layer = |name: &str| {
        let rest = name.strip_prefix(prefix)?.strip_prefix("transformer.resblocks.")?;
        rest.split('.').next()?.parse::<usize>().ok().filter(|&n| n < 100)
    };
    // A file that this program or diffusers wrote has 23 layers, the published ones 24.
    let found = file.names().filter_map(layer).max().map_or(0, |last| last + 1);
    let layers = if found == 24 { 23 } else { found };
    let modules = modules(layers);
    file.renamed(|name| {
        let Some(rest) = name.strip_prefix(prefix) else { return Vec::new() };
        if let Some((new, _)) = modules.ours(rest) {
            return vec![(new, View::Whole)];
        }
        match (layer(name), rest.rsplit_once(".attn.in_proj_")) {
            (Some(i), Some((_, kind))) if i < layers => PARTS
                .iter()
                .zip(0..)
                .map(|(part, n)| {
                    (
                        format!("text_model.encoder.layers.{i}.self_attn.{part}.{kind}"),
                        View::Part(n, 3),
                    )
                })
                .collect(),
            _ => Vec::new(),
        }
    })
}

/// The way back.
///
/// # Errors
/// A tensor that has no name there.
pub(super) fn to_openclip(
    tensors: &[(String, Tensor)],
    prefix: &str,
) -> Result<Vec<(String, Tensor)>, Error> {
    let modules = modules(100);
    let mut found = Vec::new();
    for (name, tensor) in tensors {
        if name.ends_with("position_ids") {
            continue;
        }
        if let Some((new, _)) = modules.theirs(name) {
            found.push((format!("{prefix}{new}"), tensor.shallow_clone()));
            continue;
        }
        // The three matrices are joined where the first is met.
        let Some((start, kind)) = name.split_once(".self_attn.q_proj.") else {
            if PARTS.iter().any(|part| name.contains(&format!(".self_attn.{part}."))) {
                continue;
            }
            return Err(Error::Unnamed { name: name.clone(), dialect: "OpenCLIP" });
        };
        let each: Vec<&Tensor> = PARTS
            .iter()
            .filter_map(|part| {
                let wanted = format!("{start}.self_attn.{part}.{kind}");
                tensors.iter().find(|(other, _)| *other == wanted).map(|(_, tensor)| tensor)
            })
            .collect();
        let block = start.replace("text_model.encoder.layers.", "transformer.resblocks.");
        found.push((format!("{prefix}{block}.attn.in_proj_{kind}"), Tensor::cat(&each, 0)));
    }
    Ok(found)
}
