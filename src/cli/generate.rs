//! `unsee generate`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;

use super::bars::Bars;
use super::{Common, DrawArgs, default_out, output};
use crate::command;
use crate::command::generate::{GanGenerateRequest, GenerateRequest};
use crate::generator::{Adapter, Embedding, Seeding};
use crate::pipeline::{Column, PromptRow, needs_no_prompt, range, read_prompts};

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// The prompt; a GAN has none
    #[arg(conflicts_with = "csv")]
    prompt: Option<String>,
    /// CSV with a column `prompt`, optionally `case_number`, `evaluation_seed`,
    /// `evaluation_guidance` and others' names of these
    #[arg(long)]
    csv: Option<PathBuf>,
    /// A column of the CSV under a name of its own, as in `prompt=adv_prompt` (case, seed,
    /// guidance, width and height too)
    #[arg(long, value_name = "KIND=NAME", requires = "csv")]
    column: Vec<Column>,
    /// Seeds for prompts without one of their own, as in 1,5,10-15
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = seeds)]
    seeds: Vec<RangeInclusive<u64>>,
    /// How far a GAN's styles may lie from their mean: 1 as they come, lower is more alike and
    /// cleaner; several are a sweep
    #[arg(long, value_delimiter = ',', default_value = "1")]
    truncation: Vec<f64>,
    /// Pictures on the way from each of a GAN's seeds to the next
    #[arg(long, value_name = "PICTURES", default_value_t = 0)]
    strip: usize,
    /// A seed whose style takes over in a GAN's layers from LAYER on
    #[arg(long, value_name = "SEED@LAYER", value_parser = mix)]
    mix: Option<(u64, i64)>,
    /// What a GAN's seeds mean: torch's numbers, or nvidia, which draws what NVIDIA's scripts draw
    /// for a seed
    #[arg(long, default_value = "torch")]
    seeding: Seeding,
    /// What to stay away from
    #[arg(long, default_value = "")]
    negative: String,
    /// Edit, part of a model, or `LoRA` to put onto the model, with `@STRENGTH` behind it or not
    #[arg(long, value_name = "FILE")]
    edit: Vec<Adapter>,
    /// How much of the edits goes onto the model; of several every picture is drawn at each, below
    /// 0 a change is turned round
    #[arg(long, value_delimiter = ',', default_value = "1", allow_hyphen_values = true)]
    strengths: Vec<f64>,
    /// A word that was learned from pictures (textual inversion): FILE, or WORD=FILE
    #[arg(long, value_name = "FILE")]
    embedding: Vec<Embedding>,
    /// Pixels, as in 512x512 [default: the model's own]
    #[arg(long, value_parser = size)]
    size: Option<(i64, i64)>,
    #[command(flatten)]
    draw: DrawArgs,
    /// Folder for the pictures
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn generate(args: GenerateArgs, common: &Common) -> anyhow::Result<()> {
    let mut bars = Bars::new(common.quiet);
    let prompts = match (&args.csv, args.prompt) {
        (Some(csv), _) if needs_no_prompt(&args.draw.model.settings())? => {
            anyhow::bail!(
                "{} is a StyleGAN2: it reads no prompt and no list of prompts ({}); its pictures \
                 are seeds (--seeds, --truncation)",
                args.draw.model.model,
                csv.display()
            )
        }
        (Some(csv), _) => read_prompts(csv, &args.column, &mut bars)?,
        (None, None) if !needs_no_prompt(&args.draw.model.settings())? => {
            let missing = clap::error::ErrorKind::MissingRequiredArgument;
            clap::Error::raw(
                missing,
                "a prompt is needed: give one, or a list of them with --csv\n",
            )
            .exit()
        }
        (None, Some(prompt)) if prompt.trim().is_empty() => {
            anyhow::bail!(
                "the prompt is empty; a picture of nothing in particular is drawn by --guidance 0 \
                 and any prompt, or by a list (--csv)"
            )
        }
        (None, prompt) => {
            vec![PromptRow::bare(0, &prompt.unwrap_or_default())]
        }
    };
    let request = GenerateRequest {
        model: args.draw.model.settings(),
        edits: args.edit,
        strengths: args.strengths,
        embeddings: args.embedding,
        prompts,
        seeds: args.seeds.into_iter().flatten().collect(),
        negative: args.negative,
        guidance: args.draw.guidance,
        steps: args.draw.steps,
        sampler: args.draw.sampler,
        gan: GanGenerateRequest {
            truncation: args.truncation,
            strip: args.strip,
            mix: args.mix,
            seeding: args.seeding,
        },
        size: args.size,
        batch: args.draw.batch,
    };
    let root = args.out.unwrap_or_else(|| default_out("generate"));
    let drawn = command::generate::generate(&request, &root, common.compute()?, &mut bars)?;
    if common.json {
        return output::json(&serde_json::json!({ "pictures": drawn }));
    }
    for picture in drawn {
        output::line(&picture.file.display().to_string());
    }
    Ok(())
}

/// A seed, or the first and the last of several.
fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    /// More would be a slip of the finger.
    const MOST: u64 = 1_000_000;
    let wrong = || format!("`{text}` is no seed; write 5, or 10-15 for all of them from 10 to 15");
    let named = range(text).ok_or_else(wrong)?;
    if named.is_empty() || named.end() - named.start() >= MOST {
        return Err(wrong());
    }
    Ok(named)
}

fn mix(text: &str) -> Result<(u64, i64), String> {
    let wrong = || format!("`{text}` is no seed and layer; write SEED@LAYER, for example 7@4");
    let (seed, layer) = text.split_once('@').ok_or_else(wrong)?;
    Ok((seed.parse().map_err(|_| wrong())?, layer.parse().map_err(|_| wrong())?))
}

fn size(text: &str) -> Result<(i64, i64), String> {
    /// No network here draws larger pictures, and a slip of the finger would take all memory.
    const MOST: i64 = 8192;
    let wrong = || format!("write WIDTHxHEIGHT in pixels, 1 to {MOST} each, for example 512x512");
    let side =
        |text: &str| text.parse().ok().filter(|side| (1..=MOST).contains(side)).ok_or_else(wrong);
    let (width, height) = text.split_once('x').ok_or_else(wrong)?;
    Ok((side(width)?, side(height)?))
}
