//! SalUn: saliency unlearning (Fan et al. 2024, arXiv 2310.12508).
//!
//! Only the weights that the forget set's loss is most sensitive to may move (section 4.1, equation
//! 3: a mask from the gradient's magnitude under one global threshold). They are trained so that
//! the concept's prompts give what another prompt gives, while a remaining set is learned as usual
//! (equation 6): `L = E‖ε_θ(z_t | c) - sg ε(z_t | c')‖² + α E‖ε_θ(z_r | c_r) - ε‖²`.
//!
//! `variant = "official"` keeps what the published code (at 2026-02) does otherwise: the mask's
//! loss is that of the guided prediction `(1+g)·ε_c - g·ε_∅` with g = 7.5, the mask is ranked over
//! the whole UNet even where less is trained, the target network is the one that is being trained,
//! and the two forget predictions see two samples of the autoencoder. What was a plain bug in it
//! (batches that never advanced, a mask that was never applied) is not kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::encoded::{EncodedImages, EncodedPrompts};
use super::method::denoiser_of;
use super::relabelling::{Pseudo, Relabelling, TargetNetwork};
use super::saliency::MaskCache;
use super::saliency_mask::SaliencyMask;
use super::{Context, Cost, Error, Method, Needs, ParameterSubset, Task, TrainingImages, Variant};
use crate::generator::{Component, Model, ModelCard};
use crate::settings::Configurable;
use crate::torch::Tensor;
use crate::training::{LentWeights, TrainConfig, train};
use crate::weights::Edit;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SalUn {
    /// Share of the weights that may move.
    pub density: f64,
    /// Which parameters may move at all.
    pub parameters: ParameterSubset,
    /// What the concept's prompts are to give.
    pub pseudo: Pseudo,
    /// Which network says what that is; as a variant has it where nothing is said: the base
    /// (`paper`), or the one that is being trained (`official`).
    pub target_network: Option<TargetNetwork>,
    /// Weight of the remaining set's loss.
    pub alpha: f64,
    /// Adam's learning rate.
    pub lr: f64,
    /// Training steps.
    pub steps: u64,
    /// Share of the steps, the last ones, over which the learning rate falls to nothing: falling,
    /// the end depends less on the last few batches. Where nothing is said, 0.5, and with
    /// `official` 0: constant to the end.
    pub cooldown: Option<f64>,
    /// Pictures of each set in a step.
    pub batch: i64,
    /// `paper` or `official`.
    pub variant: Variant,
}

impl Default for SalUn {
    fn default() -> Self {
        Self {
            density: 0.5,
            parameters: ParameterSubset::Full,
            pseudo: Pseudo::Anchor,
            target_network: None,
            alpha: 1.0,
            lr: 5e-5,
            steps: 200,
            cooldown: None,
            batch: 24,
            variant: Variant::Paper,
        }
    }
}

/// Guidance in the official mask's loss.
const OFFICIAL_GUIDANCE: f64 = 7.5;

impl SalUn {
    /// The settings with all that their variant decides.
    #[must_use]
    pub fn effective(self) -> Self {
        let (network, cooldown) = match self.variant {
            Variant::Paper => (TargetNetwork::Frozen, 0.5),
            Variant::Official => (TargetNetwork::Current, 0.0),
        };
        Self {
            target_network: self.target_network.or(Some(network)),
            cooldown: self.cooldown.or(Some(cooldown)),
            ..self
        }
    }
}

impl Configurable for SalUn {
    fn name(&self) -> &'static str {
        "salun"
    }

    fn settings(&self) -> Value {
        serde_json::json!(self.clone().effective())
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |why: String| Err(why);
        if !(self.density > 0.0 && self.density <= 1.0) {
            return wrong(format!(
                "SalUn's density is {}; it is a share above 0 and up to 1",
                self.density
            ));
        }
        if let Some(cooldown) = self.cooldown.filter(|cooldown| !(0.0..=1.0).contains(cooldown)) {
            return wrong(format!(
                "SalUn's cooldown is {cooldown}; it is a share of the steps, 0 to 1"
            ));
        }
        if self.steps < 1 {
            return wrong("SalUn's steps are 0; at least 1 is needed".to_owned());
        }
        if self.batch < 1 {
            return wrong(format!("SalUn's batch is {}; at least 1 picture is needed", self.batch));
        }
        if self.lr.is_nan() || self.lr <= 0.0 || self.alpha.is_nan() || self.alpha < 0.0 {
            return wrong(format!(
                "SalUn's lr is {} and alpha {}; lr is above 0, alpha at least 0",
                self.lr, self.alpha
            ));
        }
        Ok(())
    }
}

