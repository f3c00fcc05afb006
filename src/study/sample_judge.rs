//! What judges see in a generator's samples: a class each, how surely, and features by which sets
//! of them are compared.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::protocol::Run;
use super::reference_judge::ReferenceJudge;
use super::samples::Sample;
use crate::judge::{
    Error as JudgeError, Evidence, Features, ImageJudge, Judge, JudgeCard, Question,
};
use crate::measure::{AnswerSet, Domain, JudgedSamples, recognised_by};
use crate::pictures::Picture;
use crate::run::Error;
use crate::run::evidence::{EvidenceFile, JudgedImage};
use crate::run::judging::judge_pictures;
use crate::torch::{Device, Tensor};
use crate::watch::Watch;
use crate::weights::{Weights, save};

/// What was seen in one generator's pictures.
pub(super) struct SeenSamples {
    pub(super) judged: Vec<JudgedImage<Sample>>,
    pub(super) samples: JudgedSamples,
}

/// Who names classes, and by whose features sets of pictures are compared.
pub(super) struct SampleJudge {
    pub(super) reference: ReferenceJudge,
    pub(super) features: Features,
    pub(super) device: Device,
}

impl SampleJudge {
    /// Judges pictures, and looks at their features, which an earlier session may have left.
    pub(super) fn see(
        &self,
        set: &AnswerSet,
        subject: &str,
        pictures: &[(Sample, PathBuf)],
        run: &mut Run,
    ) -> Result<SeenSamples, Error> {
        let watch = &mut *run.watch;
        let mut evidence = EvidenceFile::open(&run.folder.path("evidence.jsonl"), watch)?;
        let judge = JudgeWithFeatures {
            judge: &self.reference.judge,
            features: &self.features,
            seen: RefCell::default(),
        };
        let judged = run.folder.phase(&format!("judging {subject}"), self.device, |_| {
            judge_pictures(&judge, &mut evidence, subject, pictures, watch)
        })?;
        let features = run.folder.phase(&format!("comparing {subject}"), self.device, |run| {
            let name = format!("{}.safetensors", subject.replace([':', ' '], "-"));
            self.features(pictures, &judged, &judge, &run.path("features").join(name), watch)
        })?;
        let questions = self.reference.questions();
        let classes = |domain: Domain| {
            judged.iter().map(|judged| judged.class(&questions, domain)).collect::<Vec<usize>>()
        };
        let by = recognised_by(set.styles.len(), set.objects.len());
        let margins =
            |by| judged.iter().filter_map(|judged| judged.margin(&questions, by)).collect();
        let samples = JudgedSamples {
            margins: by.map(margins).unwrap_or_default(),
            styles: classes(Domain::Style),
            objects: classes(Domain::Object),
            features,
        };
        Ok(SeenSamples { judged, samples })
    }

    /// Features of pictures: from a file where an earlier session left them, or as the judge's
    /// batches left them; where it judged only some of them now, all are looked at in such batches.
    fn features(
        &self,
        pictures: &[(Sample, PathBuf)],
        judged: &[JudgedImage<Sample>],
        judge: &JudgeWithFeatures,
        file: &Path,
        watch: &mut dyn Watch,
    ) -> Result<Tensor, Error> {
        let network = &self.features.card().fingerprint;
        let mut content = blake3::Hasher::new();
        for judged in judged {
            content.update(judged.picture.as_bytes());
        }
        let content = content.finalize().to_hex().to_string();
        if file.exists() {
            let saved = Weights::open_own(file, "remove it, and the features are computed again")?;
            let about = saved.metadata();
            if about.get("network") == Some(network) && about.get("pictures") == Some(&content) {
                return Ok(saved.floats("features")?);
            }
        }
        let mut seen = judge.seen.take();
        if seen.iter().map(|batch| batch.size()[0]).sum::<i64>() != pictures.len() as i64 {
            seen.clear();
            watch.begin("looking at pictures", pictures.len() as u64);
            for batch in pictures.chunks(judge.batch_size()) {
                let open = |(_, file): &(Sample, PathBuf)| Picture::open(file);
                let opened = batch.iter().map(open).collect::<Result<Vec<_>, _>>()?;
                seen.push(self.features.of(&opened)?);
                watch.at((seen.len() * judge.batch_size()).min(pictures.len()) as u64, "");
                if watch.interrupted() {
                    return Err(Error::Interrupted);
                }
            }
            watch.end();
        }
        let features = Tensor::cat(&seen, 0);
        let named = [("features".to_owned(), features.shallow_clone())];
        save(file, &named, &[("network", network.clone()), ("pictures", content)])?;
        Ok(features)
    }
}

/// A judge of pictures that no prompt asked for. It keeps their features, so that each is opened
/// once.
struct JudgeWithFeatures<'a> {
    judge: &'a Judge,
    features: &'a Features,
    /// Of each batch that was judged.
    seen: RefCell<Vec<Tensor>>,
}

impl ImageJudge for JudgeWithFeatures<'_> {
    fn card(&self) -> &JudgeCard {
        self.judge.card()
    }

    fn questions(&self) -> Vec<Question> {
        self.judge.questions()
    }

    fn judge(&self, pictures: &[Picture], _: &[String]) -> Result<Vec<Evidence>, JudgeError> {
        let (features, evidence) = self.features.and_evidence(self.judge, pictures)?;
        self.seen.borrow_mut().push(features);
        Ok(evidence)
    }
}
