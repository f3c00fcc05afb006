//! What a file says of itself, in Stability's `modelspec.*`.

use super::ModelCard;

/// The words for a file of a Stable Diffusion model, or of a part of one (`part`: `/lora`).
pub fn modelspec(
    card: &ModelCard,
    part: &str,
    implementation: &str,
) -> Vec<(&'static str, String)> {
    let stem = card.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let prediction = if card.predicts_velocity { "v" } else { "epsilon" };
    vec![
        ("modelspec.sai_model_spec", "1.0.0".to_owned()),
        ("modelspec.architecture", format!("{}{part}", card.architecture)),
        ("modelspec.implementation", implementation.to_owned()),
        ("modelspec.title", format!("{stem}, edited by unsee")),
        ("modelspec.date", jiff::Zoned::now().strftime("%Y-%m-%d").to_string()),
        ("modelspec.resolution", format!("{0}x{0}", card.side)),
        ("modelspec.prediction_type", prediction.to_owned()),
    ]
}
