//! `LoRA` in the dialect of the first program that had it for Stable Diffusion
//! (`cloneofsimo/lora`): factors have numbers, `unet:9:down`, in the order in which `PyTorch` goes
//! through the modules.
//!
//! That order is of diffusers in 2022: all of the way down, all of the way up, the middle last, and
//! in each transformer self-attention, the gated layer, cross-attention. Later versions have the
//! gated layer last. Every factor's shape is held against the module's, so that a file of another
//! order is refused.

use super::lora_factors::Factors;
use crate::weights::{Error, Weights};

/// Component and number of a factor, and whether it is the upper one.
pub(super) fn numbered(name: &str) -> Option<(&str, usize, bool)> {
    let mut parts = name.split(':');
    let (component, number, half) = (parts.next()?, parts.next()?, parts.next()?);
    let up = match half {
        "up" => true,
        "down" => false,
        _ => return None,
    };
    (parts.next().is_none() && ["unet", "text_encoder"].contains(&component))
        .then(|| Some((component, number.parse().ok()?, up)))?
}

/// The factors of a file for a base with these weights.
///
/// # Errors
/// Modules that are not known, numbers that are missing, shapes that are not the modules'.
pub(super) fn numbered_factors(
    file: &Weights,
    base: &[&str],
    notes: &mut Vec<String>,
) -> Result<Vec<Factors>, Error> {
    let path = file.path("").to_path_buf();
    let wrong = |why: String| Error::unfit(&path, why);
    let mut found = Vec::new();
    for component in ["unet", "text_encoder"] {
        let count = file
            .names()
            .filter_map(numbered)
            .filter(|&(found, _, up)| found == component && up)
            .count();
        if count == 0 {
            continue;
        }
        let about = file.metadata().remove(component).unwrap_or_default();
        let targets: Vec<String> = serde_json::from_str(&about).unwrap_or_default();
        let known = ["CrossAttention", "Attention", "GEGLU", "CLIPAttention"];
        if let Some(strange) = targets.iter().find(|target| !known.contains(&target.as_str())) {
            return Err(wrong(format!(
                "it adapts {strange} modules too, whose order is not known"
            )));
        }
        let gated = targets.is_empty() || targets.iter().any(|target| target == "GEGLU");
        let shape = |number: usize, half: &str| {
            file.info(&format!("{component}:{number}:{half}"))
                .map(|info| info.shape)
                .unwrap_or_default()
        };
        // Behind the four of self-attention: the gated layer has more outputs than inputs.
        let late = shape(4, "up").first() == shape(4, "down").get(1);
        let modules = match component {
            "unet" => unet_modules(base, gated, late),
            _ => text_modules(base),
        };
        if modules.len() != count {
            return Err(wrong(format!(
                "it adapts {count} modules of the {component}, the base has {} of these kinds; was \
                 it made for another architecture?",
                modules.len()
            )));
        }
        for (number, name) in modules.into_iter().enumerate() {
            let [down, up] = ["down", "up"].map(|half| format!("{component}:{number}:{half}"));
            if !file.contains(&down) || !file.contains(&up) {
                return Err(wrong(format!("`{component}:{number}` has not both of its factors")));
            }
            found.push(Factors::new(name, down, up));
        }
    }
    let words: Vec<&str> = file.names().filter(|name| numbered(name).is_none()).collect();
    if let Some(first) = words.first() {
        notes.push(format!(
            "{}: it holds the word{} {} too, which is left; --embedding '{first}={}' learns one",
            path.display(),
            if words.len() == 1 { "" } else { "s" },
            words.join(", "),
            path.display()
        ));
    }
    Ok(found)
}

/// A UNet's adapted weights in their order.
fn unet_modules(base: &[&str], gated: bool, late: bool) -> Vec<String> {
    let mark = ".attn1.to_q.weight";
    let mut blocks: Vec<(usize, Vec<u32>, &str)> = base
        .iter()
        .filter_map(|name| {
            let block = name.strip_suffix(mark)?;
            let inside = block.strip_prefix("unet.")?;
            let part = ["down_blocks.", "up_blocks.", "mid_block."]
                .iter()
                .position(|part| inside.starts_with(part))?;
            Some((part, inside.split('.').filter_map(|part| part.parse().ok()).collect(), block))
        })
        .collect();
    blocks.sort();
    let attention = |block: &str, which: &str| {
        ["to_q", "to_k", "to_v", "to_out.0"].map(|part| format!("{block}.{which}.{part}.weight"))
    };
    blocks
        .into_iter()
        .flat_map(|(_, _, block)| {
            let gate = gated.then(|| format!("{block}.ff.net.0.proj.weight"));
            let (before, after) = if late { (None, gate) } else { (gate, None) };
            attention(block, "attn1")
                .into_iter()
                .chain(before)
                .chain(attention(block, "attn2"))
                .chain(after)
        })
        .collect()
}

/// A text encoder's adapted weights in their order: transformers names keys and values before
/// queries.
fn text_modules(base: &[&str]) -> Vec<String> {
    let mut layers: Vec<(u32, &str)> = base
        .iter()
        .filter_map(|name| {
            let layer = name.strip_suffix(".self_attn.q_proj.weight")?;
            layer
                .starts_with("text_encoder.")
                .then(|| Some((layer.rsplit('.').next()?.parse().ok()?, layer)))?
        })
        .collect();
    layers.sort_unstable();
    let parts = ["k_proj", "v_proj", "q_proj", "out_proj"];
    layers
        .into_iter()
        .flat_map(|(_, layer)| parts.map(|part| format!("{layer}.self_attn.{part}.weight")))
        .collect()
}
