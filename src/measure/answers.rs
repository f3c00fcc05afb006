//! What will be drawn and judged, listed before anything is drawn: styles × objects × seeds.

use std::collections::HashSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;

/// The two questions about a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// How it is drawn.
    Style,
    /// What it shows.
    Object,
}

impl Domain {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Style => Self::Object,
            Self::Object => Self::Style,
        }
    }

    /// `style` or `object`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Style => "style",
            Self::Object => "object",
        }
    }
}

/// What is to be forgotten: `style:Mosaic`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetClass {
    /// Style or object.
    pub domain: Domain,
    /// Its name, with underscores.
    pub name: String,
}

impl std::fmt::Display for TargetClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.domain.name(), self.name)
    }
}

impl FromStr for TargetClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let domain = match text.split_once(':') {
            Some(("style", _)) => Domain::Style,
            Some(("object", _)) => Domain::Object,
            _ => return Err(format!("`{text}` is no target; write style:NAME or object:NAME")),
        };
        let name = text.split_once(':').map_or("", |(_, name)| name).replace(' ', "_");
        if name.is_empty() {
            return Err(format!("`{text}` names no {}", domain.name()));
        }
        Ok(Self { domain, name })
    }
}

/// One picture of the set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// The style that is asked for.
    pub style: String,
    /// The object that is asked for.
    pub object: String,
    /// The seed.
    pub seed: u64,
}

impl Answer {
    /// `UnlearnCanvas`' file name, without the extension.
    pub fn stem(&self) -> String {
        format!("{}_{}_seed{}", self.style, self.object, self.seed)
    }

    /// `UnlearnCanvas`' prompt.
    pub fn prompt(&self) -> String {
        let spaced = |name: &str| name.replace('_', " ");
        format!("A {} image in {} style.", spaced(&self.object), spaced(&self.style))
    }

    /// What is asked for in a domain.
    pub fn wanted(&self, domain: Domain) -> &str {
        match domain {
            Domain::Style => &self.style,
            Domain::Object => &self.object,
        }
    }
}

/// All pictures of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerSet {
    /// The styles, the plain one among them.
    pub styles: Vec<String>,
    /// The objects.
    pub objects: Vec<String>,
    /// The seeds.
    pub seeds: Vec<u64>,
}

/// The style that is no style: `UnlearnCanvas` counts it in no average over styles.
pub const PLAIN: &str = "Seed_Images";

impl AnswerSet {
    /// Every picture, style by style; the order of drawing.
    pub fn answers(&self) -> Vec<Answer> {
        let mut all = Vec::with_capacity(self.styles.len() * self.objects.len() * self.seeds.len());
        for style in &self.styles {
            for object in &self.objects {
                for &seed in &self.seeds {
                    all.push(Answer { style: style.clone(), object: object.clone(), seed });
                }
            }
        }
        all
    }

    /// The classes of a domain.
    pub fn classes(&self, domain: Domain) -> &[String] {
        match domain {
            Domain::Style => &self.styles,
            Domain::Object => &self.objects,
        }
    }

