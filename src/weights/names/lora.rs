//! Low-rank adapters (`LoRA`, Hu et al. 2021) in the dialects that people share: kohya's, PEFT's
//! and that of diffusers before 0.20.
//!
//! Facts: kohya's `networks/lora.py`, diffusers' `utils/state_dict_utils.py`, PEFT's saved names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::lora_factors::Factors;
use super::lora_numbered::{numbered, numbered_factors};
use super::lora_scaling::Scalings;
use crate::torch::{Tensor, no_grad};
use crate::weights::{Error, LowRank, Weights};

/// Whether a file's names are an adapter's.
pub fn is_lora(weights: &Weights) -> bool {
    weights
        .names()
        .any(|name| split(name).is_some() || foreign(name).is_some() || numbered(name).is_some())
}

/// The halves' ends, in the dialects that name no adapter.
const ENDS: [(&str, bool); 6] = [
    (".lora_down.weight", false),
    (".lora_up.weight", true),
    (".lora.down.weight", false),
    (".lora.up.weight", true),
    (".lora_linear_layer.down.weight", false),
    (".lora_linear_layer.up.weight", true),
];

/// One half of a module's adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoraHalf {
    /// The module as the file writes it.
    pub(super) module: String,
    /// Whether it is the upper one.
    pub(super) up: bool,
    /// The adapter's name where the file gives one: `default` in `….lora_A.default.weight`.
    adapter: String,
}

/// Which half of which module a tensor is.
pub(super) fn split(name: &str) -> Option<LoraHalf> {
    let half = |module: &str, up: bool, adapter: &str| {
        Some(LoraHalf { module: module.to_owned(), up, adapter: adapter.to_owned() })
    };
    for (end, up) in ENDS {
        if let Some(module) = name.strip_suffix(end) {
            return half(module, up, "");
        }
    }
    let inner = name.strip_suffix(".weight")?;
    for (mark, up) in [(".lora_A", false), (".lora_B", true)] {
        if let Some((module, adapter)) = inner.rsplit_once(mark)
            && (adapter.is_empty() || (adapter.starts_with('.') && !adapter[1..].contains('.')))
        {
            return half(module, up, adapter.trim_start_matches('.'));
        }
    }
    // ….attn2.processor.to_k_lora.down.weight
    for (end, up) in [("_lora.down", false), ("_lora.up", true)] {
        if let Some(module) = inner.strip_suffix(end) {
            let module = module.replace(".processor.", ".");
            let Some((attention, part)) = module.rsplit_once('.') else { continue };
            // The UNet's output projection is the first of two modules there; text encoders have
            // other words.
            let part = match (attention.ends_with("self_attn"), part) {
                (false, "to_out") => "to_out.0",
                (true, "to_out") => "out_proj",
                (true, "to_q") => "q_proj",
                (true, "to_k") => "k_proj",
                (true, "to_v") => "v_proj",
                (_, other) => other,
            };
            return half(&format!("{attention}.{part}"), up, "");
        }
    }
    None
}

/// Adapters of other kinds, which are no low-rank products.
fn foreign(name: &str) -> Option<&'static str> {
    const MARKS: [(&str, &str); 14] = [
        ("hada_", "LoHa"),
        ("lokr_", "LoKr"),
        ("lora_mid", "LoCon with a middle factor"),
        ("dora_scale", "DoRA"),
        ("lora_magnitude_vector", "DoRA"),
        (".oft_", "OFT"),
        ("boft_", "BOFT"),
        ("vera_lambda", "VeRA"),
        ("ia3_l", "IA3"),
        (".on_input", "IA3"),
        (".w_norm", "LyCORIS norm"),
        (".b_norm", "LyCORIS norm"),
        (".lora_embedding_", "LoRA of embeddings"),
        (".a1.weight", "GLoRA"),
    ];
    if let Some((_, kind)) = MARKS.into_iter().find(|(mark, _)| name.contains(mark)) {
        return Some(kind);
    }
    match name.rsplit_once('.') {
        Some((_, "diff" | "diff_b")) => Some("full-difference"),
        Some((module, "bias")) if split(&format!("{module}.weight")).is_some() => {
            Some("LoRA with biases")
        }
        _ => None,
    }
}

