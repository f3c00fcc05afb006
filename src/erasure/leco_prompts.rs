//! What LECO is asked for: its own prompt files (YAML, a list) and kohya's (TOML, `[[prompts]]` or
//! a slider's `[[targets]]`), read as they are.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

/// One thing to learn: under `target` the network is to predict
/// `ε_neutral ∓ guidance_scale (ε_positive - ε_unconditional)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LecoPrompt {
    /// Under which the network is asked.
    pub target: String,
    /// The concept; the target where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// What the concept is measured from.
    #[serde(default)]
    pub unconditional: String,
    /// What the target begins with; `unconditional` where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neutral: Option<String>,
    /// Away from the concept or towards it.
    #[serde(default)]
    pub action: Action,
    /// How far.
    #[serde(default = "one")]
    pub guidance_scale: f64,
    /// Pixels to a side, or `[height, width]`; the model's own where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Latents in a step; the method's where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<i64>,
    /// How much of the adapter is on the network while it learns this.
    #[serde(default = "one")]
    pub multiplier: f64,
    /// What its loss counts.
    #[serde(default = "one")]
    pub weight: f64,
}

/// Away from a concept or towards it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Away.
    #[default]
    Erase,
    /// Towards.
    Enhance,
}

/// Pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Resolution {
    /// To a side.
    Square(i64),
    /// Height and width.
    Sides(i64, i64),
}

fn one() -> f64 {
    1.0
}

impl LecoPrompt {
    /// A concept to erase, and nothing else said.
    pub(super) fn erasing(concept: &str) -> Self {
        Self {
            target: concept.to_owned(),
            positive: None,
            unconditional: String::new(),
            neutral: None,
            action: Action::Erase,
            guidance_scale: 1.0,
            resolution: None,
            batch_size: None,
            multiplier: 1.0,
            weight: 1.0,
        }
    }

    /// The prompt of the concept.
    pub(super) fn positive(&self) -> &str {
        self.positive.as_deref().unwrap_or(&self.target)
    }

    /// The prompt that the target begins with.
    pub(super) fn neutral(&self) -> &str {
        self.neutral.as_deref().unwrap_or(&self.unconditional)
    }

    /// The scale with its sign: positive is away from the concept.
    pub(super) fn eta(&self) -> f64 {
        if self.action == Action::Erase { self.guidance_scale } else { -self.guidance_scale }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let numbers = [self.guidance_scale, self.multiplier, self.weight];
        if numbers.iter().any(|number| !number.is_finite()) || self.multiplier == 0.0 {
            return Err(format!(
                "«{}»: guidance_scale, multiplier and weight are {numbers:?}; the multiplier is \
                 not 0",
                self.target
            ));
        }
        Ok(())
    }
}

/// Reads a list of prompts, or the path of a file with some.
pub(super) fn prompts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<LecoPrompt>, D::Error> {
    let found = match Value::deserialize(from)? {
        Value::String(path) => read(Path::new(&path)),
        list => parse(list, Path::new("")),
    };
    found.map_err(D::Error::custom)
}

/// Reads a prompt file.
fn read(path: &Path) -> Result<Vec<LecoPrompt>, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let text = fs_err::read_to_string(path).map_err(|error| error.to_string())?;
    let toml = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml"));
    let value: Value = if toml {
        toml::from_str(&text).map_err(|error| named(error.to_string()))?
    } else {
        serde_saphyr::from_str(&text).map_err(|error| named(error.to_string()))?
    };
    parse(value, path.parent().unwrap_or(Path::new(""))).map_err(named)
}

const EXPECTED: &str = "a list of prompts, each with a `target`; `[[prompts]]`; or `[[targets]]`, \
                        each with a `target_class`";

/// Ways to give a slider's neutral prompts.
const NEUTRALS: [&str; 4] = ["neutral", "neutrals", "neutral_prompt_file", "prompt_file"];