    /// Whether a judge that is asked about these classes can say more than one thing.
    ///
    /// # Errors
    /// It is given one class alone, and would find it in every picture.
    pub fn tells_apart(&self, domain: Domain) -> Result<(), Error> {
        match self.classes(domain) {
            [only] => Err(Error::Unknown(format!(
                "{only} is the one {0} that the judge is asked about, so it would find it in every \
                 picture; name the other {0}s too",
                domain.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a domain has one class alone: a judge would find it in every picture, and whatever
    /// is measured in it would be 100 % by construction.
    pub fn is_single(&self, domain: Domain) -> bool {
        self.classes(domain).len() == 1
    }

    /// What is not measured of a target, and why.
    pub fn unmeasured(&self, target: &TargetClass) -> Vec<String> {
        let (domain, other) = (target.domain, target.domain.other());
        let mut missing = Vec::new();
        if self.is_single(other) {
            missing.push(format!(
                "CRA of {target} is left out: {} is the one {} that the judge is asked about, so \
                 it would find it in every picture",
                self.classes(other)[0],
                other.name()
            ));
        }
        if !self
            .classes(domain)
            .iter()
            .any(|name| *name != target.name && !(domain == Domain::Style && name == PLAIN))
        {
            missing.push(format!(
                "IRA of {target} is left out: there is no other {} to be kept",
                domain.name()
            ));
        }
        missing
    }

    /// Which class of its domain a target is.
    ///
    /// # Errors
    /// A target that is none of the classes.
    pub fn class(&self, target: &TargetClass) -> Result<usize, Error> {
        let class = self.classes(target.domain).iter().position(|name| *name == target.name);
        class.ok_or_else(|| {
            Error::Unknown(format!("{target} is none of the classes that the judge is asked about"))
        })
    }

    /// Checks that exactly the set's pictures are there.
    ///
    /// # Errors
    /// A picture that is missing, doubled, or not of the set.
    pub fn check<'a>(&self, there: impl IntoIterator<Item = &'a Answer>) -> Result<(), Error> {
        let wanted = self.answers();
        let known: HashSet<&Answer> = wanted.iter().collect();
        let mut seen = HashSet::new();
        for answer in there {
            if !known.contains(answer) {
                return Err(Error::Unexpected(answer.stem()));
            }
            if !seen.insert(answer) {
                return Err(Error::Doubled(answer.stem()));
            }
        }
        let mut missing = wanted.iter().filter(|answer| !seen.contains(answer));
        match missing.next() {
            None => Ok(()),
            Some(first) => Err(Error::Missing {
                missing: missing.count() + 1,
                expected: wanted.len(),
                first: first.stem(),
            }),
        }
    }

    /// Splits `{style}_{object}_seed{n}` (or `…_seed_{n}`) into its parts, for the names of this
    /// set.
    pub fn parse(&self, stem: &str) -> Option<Answer> {
        let (names, seed) = stem.rsplit_once("_seed")?;
        let seed = seed.trim_start_matches('_').parse().ok()?;
        self.objects.iter().find_map(|object| {
            let style = names.strip_suffix(object.as_str())?.strip_suffix('_')?;
            self.styles.iter().any(|known| known == style).then(|| Answer {
                style: style.to_owned(),
                object: object.clone(),
                seed,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> AnswerSet {
        AnswerSet {
            styles: vec!["Pixel_Art".to_owned(), PLAIN.to_owned()],
            objects: vec!["Cat".to_owned(), "Big_Cat".to_owned()],
            seeds: vec![188, 288],
        }
    }

    #[test]
    fn names_come_apart_again() {
        for answer in set().answers() {
            assert_eq!(set().parse(&answer.stem()), Some(answer));
        }
        assert_eq!(set().parse("Pixel_Art_Cat_seed_188").unwrap().seed, 188);
        assert_eq!(set().parse("Pixel_Art_Dog_seed188"), None);
    }

    #[test]
    fn a_missing_or_doubled_picture_is_an_error() {
        let (set, mut there) = (set(), set().answers());
        assert!(set.check(&there).is_ok());
        let last = there.pop().unwrap();
        assert!(matches!(set.check(&there), Err(Error::Missing { missing: 1, expected: 8, .. })));
        there.push(there[0].clone());
        assert!(matches!(set.check(&there), Err(Error::Doubled(_))));
        there.pop();
        there.push(Answer { seed: 7, ..last });
        assert!(matches!(set.check(&there), Err(Error::Unexpected(_))));
    }

    #[test]
    fn the_prompt_is_unlearncanvas_s() {
        assert_eq!(set().answers()[0].prompt(), "A Cat image in Pixel Art style.");
    }

    #[test]
    fn targets() {
        let target: TargetClass = "style:Pixel Art".parse().unwrap();
        assert_eq!(target.to_string(), "style:Pixel_Art");
        assert!("Mosaic".parse::<TargetClass>().is_err());
        assert!("object:".parse::<TargetClass>().is_err());
    }
}
