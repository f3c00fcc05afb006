//! `unsee evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::bars::Bars;
use super::{Common, output};
use crate::command;
use crate::command::evaluate::EvaluateRequest;
use crate::command::unprompted::{UnpromptedRequest, unprompted};
use crate::measure::TargetClass;
use crate::pipeline::{AnswerSettings, JudgeSettings};

#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// Folder of pictures {style}_{object}_seed{n}.png or .jpg
    pictures: PathBuf,
    /// The same pictures before the erasure
    #[arg(long)]
    base: Option<PathBuf>,
    /// What was erased: style:NAME or object:NAME
    #[arg(long)]
    forget: Option<TargetClass>,
    /// CSV that maps files to prompts: columns file and prompt, or file, style, object, seed
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Names of the styles, with commas [default: the canvas']
    #[arg(long, value_delimiter = ',')]
    styles: Vec<String>,
    /// Names of the objects, with commas [default: the canvas']
    #[arg(long, value_delimiter = ',')]
    objects: Vec<String>,
    /// The shipped `judge`, or a Hugging Face CLIP folder
    #[arg(long, default_value = "judge")]
    judge: String,
    /// How the judge decides: text, prototypes or probe
    #[arg(long, default_value = "text")]
    decide: String,
    /// candle, libtorch, or auto: libtorch on a GPU, candle on a CPU
    #[arg(long, default_value = "auto")]
    engine: String,
    /// Pictures whose truth is known: canvas, aligned-canvas, none, or a folder STYLE/OBJECT/n.png
    #[arg(long, default_value = "canvas")]
    reference: String,
    /// Reference pictures of each style × object [default: 8]
    #[arg(long)]
    check: Option<u32>,
    /// Where the evidence of each picture goes (JSON lines)
    #[arg(long)]
    evidence: Option<PathBuf>,
    /// The pictures are a GAN's, which no prompt asked for: say what is seen in them, how surely,
    /// and how often
    #[arg(long, conflicts_with_all = ["base", "forget", "csv", "evidence"])]
    unprompted: bool,
    /// With --unprompted: the least probability at which a name counts
    #[arg(long, default_value = "0.5", requires = "unprompted", value_parser = probability)]
    confidence: f64,
    /// With --unprompted: Inception-v3's weights, by whose features the distance to the canvas is
    /// [default: the judge's]
    #[arg(long, value_name = "FILE", requires = "unprompted")]
    inception: Option<PathBuf>,
}

fn probability(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or_else(|| "a probability is a number from 0 to 1".to_owned())
}

pub(super) fn evaluate(args: EvaluateArgs, common: &Common) -> anyhow::Result<()> {
    if args.check.is_some() && args.reference == "none" {
        anyhow::bail!(
            "--check is the number of reference pictures, and there are none (--reference none)"
        );
    }
    let device = common.compute()?.device;
    let answers = AnswerSettings { styles: args.styles, objects: args.objects, seeds: Vec::new() };
    let judge = JudgeSettings {
        path: Some(args.judge),
        decide: Some(args.decide),
        engine: Some(args.engine),
        reference: Some(args.reference),
        check: args.check,
        ..JudgeSettings::default()
    };
    if args.unprompted {
        let request = UnpromptedRequest {
            pictures: args.pictures,
            judge,
            answers,
            confidence: args.confidence,
            inception: args.inception,
        };
        let seen = unprompted(&request, device, &mut Bars::new(common.quiet))?;
        if common.json {
            return output::json(&seen);
        }
        output::unprompted(&seen);
        return Ok(());
    }
    let request = EvaluateRequest {
        pictures: args.pictures,
        base: args.base,
        forget: args.forget,
        csv: args.csv,
        answers,
        judge,
        evidence: args.evidence,
    };
    let mut bars = Bars::new(common.quiet);
    let report = command::evaluate::evaluate(&request, device, &mut bars)?;
    if common.json {
        return output::json(&report);
    }
    if !report.scores.is_empty() {
        output::scores(&report.scores);
    }
    if let Some(became) = &report.became {
        output::became(became);
    }
    output::judge(&report.judge);
    output::agreement(&report.agreement);
    output::line(&format!("evidence: {}", report.evidence.display()));
    Ok(())
}
