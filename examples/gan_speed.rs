//! How fast a StyleGAN2 with random weights draws and learns here: one line of JSON for each row.
//!
//! `cargo run --release --example gan_speed -- DEVICE SIZE CHANNELS BATCH STEPS` with CHANNELS as
//! `192,128,96,48,24` or `f` (config F). `benches/peer_gan.py` does the same in plain PyTorch;
//! `benches/gan.sh` puts both side by side.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::Instant;

use unsee::erasure::{
    AdaptThenUnlearn, Adaptation, Context, Distance, Feedback, Method as _, Repulsion,
    StopSettings, Task,
};
use unsee::generator::{Generator as _, ImageRequest, Model, StyleGan2, Synthesizer as _};
use unsee::model::Builder;
use unsee::model::stylegan2::{Discriminator, GeneratorNetwork, StyleGan2Config};
use unsee::torch::{Compute, Device, Peak, Precision, Tensor};
use unsee::training::{FixedImages, GanConfig, GanTraining, TrainConfig, train_gan};
use unsee::watch::{Quiet, Watch};
use unsee::weights::save;

type Failure = Box<dyn std::error::Error>;

/// Remembers when each step of a piece of work was done.
#[derive(Default)]
struct Times(Vec<(String, Vec<Instant>)>);

impl Watch for Times {
    fn begin(&mut self, what: &str, _: u64) {
        self.0.push((what.to_owned(), vec![Instant::now()]));
    }
    fn at(&mut self, done: u64, _: &str) {
        if let (Some((_, times)), true) = (self.0.last_mut(), done > 0) {
            times.push(Instant::now());
        }
    }
    fn interrupted(&self) -> bool {
        false
    }
}

impl Times {
    /// Mean seconds of a step, without the first one.
    fn step(&self, what: &str) -> f64 {
        let found = self.0.iter().rfind(|(name, _)| name == what);
        let times = found.map_or(&[][..], |(_, times)| times);
        let [_, first, .., last] = times else { return f64::NAN };
        (*last - *first).as_secs_f64() / (times.len() - 2) as f64
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, size, channels, batch, steps] = arguments.as_slice() else {
        return Err(
            "DEVICE SIZE CHANNELS BATCH STEPS, for example: cpu 64 192,128,96,48,24 16 16".into()
        );
    };
    let (size, batch, steps): (i64, i64, u64) = (size.parse()?, batch.parse()?, steps.parse()?);
    let device = Device::open(device.parse()?)?;
    // As the program does: exact products on a GPU too, and memory that is kept.
    unsee::torch::keep_memory();
    let compute = Compute::new(device, Precision::choose(Some(Precision::F32), device)?);
    let config = if channels == "f" {
        StyleGan2Config::published(size, 512, 8, 2.0)
    } else {
        let channels = channels.split(',').map(str::parse).collect::<Result<_, _>>()?;
        StyleGan2Config { size, style_dim: 128, mapping_layers: 4, channels, group: 4, clamp: None }
    };

    // Random weights, in a file as they would come.
    let folder = std::env::temp_dir().join(format!("gan-speed-{}", std::process::id()));
    let file = folder.join("stylegan2.safetensors");
    {
        let g = GeneratorNetwork::new(&config, Builder::fresh(1, Device::CPU))?;
        let d = Discriminator::new(&config, Builder::fresh(2, Device::CPU))?;
        let named = |prefix: &'static str, tensors: Vec<(String, Tensor)>| {
            tensors.into_iter().map(move |(name, tensor)| (format!("{prefix}.{name}"), tensor))
        };
        let all: Vec<_> = named("g_ema", g.parameters().named())
            .chain(named("d", d.parameters().named()))
            .collect();
        save(&file, &all, &[])?;
    }
    let outcome = measure(&file, compute, batch, steps);
    std::fs::remove_dir_all(folder)?;
    outcome
}

/// One row of the results.
fn say(what: &str, value: f64, unit: &str) {
    println!("{{\"what\": \"{what}\", \"value\": {value}, \"unit\": \"{unit}\"}}");
}

