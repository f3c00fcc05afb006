//! Low-rank adapters (`LoRA`, Hu et al. 2021) in the dialects that people share: kohya's, PEFT's and that of
//! diffusers before 0.20.
//!
//! Facts: kohya's `networks/lora.py`, diffusers' `utils/state_dict_utils.py`, PEFT's saved names.

use std::collections::{BTreeMap, HashMap};

use crate::torch::{Kind, Tensor, no_grad};
use crate::weights::{Error, Weights};

/// What one module's adapter adds: `up · down · alpha / rank`.
#[derive(Debug)]
pub struct Factors {
    /// The module's weight by full name, `unet.….weight`.
    pub name: String,
    down: String,
    up: String,
    alpha: Option<f64>,
}

/// Whether a file's names are an adapter's.
pub fn is_lora(weights: &Weights) -> bool {
    weights.names().any(|name| split(name).is_some() || foreign(name).is_some())
}

/// The halves' ends, in all dialects.
const ENDS: [(&str, bool); 10] = [
    (".lora_down.weight", false),
    (".lora_up.weight", true),
    (".lora_A.weight", false),
    (".lora_B.weight", true),
    (".lora_A.default.weight", false),
    (".lora_B.default.weight", true),
    (".lora.down.weight", false),
    (".lora.up.weight", true),
    (".lora_linear_layer.down.weight", false),
    (".lora_linear_layer.up.weight", true),
];

/// A half's module as the file writes it, and whether the half is the upper one.
pub(super) fn split(name: &str) -> Option<(String, bool)> {
    for (end, up) in ENDS {
        if let Some(module) = name.strip_suffix(end) {
            return Some((module.to_owned(), up));
        }
    }
    // ….attn2.processor.to_k_lora.down.weight
    for (end, up) in [("_lora.down.weight", false), ("_lora.up.weight", true)] {
        if let Some(module) = name.strip_suffix(end) {
            let module = module.replace(".processor.", ".");
            let Some((attention, part)) = module.rsplit_once('.') else { continue };
            // The UNet's output projection is the first of two modules there; text encoders have other words.
            let part = match (attention.ends_with("self_attn"), part) {
                (false, "to_out") => "to_out.0",
                (true, "to_out") => "out_proj",
                (true, "to_q") => "q_proj",
                (true, "to_k") => "k_proj",
                (true, "to_v") => "v_proj",
                (_, other) => other,
            };
            let module = format!("{attention}.{part}");
            return Some((module, up));
        }
    }
    None
}

/// Adapters of other kinds, which are no low-rank products.
fn foreign(name: &str) -> Option<&'static str> {
    [
        ("hada_", "LoHa"),
        ("lokr_", "LoKr"),
        ("lora_mid", "LoCon with a middle factor"),
        ("dora_scale", "DoRA"),
        ("lora_magnitude_vector", "DoRA"),
        (".oft_", "OFT"),
    ]
    .into_iter()
    .find(|(mark, _)| name.contains(mark))
    .or_else(|| {
        matches!(name.rsplit_once('.'), Some((_, "diff" | "diff_b"))).then_some(("", "full-difference"))
    })
    .map(|(_, kind)| kind)
}

