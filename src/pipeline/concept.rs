//! What is to be forgotten: classes, what pairs of prompts bring out, or what a GAN's samples show.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::answers::known_class;
use super::{Error, JudgeSettings};
use crate::erasure::Pair;
use crate::measure::{AnswerSet, Domain, PLAIN, TargetClass};

/// What is to be forgotten, and what there is to learn from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConceptSettings {
    /// Classes, `style:NAME` or `object:NAME`; each is erased from the base by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<String>,
    /// The style that an erased style becomes; `Seed_Images` where none is named, and for that the
    /// next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style_anchor: Option<String>,
    /// The object that an erased object becomes; the next one where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_anchor: Option<String>,
    /// The name, for tables, of what pairs of prompts bring out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether its pictures are not for every eye: they are blurred wherever they are laid out, and
    /// the model draws none to learn from unless `draw_forget` says so.
    #[serde(skip_serializing_if = "is_false")]
    pub sensitive: bool,
    /// Prompts that bring it out, each with what it is to become.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<Pair>,
    /// Prompts whose pictures are to stay: a list, or a CSV's.
    #[serde(deserialize_with = "super::prompts::texts", skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Pictures of each prompt to forget that methods learn from; 8 of classes, 100 of pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_pictures: Option<usize>,
    /// Pictures of each prompt to keep; 4 of classes, 100 of pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_pictures: Option<usize>,
    /// A folder with those pictures; without it the model draws them. Of classes in
    /// `UnlearnCanvas`' layout `STYLE/OBJECT/n.png`. Of pairs `forget/` and `keep/`; what each
    /// shows is said in a text file beside it (`1.png`, `1.txt`), which may be missing where there
    /// is one prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PathBuf>,
    /// Whether the model may draw sensitive pictures to learn from into the run's folder.
    #[serde(skip_serializing_if = "is_false")]
    pub draw_forget: bool,
    /// The CLIP folder that says which of a GAN's samples show the concept; it must not be the
    /// judge. `labeller` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labeller: Option<String>,
    /// The least probability at which a sample shows a class; what lies between this and its
    /// counterpart is not used. 0.7 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Samples that are drawn and labelled; 6000 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// A CSV with the columns `seed` and `shows` (1 or 0) instead of a labeller's word: what `unsee
    /// label` writes. Or a folder of samples that were sorted into its folders `shows` and
    /// `others`. It says what shows the one thing that is to be forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Who labels a GAN's samples, all settings filled in.
#[derive(Debug, Clone, Copy)]
pub struct Labelling<'a> {
    /// The labeller's CLIP folder.
    pub labeller: &'a str,
    /// The least probability at which a sample shows a class.
    pub threshold: f64,
    /// Samples that are drawn and labelled.
    pub samples: usize,
}

const LABELLER: &str = "labeller";
const THRESHOLD: f64 = 0.7;
const SAMPLES: usize = 6000;

impl ConceptSettings {
    /// Defaults that depend on what is to be forgotten.
    pub(super) fn fill_in(&mut self, by_prompts: bool) {
        let (forget, keep) = if by_prompts { (100, 100) } else { (8, 4) };
        self.forget_pictures.get_or_insert(forget);
        self.keep_pictures.get_or_insert(keep);
    }

    /// Pictures of each prompt to forget.
    pub fn forget_pictures(&self) -> usize {
        self.forget_pictures.unwrap_or(0)
    }

    /// Pictures of each prompt to keep.
    pub fn keep_pictures(&self) -> usize {
        self.keep_pictures.unwrap_or(0)
    }

