//! Reads pipeline files: TOML whose values the command line may change.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::renamed::refuse_old_keys;
use super::{Error, MethodSetting};
use crate::generator::ModelKind;

/// Reads a file with settings that were changed on the command line.
///
/// # Errors
/// As [`parse_toml`]; a change that no key or value is of.
pub fn overridden<T: DeserializeOwned>(
    path: &str,
    text: &str,
    sets: &[String],
) -> Result<T, Error> {
    let mut table: Table = parse_toml(path, text)?;
    refuse_old_keys(path, &table)?;
    if sets.is_empty() {
        // From the text, so that an error names its line.
        return parse_toml(path, text);
    }
    sets.iter().try_for_each(|set| assign(&mut table, set))?;
    refuse_old_keys("--set", &table)?;
    name_the_usual_method(&mut table);
    let text = toml::to_string(&table).map_err(|error| Error::Pipeline(error.to_string()))?;
    parse_toml("--set", &text)
}

/// Reads TOML; an unknown key is an error with line and caret, and the nearest known key.
///
/// # Errors
/// As said.
pub fn parse_toml<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let message = error.message();
        let nearest =
            nearest_key(message).map(|key| format!("\ndid you mean `{key}`?")).unwrap_or_default();
        Error::Pipeline(format!("{path}: {}{nearest}", error.to_string().trim_end()))
    })
}

/// Of «unknown field `x`, expected one of `a`, `b`» the known key that is nearest to x.
fn nearest_key(message: &str) -> Option<String> {
    let (unknown, known) = message.strip_prefix("unknown field `")?.split_once("`, expected")?;
    let mut known = known.split('`').skip(1).step_by(2);
    let first = known.next()?;
    let best = known.chain([first]).max_by(|a, b| {
        strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown))
    })?;
    (strsim::jaro_winkler(best, unknown) > 0.7).then(|| best.to_owned())
}

/// Tables of which a file, at its top, has any number: `--set method.steps=100` is of the only one,
/// and `--set method.esd.steps=100` of the one with this label or name.
const LISTS: [&str; 2] = ["method", "attack"];

/// Applies `a.b=value` to a table; the value is TOML, or a string where it is none.
fn assign(table: &mut Table, set: &str) -> Result<(), Error> {
    let wrong = |why: &str| Error::Pipeline(format!("--set {set}: {why}"));
    let (key, value) = set
        .split_once('=')
        .ok_or_else(|| wrong("write key=value, for example method.steps=100"))?;
    let value = toml::from_str::<Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut parts = parts.into_iter().enumerate().peekable();
    let mut table = table;
    while let Some((depth, part)) = parts.next() {
        let list = depth == 0 && LISTS.contains(&part);
        let empty = || if list { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
        let entry = table.entry(part).or_insert_with(empty);
        table = match entry {
            Value::Table(table) => table,
            Value::Array(all) if list => {
                let named = parts
                    .peek()
                    .and_then(|(_, label)| all.iter().position(|one| label_of(one) == Some(label)));
                if named.is_some() {
                    parts.next();
                }
                let only = match all.len() {
                    0 => {
                        all.push(Value::Table(Table::new()));
                        Some(0)
                    }
                    1 => Some(0),
                    _ => None,
                };
                let labels: Vec<&str> = all.iter().filter_map(label_of).collect();
                let several = format!(
                    "there are several ({}); say which, as in {part}.{}.KEY=VALUE",
                    labels.join(", "),
                    labels.first().copied().unwrap_or_default()
                );
                named
                    .or(only)
                    .and_then(|i| all.get_mut(i)?.as_table_mut())
                    .ok_or_else(|| wrong(&several))?
            }
            _ => return Err(wrong(&format!("`{part}` is a value, not a table"))),
        };
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

fn label_of(one: &Value) -> Option<&str> {
    one.get("label").or_else(|| one.get("name"))?.as_str()
}

/// So that a setting of the usual method can be changed without naming it.
fn name_the_usual_method(table: &mut Table) {
    let kind = if table.contains_key("latents") { ModelKind::Gan } else { ModelKind::Diffusion };
    let Some(Value::Array(methods)) = table.get_mut("method") else { return };
    for method in methods.iter_mut().filter_map(Value::as_table_mut) {
        if !method.contains_key("name")
            && let Some(usual) = MethodSetting::usual(kind)
        {
            method.insert("name".to_owned(), usual.name().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_s_own_attack_is_a_table_of_it() {
        let mut table: Table = toml::from_str("[[method]]\nname = \"esd\"").unwrap();
        for set in ["method.attack.steps=3", "method.esd.attack.lr=0.1", "attack.seed=1"] {
            assign(&mut table, set).unwrap();
        }
        let wanted = "[[method]]\nname = \"esd\"\nattack = { steps = 3, lr = 0.1 }\n\
                      [[attack]]\nseed = 1";
        assert_eq!(table, toml::from_str(wanted).unwrap());
    }
}
