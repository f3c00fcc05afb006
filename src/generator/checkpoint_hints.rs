//! What a single file says of what its UNet predicts and of its schedule: in tensors of no size, in
//! its metadata, in a `.yaml` beside it. Weights themselves do not tell.

use std::path::{Path, PathBuf};

use super::Error;
use super::presets::Configs;
use crate::sampler::Prediction;
use crate::torch::Kind;
use crate::weights::Weights;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct CheckpointHints {
    /// What the UNet predicts.
    pub(super) prediction: Option<Prediction>,
    /// Where that is said.
    source: Option<&'static str>,
    /// Where two of them say different things.
    conflicts: Vec<String>,
    /// What of the schedule is other than Stable Diffusion's, and the file that says so.
    unusual: Option<(PathBuf, String)>,
    /// Whether the last timestep of its schedule has no signal (Lin et al. 2024).
    pub(super) zero_snr: bool,
}

/// By what the published autoencoders' latents are scaled.
const SCALE: f64 = 0.18215;
/// The schedule of the published Stable Diffusion 1.x and 2.x, as A1111's `.yaml` files have it.
const KNOWN: [(&str, f64); 6] = [
    ("linear_start", 0.00085),
    ("linear_end", 0.012),
    ("timesteps", 1000.0),
    ("scale_factor", SCALE),
    ("num_heads", 8.0),
    ("num_head_channels", 64.0),
];
/// ᾱ at the last timestep of that schedule.
const LAST_SIGNAL: f64 = 0.004_66;

impl CheckpointHints {
    /// Looks for them in a file and beside it.
    ///
    /// # Errors
    /// A prediction of another kind, a file that cannot be read.
    pub(super) fn of(file: &Weights, path: &Path) -> Result<Self, Error> {
        let mut hints = Self { zero_snr: file.contains("ztsnr"), ..Self::default() };
        let other = |what: &str, found: f64, known: f64| {
            Some((
                path.to_path_buf(),
                format!("its {what} is {found}, Stable Diffusion's is {known}"),
            ))
        };
        let scalar = |name: &str| -> Result<Option<f64>, Error> {
            if !file.contains(name) {
                return Ok(None);
            }
            let numbers = file.tensor(name)?.to_kind(Kind::Double).flatten(0, -1);
            let n = numbers.numel() as i64;
            Ok((n > 0).then(|| numbers.double_value(&[n - 1])))
        };
        match scalar("alphas_cumprod")? {
            Some(last) if last < 1e-6 => hints.zero_snr = true,
            Some(last) if (last - LAST_SIGNAL).abs() > 1e-3 => {
                hints.unusual = other("last alphas_cumprod", last, LAST_SIGNAL);
            }
            _ => {}
        }
        if let Some(scale) = scalar("scale_factor")?.filter(|scale| (scale - SCALE).abs() > 1e-3) {
            hints.unusual = other("scale_factor", scale, SCALE);
        }
        let about = file.metadata();
        let metadata = match about.get("modelspec.prediction_type") {
            Some(text) => Some(prediction(text).ok_or_else(|| Error::Config {
                path: path.to_path_buf(),
                why: format!(
                    "its metadata says that it predicts `{text}`; noise (epsilon) and velocities \
                     (v) are built, and --prediction says which of them is meant"
                ),
            })?),
            None => None,
        };
        let yaml = match beside(path) {
            Some(yaml) => of_yaml(&yaml, &mut hints.unusual)?,
            None => None,
        };
        let tensor = file.contains("v_pred").then_some(Prediction::VPrediction);
        for (found, source) in [
            (tensor, "its tensor v_pred"),
            (metadata, "its metadata"),
            (yaml, "the .yaml beside it"),
        ] {
            match (hints.prediction, hints.source, found) {
                (None, _, Some(_)) => (hints.prediction, hints.source) = (found, Some(source)),
                (Some(taken), Some(first), Some(found)) if taken != found => {
                    hints.conflicts.push(format!(
                        "{first} and {source} differ in what its UNet predicts; {first} is taken \
                         (--prediction says another)"
                    ));
                }
                _ => {}
            }
        }
        Ok(hints)
    }