impl Method for SalUn {
    fn needs(&self) -> Needs {
        Needs {
            forget_images: true,
            keep_images: self.alpha > 0.0,
            keep_prompts: self.pseudo != Pseudo::Anchor,
            ..Needs::PROMPTS
        }
    }

    fn cost(&self) -> Cost {
        Cost { steps: self.steps, batch: self.batch, passes: 1, ..Cost::default() }
    }

    fn shortened(&self, steps: u64, batch: i64) -> Option<Box<dyn Method>> {
        Some(Box::new(Self { steps, batch, ..self.clone() }))
    }

    fn erase(&self, model: Model, task: &Task, context: &mut Context) -> Result<Edit, Error> {
        self.check().map_err(Error::Task)?;
        let model = &*denoiser_of(model, self.name())?;
        let images = self.images(task)?;
        let settings = self.clone().effective();
        let texts = EncodedPrompts::new(model, task)?;
        let forget = EncodedImages::new(model, &images.forget)?
            .ok_or_else(|| Error::Task("there is nothing to forget".to_owned()))?;
        let remain = EncodedImages::new(model, &images.remain)?;

        let chosen = self.parameters.of(model)?;
        let official = self.variant == Variant::Official;
        let all = model.parameters(Component::Unet);
        let ranked = if official { &all } else { &chosen };
        let recipe = task.recipe(self);
        let key = key(model.card(), &recipe, images);
        let state = context.own_state();
        let cache = state.as_deref().map(|folder| MaskCache { folder, key: &key });
        let saliency = SaliencyMask {
            model,
            texts: &texts,
            forget: &forget,
            parameters: ranked,
            density: self.density,
            guidance: official.then_some(OFFICIAL_GUIDANCE),
            batch: self.batch,
            seed: task.seed,
            stream: "salun mask",
        };
        let masks = saliency.compute(cache, context.watch)?;
        let masks: Vec<Tensor> = chosen
            .iter()
            .filter_map(|(name, _)| ranked.iter().position(|(other, _)| other == name))
            .map(|i| masks[i].shallow_clone())
            .collect();

        // Whatever happens, the model is the base again in the end.
        let lent = LentWeights::restoring(chosen.iter().map(|(_, tensor)| tensor));
        let base = lent.originals();
        let mut objective = Relabelling {
            name: self.name(),
            pseudo: self.pseudo,
            target_network: settings.target_network.unwrap_or(TargetNetwork::Frozen),
            samples_twice: official,
            alpha: self.alpha,
            batch: self.batch,
            model,
            texts: &texts,
            forget: &forget,
            remain: remain.as_ref(),
            chosen: &chosen,
            base,
            masks: &masks,
            seed: task.seed,
            key: &key,
        };
        let plan = TrainConfig {
            cooldown: settings.cooldown.unwrap_or(0.0),
            ..TrainConfig::constant(self.steps, self.lr, task.seed)
        };
        let outcome =
            train(&mut objective, &plan, model.compute(), state.as_deref(), context.watch);
        let weights = outcome?.weights;
        let tensors = chosen
            .iter()
            .zip(weights)
            .zip(base)
            .filter(|((_, weight), base)| !weight.equal(base))
            .map(|(((name, _), weight), _)| (name.clone(), weight))
            .collect();
        Ok(Edit { base: model.card().hash.clone(), recipe, tensors, ..Edit::default() })
    }
}