/// The prompts in a file's value; files that it names lie in `folder`.
fn parse(value: Value, folder: &Path) -> Result<Vec<LecoPrompt>, String> {
    let (entries, defaults) = match value {
        Value::Array(entries) => (entries, Map::new()),
        Value::Object(mut all) => {
            // A slider may stand in a table of its own, or be all that there is.
            if let Some(Value::Object(slider)) = all.remove("slider") {
                all = slider;
            }
            match all.remove("prompts").or_else(|| all.remove("targets")) {
                Some(Value::Array(entries)) => (entries, all),
                None if all.contains_key("target") || all.contains_key("target_class") => {
                    (vec![Value::Object(all)], Map::new())
                }
                _ => return Err(format!("there are no prompts in it; it is to be {EXPECTED}")),
            }
        }
        other => return Err(format!("{other} is no prompts; they are {EXPECTED}")),
    };
    let mut found = Vec::new();
    for entry in entries {
        let Value::Object(given) = entry else {
            return Err(format!("{entry} is no prompt; expected is {EXPECTED}"));
        };
        let mut all = defaults.clone();
        // An entry's neutral prompts, however they are given, stand in the place of the file's.
        if NEUTRALS.iter().any(|key| given.contains_key(*key)) {
            all.retain(|key, _| !NEUTRALS.contains(&key.as_str()));
        }
        all.extend(given);
        for name in ["dynamic_resolution", "dynamic_crops"] {
            if all.remove(name).is_some_and(|value| value != Value::Bool(false)) {
                return Err(format!("`{name}` is not built; leave it out or say `false`"));
            }
        }
        if all.contains_key("target_class") {
            found.extend(slider(all, folder)?);
        } else {
            found.push(prompt(Value::Object(all))?);
        }
    }
    if found.is_empty() {
        return Err(format!("there are no prompts in it; it is to be {EXPECTED}"));
    }
    Ok(found)
}

fn prompt(value: Value) -> Result<LecoPrompt, String> {
    let found: LecoPrompt = serde_json::from_value(value).map_err(|error| error.to_string())?;
    found.check()?;
    Ok(found)
}

