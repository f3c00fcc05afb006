//! Every field that diffusers and transformers write has a rule, and what is not said has their
//! defaults.
//!
//! `golden/fields.json` was made of the Python classes by `golden/fields.py`.

use std::path::Path;

use serde_json::{Value, json};
use unsee::command::configurations::configurations;
use unsee::fields::{Class, Rule};
use unsee::model::{clip, unet, vae};

fn golden() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fields.json");
    serde_json::from_str(&fs_err::read_to_string(file).unwrap()).unwrap()
}

fn class(name: &str) -> Class {
    configurations()
        .into_iter()
        .find(|class| class.name == name)
        .unwrap_or_else(|| panic!("no rules for {name}"))
}

#[test]
fn every_field_of_python_s_classes_has_a_rule() {
    let golden = golden();
    let classes = golden["classes"].as_object().unwrap();
    assert!(classes.len() >= 17, "{}", classes.len());
    let mut missing = Vec::new();
    for (name, fields) in classes {
        let class = class(name);
        for field in fields.as_object().unwrap().keys() {
            if class.rule(field).is_none() {
                missing.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_python_writes_by_default_is_not_refused() {
    let golden = golden();
    let mut refused = Vec::new();
    for (name, fields) in golden["classes"].as_object().unwrap() {
        for (field, default) in fields.as_object().unwrap() {
            // Null stands for what has no default, too.
            let rule = class(name).rule(field).unwrap();
            if !default.is_null() && !rule.allows(default) {
                refused.push(format!("{name}.{field}"));
            }
        }
    }
    // Runge-Kutta steps, which Stable Diffusion's own files turn off.
    assert_eq!(refused, ["PNDMScheduler.skip_prk_steps"]);
}

#[test]
fn a_rule_is_there_once() {
    for class in configurations() {
        let names: Vec<&str> =
            class.fields.iter().take(1).copied().flatten().map(|(name, _)| *name).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{}: {name} twice", class.name);
        }
    }
}

/// What a configuration is that says nothing, and its fields.
fn of_nothing<T: serde::de::DeserializeOwned + serde::Serialize>() -> Value {
    serde_json::to_value(serde_json::from_value::<T>(json!({})).unwrap()).unwrap()
}

#[test]
fn what_is_not_said_is_python_s_default_and_what_is_read_is_honoured() {
    let golden = golden();
    for (name, fields) in [
        ("UNet2DConditionModel", of_nothing::<unet::UnetConfig>()),
        ("AutoencoderKL", of_nothing::<vae::VaeConfig>()),
        ("CLIPTextConfig", of_nothing::<clip::TextConfig>()),
        ("CLIPVisionConfig", of_nothing::<clip::VisionConfig>()),
    ] {
        let (class, python) = (class(name), &golden["classes"][name]);
        let honoured = |field: &str| {
            matches!(class.rule(field), Some(Rule::Honoured))
                || ["hidden_act", "down_block_types", "up_block_types"].contains(&field)
        };
        let read = fields.as_object().unwrap();
        for (field, value) in read {
            assert!(honoured(field), "{name}.{field} is read, and its rule does not say so");
            let default = &python[field];
            let same = match (value.as_f64(), default.as_f64()) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                _ => value == default,
            };
            assert!(same, "{name}.{field} is {value} here and {default} there");
        }
        for (field, rule) in class.iter() {
            // The one that stands for «as it was before» is left out where it is not said.
            let left = *field == "eos_token_id";
            assert!(
                *rule != Rule::Honoured || read.contains_key(*field) || left,
                "{name}.{field} is said to be read"
            );
        }
    }
}
