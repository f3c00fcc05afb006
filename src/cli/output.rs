//! What is printed: tables or JSON to stdout, errors to stderr.

use std::io::Write as _;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::bars::span;
use crate::command::unprompted::UnpromptedReport;
use crate::measure::{BASE, Became, CurvePoint, Estimate, JudgeAccuracy, Score};
use crate::run::record::Ending;
use crate::study::{JudgeReport, Judges, Relearned, Report, Results, Tried};

/// The first thing that could not be printed.
static LOST: std::sync::Mutex<Option<std::io::Error>> = std::sync::Mutex::new(None);

/// Prints a line of results.
pub(super) fn line(text: &str) {
    keep(writeln!(std::io::stdout(), "{text}"));
}

fn keep(outcome: std::io::Result<()>) {
    // A closed pipe is no failure of ours: whoever reads has enough.
    if let Err(error) = outcome
        && error.kind() != std::io::ErrorKind::BrokenPipe
        && let Ok(mut lost) = LOST.lock()
    {
        lost.get_or_insert(error);
    }
}

/// Whether all results were printed.
///
/// # Errors
/// Standard output could not be written, a full disk for example.
pub(super) fn finish() -> anyhow::Result<()> {
    keep(std::io::stdout().flush());
    match LOST.lock().ok().and_then(|mut lost| lost.take()) {
        Some(error) => Err(anyhow::anyhow!("the results could not be printed: {error}")),
        None => Ok(()),
    }
}

/// Prints one JSON object.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints an error and its causes, each once.
pub(super) fn failure(error: &anyhow::Error, as_json: bool) {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    let message = parts.join(": ");
    if as_json {
        line(&serde_json::json!({ "error": message }).to_string());
    }
    drop(writeln!(std::io::stderr(), "error: {message}"));
}

fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(heads.to_vec());
    table
}