/// The adapters of a file for a base whose weights have these full names (`unet.….weight`,
/// `text_encoder.text_model.….weight`).
///
/// # Errors
/// Adapters of another kind, halves without the other half, modules that the base does not have.
pub fn read_lora<'a>(file: &Weights, base: impl Iterator<Item = &'a str>) -> Result<Vec<Factors>, Error> {
    if let Some((name, kind)) = file.names().find_map(|name| Some((name, foreign(name)?))) {
        return Err(Error::damaged(
            file.path(name),
            format!("`{name}` belongs to a {kind} adapter; LoRA's products of two matrices can be read"),
        ));
    }
    let mut modules: HashMap<String, &str> = HashMap::new();
    for name in base {
        let Some(module) = name.strip_suffix(".weight") else { continue };
        for spelling in spellings(module) {
            modules.insert(spelling, name);
        }
    }
    let mut halves: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
    for name in file.names() {
        if name.rsplit_once('.').is_some_and(|(_, end)| end == "alpha") {
            continue;
        }
        let Some((module, up)) = split(name) else {
            return Err(Error::damaged(
                file.path(name),
                format!("`{name}` is no part of a LoRA; what it would do is not known"),
            ));
        };
        halves.entry(module).or_default()[usize::from(up)] = Some(name.to_owned());
    }
    let alphas = Alphas::of(file);
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for (module, pair) in halves {
        let [Some(down), Some(up)] = pair else {
            return Err(Error::damaged(file.path(""), format!("`{module}` has one of its two factors only")));
        };
        let bare = module.strip_prefix("base_model.model.").unwrap_or(&module);
        match modules.get(bare) {
            Some(name) => {
                found.push(Factors { name: (*name).to_owned(), down, up, alpha: alphas.get(file, &module)? });
            }
            None => unknown.push(module),
        }
    }
    if let Some(first) = unknown.first() {
        let example = modules.values().next().copied().unwrap_or("nothing");
        return Err(Error::damaged(
            file.path(""),
            format!(
                "{} of its {} modules are not in the base, `{first}` for one (the base has `{example}`); was it made for another architecture, SDXL perhaps",
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
            ]
        }
        _ => Vec::new(),
    }
}

/// Where scales are said: in a tensor beside the factors, or in diffusers' metadata.
struct Alphas(BTreeMap<String, f64>);

impl Alphas {
    fn of(file: &Weights) -> Self {
        // PEFT's own folders say it in a file beside the weights.
        let path = file.path("");
        if file.names().any(|name| name.starts_with("base_model.model.")) {
            let text = fs_err::read_to_string(path.with_file_name("adapter_config.json")).unwrap_or_default();
            let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            return Self(
                said["lora_alpha"].as_f64().map(|alpha| (String::new(), alpha)).into_iter().collect(),
            );
        }
        let text = file.metadata().remove("lora_adapter_metadata").unwrap_or_default();
        let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let entries = said.as_object().into_iter().flatten();
        Self(
            entries
                .filter_map(|(key, value)| {
                    Some((key.strip_suffix("lora_alpha")?.to_owned(), value.as_f64()?))
                })
                .collect(),
        )
    }

    fn get(&self, file: &Weights, module: &str) -> Result<Option<f64>, Error> {
        let name = format!("{module}.alpha");
        if file.contains(&name) {
            let alpha = file.tensor(&name)?;
            if alpha.numel() != 1 {
                return Err(Error::damaged(file.path(&name), format!("`{name}` is no single number")));
            }
            return Ok(Some(alpha.to_kind(Kind::Double).double_value(&[])));
        }
        Ok(self.0.iter().find(|(prefix, _)| module.starts_with(prefix.as_str())).map(|(_, alpha)| *alpha))
    }
}

impl Factors {
    /// The module's weight in f32 with `strength` of the adapter added.
    ///
    /// # Errors
    /// Factors whose shapes do not fit the weight.
    pub fn added(&self, file: &Weights, weight: &Tensor, strength: f64) -> Result<Tensor, Error> {
        let (down, up) = (file.tensor(&self.down)?, file.tensor(&self.up)?);
        let (d, u, shape) = (down.size(), up.size(), weight.size());
        let rank = d.first().copied().unwrap_or(0);
        let inputs: i64 = d.iter().skip(1).product();
        let fits = d.len() >= 2
            && u.len() >= 2
            && rank > 0
            && u[0] == shape[0]
            && u[1..].iter().product::<i64>() == rank
            && inputs == shape[1..].iter().product::<i64>();
        if !fits {
            return Err(Error::damaged(
                file.path(&self.up),
                format!(
                    "`{}` {u:?} times `{}` {d:?} is no {shape:?}, which `{}` is",
                    self.up, self.down, self.name
                ),
            ));
        }
        let scale = strength * self.alpha.unwrap_or(rank as f64) / rank as f64;
        Ok(no_grad(|| {
            let (down, up) = (down.to_kind(Kind::Float), up.to_kind(Kind::Float));
            let product = up.reshape([shape[0], rank]).matmul(&down.reshape([rank, inputs]));
            weight.to_kind(Kind::Float) + product.view(shape.as_slice()) * scale
        }))
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

/// One module's factors under a dialect's names; alpha is the rank, so that the product counts once.
pub fn named_lora(dialect: Dialect, name: &str, down: Tensor, up: Tensor) -> Vec<(String, Tensor)> {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    match dialect {
        Dialect::Kohya => {
            let spelt = spellings(module);
            let module = spelt.iter().find(|name| name.starts_with("lora_")).map_or(module, String::as_str);
            let alpha = Tensor::from(down.size()[0] as f32);
            vec![
                (format!("{module}.alpha"), alpha),
                (format!("{module}.lora_down.weight"), down),
                (format!("{module}.lora_up.weight"), up),
            ]
        }
        Dialect::Peft => {
            vec![(format!("{module}.lora_A.weight"), down), (format!("{module}.lora_B.weight"), up)]
        }
    }
}
