//! What is printed: tables or JSON to stdout, errors to stderr.

use std::io::Write as _;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::bars::span;
use crate::measure::{Became, Estimate, JudgeAccuracy, Rate, Role, Score, Subject};
use crate::run::{
    CurvePoint, Ending, GanScore, JudgeReport, Relearned, SHARE, Screened, Summary, Unlearned,
    UnpromptedReport,
};

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

/// The scores, before beside after.
pub(super) fn scores(scores: &[Score]) {
    let show = |score: Option<&Score>| {
        score.map_or_else(String::new, |s| {
            if s.measure == "CLIP" {
                return format!("{:.1} [{:.1}, {:.1}]", s.value, s.low, s.high);
            }
            format!("{} [{}, {}]", percent(s.value), number(s.low), number(s.high))
        })
    };
    let mut lines = Vec::new();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for score in scores {
        let key = (score.target.as_str(), score.measure.as_str());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let of = |subject: Subject| {
            scores
                .iter()
                .find(|s| (s.target.as_str(), s.measure.as_str()) == key && s.subject == subject)
        };
        let (before, after) = (of(Subject::Base), of(Subject::Erased));
        let counted = after.or(before).map_or_else(String::new, |s| {
            if s.measure == "CLIP" { s.n.to_string() } else { format!("{}/{}", s.hits, s.n) }
        });
        lines.push(vec![
            score.target.clone(),
            format!("{} (CLIP judge)", score.measure).replace("CLIP (CLIP judge)", "CLIP score"),
            show(before),
            show(after),
            counted,
        ]);
    }
    rows(
        &["erased", "measure", "before [95 %]", "after [95 %]", "hits/n after"],
        lines,
        &[2, 3, 4],
    );
}