/// The adapters of a file for a base whose weights have these full names (`unet.….weight`,
/// `text_encoder.text_model.….weight`). What is assumed or left is added to `notes`.
///
/// # Errors
/// Adapters of another kind, halves without the other half, modules that the base does not have,
/// settings that are refused.
pub fn read_lora<'a>(
    file: &Weights,
    base: impl Iterator<Item = &'a str>,
    notes: &mut Vec<String>,
) -> Result<Vec<Factors>, Error> {
    if let Some((name, kind)) = file.names().find_map(|name| Some((name, foreign(name)?))) {
        let why = format!(
            "`{name}` belongs to a {kind} adapter; LoRA's products of two matrices can be read"
        );
        return Err(Error::unfit(file.path(name), why));
    }
    let base: Vec<&str> = base.collect();
    if file.names().any(|name| numbered(name).is_some()) {
        return numbered_factors(file, &base, notes);
    }
    let modules = modules_by_spelling(&base);
    let pairs = factor_pairs(file)?;
    check_lone_alphas(file, &pairs, notes)?;
    let scalings = Scalings::of(file, notes)?;
    matched(file, pairs, &modules, &scalings)
}

/// The base's weights by the spellings of their modules in adapter files.
fn modules_by_spelling<'a>(base: &[&'a str]) -> HashMap<String, &'a str> {
    let mut modules = HashMap::new();
    for &name in base {
        let Some(module) = name.strip_suffix(".weight") else { continue };
        for spelling in spellings(module) {
            modules.insert(spelling, name);
        }
    }
    modules
}

/// The tensors of each module's two factors, down and up, by the module as the file writes it.
type FactorPairs = BTreeMap<String, [Option<String>; 2]>;

/// The factors of a file.
///
/// # Errors
/// Tensors that are no factors, several adapters in one file.
fn factor_pairs(file: &Weights) -> Result<FactorPairs, Error> {
    let mut pairs = FactorPairs::new();
    let mut adapters: BTreeSet<String> = BTreeSet::new();
    for name in file.names() {
        if name.rsplit_once('.').is_some_and(|(_, end)| end == "alpha") {
            continue;
        }
        let Some(LoraHalf { module, up, adapter }) = split(name) else {
            let why = format!("`{name}` is no part of a LoRA; what it would do is not known");
            return Err(Error::unfit(file.path(name), why));
        };
        pairs.entry(module).or_default()[usize::from(up)] = Some(name.to_owned());
        adapters.insert(adapter);
    }
    if adapters.len() > 1 {
        let names: Vec<String> = adapters.into_iter().collect();
        let why = format!("it holds several adapters ({}); save them one by one", names.join(", "));
        return Err(Error::unfit(file.path(""), why));
    }
    Ok(pairs)
}

/// Notes the alphas that have no factors beside them.
///
/// # Errors
/// Such an alpha of a module that [`split`] calls otherwise; its strength would be another.
fn check_lone_alphas(
    file: &Weights,
    pairs: &FactorPairs,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let alone: Vec<&str> = file
        .names()
        .filter(|name| {
            name.strip_suffix(".alpha").is_some_and(|module| !pairs.contains_key(module))
        })
        .collect();
    if let Some(first) = alone.first() {
        notes.push(format!(
            "{}: {} alphas have no factors beside them and do nothing, `{first}` for one",
            file.path(first).display(),
            alone.len()
        ));
    }
    if let Some(name) = alone.iter().find(|name| name.ends_with("_lora.alpha")) {
        return Err(Error::unfit(
            file.path(name),
            format!(
                "`{name}` is the alpha of an attention processor, which is not read; save the \
                 adapter in PEFT's or kohya's names"
            ),
        ));
    }
    Ok(())
}

