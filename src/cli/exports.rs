//! The commands that hand models over: export, diff.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::bars::Bars;
use super::{Common, ModelArgs, output};
use crate::command::diff::{Apart, ModelWithEdits, diff as compare};
use crate::command::export::export as write;
use crate::generator::{Adapter, Format, ModuleRank};
use crate::pipeline::ModelSettings;
use crate::torch::Kind;
use crate::weights::Dialect;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum As {
    /// A complete diffusers folder
    Folder,
    /// The UNet alone, as a folder for `from_pretrained`
    Unet,
    /// The text encoder alone
    TextEncoder,
    /// The autoencoder alone
    Vae,
    /// One file for A1111 and `ComfyUI`
    SingleFile,
    /// A `StyleGAN2` as rosinality's checkpoint (.pt), from NVIDIA's pickle for example
    Rosinality,
    /// A `StyleGAN2` as safetensors
    Safetensors,
    /// What the edits change, alone
    Edit,
    /// What the edits change, as a low-rank adapter
    Lora,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Numbers {
    /// Each tensor's own
    Keep,
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// 16-bit floats with the range of 32-bit ones
    Bf16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NameDialect {
    /// For A1111, `ComfyUI` and kohya's scripts
    Kohya,
    /// For diffusers and PEFT
    Peft,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The file or folder to write; nothing may be there
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Edit, part of a model, or `LoRA` to put onto the model first, with `@STRENGTH` behind it or
    /// not
    #[arg(long, value_name = "FILE")]
    edit: Vec<Adapter>,
    /// What to write
    #[arg(long, value_enum, default_value_t = As::Folder)]
    r#as: As,
    /// The number type to write
    #[arg(long, value_enum, default_value_t = Numbers::Keep)]
    dtype: Numbers,
    /// Rank of a low-rank adapter [default: all of the change]
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    rank: Option<i64>,
    /// Whose names a low-rank adapter has [default: kohya]
    #[arg(long, value_enum)]
    dialect: Option<NameDialect>,
}

pub(super) fn export(args: ExportArgs, common: &Common) -> anyhow::Result<()> {
    if !matches!(args.r#as, As::Lora) && (args.rank.is_some() || args.dialect.is_some()) {
        anyhow::bail!("--rank and --dialect are for --as lora");
    }
    let format = match args.r#as {
        As::Folder => Format::Folder,
        As::Unet => Format::Component("unet"),
        As::TextEncoder => Format::Component("text_encoder"),
        As::Vae => Format::Component("vae"),
        As::SingleFile => Format::SingleFile,
        As::Rosinality => Format::Rosinality,
        As::Safetensors => Format::Safetensors,
        As::Edit => Format::Edit,
        As::Lora => {
            let dialect = match args.dialect {
                None | Some(NameDialect::Kohya) => Dialect::Kohya,
                Some(NameDialect::Peft) => Dialect::Peft,
            };
            Format::Lora { dialect, rank: args.rank }
        }
    };
    let kind = match args.dtype {
        Numbers::Keep => None,
        Numbers::F32 => Some(Kind::Float),
        Numbers::F16 => Some(Kind::Half),
        Numbers::Bf16 => Some(Kind::BFloat16),
    };
    let mut bars = Bars::new(common.quiet);
    let kept = write(&args.model.settings(), &args.edit, &args.out, format, kind, &mut bars)?;
    if common.json {
        return output::json(&serde_json::json!({ "file": args.out, "kept": kept }));
    }
    if !kept.is_empty() {
        let row = |part: ModuleRank| {
            vec![part.name, part.rank.to_string(), format!("{:.2} %", 100.0 * part.energy)]
        };
        output::rows(
            &["change of", "rank", "energy kept"],
            kept.into_iter().map(row).collect(),
            &[1, 2],
        );
    }
    output::line(&args.out.display().to_string());
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The first model: a shipped one, a diffusers folder or a single file
    a: String,
    /// The second model
    b: String,
    /// Edit of the first model
    #[arg(long, value_name = "FILE")]
    edit_a: Vec<Adapter>,
    /// Edit of the second model
    #[arg(long, value_name = "FILE")]
    edit_b: Vec<Adapter>,
    /// A diffusers folder whose configuration belongs to single files
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(super) fn diff(args: DiffArgs, common: &Common) -> anyhow::Result<()> {
    // A folder has its own.
    let config = |path: &str| args.config.clone().filter(|_| !std::path::Path::new(path).is_dir());
    let with = |path: String, edits: Vec<Adapter>| ModelWithEdits {
        model: ModelSettings { config: config(&path), path, ..Default::default() },
        edits,
    };
    let (a, b) = (with(args.a, args.edit_a), with(args.b, args.edit_b));
    let rows = compare(&a, &b, &mut Bars::new(common.quiet))?;
    if common.json {
        return output::json(&rows);
    }
    let show = |row: Apart| {
        vec![
            row.block,
            format!("{}/{}", row.changed, row.tensors),
            format!("{:.2} %", 100.0 * row.share),
            format!("{:.3e}", row.relative),
            format!("{:.3e}", row.largest),
            if row.alone == 0 { String::new() } else { row.alone.to_string() },
        ]
    };
    let heads = ["block", "changed", "numbers", "relative", "largest", "not in both"];
    output::rows(&heads, rows.into_iter().map(show).collect(), &[1, 2, 3, 4, 5]);
    Ok(())
}