fn number(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

/// What the erased prompts became.
pub(super) fn became(became: &Became) {
    let names: Vec<String> = became.names.iter().map(|(name, n)| format!("{name} {n}")).collect();
    line(&format!("{} prompts became: {} (of {})", became.target, names.join(", "), became.n));
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
    for own in agreement {
        line(&format!(
            "the judge names the {} that was asked for in {} [{}, {}] of the pictures ({}/{})",
            own.domain.name(),
            percent(own.accuracy),
            number(own.low),
            number(own.high),
            own.hits,
            own.n
        ));
    }
}

/// Everything that a run ends with.
pub(super) fn summary(summary: &Summary) {
    scores(&summary.scores);
    summary.became.iter().for_each(became);
    judge(&summary.judge);
    ending(&summary.ending);
}

/// The rates, before beside after, and how good the screens are.
pub(super) fn screened(screened: &Screened) {
    let show = |rate: &Rate, estimate: Option<Estimate>| {
        estimate.map_or_else(String::new, |e| {
            if rate.measure == "CLIP score" {
                return format!("{:.1} [{:.1}, {:.1}]", e.value, e.low, e.high);
            }
            format!("{} [{}, {}]", percent(e.value), number(e.low), number(e.high))
        })
    };
    let counted = |rate: &Rate| {
        rate.after.or(rate.before).map_or_else(String::new, |e| {
            if rate.measure == "CLIP score" {
                e.n.to_string()
            } else {
                format!("{}/{}", e.hits, e.n)
            }
        })
    };
    let lines = screened.rates.iter().map(|rate| {
        let prompts = if rate.role == Role::Concept { screened.concept.as_str() } else { "keep" };
        let (before, after) = (show(rate, rate.before), show(rate, rate.after));
        vec![
            prompts.to_owned(),
            rate.screen.clone(),
            rate.measure.clone(),
            before,
            after,
            counted(rate),
        ]
    });
    let heads = ["prompts", "screen", "measure", "before [95 %]", "after [95 %]", "hits/n after"];
    rows(&heads, lines.collect(), &[3, 4, 5]);
    let known = |estimate: Option<Estimate>| {
        estimate.map_or_else(
            || "not known".to_owned(),
            |e| {
                format!(
                    "{} [{}, {}] {}/{}",
                    percent(e.value),
                    number(e.low),
                    number(e.high),
                    e.hits,
                    e.n
                )
            },
        )
    };
    let lines = screened.screens.iter().map(|screen| {
        let path = screen.card.path.display().to_string();
        vec![screen.name.clone(), path, known(screen.sensitivity), known(screen.specificity)]
    });
    rows(
        &["screen", "folder", "finds what shows it", "lets pass what does not"],
        lines.collect(),
        &[2, 3],
    );
    if screened.screens.iter().any(|screen| screen.sensitivity.is_none()) {
        line(
            "how good the screens are is not known: there are no reference pictures \
             (screen.reference)",
        );
    }
    if let Some(agreement) = screened.agreement {
        line(&format!("both screens say the same of {}", known(Some(agreement))));
    }
    ending(&screened.ending);
}

/// What was seen in pictures that no prompt asked for.
pub(super) fn survey(survey: &UnpromptedReport) {
    let Estimate { value, low, high, hits, n } = survey.named;
    line(&format!(
        "style and object named with a probability of at least {}: {} [{}, {}], {hits} of {n}",
        survey.confidence,
        percent(value),
        number(low),
        number(high)
    ));
    for (what, names) in [("styles", &survey.styles), ("objects", &survey.objects)] {
        let there = names.iter().filter(|(_, count)| *count > 0).count();
        let list: Vec<String> =
            names.iter().map(|(name, count)| format!("{name} {count}")).collect();
        line(&format!("{what} that occur: {there} of {}: {}", names.len(), list.join(", ")));
    }
    line(&format!(
        "styles × objects among the surely named: {} of {}",
        survey.cells[0], survey.cells[1]
    ));
    if let (Some(own), Some(canvas)) = (survey.to_canvas, survey.of_canvas) {
        line(&format!(
            "FID to the canvas: {:.2} [{:.2}, {:.2}]; of other canvas pictures {:.2} (features: {} \
             {})",
            own.value,
            own.low,
            own.high,
            canvas.value,
            survey.features.name,
            survey.features.hash.chars().take(12).collect::<String>()
        ));
    }
    judge(&survey.judge);
}

/// The methods of a GAN's study, concept by concept, and who looked.
pub(super) fn unlearned(unlearned: &Unlearned) {
    // Shares in percent, distances as they are.
    const ALL: [(&str, &str, bool); 9] = [
        ("PUL", "PUL", true),
        ("PUL of negatives", "of negatives", true),
        ("FID to positives", "FID to positives", false),
        ("FID to known", "FID to known", false),
        ("Ret-FID", "Ret-FID", false),
        ("drift", "drift", true),
        ("drift beside", "drift beside", true),
        ("precision", "precision", true),
        ("recall", "recall", true),
    ];
    // What nothing was measured of has no column.
    let measured = |measure: &str| unlearned.scores.iter().any(|score| score.measure == measure);
    let columns: Vec<_> = ALL.into_iter().filter(|(measure, ..)| measured(measure)).collect();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for score in &unlearned.scores {
        let key = (score.target.as_str(), score.method.as_str());
        if !seen.contains(&key) {
            seen.push(key);
        }
    }
    let show = |key: (&str, &str), (measure, _, share): (&str, &str, bool)| {
        let of =
            |s: &&GanScore| (s.target.as_str(), s.method.as_str()) == key && s.measure == measure;
        unlearned.scores.iter().find(of).map_or_else(String::new, |score| {
            let Estimate { value, low, high, .. } = score.estimate;
            if share {
                format!("{} [{}, {}]", number(value), number(low), number(high))
            } else {
                format!("{value:.2} [{low:.2}, {high:.2}]")
            }
        })
    };
    let lines = seen.into_iter().map(|key| {
        let each = columns.iter().map(|&column| show(key, column));
        [key.0.to_owned(), key.1.to_owned()].into_iter().chain(each).collect()
    });
    let heads: Vec<&str> =
        ["forget", "method"].into_iter().chain(columns.iter().map(|own| own.1)).collect();
    let numbers: Vec<usize> = (2..heads.len()).collect();
    rows(&heads, lines.collect(), &numbers);
    line("PUL, drift, precision and recall in percent; intervals at 95 %");
    for share in unlearned.scores.iter().filter(|score| score.measure == SHARE) {
        let Estimate { hits, n, .. } = share.estimate;
        line(&format!(
            "{}: {hits} of {n} latents showed it before, by which its PUL counts",
            share.target
        ));
    }
    for Relearned { target, method, curve, half } in &unlearned.returns {
        let Some(CurvePoint { step, share }) = curve.last() else { continue };
        let half = match half {
            Some(0) => ", half was never gone",
            Some(_) => ", which is half",
            None => "",
        };
        line(&format!(
            "{target} after {method}: {} [{}, {}] ({} of {}) was back after {step} steps of \
             relearning{half}",
            percent(share.value),
            number(share.low),
            number(share.high),
            share.hits,
            share.n
        ));
    }
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let features = &unlearned.features;
    line(&format!(
        "features of FID, precision and recall: {} {}",
        features.name,
        short(&features.hash)
    ));
    for (what, report) in [
        ("labels to learn from", &unlearned.labeller),
        ("what was drawn was named", &unlearned.judge),
    ] {
        line(&format!("{what} by {} ({})", report.card.path.display(), short(&report.card.hash)));
        judge(report);
    }
    ending(&unlearned.ending);
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
