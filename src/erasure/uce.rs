//! UCE: unified concept editing (Gandikota et al. 2024, arXiv 2308.14761, equation 7), a closed
//! form.
//!
//! Every key and value of the attention on the text, `W` `[out, width]`, becomes the `W'` that
//! reads at the concept's tokens `c` what was read at their guides `g`, and at tokens `p` of what
//! is to stay what was read there: `W' = (λ W + s_e Σ W g cᵀ + s_p Σ W p pᵀ) A⁻¹`, `A = λ I + s_e Σ
//! c cᵀ + s_p Σ p pᵀ`. Here `W' = W + s_e Σ W (g - c) cᵀ A⁻¹`, which is the same, so that one
//! Cholesky factor serves all layers.
//!
//! The published code takes one token, the concept's last (`tokens = "last"`); the paper's first
//! code took it and all that follow (`"all"`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::concept_tokens::{TokenPairs, TokenPositions};
use super::method::denoiser_of;
use super::{Context, Cost, Error, Method, Needs, Pair, Task};
use crate::generator::{Component, Denoiser, Model};
use crate::settings::Configurable;
use crate::torch::{Kind, Tensor, no_grad, stage};
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uce {
    /// `last` or `all`.
    pub tokens: TokenPositions,
    /// What every concept becomes; its own anchor where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guide: Option<String>,
    /// Prompts that are to stay; the task's where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preserve: Option<Vec<String>>,
    /// Weight λ of staying where it was.
    pub lambda: f64,
    /// Weight `s_e` of the concept's tokens.
    pub erase_scale: f64,
    /// Weight `s_p` of the tokens that are to stay.
    pub preserve_scale: f64,
}

impl Default for Uce {
    fn default() -> Self {
        Self {
            tokens: TokenPositions::All,
            guide: None,
            preserve: None,
            lambda: 0.5,
            erase_scale: 1.0,
            preserve_scale: 1.0,
        }
    }
}

impl Configurable for Uce {
    fn name(&self) -> &'static str {
        "uce"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn check(&self) -> Result<(), String> {
        let weights = [self.lambda, self.erase_scale, self.preserve_scale];
        let negative = weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0);
        if negative || self.lambda == 0.0 || self.erase_scale == 0.0 {
            return Err(format!(
                "UCE's lambda, erase_scale and preserve_scale are {weights:?}; the first two are \
                 above 0, the last not below"
            ));
        }
        Ok(())
    }
}

impl Method for Uce {
    fn needs(&self) -> Needs {
        Needs::PROMPTS
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    fn shortened(&self, _: u64, _: i64) -> Option<Box<dyn Method>> {
        None
    }

    fn erase(&self, model: Model, task: &Task, context: &mut Context) -> Result<Edit, Error> {
        self.check().map_err(Error::Task)?;
        let model = &*denoiser_of(model, self.name())?;
        let keep = self.preserve.as_deref().unwrap_or(task.keep);
        let solution = stage("UCE", || self.solve(model, task.pairs, keep))?;
        let (mut tensors, mut worst) = (Vec::new(), (0.0_f64, 0.0_f64));
        for (name, weight) in model.parameters(Component::Unet) {
            if !name.contains("attn2.to_k.") && !name.contains("attn2.to_v.") {
                continue;
            }
            let (edited, residual) = no_grad(|| solution.edited(&weight.detach()));
            worst = (worst.0.max(residual.0), worst.1.max(residual.1));
            tensors.push((name, edited));
        }
        if tensors.is_empty() {
            return Err(Error::Task("the model has no attention on its text".to_owned()));
        }
        context.watch.note(&format!(
            "UCE: of what was read at the concept's tokens at most {:.1} % is left in any layer, \
             and at other tokens at most {:.2} % is other",
            100.0 * worst.0,
            100.0 * worst.1
        ));
        let (base, recipe) = (model.card().hash.clone(), task.recipe(self));
        Ok(Edit { base, recipe, tensors, ..Edit::default() })
    }
}

/// What is the same for all layers.
struct Solution {
    /// Tokens of the concept `[n, width]`.
    concept: Tensor,
    /// `g - c`, `[n, width]`.
    change: Tensor,
    /// `s_e A⁻¹ cᵀ`, `[width, n]`.
    solved: Tensor,
    /// Tokens that are to stay, `[m, width]`.
    preserve: Option<Tensor>,
}

impl Uce {
    fn solve(
        &self,
        model: &dyn Denoiser,
        pairs: &[Pair],
        keep: &[String],
    ) -> Result<Solution, Error> {
        let (mut concept, mut guide) = (Vec::new(), Vec::new());
        for pair in pairs {
            let anchor = self.guide.clone().unwrap_or_else(|| pair.anchor.clone());
            let pair = Pair { forget: pair.forget.clone(), anchor };
            let read = TokenPairs::read(model, &pair, self.tokens)?;
            concept.push(read.concept);
            guide.push(read.guide);
        }
        let preserve = self.preserved(model, keep)?;
        self.solution(Tensor::cat(&concept, 0), &Tensor::cat(&guide, 0), preserve)
    }

