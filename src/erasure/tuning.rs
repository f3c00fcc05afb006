//! A generator and its discriminator go on learning, from samples instead of the pictures that they were made from. Both
//! are left as they were.

use std::path::Path;

use super::feedback::{Examiner, Grade, Stop};
use super::{Error, Feedback};
use crate::generator::Synthesizer;
use crate::torch::{Tensor, no_grad};
use crate::training::{self, Contest, Exam, Plan, Pull, Reals, Rivals, Rules, compete};
use crate::watch::Watch;

/// What is learned, and how.
pub(super) struct Tuning<'a> {
    /// A short name; part of the seed of every step.
    pub name: &'static str,
    /// What passes for real.
    pub reals: &'a dyn Reals,
    pub rules: &'a Rules,
    pub plan: &'a Plan,
    /// What else moves the generator.
    pub pull: Option<&'a mut dyn Pull>,
    /// When it is enough.
    pub stop: Option<Stop>,
    /// Beginnings of the names of the parameters that move; all where there is none.
    pub parameters: &'a [String],
}

/// The parameters that move.
pub(super) fn chosen(model: &dyn Synthesizer, parameters: &[String]) -> Result<Vec<(String, Tensor)>, Error> {
    let all = model.parameters();
    let takes = |name: &str| {
        let bare = name.strip_prefix("g.").unwrap_or(name);
        parameters.is_empty() || parameters.iter().any(|start| bare.starts_with(start.as_str()))
    };
    if let Some(start) = parameters.iter().find(|start| {
        !all.iter().any(|(name, _)| name.strip_prefix("g.").unwrap_or(name).starts_with(start.as_str()))
    }) {
        return Err(Error::Task(format!(
            "no parameter of the generator begins with `{start}`; its layers are style, input, conv1, to_rgb1, convs.N and to_rgbs.N"
        )));
    }
    Ok(all.into_iter().filter(|(name, _)| takes(name)).collect())
}

impl Tuning<'_> {
    /// Learns, and gives the averages of the parameters that moved by name.
    pub(super) fn run(
        self,
        model: &dyn Synthesizer,
        feedback: &Feedback,
        state: Option<&Path>,
        watch: &mut dyn Watch,
    ) -> Result<(Vec<(String, Tensor)>, Rivals), Error> {
        let moves = chosen(model, self.parameters)?;
        let discriminator = model.discriminator()?;
        let (batch, group) = (self.rules.batch, model.network().config().group);
        if batch > group && batch % group != 0 {
            return Err(Error::Task(format!(
                "a batch of {batch} pictures cannot be compared in groups of {group}, as this discriminator does; take a multiple of {group}"
            )));
        }
        let against = discriminator.parameters().named_leaves();
        let all: Vec<&Tensor> = moves.iter().chain(&against).map(|(_, own)| own).collect();
        let before: Vec<Tensor> = no_grad(|| all.iter().map(|own| own.detach().copy()).collect());
        let train = |on: bool| all.iter().for_each(|own| drop(own.set_requires_grad(on)));
        train(true);
        let stop = self.stop.filter(|stop| stop.every > 0).zip(feedback.examiner);
        let mut exam = stop.map(|(stop, examiner)| Examination { model, examiner, stop, last: None });
        let contest = Contest {
            name: self.name,
            generator: model.network(),
            moves: moves.iter().map(|(name, own)| (name.clone(), own.shallow_clone())).collect(),
            discriminator,
            reals: self.reals,
            rules: self.rules,
            guide: None,
            pull: match self.pull {
                Some(pull) => Some(pull),
                None => None,
            },
            exam: exam.as_mut().map(|exam| exam as &mut dyn Exam),
        };
        let outcome = compete(contest, self.plan, model.place(), state, watch);
        train(false);
        no_grad(|| {
            for (own, before) in all.iter().zip(&before) {
                own.detach().copy_(before);
            }
        });
        if let Some(grade) = exam.and_then(|exam| exam.last) {
            watch.note(&format!(
                "{}: {:.1} % of {} unlearned, damage {:.2}",
                self.name,
                grade.unlearned * 100.0,
                feedback.concept,
                grade.damage
            ));
        }
        let mut rivals = outcome?;
        let averages = std::mem::take(&mut rivals.average);
        Ok((moves.into_iter().map(|(name, _)| name).zip(averages).collect(), rivals))
    }
}

/// Looks now and then how far the erasure has come.
struct Examination<'a> {
    model: &'a dyn Synthesizer,
    examiner: &'a Examiner<'a>,
    stop: Stop,
    last: Option<Grade>,
}

impl Exam for Examination<'_> {
    fn every(&self) -> u64 {
        self.stop.every
    }

    fn grade(&mut self, _step: u64, _watch: &mut dyn Watch) -> Result<Option<f64>, training::Error> {
        let grade = (self.examiner)(self.model).map_err(|error| training::Error::Exam(error.to_string()))?;
        self.last = Some(grade);
        Ok((grade.damage <= self.stop.damage).then_some(grade.unlearned))
    }

    fn pass(&self) -> f64 {
        self.stop.unlearned
    }
}
