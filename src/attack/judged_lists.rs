//! What judges say of lists of pictures that are looked at once each, kept while they are drawn.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{AttackContext, AttackTask, Error, Verdict};
use crate::checkpoint_timer::CheckpointTimer;
use crate::files::{read_json, write_json};
use crate::generator::{self, ImageRequest, Model};
use crate::pictures::Picture;

/// Draws and judges lists, batch by batch, from where an earlier session stopped.
pub(super) struct JudgedLists<'a, 'm> {
    model: &'a Model<'m>,
    task: &'a AttackTask<'a>,
    file: Option<PathBuf>,
    known: KnownVerdicts,
}

#[derive(Default, Serialize, Deserialize)]
struct KnownVerdicts {
    /// The model that is attacked.
    of: String,
    /// By the list's name.
    lists: BTreeMap<String, Vec<Verdict>>,
}

impl<'a, 'm> JudgedLists<'a, 'm> {
    pub(super) fn open(
        model: &'a Model<'m>,
        task: &'a AttackTask<'a>,
        context: &AttackContext<'_>,
    ) -> Self {
        let file = context.state.map(|folder| folder.join("judged.json"));
        let known = file.as_deref().and_then(read_json);
        let known = known.filter(|known: &KnownVerdicts| known.of == context.of);
        let new = KnownVerdicts { of: context.of.to_owned(), ..KnownVerdicts::default() };
        Self { model, task, file, known: known.unwrap_or(new) }
    }

    /// What judges say of a list's pictures as the model draws them now; `seen` is shown each that
    /// was not judged before.
    ///
    /// # Errors
    /// Whatever stops the drawing, the judge or `seen`; interruption.
    pub(super) fn judge(
        &mut self,
        name: &str,
        requests: &[ImageRequest],
        context: &mut AttackContext<'_>,
        mut seen: impl FnMut(usize, &Picture, Verdict, &AttackContext<'_>) -> Result<(), Error>,
    ) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = self.known.lists.remove(name).unwrap_or_default();
        let mut timer = CheckpointTimer::default();
        context.watch.begin(name, requests.len() as u64);
        let judge = self.task.judge;
        while verdicts.len() < requests.len() {
            let done = verdicts.len();
            context.watch.at(done as u64, "");
            if context.watch.interrupted() {
                self.keep(name, verdicts)?;
                return Err(generator::Error::Interrupted.into());
            }
            if timer.is_over() {
                timer.after(|| self.keep(name, verdicts.clone()))?;
            }
            let batch = &requests[done..(done + judge.at_once().max(1)).min(requests.len())];
            let pictures = judge.draw(self.model, batch)?;
            for (picture, verdict) in pictures.iter().zip(judge.judge(&pictures)?) {
                seen(verdicts.len(), picture, verdict, context)?;
                verdicts.push(verdict);
            }
        }
        context.watch.end();
        self.keep(name, verdicts.clone())?;
        Ok(verdicts)
    }

    fn keep(&mut self, name: &str, verdicts: Vec<Verdict>) -> Result<(), Error> {
        self.known.lists.insert(name.to_owned(), verdicts);
        match &self.file {
            Some(file) => Ok(write_json(file, &self.known)?),
            None => Ok(()),
        }
    }
}