/// A slider's two directions, for each neutral prompt and resolution: towards its positive end
/// with the multiplier, and towards the other end with the multiplier below zero.
fn slider(mut all: Map<String, Value>, folder: &Path) -> Result<Vec<LecoPrompt>, String> {
    let mut neutrals = match all.remove("neutrals") {
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(format!("a slider's `neutrals` are {other}; they are a list of texts"));
        }
        None => Vec::new(),
    };
    let mut text = |key: &str| match all.remove(key) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("a slider's `{key}` is {other}; it is a text")),
        None => Ok(None),
    };
    let positive = text("positive")?.unwrap_or_default();
    let negative = text("negative")?.unwrap_or_default();
    let lone = text("neutral")?.unwrap_or_default();
    for key in ["neutral_prompt_file", "prompt_file"] {
        let Some(file) = text(key)? else { continue };
        let lines = fs_err::read_to_string(folder.join(file)).map_err(|error| error.to_string())?;
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        neutrals.extend(lines.map(Value::from));
    }
    // As in kohya's reader, the lone one is for want of others.
    if neutrals.is_empty() {
        neutrals.push(lone.into());
    }
    let multiplier = match all.remove("multiplier") {
        None => 1.0,
        Some(value) => value
            .as_f64()
            .ok_or_else(|| format!("a slider's `multiplier` is {value}; it is a number"))?,
    };
    let resolutions = match (all.remove("resolutions"), all.remove("resolution")) {
        (Some(Value::Array(list)), _) => list,
        (Some(value), _) | (None, Some(value)) => vec![value],
        (None, None) => vec![Value::Null],
    };
    // Of what, away from what, which way, and with which sign of the multiplier.
    let directions = match (positive.trim().is_empty(), negative.trim().is_empty()) {
        (false, false) => vec![
            (&negative, positive.as_str(), Action::Erase, 1.0),
            (&positive, negative.as_str(), Action::Enhance, 1.0),
            (&positive, negative.as_str(), Action::Erase, -1.0),
            (&negative, positive.as_str(), Action::Enhance, -1.0),
        ],
        (true, false) => {
            vec![(&negative, "", Action::Erase, 1.0), (&negative, "", Action::Enhance, -1.0)]
        }
        (false, true) => {
            vec![(&positive, "", Action::Enhance, 1.0), (&positive, "", Action::Erase, -1.0)]
        }
        (true, true) => return Err("a slider has a positive or a negative prompt".to_owned()),
    };
    all.insert("target".to_owned(), all.get("target_class").cloned().unwrap_or_default());
    all.remove("target_class");
    let mut found = Vec::new();
    for neutral in &neutrals {
        for resolution in &resolutions {
            for (of, from, action, sign) in &directions {
                let mut one = all.clone();
                if let Value::Object(rest) = json!({
                    "positive": of, "unconditional": from, "neutral": neutral, "action": action,
                    "multiplier": sign * multiplier, "resolution": resolution,
                }) {
                    one.extend(rest);
                }
                found.push(prompt(Value::Object(one))?);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Result<Vec<LecoPrompt>, String> {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("neutrals.txt"), "a person\n\n a photo \n").unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn its_own_files_are_read() {
        let found = of(
            "p.yaml",
            "- target: \"van gogh\"\n  positive: \"van gogh\"\n  unconditional: \"\"\n  neutral: \
             \"\" # nothing\n  action: \"erase\"\n  guidance_scale: 1.0\n  resolution: 512\n  \
             dynamic_resolution: false\n  batch_size: 2\n- target: cat\n  action: enhance\n",
        )
        .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].positive(), found[0].eta()), ("van gogh", 1.0));
        assert_eq!(found[0].resolution, Some(Resolution::Square(512)));
        assert_eq!((found[1].positive(), found[1].neutral(), found[1].eta()), ("cat", "", -1.0));
        let error = of("p.yaml", "- target: cat\n  guidance: 3\n").unwrap_err();
        assert!(error.contains("guidance") && error.contains("p.yaml"), "{error}");
    }

    #[test]
    fn kohya_s_files_are_read() {
        let found = of(
            "p.toml",
            "guidance_scale = 2.0\n[[prompts]]\ntarget = \"cat\"\nmultiplier = -1.0\nresolution = \
             [512, 768]\n[[prompts]]\ntarget = \"dog\"\nguidance_scale = 3.0\nweight = 0.5\n",
        )
        .unwrap();
        assert_eq!(found.iter().map(LecoPrompt::eta).collect::<Vec<_>>(), [2.0, 3.0]);
        assert_eq!((found[0].multiplier, found[1].weight), (-1.0, 0.5));
        assert_eq!(found[0].resolution, Some(Resolution::Sides(512, 768)));
        let found = of(
            "p.toml",
            "neutral_prompt_file = \"neutrals.txt\"\n[[targets]]\ntarget_class = \
             \"person\"\npositive = \"old\"\nnegative = \"young\"\nmultiplier = 2.0\n",
        )
        .unwrap();
        assert_eq!(found.len(), 8);
        assert_eq!((found[0].target.as_str(), found[0].neutral()), ("person", "a person"));
        assert_eq!(found.iter().map(|one| one.multiplier).sum::<f64>(), 0.0);
        // With the same sign of the multiplier, the same target: towards old, or away from young.
        assert_eq!((found[0].positive(), found[0].eta()), ("young", 1.0));
        assert_eq!((found[1].positive(), found[1].eta()), ("old", -1.0));
        let lone = of("p.toml", "[slider]\ntarget_class = \"\"\npositive = \"detail\"\n").unwrap();
        assert_eq!(lone.len(), 2);
        assert!(of("p.toml", "a = 1\n").unwrap_err().contains("no prompts"));
        assert!(of("p.toml", "[slider]\ntarget_class = \"\"\n").is_err());
    }

    #[test]
    fn a_lone_neutral_is_for_want_of_others() {
        let of = |top: &str, own: &str| {
            let target = "[[targets]]\ntarget_class = \"person\"\npositive = \"old\"";
            of("p.toml", &format!("{top}\n{target}\n{own}\n"))
        };
        let neutrals = |top: &str, own: &str| {
            let found = of(top, own).unwrap();
            found.iter().step_by(2).map(|one| one.neutral().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(neutrals("neutral = \"x\"", ""), ["x"]);
        let all = "neutral = \"x\"\nneutrals = [\"a\"]\nprompt_file = \"neutrals.txt\"";
        assert_eq!(neutrals(all, ""), ["a", "a person", "a photo"]);
        assert_eq!(neutrals(all, "neutrals = [\"b\"]"), ["b"]);
        for (top, wanted) in [
            ("neutral = 3", "`neutral` is 3"),
            ("neutrals = \"a\"", "`neutrals` are"),
            ("multiplier = \"2\"", "`multiplier` is"),
        ] {
            assert!(of(top, "").unwrap_err().contains(wanted), "{top}");
        }
    }
}