/// The factors of modules that the base has.
///
/// # Errors
/// Halves without the other half, weights that are adapted twice, modules that the base does not
/// have.
fn matched(
    file: &Weights,
    pairs: FactorPairs,
    modules: &HashMap<String, &str>,
    scalings: &Scalings,
) -> Result<Vec<Factors>, Error> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for (module, pair) in pairs {
        let [Some(down), Some(up)] = pair else {
            return Err(Error::unfit(
                file.path(""),
                format!("`{module}` has one of its two factors only"),
            ));
        };
        let bare = module.strip_prefix("base_model.model.").unwrap_or(&module);
        match modules.get(bare) {
            Some(name) => {
                if let Some(other) = found.iter().find(|other: &&Factors| other.name == *name) {
                    return Err(Error::unfit(
                        file.path(&up),
                        format!(
                            "it adapts `{name}` twice, by `{}` and by `{up}`; remove one of the \
                             two",
                            other.up
                        ),
                    ));
                }
                let scaling = scalings.of_module(file, &module)?;
                found.push(Factors { name: (*name).to_owned(), down, up, scaling });
            }
            None => unknown.push(module),
        }
    }
    if let Some(first) = unknown.first() {
        let example = modules.values().next().copied().unwrap_or("nothing");
        return Err(Error::unfit(
            file.path(""),
            format!(
                "{} of its {} modules are not in the base, `{first}` for one (the base has \
                 `{example}`); was it made for another architecture, SDXL perhaps?",
                unknown.len(),
                unknown.len() + found.len()
            ),
        ));
    }
    Ok(found)
}

/// How a module is spelt in adapter files.
fn spellings(module: &str) -> Vec<String> {
    let Some((component, inside)) = module.split_once('.') else { return Vec::new() };
    let underscored = inside.replace('.', "_");
    match component {
        "unet" => vec![module.to_owned(), inside.to_owned(), format!("lora_unet_{underscored}")],
        "text_encoder" => {
            let inside = inside.strip_prefix("text_model.").unwrap_or(inside);
            let underscored = inside.replace('.', "_");
            vec![
                format!("text_encoder.text_model.{inside}"),
                format!("text_encoder.{inside}"),
                format!("text_model.{inside}"),
                format!("lora_te_text_model_{underscored}"),
                format!("lora_te1_text_model_{underscored}"),
                // Trained with transformers 5, whose text encoders have no outer module.
                format!("lora_te_{underscored}"),
                format!("lora_te1_{underscored}"),
                inside.to_owned(),
            ]
        }
        _ => Vec::new(),
    }
}

/// The dialects that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// kohya's, which A1111 and `ComfyUI` read.
    Kohya,
    /// PEFT's, which diffusers writes.
    Peft,
}

/// One module's factors under a dialect's names. PEFT's has no place for alpha in the file: there
/// the upper factor is scaled.
pub fn named_lora(dialect: Dialect, factors: &LowRank) -> Vec<(String, Tensor)> {
    let module = factors.name.strip_suffix(".weight").unwrap_or(&factors.name);
    let (down, up) = (factors.down.shallow_clone(), factors.up.shallow_clone());
    match dialect {
        Dialect::Kohya => {
            let spelt = spellings(module);
            let module =
                spelt.iter().find(|name| name.starts_with("lora_")).map_or(module, String::as_str);
            vec![
                (format!("{module}.alpha"), Tensor::from(factors.alpha as f32)),
                (format!("{module}.lora_down.weight"), down),
                (format!("{module}.lora_up.weight"), up),
            ]
        }
        Dialect::Peft => {
            let scale = factors.alpha / factors.rank() as f64;
            let up = no_grad(|| up * scale);
            vec![(format!("{module}.lora_A.weight"), down), (format!("{module}.lora_B.weight"), up)]
        }
    }
}