fn measure(
    file: &std::path::Path,
    compute: Compute,
    batch: i64,
    steps: u64,
) -> Result<(), Failure> {
    let mut model = StyleGan2::load(file, compute)?;
    measure_drawing(&model)?;
    let gan = GanConfig { batch, style_mixing: 0.0, ..GanConfig::default() };
    measure_training(&model, &gan, steps)?;
    // Around each other: whatever comes later is a little slower in a long process.
    for models in [5, 1, 5] {
        measure_unlearning(&mut model, &gan, models, steps)?;
    }
    Ok(())
}

fn measure_drawing(model: &StyleGan2) -> Result<(), Failure> {
    let side = model.card().side;
    for n in [1_u64, 16, 64] {
        let requests: Vec<ImageRequest> =
            (0..n).map(|seed| ImageRequest::of_seed(seed, 1.0, side)).collect();
        model.draw(&requests, &mut Quiet)?;
        let rounds = (64 / n).clamp(2, 16);
        let began = Instant::now();
        for _ in 0..rounds {
            model.draw(&requests, &mut Quiet)?;
        }
        say(
            &format!("draw, batch {n}"),
            (n * rounds) as f64 / began.elapsed().as_secs_f64(),
            "pictures/s",
        );
    }
    Ok(())
}

/// A GAN training on pictures of the generator's own.
fn measure_training(model: &StyleGan2, gan: &GanConfig, steps: u64) -> Result<(), Failure> {
    let compute = model.compute();
    let real_images =
        FixedImages::new(&model.sample(&(0..64).collect::<Vec<u64>>())?, compute.device);
    let parameters = model.parameters();
    let discriminator = model.discriminator()?;
    let all: Vec<Tensor> = parameters
        .iter()
        .map(|(_, parameter)| parameter.shallow_clone())
        .chain(discriminator.parameters().named_leaves().into_iter().map(|(_, leaf)| leaf))
        .collect();
    let train = |on: bool| all.iter().for_each(|tensor| drop(tensor.set_requires_grad(on)));
    train(true);
    Peak::reset(compute.device);
    let mut times = Times::default();
    let training = GanTraining {
        parameters,
        ..GanTraining::between("training", model.network(), discriminator, &real_images, gan)
    };
    train_gan(training, &TrainConfig::constant(steps + 1, 2e-3, 0), compute, None, &mut times)?;
    say(&format!("training step, batch {}", gan.batch), times.step("training"), "s");
    let peak = Peak::read(compute.device);
    let bytes = if compute.device.is_cuda() { peak.device } else { peak.host };
    say("peak memory of training", bytes as f64 / f64::from(1 << 20), "MiB");
    train(false);
    Ok(())
}

/// Stage 2 of Adapt-then-Unlearn, away from so many adapted models.
fn measure_unlearning(
    model: &mut StyleGan2,
    gan: &GanConfig,
    models: usize,
    steps: u64,
) -> Result<(), Failure> {
    let seeds: Vec<u64> = (0..32).collect();
    let feedback = Feedback {
        concept: "nothing".to_owned(),
        negatives: seeds.clone(),
        positives: seeds,
        seed: 0,
        evaluator: None,
    };
    let method = AdaptThenUnlearn {
        adapt: Adaptation {
            models,
            steps: 1,
            lambda: 0.0,
            gan: gan.clone(),
            ..Adaptation::default()
        },
        steps: steps + 1,
        gan: gan.clone(),
        // The GAN training and the repulsion alone, as the peer has them.
        cooldown: 0.0,
        oversample: 0.0,
        retain_weight: 0.0,
        negative_share: 0.0,
        repulsion: Repulsion {
            distance: Distance::Paper,
            gamma: Some(0.1),
            ..Repulsion::default()
        },
        stop: StopSettings { every: 0, ..StopSettings::default() },
        ..AdaptThenUnlearn::default()
    };
    let mut times = Times::default();
    let task = Task {
        concept: "x",
        pairs: &[],
        keep: &[],
        seed: 0,
        images: None,
        feedback: Some(&feedback),
    };
    let mut context = Context { state: None, label: "adapt-then-unlearn", watch: &mut times };
    method.erase(Model::Gan(model), &task, &mut context)?;
    say(
        &format!("stage 2 step, {models} adapted, batch {}", gan.batch),
        times.step("unlearning"),
        "s",
    );
    Ok(())
}
