//! Trains one network by one loss to its end.

use std::path::Path;

use super::single_network::SingleNetwork;
use super::trainer::train_loop;
use super::{Error, Objective, TrainConfig};
use crate::torch::{Compute, Tensor};
use crate::watch::Watch;

/// What a training ended with.
#[derive(Debug)]
pub struct Outcome {
    /// The average of the weights, in the order of the objective's parameters; without an average,
    /// the weights.
    pub weights: Vec<Tensor>,
    /// The mean loss of the last steps.
    pub loss: f64,
}

/// Runs the objective to its end, from a checkpoint in `folder` where there is one.
///
/// `folder` gets `state.safetensors` and, one line a step, `scalars.jsonl`.
///
/// # Errors
/// Interruption (the state is saved), a loss that is no number or diverges, a state of another
/// training, a disk that is full.
pub fn train(
    objective: &mut dyn Objective,
    plan: &TrainConfig,
    compute: Compute,
    folder: Option<&Path>,
    watch: &mut dyn Watch,
) -> Result<Outcome, Error> {
    let mut network = SingleNetwork::new(objective, plan, compute)?;
    let end = train_loop(&mut network, plan, compute, folder, watch)?;
    Ok(Outcome { weights: network.into_weights(), loss: end.mean })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Device, Kind, MemoryMode, Precision, Rng};
    use crate::training::MicroBatch;
    use crate::watch::{InterruptAfter, Quiet, WarningRecorder};

    /// A line through noisy points, or worse.
    struct Line {
        w: Tensor,
        spoil: Option<f64>,
        /// Points that there is memory for.
        room: i64,
        loudness: f64,
    }

    impl Line {
        fn new(spoil: Option<f64>) -> Self {
            let w = Tensor::from_slice(&[0.5_f32, -0.5]).set_requires_grad(true);
            Self { w, spoil, room: 33, loudness: 1.0 }
        }
    }

    impl Objective for Line {
        fn name(&self) -> &'static str {
            "line"
        }

        fn parameters(&self) -> Vec<(String, Tensor)> {
            vec![("w".to_owned(), self.w.shallow_clone())]
        }

        fn splits(&self) -> bool {
            true
        }

        fn loss(&mut self, step: u64, rng: &mut Rng, share: MicroBatch) -> Result<Tensor, Error> {
            let rows = share.rows(33);
            let n = rows.end - rows.start;
            if n > self.room {
                let message = "CUDA out of memory. Tried to allocate 2.00 GiB".to_owned();
                return Err(crate::torch::Error::Stage { stage: "line".to_owned(), message }.into());
            }
            let x = rng.normal(&[33, 2]).narrow(0, rows.start, n);
            let apart = x.matmul(&self.w.unsqueeze(1)).squeeze_dim(1) - x.select(1, 0) * 3.0;
            let loss = apart.square().sum(Kind::Float) / 33.0 * self.loudness;
            Ok(match self.spoil {
                Some(factor) if step > 150 => loss * factor,
                _ => loss,
            })
        }
    }

    fn plan(steps: u64) -> TrainConfig {
        TrainConfig {
            ema: Some(0.9),
            cooldown: 0.5,
            clip: Some(1.0),
            warmup: 5,
            extends: true,
            ..TrainConfig::constant(steps, 0.05, 7)
        }
    }

    const HERE: Compute =
        Compute { device: Device::CPU, precision: Precision::F32, memory: MemoryMode::Fast };

    #[test]
    fn interrupted_and_resumed_ends_with_the_same_bytes() {
        let through = train(&mut Line::new(None), &plan(60), HERE, None, &mut Quiet).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for stop in [13, 14, 40] {
            let error = train(
                &mut Line::new(None),
                &plan(60),
                HERE,
                Some(folder.path()),
                &mut InterruptAfter(stop, 0),
            );
            assert!(matches!(error, Err(Error::Interrupted(_))));
        }
        let resumed =
            train(&mut Line::new(None), &plan(60), HERE, Some(folder.path()), &mut Quiet).unwrap();
        assert!(through.weights[0].equal(&resumed.weights[0]));
        let lines = fs_err::read_to_string(folder.path().join("scalars.jsonl")).unwrap();
        let steps: Vec<u64> = lines
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap()
            })
            .collect();
        assert_eq!(steps, (0..60).collect::<Vec<_>>());
    }

    #[test]
    fn it_learns() {
        let end = train(&mut Line::new(None), &plan(400), HERE, None, &mut Quiet).unwrap();
        assert!((end.weights[0].double_value(&[0]) - 3.0).abs() < 0.1, "{:?}", end.weights[0]);
    }

    #[test]
    fn too_little_memory_halves_the_steps_once() {
        let whole = train(&mut Line::new(None), &plan(60), HERE, None, &mut Quiet).unwrap();
        let in_room = |room: i64, compute: Compute, plan: &TrainConfig| {
            let mut said = WarningRecorder::default();
            let end = train(&mut Line { room, ..Line::new(None) }, plan, compute, None, &mut said);
            (end, said.0)
        };
        let (halved, said) = in_room(17, HERE, &plan(60));
        let apart = (&halved.unwrap().weights[0] - &whole.weights[0]).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart}");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(in_room(16, HERE, &plan(60)).0.unwrap_err().is_out_of_memory());
        // Where parameters move one by one, a step that failed cannot be done again.
        let low = Compute { memory: MemoryMode::Low, ..HERE };
        assert!(in_room(17, low, &TrainConfig { clip: None, ..plan(60) }).0.is_err());
    }

    #[test]
    fn f16_gradients_that_overflow_cost_a_step_and_no_more() {
        for memory in [MemoryMode::Fast, MemoryMode::Low] {
            let compute = Compute { precision: Precision::F16, memory, ..HERE };
            let folder = tempfile::tempdir().unwrap();
            let plan = TrainConfig { clip: None, ..plan(400) };
            let mut loud = Line { loudness: 100.0, ..Line::new(None) };
            let end = train(&mut loud, &plan, compute, Some(folder.path()), &mut Quiet).unwrap();
            assert!((end.weights[0].double_value(&[0]) - 3.0).abs() < 0.1, "{:?}", end.weights[0]);
            let about = crate::weights::Weights::open(&folder.path().join("state.safetensors"))
                .unwrap()
                .metadata();
            let scale: f64 = about["scale"].parse().unwrap();
            assert!((1.0..65536.0).contains(&scale), "{scale}");
        }
    }

    #[test]
    fn what_goes_wrong_is_noticed() {
        let nan = train(&mut Line::new(Some(f64::NAN)), &plan(400), HERE, None, &mut Quiet);
        assert!(matches!(nan, Err(Error::NotANumber { step: 151, .. })));
        let wild = train(&mut Line::new(Some(1e6)), &plan(400), HERE, None, &mut Quiet);
        assert!(matches!(wild, Err(Error::Diverged { .. })));
    }

    #[test]
    fn another_training_s_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let session = |plan: &TrainConfig, patience: u64| {
            train(
                &mut Line::new(None),
                plan,
                HERE,
                Some(folder.path()),
                &mut InterruptAfter(patience, 0),
            )
        };
        assert!(session(&plan(6), 3).is_err());
        // Longer while the rate is constant: yes. Another rate, or longer after it fell: no.
        let through = train(&mut Line::new(None), &plan(8), HERE, None, &mut Quiet).unwrap();
        let faster = TrainConfig { lr: 0.06, ..plan(8) };
        assert!(matches!(session(&faster, 99), Err(Error::OtherState { .. })));
        assert!(session(&plan(8), 99).unwrap().weights[0].equal(&through.weights[0]));
        assert!(matches!(session(&plan(10), 99), Err(Error::OtherState { .. })));
    }
}
