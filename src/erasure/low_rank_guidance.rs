//! Learning to predict away from a concept, by a low-rank adapter.

use super::Error;
use super::leco_prompts::{LecoPrompt, Resolution};
use super::negative_guidance::target;
use super::partial_sampling::{PartialSample, PartialSampling};
use crate::generator::{Conditioning, Denoiser};
use crate::torch::{Kind, Rng, Tensor, no_grad};
use crate::training::{self, LentWeights, LowRankAdapter, MicroBatch, Objective};

/// The adapter, what it is beside and what it is to learn.
pub(super) struct LowRankGuidance<'a> {
    /// A short name; part of the seed of every step.
    pub name: &'static str,
    pub model: &'a dyn Denoiser,
    pub adapter: LowRankAdapter,
    /// The weights beside which the adapter is, by name.
    pub adapted: &'a [(String, Tensor)],
    /// Their values without it.
    pub frozen: &'a [Tensor],
    pub targets: GuidanceTargets,
    pub sampling: PartialSampling,
    /// Latents in a step, where a prompt does not say.
    pub batch: i64,
    /// What the prompts that stay count.
    pub keep_weight: f64,
    pub recipe: String,
}

/// Prompts and what the text encoder reads in them, a row each.
pub(super) struct GuidanceTargets {
    prompts: Vec<LecoPrompt>,
    asked: Vec<Conditioning>,
    /// Neutral, positive and unconditional.
    terms: Vec<[Conditioning; 3]>,
    /// Prompts that stay.
    keep: Option<Conditioning>,
    empty: Conditioning,
    /// Channels, rows and columns of each prompt's latents.
    shapes: Vec<[i64; 3]>,
}

impl GuidanceTargets {
    /// Reads the prompts.
    ///
    /// # Errors
    /// A resolution that the model cannot draw; libtorch's.
    pub(super) fn read(
        model: &dyn Denoiser,
        prompts: Vec<LecoPrompt>,
        keep: &[String],
    ) -> Result<Self, Error> {
        let (mut asked, mut terms, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in &prompts {
            asked.push(model.condition(&[&prompt.target])?);
            let [neutral, positive] = [prompt.neutral(), prompt.positive()];
            terms.push([
                model.condition(&[neutral])?,
                model.condition(&[positive])?,
                model.condition(&[&prompt.unconditional])?,
            ]);
            shapes.push(shape(model, prompt).map_err(Error::Task)?);
        }
        let keep = if keep.is_empty() {
            None
        } else {
            Some(model.condition(&keep.iter().map(String::as_str).collect::<Vec<_>>())?)
        };
        Ok(Self { prompts, asked, terms, keep, empty: model.condition(&[""])?, shapes })
    }
}

/// Channels, rows and columns of a prompt's latents.
///
/// # Errors
/// A resolution that the model cannot draw.
pub(super) fn shape(model: &dyn Denoiser, prompt: &LecoPrompt) -> Result<[i64; 3], String> {
    let [channels, height, width] = model.latent_shape();
    let Some(resolution) = prompt.resolution else { return Ok([channels, height, width]) };
    let sides = match resolution {
        Resolution::Square(side) => [side, side],
        Resolution::Sides(height, width) => [height, width],
    };
    let factor = model.card().side / height;
    if sides.iter().any(|side| *side < 8 * factor || side % (8 * factor) != 0) {
        return Err(format!(
            "«{}» has the resolution {sides:?}; sides are multiples of {}",
            prompt.target,
            8 * factor
        ));
    }
    Ok([channels, sides[0] / factor, sides[1] / factor])
}

impl Objective for LowRankGuidance<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.adapter.parameters()
    }

    fn fingerprint(&self) -> String {
        self.recipe.clone()
    }

    fn loss(&mut self, _: u64, rng: &mut Rng, _: MicroBatch) -> Result<Tensor, training::Error> {
        let targets = &self.targets;
        let i = rng.below(targets.prompts.len() as i64, &[1]).int64_value(&[0]) as usize;
        let prompt = &targets.prompts[i];
        let n = prompt.batch_size.unwrap_or(self.batch).max(1);
        self.adapter.merge(prompt.multiplier);
        let asked = targets.asked[i].repeat(n);
        let negative = &targets.terms[i][2];
        let sample = self.partial(targets.shapes[i], &asked, negative, rng)?;
        let [neutral, positive, unconditional] = &targets.terms[i];
        let wanted = self.as_base(|| {
            let of = |text: &Conditioning| self.predict(&sample, &text.repeat(n));
            let (positive, unconditional) = (of(positive), of(unconditional));
            let begin = if prompt.neutral() == prompt.unconditional {
                unconditional.shallow_clone()
            } else {
                of(neutral)
            };
            target(&begin, &positive, &unconditional, prompt.eta())
        });
        let apart = |output: Tensor, wanted: Tensor| (output - wanted).square().mean(Kind::Float);
        let mut loss = apart(self.predict(&sample, &asked), wanted) * prompt.weight;
        if let Some(keep) = &targets.keep {
            let chosen = rng.below(keep.count(), &[n]).to_device(sample.latents.device());
            let asked = keep.select(&chosen);
            let sample = self
                .as_base(|| self.partial(self.model.latent_shape(), &asked, &targets.empty, rng))?;
            let wanted = self.as_base(|| self.predict(&sample, &asked));
            loss += apart(self.predict(&sample, &asked), wanted) * self.keep_weight;
        }
        self.adapter.carry(&loss, prompt.multiplier)
    }
}

impl LowRankGuidance<'_> {
    /// Without the adapter and without gradients.
    fn as_base<T>(&self, work: impl FnOnce() -> T) -> T {
        let _base = LentWeights::pointing(self.adapted.iter().map(|(_, w)| w), self.frozen);
        no_grad(work)
    }

    fn predict(&self, sample: &PartialSample, text: &Conditioning) -> Tensor {
        self.model.predict(&sample.latents, &sample.timesteps, text)
    }

    fn partial(
        &self,
        shape: [i64; 3],
        text: &Conditioning,
        negative: &Conditioning,
        rng: &mut Rng,
    ) -> Result<PartialSample, training::Error> {
        self.sampling.draw(self.model, shape, text, negative, rng)
    }
}
