//! The change of an edit as a low-rank adapter.

use std::path::Path;

use serde::Serialize;

use super::Edited;
use crate::generator::Error;
use crate::torch::{Kind, Tensor, no_grad};
use crate::watch::Watch;
use crate::weights::{Dialect, LowRank, named_lora, save};

/// How much of a module's change an adapter keeps.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleRank {
    /// The module's weight, or `in all`.
    pub name: String,
    /// Rank that is kept.
    pub rank: i64,
    /// Share of the change's energy (the sum of squares), 0 to 1.
    pub energy: f64,
}

impl Edited<'_> {
    /// Writes a low-rank adapter of the change.
    pub(super) fn lora(
        &self,
        to: &Path,
        dialect: Dialect,
        rank: Option<i64>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<ModuleRank>, Error> {
        self.need_edit()?;
        let mut kept = Vec::new();
        let mut tensors = Vec::new();
        let (mut all, mut caught, mut outside) = (0.0, 0.0, 0);
        watch.begin("decomposing", self.edit.tensors.len() as u64);
        for ((name, new), n) in self.edit.tensors.iter().zip(1..) {
            let old = self.base.tensor(name)?.to_kind(Kind::Float);
            let change = no_grad(|| new.detach().to_kind(Kind::Float) - old);
            let energy = change.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
            all += energy;
            let adaptable = change.dim() >= 2
                && name.ends_with(".weight")
                && !name.contains("embedding")
                && !name.starts_with("vae.");
            if !adaptable {
                outside += 1;
            } else if energy > 0.0 {
                let part = decomposed(name, &change, rank)?;
                caught += part.energy;
                kept.push(ModuleRank {
                    name: name.clone(),
                    rank: part.factors.rank(),
                    energy: part.energy / energy,
                });
                tensors.extend(named_lora(dialect, &part.factors));
            }
            watch.at(n, "");
            if watch.interrupted() {
                return Err(Error::Interrupted);
            }
        }
        watch.end();
        if outside > 0 {
            watch.warn(&format!(
                "{outside} changed tensors are norms, biases or embeddings, which no LoRA holds; \
                 their change is left out and counts as lost"
            ));
        }
        let largest = kept.iter().map(|part| part.rank).max().unwrap_or(0);
        kept.push(ModuleRank { name: "in all".to_owned(), rank: largest, energy: caught / all });
        let tensors: Vec<(String, Tensor)> = tensors
            .into_iter()
            .map(|(name, tensor)| {
                // A scale is a whole number that 16 bits may not hold.
                let scale = name.rsplit_once('.').is_some_and(|(_, end)| end == "alpha");
                let kind = self.kind.filter(|_| !scale).unwrap_or(Kind::Float);
                (name, tensor.to_kind(kind))
            })
            .collect();
        let architecture = format!("{}/lora", self.base.configs.architecture());
        let mut about = self.about(&architecture, "https://github.com/kohya-ss/sd-scripts")?;
        about.push(("unsee.energy", format!("{:.6}", caught / all)));
        if dialect == Dialect::Kohya {
            about.push(("ss_network_module", "networks.lora".to_owned()));
            about.push(("ss_network_dim", largest.to_string()));
            about.push(("ss_network_alpha", largest.to_string()));
            about.push((
                "ss_base_model_version",
                if self.base.configs.is_sd2() { "sd_v2" } else { "sd_v1" }.to_owned(),
            ));
        }
        tensors.iter().try_for_each(|(name, tensor)| Self::fits(name, tensor))?;
        save(to, &tensors, &about)?;
        Ok(kept)
    }
}

/// The best approximation of a rank.
struct Decomposition {
    factors: LowRank,
    /// The sum of squares that it holds.
    energy: f64,
}

/// The singular value decomposition of a change `[outputs, inputs, …]`, cut at `rank` (Eckart &
/// Young 1936).
fn decomposed(name: &str, change: &Tensor, rank: Option<i64>) -> Result<Decomposition, Error> {
    let shape = change.size();
    let matrix = change.reshape([shape[0], -1]).to_kind(Kind::Double);
    let (u, s, v) = matrix.f_svd(true, true).map_err(crate::torch::Error::from)?;
    let full = s.size()[0];
    let rank = rank.unwrap_or(full).clamp(1, full);
    let kept = s.narrow(0, 0, rank);
    let energy = kept.square().sum(Kind::Double).double_value(&[]);
    let root = kept.sqrt();
    let up = (u.narrow(1, 0, rank) * &root).to_kind(Kind::Float);
    let down = (v.narrow(1, 0, rank) * &root).tr().to_kind(Kind::Float);
    let (up, down) = if shape.len() == 4 {
        (
            up.view([shape[0], rank, 1, 1]),
            down.contiguous().view([rank, shape[1], shape[2], shape[3]]),
        )
    } else {
        (up, down)
    };
    let (down, up) = (down.contiguous(), up.contiguous());
    let factors = LowRank { name: name.to_owned(), down, up, alpha: rank as f64 };
    Ok(Decomposition { factors, energy })
}