    /// Who labels a GAN's samples.
    pub fn labelling(&self) -> Labelling<'_> {
        Labelling {
            labeller: self.labeller.as_deref().unwrap_or(LABELLER),
            threshold: self.threshold.unwrap_or(THRESHOLD),
            samples: self.samples.unwrap_or(SAMPLES),
        }
    }

    /// The classes that are to be forgotten.
    ///
    /// # Errors
    /// Nothing, a target that is none, one that is there twice.
    pub fn targets(&self) -> Result<Vec<TargetClass>, Error> {
        let targets: Vec<TargetClass> = self
            .forget
            .iter()
            .map(|text| text.parse().map_err(Error::Pipeline))
            .collect::<Result<_, _>>()?;
        if targets.is_empty() {
            return Err(Error::Pipeline("concept.forget names nothing to forget".to_owned()));
        }
        match (1..targets.len()).find(|&n| targets[..n].contains(&targets[n])) {
            Some(twice) => Err(Error::Pipeline(format!(
                "concept.forget has {} twice; it would count twice in means",
                targets[twice]
            ))),
            None => Ok(targets),
        }
    }

    /// The classes that are to be forgotten, which the set must have, with their anchors.
    ///
    /// # Errors
    /// A class that is not in the set, an anchor that is none, is the target or is of no use.
    pub fn targets_in(&self, set: &AnswerSet) -> Result<Vec<TargetClass>, Error> {
        let targets = self.targets()?;
        for domain in [Domain::Style, Domain::Object] {
            let unused = self.anchor(domain).is_some()
                && !targets.iter().any(|target| target.domain == domain);
            if unused {
                return Err(Error::Pipeline(format!(
                    "concept.{0}_anchor is what an erased {0} becomes, and no {0} is to be \
                     forgotten; leave it out",
                    domain.name()
                )));
            }
        }
        for target in &targets {
            known_class(set, target.domain, &target.name)?;
            set.tells_apart(target.domain)?;
            let Some(anchor) = self.anchor(target.domain) else { continue };
            known_class(set, target.domain, anchor)?;
            if *anchor == target.name {
                return Err(Error::Pipeline(format!(
                    "{target} is to become itself: the anchor (concept.{0}_anchor) is the target; \
                     name another {0}",
                    target.domain.name()
                )));
            }
        }
        let plain = targets.iter().any(|target| target.domain == Domain::Style);
        if plain && self.style_anchor.is_none() && self.pairs_are_needed() {
            known_class(set, Domain::Style, PLAIN)?;
        }
        Ok(targets)
    }

    /// Whether classes become others: a GAN's samples become nothing in particular.
    fn pairs_are_needed(&self) -> bool {
        self.labeller.is_none() && self.labels.is_none() && self.samples.is_none()
    }

    /// What an erased class of a domain becomes, where it is named.
    pub fn anchor(&self, domain: Domain) -> Option<&String> {
        match domain {
            Domain::Style => self.style_anchor.as_ref(),
            Domain::Object => self.object_anchor.as_ref(),
        }
    }

    /// What of the settings is for another kind of concept, refused with what it is for.
    fn refuse(&self, keys: &[&str], why: &str) -> Result<(), Error> {
        let there = |key: &str| match key {
            "forget" => !self.forget.is_empty(),
            "style_anchor" => self.style_anchor.is_some(),
            "object_anchor" => self.object_anchor.is_some(),
            "name" => self.name.is_some(),
            "sensitive" => self.sensitive,
            "pairs" => !self.pairs.is_empty(),
            "keep" => !self.keep.is_empty(),
            "pictures" => self.pictures.is_some(),
            "draw_forget" => self.draw_forget,
            "labeller" => self.labeller.is_some(),
            "threshold" => self.threshold.is_some(),
            "samples" => self.samples.is_some(),
            _ => self.labels.is_some(),
        };
        match keys.iter().find(|key| there(key)) {
            Some(key) => Err(Error::Pipeline(format!("concept.{key} is {why}; leave it out"))),
            None => Ok(()),
        }
    }

    /// As classes that [answers] judges.
    pub(super) fn check_classes(&self) -> Result<(), Error> {
        self.refuse(&["labeller", "threshold", "samples", "labels"], OF_A_GAN)?;
        self.refuse(
            &["name", "sensitive", "pairs", "keep", "draw_forget"],
            "for a concept by prompts, whose pictures [prompts] lists",
        )?;
        self.targets().map(drop)
    }

    /// As pairs of prompts that [prompts] judges.
    pub(super) fn check_pairs(&self) -> Result<(), Error> {
        let wrong = |why: &str| Err(Error::Pipeline(why.to_owned()));
        self.refuse(&["labeller", "threshold", "samples", "labels"], OF_A_GAN)?;
        self.refuse(
            &["forget", "style_anchor", "object_anchor"],
            "for classes, whose pictures [answers] lists; here concept.pairs says what to forget",
        )?;
        if self.pairs.is_empty() {
            return wrong(
                "concept.pairs is empty; give at least one { forget = \"…\", anchor = \"…\" }",
            );
        }
        if self.draw_forget && !self.sensitive {
            return wrong(
                "concept.draw_forget is for what is sensitive; other concepts are drawn anyway",
            );
        }
        if let Some(pair) = self.pairs.iter().find(|pair| pair.forget.trim() == pair.anchor.trim())
        {
            return wrong(&format!(
                "concept.pairs: «{}» is to become itself; name another anchor",
                pair.forget
            ));
        }
        if let Some(pair) = self.pairs.iter().find(|pair| self.keep.contains(&pair.forget)) {
            return wrong(&format!(
                "«{}» is to be forgotten and to be kept (concept.keep)",
                pair.forget
            ));
        }
        Ok(())
    }

    /// As what a GAN's samples show, which [latents] judges; gives the targets' names.
    pub(super) fn check_samples(&self, judge: &JudgeSettings) -> Result<Vec<String>, Error> {
        let wrong = |why: String| Err(Error::Pipeline(why));
        self.refuse(
            &[
                "style_anchor",
                "object_anchor",
                "name",
                "sensitive",
                "pairs",
                "keep",
                "pictures",
                "draw_forget",
            ],
            "for a diffusion model; a GAN's samples show what to forget",
        )?;
        let targets = self.targets()?;
        let Labelling { labeller, threshold, samples } = self.labelling();
        if labeller == judge.path() {
            return wrong(format!(
                "`{labeller}` labels what methods learn from and measures them too; they would \
                 learn to please it: name two networks (concept.labeller, judge.path)"
            ));
        }
        if !(0.5..1.0).contains(&threshold) || samples < 10 {
            return wrong(format!(
                "concept.threshold is {threshold} and concept.samples {samples}; at least 0.5 and \
                 below 1, and at least 10 are needed"
            ));
        }
        if self.labels.is_some() && targets.len() != 1 {
            return wrong(
                "concept.labels says what shows one thing; concept.forget names several".to_owned(),
            );
        }
        Ok(targets.iter().map(TargetClass::to_string).collect())
    }
}

const OF_A_GAN: &str = "for a GAN's samples, whose pictures [latents] lists";