    /// Whether the schedule is Stable Diffusion's, which a file has that no configuration was named
    /// for.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn check_schedule(&self) -> Result<(), Error> {
        let Some((path, how)) = &self.unusual else { return Ok(()) };
        let why = format!("{how}; name a diffusers folder with its configuration (--config)");
        Err(Error::Config { path: path.clone(), why })
    }

    /// Puts them into a configuration that was named for the file, which knows its own weights
    /// best, unless something else was asked for; says where the two differ.
    pub(super) fn apply_to(&self, configs: &mut Configs, asked: Option<Prediction>) -> Vec<String> {
        let mut conflicts = self.conflicts.clone();
        if let (None, Some(prediction), Some(source)) = (asked, self.prediction, self.source) {
            conflicts.extend(configs.set_prediction(prediction, &format!("{source} says")));
        }
        let configured = &mut configs.scheduler["rescale_betas_zero_snr"];
        if self.zero_snr && *configured != true {
            *configured = true.into();
            configs.scheduler["timestep_spacing"] = "trailing".into();
            conflicts.push(
                "the file was trained to a last timestep without signal (zero terminal SNR), which \
                 its configuration does not say; timesteps are trailing"
                    .to_owned(),
            );
        }
        conflicts
    }

    /// What the user should know of what was taken.
    pub(super) fn notes(
        &self,
        path: &Path,
        configs: &Configs,
        asked: Option<Prediction>,
    ) -> Vec<String> {
        let what = if configs.predicts_velocity() {
            "velocities (v_prediction)"
        } else {
            "noise (epsilon)"
        };
        let path = path.display();
        let mut notes: Vec<String> =
            self.conflicts.iter().map(|conflict| format!("{path}: {conflict}")).collect();
        match (asked, self.prediction, self.source) {
            (Some(asked), Some(found), Some(source)) if asked != found => {
                notes.push(format!(
                    "{path} is taken to predict {what}, as was asked for, though {source} says \
                     otherwise"
                ));
            }
            (None, Some(_), Some(source)) => {
                notes.push(format!("{path} predicts {what}: {source} says so"));
            }
            (None, None, _) if configs.is_sd2() || configs.predicts_velocity() => {
                notes.push(format!(
                    "{path} is taken to predict {what}, by its name alone; if pictures are \
                     garbage, say --prediction"
                ));
            }
            _ => {}
        }
        if self.zero_snr {
            notes.push(format!(
                "{path} was trained to a last timestep without signal (zero terminal SNR); \
                 timesteps are trailing"
            ));
        }
        notes
    }
}

fn prediction(text: &str) -> Option<Prediction> {
    match text.trim().trim_matches(['"', '\'']).to_lowercase().as_str() {
        "v" | "v_prediction" | "v-prediction" | "v_pred" | "v-pred" | "vpred" | "velocity" => {
            Some(Prediction::VPrediction)
        }
        "eps" | "epsilon" | "noise" => Some(Prediction::Epsilon),
        _ => None,
    }
}

/// The configuration that A1111 looks for: the file's name with another end.
fn beside(path: &Path) -> Option<PathBuf> {
    ["yaml", "yml"].iter().map(|end| path.with_extension(end)).find(|path| path.is_file())
}

/// What a `.yaml` says of the prediction; `unusual` is what else it says that is not Stable
/// Diffusion's.
fn of_yaml(
    path: &Path,
    unusual: &mut Option<(PathBuf, String)>,
) -> Result<Option<Prediction>, Error> {
    let text = fs_err::read_to_string(path)?;
    let mut found = None;
    for line in text.lines() {
        let Some((key, value)) = line.split('#').next().and_then(|line| line.split_once(':'))
        else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if key == "parameterization" {
            found = prediction(value);
            if found.is_none() {
                return Err(Error::Config {
                    path: path.to_path_buf(),
                    why: format!("parameterization is {value}; eps and v are built"),
                });
            }
        }
        let known = KNOWN.iter().find(|(name, _)| *name == key).map(|(_, known)| *known);
        let wanted = match (known, value.parse::<f64>()) {
            (Some(known), Ok(number)) if (number - known).abs() > 1e-6 * known.max(1.0) => {
                known.to_string()
            }
            _ if key == "beta_schedule" && value.trim_matches(['"', '\'']) != "linear" => {
                "linear".to_owned()
            }
            _ => continue,
        };
        unusual.get_or_insert_with(|| {
            (path.to_path_buf(), format!("{key} is {value}, Stable Diffusion's is {wanted}"))
        });
    }
    // Without the word it is noise, as CompVis' code has it.
    Ok(found.or(Some(Prediction::Epsilon).filter(|_| text.contains("LatentDiffusion"))))
}
