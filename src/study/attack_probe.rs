//! What an attack takes, from a few steps of it against the model without an edit, on grey pictures
//! and before a judge that sees nothing.

use super::probe::{LONG, Probe, grown};
use super::session::Session;
use super::target::Target;
use crate::attack::{self, Attack, AttackContext, AttackTask, ConceptJudge, Exposure, Verdict};
use crate::generator::{ImageRequest, Model, Provenance};
use crate::pictures::Picture;
use crate::run::Error;
use crate::torch::{Kind, Peak, Tensor};
use crate::watch::Quiet;

/// What an attack takes.
pub(super) struct AttackProbe {
    /// Seconds of a step.
    pub step: f64,
    pub peak: Peak,
}

/// Tries an attack; `None` where it neither trains nor searches. Where a step takes long, batches
/// are put together from what one and two pictures take.
///
/// # Errors
/// The attack's.
pub(super) fn probe_attack(
    attack: &dyn Attack,
    session: &mut Session,
    target: &Target,
    seed: u64,
    requests: usize,
) -> Result<Option<AttackProbe>, Error> {
    let batch = attack.cost(requests).batch.clamp(1, requests.max(1));
    let mut of = |n: usize, steps: u64| -> Result<Option<(Probe, u64)>, Error> {
        let Some(short) = attack.shortened(steps) else { return Ok(None) };
        let cost = short.cost(n);
        let probe = attacked(&*short, session, target, seed, n)?;
        Ok(Some((probe, cost.training_steps() + cost.search_steps)))
    };
    let mut between = |n: usize, steps: u64| -> Result<Option<AttackProbe>, Error> {
        let (Some((one, few)), Some((more, many))) = (of(n, 1)?, of(n, steps)?) else {
            return Ok(None);
        };
        let step = (more.seconds - one.seconds).max(0.0) / many.saturating_sub(few).max(1) as f64;
        Ok(Some(AttackProbe { step, peak: one.peak.max(more.peak) }))
    };
    let Some(single) = between(1, 2)? else { return Ok(None) };
    if single.step < LONG {
        return between(batch, FEW);
    }
    if batch == 1 {
        return Ok(Some(single));
    }
    let Some(double) = between(2, 2)? else { return Ok(None) };
    let peak = grown(single.peak, double.peak, batch as u64 - 2);
    Ok(Some(AttackProbe { step: double.step, peak }))
}

/// Steps that are tried where they are fast.
const FEW: u64 = 6;

/// One attack.
fn attacked(
    attack: &dyn Attack,
    session: &mut Session,
    target: &Target,
    seed: u64,
    n: usize,
) -> Result<Probe, Error> {
    let side = session.side;
    let grey = Picture::filled(side as usize, side as usize, [128; 3]);
    let prompts = target.pairs.iter().map(|pair| pair.forget.clone()).chain([String::new()]);
    let prompts: Vec<String> = prompts.take(target.pairs.len().max(1)).cycle().take(n).collect();
    let requests: Vec<ImageRequest> = prompts
        .iter()
        .map(|prompt| ImageRequest { steps: 1, ..session.request(prompt.clone(), seed) })
        .collect();
    let shown: Vec<(Picture, String)> =
        prompts.iter().map(|prompt| (grey.clone(), prompt.clone())).collect();
    let mut exposure = if session.generator().synthesizer().is_some() {
        let pictures = attack.needs().training_images as i64;
        let samples = Tensor::zeros([pictures, 3, side, side], (Kind::Float, tch::Device::Cpu));
        Exposure::of_samples(samples, requests)
    } else {
        let words = target.words();
        Exposure::of_prompts(shown.clone(), shown, requests, &words)
    };
    exposure.base_images = vec![grey.clone(); n];
    exposure.other_images = vec![grey; n];
    exposure.other_requests.clone_from(&exposure.requests);
    exposure.pairs = target.pairs_of_prompts();
    let judge = SeesNothing { at_once: session.at_once() };
    let task =
        AttackTask { exposure: &exposure, judge: &judge, sampling: session.sampling(), seed };
    let device = session.generator().compute().device;
    Probe::of(device, || {
        let mut context = AttackContext {
            state: None,
            artifacts: None,
            shared: None,
            provenance: Provenance { model: "", sensitive: false },
            of: "",
            watch: &mut Quiet,
        };
        Ok(attack.attack(session.model(), &task, &mut context)?)
    })
}

/// Draws grey pictures, and sees the concept in none.
struct SeesNothing {
    at_once: usize,
}

impl ConceptJudge for SeesNothing {
    fn draw(
        &self,
        _: &Model<'_>,
        requests: &[ImageRequest],
    ) -> Result<Vec<Picture>, attack::Error> {
        let grey = |request: &ImageRequest| {
            Picture::filled(request.size.0 as usize, request.size.1 as usize, [128; 3])
        };
        Ok(requests.iter().map(grey).collect())
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    fn judge(&self, pictures: &[Picture]) -> Result<Vec<Verdict>, attack::Error> {
        Ok(vec![Verdict { shows: false, confirmed: None }; pictures.len()])
    }
}
