//! Keys that pipelines had once: refused with what they are called now.

use toml::{Table, Value};

use super::Error;

/// A path of keys, `*` for every table of a list, and what stands there now.
const RENAMED: &[(&str, &str)] = &[
    ("task.forget", "concept.forget"),
    ("task.style_anchor", "concept.style_anchor"),
    ("task.object_anchor", "concept.object_anchor"),
    ("task.forget_pictures", "concept.forget_pictures"),
    ("task.remain_pictures", "concept.keep_pictures"),
    ("task.pictures", "concept.pictures"),
    ("task", "[concept]"),
    ("forget", "concept.forget"),
    ("feedback.labeller", "concept.labeller"),
    ("feedback.threshold", "concept.threshold"),
    ("feedback.samples", "concept.samples"),
    ("feedback.labels", "concept.labels"),
    ("feedback", "[concept], beside the table [latents]"),
    ("measure.judge", "judge.path"),
    ("measure.inception", "judge.inception"),
    ("measure.reference", "judge.reference"),
    ("measure.per_cell", "judge.compare"),
    ("measure.latents", "latents.n"),
    ("measure.retrained", "latents.retrained"),
    ("measure.batch", "draw.batch"),
    ("measure.relearn", "an [[attack]] with name = \"gan-relearning\""),
    ("measure", "[latents] and [judge]"),
    ("classes.styles", "latents.styles"),
    ("classes.objects", "latents.objects"),
    ("classes", "[latents]"),
    ("screen.clip", "judge.path"),
    ("screen.checker", "judge.checker"),
    ("screen.adjustment", "judge.adjustment"),
    ("screen.shows", "judge.shows"),
    ("screen.clear", "judge.clear"),
    ("screen.engine", "judge.engine"),
    ("screen.reference", "judge.reference"),
    ("screen", "[judge]"),
    ("method.*.keep", "retain_weight"),
    ("method.*.remind", "negative_share"),
    ("method.*.rules", "gan"),
    ("method.*.adapt.rules", "adapt = { gan = … }"),
    ("attack.*.rules", "gan"),
    ("world", "canvas_seed"),
    ("judge_world", "judge_canvas_seed"),
    ("labeller.world", "labeller.canvas_seed"),
];

/// Keys of a GAN training, wherever it stands.
const OF_A_GAN: &[(&str, &str)] = &[
    ("ahead", "discriminator_warmup"),
    ("warm", "ema_warmup"),
    ("r1", "r1_gamma"),
    ("r1_every", "d_reg_every"),
    ("path", "path_length_weight"),
    ("path_every", "g_reg_every"),
    ("path_share", "path_batch_shrink"),
    ("mixing", "style_mixing"),
    ("average", "ema_half_life"),
    ("noise", "noise_lr"),
    ("mapping", "mapping_lr"),
    ("generator", "generator_lr"),
];

/// Refuses the first key that has another name now.
///
/// # Errors
/// It, with the new one.
pub(super) fn refuse_old_keys(path: &str, table: &Table) -> Result<(), Error> {
    if matches!(table.get("method"), Some(Value::Table(_))) {
        return Err(Error::Pipeline(format!(
            "{path}: a pipeline has any number of methods now: write [[method]] for [method]"
        )));
    }
    for (old, new) in RENAMED {
        let parts: Vec<&str> = old.split('.').collect();
        if is_there(&Value::Table(table.clone()), &parts) {
            let old = old.replace("*.", "");
            return Err(Error::Pipeline(format!("{path}: `{old}` is called {new} now")));
        }
    }
    match in_gan(&Value::Table(table.clone())) {
        Some((old, new)) => {
            Err(Error::Pipeline(format!("{path}: `gan.{old}` is called {new} now")))
        }
        None => Ok(()),
    }
}

fn is_there(value: &Value, path: &[&str]) -> bool {
    match (path, value) {
        ([], _) => true,
        (["*", rest @ ..], Value::Array(all)) => all.iter().any(|one| is_there(one, rest)),
        ([key, rest @ ..], Value::Table(table)) => {
            table.get(*key).is_some_and(|value| is_there(value, rest))
        }
        _ => false,
    }
}

/// An old key in a table `gan`, however deep.
fn in_gan(value: &Value) -> Option<(&'static str, &'static str)> {
    match value {
        Value::Array(all) => all.iter().find_map(in_gan),
        Value::Table(table) => table.iter().find_map(|(key, value)| match value {
            Value::Table(gan) if key == "gan" => {
                OF_A_GAN.iter().copied().find(|(old, _)| gan.contains_key(*old))
            }
            other => in_gan(other),
        }),
        _ => None,
    }
}
