//! One number of a study, from whichever study it is.

use serde::{Deserialize, Serialize};

use super::Estimate;

/// One number: of which target, after which method and attack, of whom, by which judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// What was to be forgotten: `style:Mosaic`, `cats`, or `mean of 4 styles`.
    pub target: String,
    /// The method's label; [`BASE`] for the model before.
    pub method: String,
    /// The attack's label, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<String>,
    /// Of whom.
    pub subject: Subject,
    /// Who looked, where several do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub judge: String,
    /// `UA`, `PUL`, `FID to positives`, …
    pub measure: String,
    /// The number, its 95 % interval, and how many it is of.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// What it counts.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// Whether it stands in no table: one of many that another score sums up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub detail: bool,
}

/// The method of what was measured before anything was erased.
pub const BASE: &str = "base";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Of whom a score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Pictures of what was to be forgotten.
    Concept,
    /// Pictures of what was to stay.
    Keep,
    /// All pictures.
    All,
    /// The model itself: weights, seconds, bytes.
    Model,
}

/// What a score counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A share, 1 is all; shown in percent.
    Share,
    /// A distance between sets of pictures.
    Distance,
    /// Hundred times a cosine.
    Cosine,
    /// A ratio of lengths.
    Ratio,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Training steps.
    Steps,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: it describes.
    Neither,
}

/// What a score is of, whoever's it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Its name in tables.
    pub name: &'static str,
    /// Of whom.
    pub subject: Subject,
    /// What it counts.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
}

impl Measure {
    /// A share of pictures.
    pub const fn share(name: &'static str, subject: Subject, better: Better) -> Self {
        Self { name, subject, unit: Unit::Share, better }
    }

    /// A distance between sets of pictures.
    pub const fn distance(name: &'static str) -> Self {
        Self { name, subject: Subject::Keep, unit: Unit::Distance, better: Better::Lower }
    }

    /// The score of a target, for now the base's.
    pub fn of(&self, target: &str, estimate: Estimate) -> Score {
        Score {
            target: target.to_owned(),
            method: BASE.to_owned(),
            attack: None,
            subject: self.subject,
            judge: String::new(),
            measure: self.name.to_owned(),
            estimate,
            unit: self.unit,
            better: self.better,
            detail: false,
        }
    }
}

impl Score {
    /// The same after a method.
    #[must_use]
    pub fn after(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    /// The same under an attack.
    #[must_use]
    pub fn under(self, attack: &str) -> Self {
        Self { attack: Some(attack.to_owned()), ..self }
    }

    /// The same by one of several judges.
    #[must_use]
    pub fn by(self, judge: &str) -> Self {
        Self { judge: judge.to_owned(), ..self }
    }

    /// Whether two are of the same target and measure, whatever was done to the model.
    pub fn is_of_same(&self, other: &Self) -> bool {
        self.target == other.target
            && self.measure == other.measure
            && self.subject == other.subject
            && self.judge == other.judge
            && self.attack == other.attack
    }

    /// Its measure as tables call it: of whom, where that is not plain, and under which attack.
    pub fn title(&self) -> String {
        let of = match (self.judge.is_empty(), self.subject) {
            (false, Subject::Concept) => " of the concept",
            (false, Subject::Keep) => " of what stays",
            _ => "",
        };
        let under = self.attack.as_ref().map(|attack| format!(", {attack}")).unwrap_or_default();
        format!("{}{of}{under}", self.measure)
    }

    /// The number as tables show it: shares in percent.
    pub fn shown(&self) -> String {
        self.unit.show(self.estimate.value)
    }

    /// The number with its interval where it has one: `97.4 [93.1, 99.3]`.
    pub fn with_interval(&self) -> String {
        let Estimate { value, low, high, .. } = self.estimate;
        if low == high && low == value && self.estimate.n < 2 {
            return self.unit.show(value);
        }
        let show = |number: f64| self.unit.show(number);
        format!("{} [{}, {}]", show(value), show(low), show(high))
    }

    /// `hits/n` of a share, `n` of anything else that is of pictures.
    pub fn counted(&self) -> String {
        let Estimate { hits, n, .. } = self.estimate;
        match self.unit {
            Unit::Share if n > 0 => format!("{hits}/{n}"),
            _ if n > 0 => n.to_string(),
            _ => String::new(),
        }
    }
}

impl Unit {
    /// A number of this unit, without the unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Share => format!("{:.1}", 100.0 * value),
            Self::Distance => format!("{value:.2}"),
            Self::Cosine | Self::Seconds => format!("{value:.1}"),
            Self::Ratio => format!("{value:.2e}"),
            Self::Bytes => bytes(value),
            Self::Steps => format!("{value:.0}"),
        }
    }
}

fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    if value < KIB * KIB {
        format!("{:.1} KiB", value / KIB)
    } else if value < KIB * KIB * KIB {
        format!("{:.1} MiB", value / KIB / KIB)
    } else {
        format!("{:.2} GiB", value / KIB / KIB / KIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_by_their_unit() {
        let ua = Measure::share("UA", Subject::Concept, Better::Higher);
        let score = ua.of("style:Mosaic", Estimate::of_share(9, 10)).after("esd");
        assert_eq!(score.with_interval(), "90.0 [59.6, 98.2]");
        assert_eq!(score.counted(), "9/10");
        assert_eq!(Unit::Bytes.show(1_572_864.0), "1.5 MiB");
        let json = serde_json::to_value(&score).unwrap();
        assert_eq!((&json["value"], &json["unit"]), (&0.9.into(), &"share".into()));
        assert!(json.get("detail").is_none() && json.get("attack").is_none());
        assert_eq!(serde_json::from_value::<Score>(json).unwrap(), score);
    }
}
