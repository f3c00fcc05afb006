//! Which weights the forget set's loss is most sensitive to (SalUn, section 4.1, equation 3): one
//! pass over its pictures that an interruption or too little memory does not undo.

use super::Error;
use super::encoded::{EncodedImages, EncodedPrompts};
use super::saliency::{GradientSums, MaskCache};
use crate::generator::Denoiser;
use crate::torch::{Kind, Rng, Tensor, grad_each, no_grad, stage};
use crate::training;
use crate::watch::Watch;
use crate::weights::save;

/// Of which loss and how many weights.
pub(super) struct SaliencyMask<'a> {
    pub(super) model: &'a dyn Denoiser,
    pub(super) texts: &'a EncodedPrompts,
    pub(super) forget: &'a EncodedImages,
    /// What is ranked.
    pub(super) parameters: &'a [(String, Tensor)],
    /// Share of the weights that it marks.
    pub(super) density: f64,
    /// The loss is that of the guided prediction `(1+g)·ε_c - g·ε_∅`.
    pub(super) guidance: Option<f64>,
    /// Pictures at once, where there is memory for so many.
    pub(super) batch: i64,
    /// What timesteps and noise are drawn from: a seed, and a name of its own.
    pub(super) seed: u64,
    pub(super) stream: &'static str,
}

impl SaliencyMask<'_> {
    /// One byte a weight: 1 where it may move. Read from `cache` where an earlier run got that
    /// far.
    ///
    /// # Errors
    /// An interruption, too little memory for a half of the batch, gradients without a threshold.
    pub(super) fn compute(
        &self,
        cache: Option<MaskCache>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Tensor>, Error> {
        if let Some(cache) = cache.filter(|cache| cache.mask().exists()) {
            let saved = cache.read(&cache.mask())?;
            cache.remove_sums()?;
            return self
                .parameters
                .iter()
                .map(|(name, tensor)| Ok(saved.tensor(name)?.to_device(tensor.device())))
                .collect::<Result<_, Error>>();
        }
        let masks = self.sums(cache, watch)?.threshold(self.density)?;
        if let Some(cache) = cache {
            let named: Vec<(String, Tensor)> = self
                .parameters
                .iter()
                .zip(&masks)
                .map(|((name, _), m)| (name.clone(), m.shallow_clone()))
                .collect();
            let about = [("density", self.density.to_string()), ("key", cache.key.to_owned())];
            save(&cache.mask(), &named, &about)?;
            cache.remove_sums()?;
        }
        Ok(masks)
    }

    /// The gradients of all pictures.
    fn sums<'s>(
        &'s self,
        cache: Option<MaskCache<'s>>,
        watch: &mut dyn Watch,
    ) -> Result<GradientSums<'s>, Error> {
        let mut sums = GradientSums::open(self.parameters, self.batch, cache)?;
        watch.begin("saliency mask", self.forget.len() as u64);
        watch.at(sums.pictures as u64, "");
        while sums.pictures < self.forget.len() {
            let n = sums.batch.min(self.forget.len() - sums.pictures);
            match stage("saliency mask", || self.add(&mut sums, n)) {
                Err(error)
                    if error.is_out_of_memory() && sums.batch == self.batch && self.batch > 1 =>
                {
                    let fewer = (self.batch + 1) / 2;
                    watch.warn(&format!(
                        "there is too little memory for a saliency mask of {} pictures at once; \
                         {fewer} are taken",
                        self.batch
                    ));
                    sums.begin_again(fewer);
                    continue;
                }
                other => other?,
            }
            sums.pictures += n;
            watch.at(sums.pictures as u64, "");
            let stop = watch.interrupted();
            sums.keep(stop)?;
            if stop {
                return Err(training::Error::Interrupted(0).into());
            }
        }
        watch.end();
        Ok(sums)
    }

    /// Adds the gradients of the next `n` pictures.
    fn add(&self, sums: &mut GradientSums, n: i64) -> Result<(), Error> {
        let (model, schedule) = (self.model, self.model.schedule());
        let device = model.compute().device.tch();
        let start = sums.pictures;
        let mut rng = Rng::for_step(self.seed, self.stream, start as u64);
        let rows = Tensor::arange_start(start, start + n, (Kind::Int64, device));
        let _scope = model.compute().scope();
        let clean = self.forget.sample(&rows, &mut rng);
        let noise = rng.normal(&clean.size()).to_device(device);
        let timesteps = rng.below(schedule.steps(), &[n]).to_device(device);
        let noisy = schedule.add_noise(&clean, &noise, &timesteps);
        let text = self.texts.forget.select(&self.forget.prompts.index_select(0, &rows));
        let mut output = model.predict(&noisy, &timesteps, &text);
        if let Some(g) = self.guidance {
            let empty = self.texts.empty.repeat(text.count());
            let without = model.predict(&noisy, &timesteps, &empty);
            output = output * (1.0 + g) - without * g;
        }
        let target = schedule.target(&clean, &noise, &timesteps);
        // Weighted by its size, so that a last, smaller batch counts for what it holds.
        let loss = (output - target).square().mean(Kind::Float) * n as f64;
        let tensors: Vec<&Tensor> = self.parameters.iter().map(|(_, tensor)| tensor).collect();
        Ok(grad_each(&loss, &tensors, &mut |i, gradient| {
            let _ = no_grad(|| sums.tensors[i].g_add_(&gradient));
            Ok(())
        })?)
    }
}
