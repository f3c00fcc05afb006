//! `pictures.csv`: which picture is of what.

use super::{GenerateRequest, Works};
use crate::generator::Blend;
use crate::run::Error;

/// Writes `pictures.csv`: each file with its seed, what else a GAN's picture is of, and the prompt
/// file's columns.
pub(super) fn write(options: &GenerateRequest, works: &Works) -> Result<(), Error> {
    let kept: Vec<String> =
        options.prompts[0].columns.iter().map(|(head, _)| head.clone()).collect();
    let of_gan: &[&str] =
        if options.gan.is_plain() { &[] } else { &["truncation", "other_seed", "share"] };
    let strength: &[&str] = if works.groups.len() > 1 { &["strength"] } else { &[] };
    let heads = ["file", "seed"]
        .iter()
        .chain(strength)
        .chain(of_gan)
        .map(|&head| head.to_owned())
        .chain(kept);
    let mut records: Vec<Vec<String>> = vec![heads.collect()];
    let all = works.groups.iter().flat_map(|group| {
        let rows = group.files.iter().zip(&group.rows);
        rows.map(move |((file, request), row)| (group.strength, file, request, row))
    });
    for (at, file, request, row) in all {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let given = row.columns.iter().map(|(_, value)| value.clone());
        let (other, share) = match request.blend {
            Some(Blend::Between { seed, share }) => (seed.to_string(), share.to_string()),
            Some(Blend::From { seed, layer }) => (seed.to_string(), format!("from layer {layer}")),
            None => (String::new(), String::new()),
        };
        let of_gan = [request.truncation.to_string(), other, share].into_iter().take(of_gan.len());
        let all = [name, request.seed.to_string()]
            .into_iter()
            .chain(strength.iter().map(|_| at.to_string()))
            .chain(of_gan)
            .chain(given);
        records.push(all.collect());
    }
    Ok(crate::files::write_csv(&works.root.join("pictures.csv"), records)?)
}