/// A table with numbers at the right.
pub(super) fn rows(heads: &[&str], rows: Vec<Vec<String>>, right: &[usize]) {
    let mut table = table(heads);
    for row in rows {
        table.add_row(row);
    }
    for &i in right {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    line(&table.to_string());
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

/// The scores: a row for each target and measure, a column for the base and for each method.
pub(super) fn scores(scores: &[Score]) {
    let shown: Vec<&Score> = scores.iter().filter(|score| !score.detail).collect();
    let mut methods: Vec<&str> = Vec::new();
    for score in &shown {
        if !methods.contains(&score.method.as_str()) {
            methods.push(&score.method);
        }
    }
    let several = shown.iter().any(|score| !score.judge.is_empty());
    let mut first: Vec<&Score> = Vec::new();
    for score in &shown {
        if !first.iter().any(|other| other.is_of_same(score)) {
            first.push(score);
        }
    }
    let one = methods.iter().filter(|method| **method != BASE).count() == 1;
    let mut lines = Vec::new();
    for row in first {
        let of = |method: &str| {
            shown.iter().find(|score| score.method == method && score.is_of_same(row))
        };
        let mut line = vec![row.target.clone()];
        if several {
            line.push(row.judge.clone());
        }
        line.push(row.title());
        line.extend(
            methods
                .iter()
                .map(|method| of(method).map_or_else(String::new, |score| score.with_interval())),
        );
        if one {
            let last = methods.iter().rev().find_map(|method| of(method));
            line.push(last.map_or_else(String::new, |score| score.counted()));
        }
        lines.push(line);
    }
    let mut heads = vec!["erased"];
    if several {
        heads.push("judge");
    }
    // Whoever compares with others' tables must see whose numbers these are.
    heads.push(if several { "measure" } else { "measure (CLIP judge)" });
    let numbers = heads.len();
    heads.extend(methods.iter().copied());
    if one {
        heads.push("hits/n");
    }
    let right: Vec<usize> = (numbers..heads.len()).collect();
    rows(&heads, lines, &right);
    line("shares in percent, intervals at 95 %");
}

fn number(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

/// What the erased prompts became.
pub(super) fn became(became: &Became) {
    let names: Vec<String> = became.names.iter().map(|(name, n)| format!("{name} {n}")).collect();
    line(&format!(
        "{} prompts became after {}: {} (of {})",
        became.target,
        became.method,
        names.join(", "),
        became.n
    ));
}

/// How good the judge is.
pub(super) fn judge(report: &JudgeReport) {
    let row = |what: &str, j: &JudgeAccuracy| {
        vec![
            what.to_owned(),
            j.domain.name().to_owned(),
            format!("{} [{}, {}]", percent(j.accuracy), number(j.low), number(j.high)),
            format!("{}/{}", j.hits, j.n),
            format!("{} {:.0} %", j.worst_cell.0, 100.0 * j.worst_cell.1),
            format!("{:.3} → {:.3}", j.ece[0], j.ece[1]),
        ]
    };
    let mut lines: Vec<Vec<String>> =
        report.on_reference.iter().map(|j| row("pictures whose truth is known", j)).collect();
    lines.extend(
        report.on_base.iter().filter(|j| j.n > 0).map(|j| row("pictures of the model before", j)),
    );
    rows(
        &[
            "the judge names",
            "domain",
            "right [95 %]",
            "hits/n",
            "worst style × object",
            "calibration error",
        ],
        lines,
        &[2, 3],
    );
    if report.on_reference.is_empty() {
        line(
            "the judge's accuracy is not known: there are no reference pictures (judge.reference)",
        );
    }
}

/// How often a judge names pictures as they were asked for.
pub(super) fn agreement(agreement: &[JudgeAccuracy]) {
    for accuracy in agreement {
        line(&format!(
            "the judge names the {} that was asked for in {} [{}, {}] of the pictures ({}/{})",
            accuracy.domain.name(),
            percent(accuracy.accuracy),
            number(accuracy.low),
            number(accuracy.high),
            accuracy.hits,
            accuracy.n
        ));
    }
}

/// Everything that a study ends with.
pub(super) fn report(report: &Report) {
    let Results { judges, scores: numbers, became: changed, curves, tried: trials, .. } =
        &report.results;
    scores(numbers);
    changed.iter().for_each(became);
    curves.iter().for_each(curve);
    trials.iter().for_each(tried);
    another_judge("labels to learn from by", judges.labeller.as_ref());
    if let Some(report) = &judges.judge {
        judge(report);
    }
    another_judge("confirmed by", judges.second.as_ref());
    if let Some(features) = &judges.features {
        let hash = short(&features.hash);
        line(&format!("features of FID, precision and recall: {} {hash}", features.name));
    }
    detectors(judges);
    ending(&report.ending);
}

/// A judge beside the one that scores: what for, which, and how good.
fn another_judge(what: &str, report: Option<&JudgeReport>) {
    if let Some(report) = report {
        line(&format!("{what} {} ({})", report.card.path.display(), short(&report.card.hash)));
        judge(report);
    }
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// How a concept came back.
fn curve(curve: &Relearned) {
    let Some(CurvePoint { step, share }) = curve.curve.last() else { return };
    let half = match curve.half {
        Some(0) => "; half was never gone".to_owned(),
        Some(at) => format!("; half was back after {at}"),
        None => "; half was not back".to_owned(),
    };
    line(&format!(
        "{} after {}: {} [{}, {}] ({} of {}) was back after {step} steps of {} on {}{half}",
        curve.target,
        curve.method,
        percent(share.value),
        number(share.low),
        number(share.high),
        share.hits,
        share.n,
        curve.attack,
        curve.arm
    ));
}

/// How often an attack succeeded.
fn tried(tried: &Tried) {
    let [Some(before), Some(after)] = [tried.curve.first(), tried.curve.last()] else { return };
    let share = |share: &Estimate| {
        let (low, high) = (number(share.low), number(share.high));
        format!("{} [{low}, {high}] ({} of {})", percent(share.value), share.hits, share.n)
    };
    let without = if tried.before {
        format!("; without it {}", percent(before.share.value))
    } else {
        String::new()
    };
    let steps = match tried.images * tried.steps {
        0 => String::new(),
        steps => format!(" and {steps} steps of a search"),
    };
    let arm = if tried.arm == "attack" { String::new() } else { format!(" ({})", tried.arm) };
    let text = format!(
        "{} after {}: {}{arm}, which needs {}, brings back {} with {} judged pictures{steps} \
         each{without}",
        tried.target,
        tried.method,
        tried.attack,
        tried.access.words(),
        share(&after.share),
        after.images,
    );
    let above = tried.above.iter().map(|above| {
        let Estimate { value, low, high, .. } = above.difference;
        format!(
            "; above {} at {} pictures {} [{}, {}], p = {:.3}",
            above.control,
            above.images,
            percent(value),
            number(low),
            number(high),
            above.p
        )
    });
    line(&(text + &above.collect::<String>()));
}

/// How good detectors are, and how often two of them agree.
fn detectors(judges: &Judges) {
    if judges.detectors.is_empty() {
        return;
    }
    let known = |estimate: Option<Estimate>| {
        estimate.map_or_else(
            || "not known".to_owned(),
            |e| {
                let (low, high) = (number(e.low), number(e.high));
                format!("{} [{low}, {high}] {}/{}", percent(e.value), e.hits, e.n)
            },
        )
    };
    let lines = judges.detectors.iter().map(|detector| {
        let path = detector.card.path.display().to_string();
        let (finds, passes) = (known(detector.sensitivity), known(detector.specificity));
        vec![detector.name.clone(), path, finds, passes]
    });
    let heads = ["judge", "folder", "finds what shows it", "lets pass what does not"];
    rows(&heads, lines.collect(), &[2, 3]);
    if judges.detectors.iter().any(|detector| detector.sensitivity.is_none()) {
        line(
            "how good the judges are is not known: there are no reference pictures \
             (judge.reference)",
        );
    }
    if let Some(agreement) = judges.agreement {
        line(&format!("both judges say the same of {}", known(Some(agreement))));
    }
}

/// What was seen in pictures that no prompt asked for.
pub(super) fn unprompted(seen: &UnpromptedReport) {
    let Estimate { value, low, high, hits, n } = seen.named;
    line(&format!(
        "style and object named with a probability of at least {}: {} [{}, {}], {hits} of {n}",
        seen.confidence,
        percent(value),
        number(low),
        number(high)
    ));
    for (what, names) in [("styles", &seen.styles), ("objects", &seen.objects)] {
        let there = names.iter().filter(|(_, count)| *count > 0).count();
        let list: Vec<String> =
            names.iter().map(|(name, count)| format!("{name} {count}")).collect();
        line(&format!("{what} that occur: {there} of {}: {}", names.len(), list.join(", ")));
    }
    line(&format!(
        "styles × objects among the surely named: {} of {}",
        seen.cells[0], seen.cells[1]
    ));
    if let (Some(pictures), Some(canvas)) = (seen.to_canvas, seen.of_canvas) {
        line(&format!(
            "FID to the canvas: {:.2} [{:.2}, {:.2}]; of other canvas pictures {:.2} (features: {} \
             {})",
            pictures.value,
            pictures.low,
            pictures.high,
            canvas.value,
            seen.features.name,
            seen.features.hash.chars().take(12).collect::<String>()
        ));
    }
    judge(&seen.judge);
}

/// What a run took and where its results are.
fn ending(run: &Ending) {
    let (host, device) = (run.peak_host, run.peak_device);
    let device =
        if device > 0 { format!(", {} MiB on the device", device >> 20) } else { String::new() };
    line(&format!("{} of work, peak memory {} MiB{device}", span(run.seconds), host >> 20));
    line(&format!("grid: {}", run.grid.display()));
    line(&format!("run folder: {}", run.folder.display()));
}