    /// Of the concept's tokens, their guides and those that are to stay, `[n, width]` each.
    fn solution(
        &self,
        concept: Tensor,
        guide: &Tensor,
        preserve: Option<Tensor>,
    ) -> Result<Solution, Error> {
        let width = concept.size()[1];
        let square = |rows: &Tensor| rows.transpose(0, 1).matmul(rows);
        let mut a = Tensor::eye(width, (Kind::Float, concept.device())) * self.lambda
            + square(&concept) * self.erase_scale;
        if let Some(preserve) = &preserve {
            a += square(preserve) * self.preserve_scale;
        }
        let factor = a.f_linalg_cholesky(false).map_err(crate::torch::Error::from)?;
        let solved = concept.transpose(0, 1).cholesky_solve(&factor, false) * self.erase_scale;
        Ok(Solution { change: guide - &concept, concept, solved, preserve })
    }

    /// Hidden states of what is to stay: each prompt's last token, or all of its positions.
    fn preserved(&self, model: &dyn Denoiser, keep: &[String]) -> Result<Option<Tensor>, Error> {
        let mut rows = Vec::new();
        for some in keep.chunks(64) {
            let prompts: Vec<&str> = some.iter().map(String::as_str).collect();
            let states = model.condition(&prompts)?.states;
            match self.tokens {
                TokenPositions::All => rows.push(states.flatten(0, 1)),
                TokenPositions::Last => {
                    for (i, prompt) in (0..).zip(&prompts) {
                        let last = model.tokens(prompt).len() as i64;
                        rows.push(states.get(i).narrow(0, last, 1));
                    }
                }
            }
        }
        Ok((!rows.is_empty()).then(|| Tensor::cat(&rows, 0)))
    }
}

impl Solution {
    /// A layer's new weight, and two residuals: `‖W'c - Wg‖ / ‖Wc - Wg‖` and `‖W'p - Wp‖ / ‖Wp‖`.
    fn edited(&self, weight: &Tensor) -> (Tensor, (f64, f64)) {
        let weight = weight.to_kind(Kind::Float);
        let read = |rows: &Tensor, weight: &Tensor| rows.matmul(&weight.transpose(0, 1));
        let wanted = read(&self.change, &weight);
        let delta = wanted.transpose(0, 1).matmul(&self.solved.transpose(0, 1));
        let norm = |tensor: &Tensor| tensor.norm().double_value(&[]);
        let left = norm(&(&wanted - read(&self.concept, &delta))) / norm(&wanted).max(1e-12);
        let moved = self.preserve.as_ref().map_or(0.0, |preserve| {
            norm(&read(preserve, &delta)) / norm(&read(preserve, &weight)).max(1e-12)
        });
        (&weight + delta, (left, moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(rows: i64, columns: i64, phase: f64) -> Tensor {
        let values: Vec<f32> =
            (0..rows * columns).map(|i| (0.7 * i as f64 + phase).sin() as f32).collect();
        Tensor::from_slice(&values).view([rows, columns])
    }

    /// Against plain PyTorch's sums and inverse (`tests/golden/erasure.py`).
    #[test]
    fn the_closed_form_is_the_formula_s() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/erasure.json")).unwrap();
        for case in golden["uce"].as_array().unwrap() {
            let number = |key: &str| case[key].as_f64().unwrap();
            let uce = Uce {
                lambda: number("lambda"),
                erase_scale: number("erase"),
                preserve_scale: number("preserve"),
                ..Uce::default()
            };
            let (concept, guide) = (wave(3, 6, 0.5), wave(3, 6, 1.1));
            let solution = uce.solution(concept, &guide, Some(wave(5, 6, 2.3))).unwrap();
            let (edited, _) = solution.edited(&wave(4, 6, 0.1));
            for (i, wanted) in case["weight"].as_array().unwrap().iter().enumerate() {
                let found = edited.double_value(&[i as i64 / 6, i as i64 % 6]);
                assert!((found - wanted.as_f64().unwrap()).abs() < 1e-5, "{i}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn where_nothing_counts_but_the_concept_it_reads_its_guide() {
        let uce = Uce { lambda: 1e-6, preserve_scale: 0.0, ..Uce::default() };
        let (concept, guide, weight) = (wave(2, 6, 0.5), wave(2, 6, 1.1), wave(4, 6, 0.1));
        let solution = uce.solution(concept.shallow_clone(), &guide, None).unwrap();
        let (edited, (left, _)) = solution.edited(&weight);
        let read = |rows: &Tensor, weight: &Tensor| rows.matmul(&weight.transpose(0, 1));
        let apart = (read(&concept, &edited) - read(&guide, &weight)).abs().max();
        assert!(apart.double_value(&[]) < 1e-3 && left < 1e-3, "{apart:?} {left}");
    }
}