impl SalUn {
    /// The task's pictures, where they are all that it needs.
    fn images<'t>(&self, task: &'t Task) -> Result<&'t TrainingImages, Error> {
        let images = task.images()?;
        if let Some(complaint) = images.complaint(task.concept, task.pairs.len(), task.keep.len()) {
            return Err(Error::Task(complaint));
        }
        if self.alpha > 0.0 && images.remain.is_empty() {
            return Err(Error::Task(
                "SalUn needs pictures to keep; give some, or set alpha = 0".to_owned(),
            ));
        }
        Ok(images)
    }
}

/// Of all that an erasure depends on: what is kept on the way is of it alone.
fn key(card: &ModelCard, recipe: &str, images: &TrainingImages) -> String {
    let mut key = blake3::Hasher::new();
    for part in [&card.hash, &card.settings, recipe, &images.fingerprint()] {
        key.update(part.as_bytes());
    }
    key.finalize().to_hex()[..24].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erasure::{Pair, PromptedImage};
    use crate::generator::{
        Adapter, Conditioning, Denoiser, Error as Fault, Generator, ImageRequest,
        LatentDistribution, MergedAdapters,
    };
    use crate::pictures::Picture;
    use crate::sampler::{Schedule, SchedulerConfig};
    use crate::torch::{Compute, Device, Kind, Precision, Rng};
    use crate::watch::{WarningRecorder, Watch};
    use crate::weights::EmaChoice;

    /// A denoiser of one matrix that has memory for so many pictures at once.
    struct Toy {
        card: ModelCard,
        schedule: Schedule,
        w: Tensor,
        room: i64,
        /// As `room`, where no gradient is asked for.
        quiet_room: i64,
    }

    impl Toy {
        fn new(room: i64) -> Self {
            let config: SchedulerConfig = serde_json::from_str("{}").unwrap();
            let card = ModelCard { hash: "h".to_owned(), side: 2, ..ModelCard::default() };
            let w = (Rng::new(1).normal(&[12, 12]) * 0.1).set_requires_grad(true);
            Self { card, schedule: Schedule::new(&config).unwrap(), w, room, quiet_room: room }
        }
    }

    impl Generator for Toy {
        fn card(&self) -> &ModelCard {
            &self.card
        }
        fn compute(&self) -> Compute {
            Compute::new(Device::CPU, Precision::F32)
        }
        fn draw(&self, _: &[ImageRequest], _: &mut dyn Watch) -> Result<Vec<Picture>, Fault> {
            Ok(Vec::new())
        }
        fn apply(&mut self, _: &Edit) -> Result<(), Fault> {
            Ok(())
        }
        fn lay(&self, _: &[Adapter], _: EmaChoice) -> Result<MergedAdapters, Fault> {
            unreachable!("nothing is laid onto it")
        }
        fn model(&mut self) -> Model<'_> {
            Model::Diffusion(self)
        }
        fn tensor_names(&self) -> Vec<String> {
            Vec::new()
        }
        fn base_tensor(&self, name: &str) -> Result<Tensor, Fault> {
            Err(Fault::Request(name.to_owned()))
        }
    }

    impl Denoiser for Toy {
        /// A prompt's length.
        fn token_ids(&self, prompts: &[&str]) -> Tensor {
            let ids: Vec<i64> = prompts.iter().map(|text| text.len() as i64).collect();
            Tensor::from_slice(&ids)
        }
        fn embed(&self, ids: &Tensor) -> Tensor {
            let ids = Vec::<i64>::try_from(ids).unwrap();
            let rows: Vec<Tensor> =
                ids.iter().map(|id| Rng::new(*id as u64).normal(&[1, 12])).collect();
            Tensor::stack(&rows, 0)
        }
        fn encode(&self, embeddings: &Tensor) -> Conditioning {
            Conditioning { states: embeddings.shallow_clone() }
        }
        fn decode(&self, latents: &Tensor) -> Tensor {
            latents.shallow_clone()
        }
        fn latent_shape(&self) -> [i64; 3] {
            [3, 2, 2]
        }
        fn latents(&self, requests: &[ImageRequest]) -> Tensor {
            Tensor::zeros([requests.len() as i64, 3, 2, 2], (Kind::Float, tch::Device::Cpu))
        }
        fn tokens(&self, prompt: &str) -> Vec<i64> {
            prompt.bytes().map(i64::from).collect()
        }
        fn text_of(&self, tokens: &[i64]) -> String {
            tokens.iter().map(|&token| token as u8 as char).collect()
        }
        fn vocabulary(&self) -> i64 {
            256
        }
        fn predict(&self, latents: &Tensor, _: &Tensor, conditioning: &Conditioning) -> Tensor {
            let output = (latents.flatten(1, 3) + conditioning.states.flatten(1, 2))
                .matmul(&self.w)
                .tanh()
                .view_as(latents);
            let room = if output.requires_grad() { self.room } else { self.quiet_room };
            assert!(latents.size()[0] <= room, "CUDA out of memory");
            output
        }
        fn schedule(&self) -> &Schedule {
            &self.schedule
        }
        fn encode_pictures(&self, pictures: &[Picture]) -> Result<LatentDistribution, Fault> {
            let each: Vec<Tensor> = pictures
                .iter()
                .map(|p| Tensor::from_slice(&p.rgb).to_kind(Kind::Float) / 255.0)
                .collect();
            let mean = Tensor::stack(&each, 0).view([-1, 3, 2, 2]);
            Ok(LatentDistribution { deviation: mean.zeros_like() + 0.1, mean })
        }
        fn parameters(&self, _: Component) -> Vec<(String, Tensor)> {
            vec![("unet.w".to_owned(), self.w.shallow_clone())]
        }
    }

    #[test]
    fn halves_of_a_step_are_the_whole() {
        let example = |prompt| PromptedImage {
            picture: Picture {
                width: 2,
                height: 2,
                rgb: (0..12).map(|i| (i * 20 + prompt) as u8).collect(),
            },
            prompt,
        };
        let pairs = [Pair { forget: "a".to_owned(), anchor: "bb".to_owned() }];
        let keep = ["ccc".to_owned(), "dddd".to_owned()];
        let images = TrainingImages {
            forget: vec![example(0); 5],
            remain: vec![example(0), example(1), example(1)],
        };
        let task = Task {
            concept: "x",
            pairs: &pairs,
            keep: &keep,
            seed: 3,
            images: Some(&images),
            feedback: None,
        };
        let erase = |salun: &SalUn, toy: &mut Toy, watch: &mut dyn Watch| {
            let mut context = Context { state: None, label: "salun", watch };
            salun.erase(Model::Diffusion(toy), &task, &mut context)
        };
        for (pseudo, variant) in
            [(Pseudo::Random, Variant::Paper), (Pseudo::Next, Variant::Official)]
        {
            let salun = SalUn {
                density: 1.0,
                batch: 5,
                steps: 6,
                lr: 1e-2,
                pseudo,
                variant,
                ..SalUn::default()
            };
            let erased = |room: i64| {
                let mut said = WarningRecorder::default();
                let mut toy = Toy::new(room);
                let edit = erase(&salun, &mut toy, &mut said);
                (edit.map(|mut edit| edit.tensors.remove(0).1), said.0)
            };
            let (whole, quiet) = erased(10);
            assert!(quiet.is_empty());
            // Ten rows at once for a step, three of each set for its larger half.
            let (halved, said) = erased(6);
            let apart = (halved.unwrap() - whole.unwrap()).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{apart}");
            assert_eq!(said.len(), 1, "{said:?}");
            // The target's prediction alone is too much: the base must be none the worse.
            let mut toy = Toy { quiet_room: 3, ..Toy::new(10) };
            let before = toy.w.detach().copy();
            let edit = erase(&salun, &mut toy, &mut WarningRecorder::default()).unwrap();
            let again = erased(10).0.unwrap();
            assert!((&edit.tensors[0].1 - again).abs().max().double_value(&[]) < 1e-6);
            assert!(toy.w.detach().equal(&before));
            // A mask of five and halves of three are too much as well.
            let (nothing, said) = erased(2);
            assert!(nothing.unwrap_err().is_out_of_memory());
            assert_eq!(said.len(), 1, "{said:?}");
        }
    }
}
