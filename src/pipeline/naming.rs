//! Where the shipped models are.

use std::path::{Path, PathBuf};

use super::Error;
use super::ModelSettings;
use crate::generator::{Location, is_gan};
use crate::hub::{self, HubSettings, Name};
use crate::weights::{Edit, EmaChoice, Weights, foreign_gan, is_stylegan};

/// The file of a GAN in a folder of its own.
const GAN_FILE: &str = "stylegan2.safetensors";

/// A shipped model by name (`miniature`, `judge`, `miniature-gan`, `labeller`): in `UNSEE_MODELS`,
/// or in a folder `models` beside the program or above it, in the working folder, or where it was
/// built.
///
/// # Errors
/// There is none.
pub fn shipped(name: &str) -> Result<PathBuf, Error> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().into_iter().flat_map(Path::ancestors).skip(1);
    let set = std::env::var_os("UNSEE_MODELS").map(PathBuf::from);
    let found = set
        .clone()
        .into_iter()
        .chain(beside.map(|folder| folder.join("models")))
        .chain(std::env::current_dir().ok().map(|folder| folder.join("models")))
        .chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("models")])
        .map(|models| models.join(name))
        .find(|path| path.is_dir());
    found.ok_or_else(|| {
        let folder = |path: Option<PathBuf>| {
            path.map_or_else(|| "?".to_owned(), |p| p.display().to_string())
        };
        Error::Unknown(format!(
            "the shipped model `{name}` is not there; looked for a folder `models` that has it \
             beside the program and above it ({}), in the working folder ({}), and in UNSEE_MODELS \
             ({}): put the folder `models` into one of them",
            folder(program.as_deref().and_then(Path::parent).map(Path::to_path_buf)),
            folder(std::env::current_dir().ok()),
            set.as_deref().map_or("not set".into(), Path::to_string_lossy)
        ))
    })
}

/// A path that exists is a path; a bare word is a shipped model; `ORGANISATION/NAME[@REVISION]` is
/// a model of the hub that was pulled. The network is never touched.
///
/// # Errors
/// A text that is none of these, a model that was not pulled.
pub fn shipped_or_path(text: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(text);
    if let Some(name) = Name::of_folder(&path) {
        return hub::snapshot(&path, &name, &lacking)?.ok_or_else(|| {
            Error::Unknown(format!(
                "{text} is a model's folder in a cache, with no snapshot in it; \
                `unsee pull {name}` brings one"
            ))
        });
    }
    if path.exists() {
        return Ok(path);
    }
    if let Ok(name) = text.parse::<Name>() {
        let settings = HubSettings::from_environment();
        return hub::cached(&settings, &name, &lacking)?.ok_or_else(|| {
            Error::Unknown(format!(
                "there is no folder {text}, and no model of that name in {}; `unsee pull {text}` \
                 brings it there",
                settings.cache.display()
            ))
        });
    }
    if text.contains('/') {
        return Ok(path);
    }
    shipped(text).map_err(|_| {
        Error::Unknown(format!(
            "`{text}` is neither a folder nor a shipped model; miniature, miniature-synonyms, \
             miniature-gan, judge and labeller are shipped, ORGANISATION/NAME is a model of the \
             hub, anything else is a path"
        ))
    })
}

/// What a whole model, or a whole CLIP, would have beside the files of a snapshot.
pub fn lacking(files: &[String]) -> Vec<String> {
    let is = |wanted: &str| files.iter().any(|file| file == wanted);
    if is("model_index.json") || files.iter().any(|file| file.starts_with("unet/")) {
        return crate::generator::lacking(files);
    }
    if is("config.json") {
        return crate::judge::lacking(files);
    }
    let weights = |file: &String| {
        [".safetensors", ".ckpt", ".pt", ".bin"].iter().any(|end| file.ends_with(end))
    };
    if files.iter().any(weights) { Vec::new() } else { vec!["its weights".to_owned()] }
}

/// A GAN is one file; it has a folder where a model card lies beside it. Any other path is its own.
pub fn file_of(path: PathBuf) -> PathBuf {
    let gan = path.join(GAN_FILE);
    if gan.is_file() { gan } else { path }
}

/// Whether a model draws without a prompt.
///
/// # Errors
/// As [`located`].
pub fn needs_no_prompt(settings: &ModelSettings) -> Result<bool, Error> {
    Ok(is_gan(&located(settings)?.path))
}

/// Where a pipeline's model lies.
///
/// # Errors
/// As [`shipped_or_path`]; settings that the kind of model does not have.
pub fn located(settings: &ModelSettings) -> Result<Location, Error> {
    let path = file_of(shipped_or_path(&settings.path)?);
    let file = if path.is_file() { Weights::open(&path).ok() } else { None };
    if file.as_ref().is_some_and(Edit::is_in) {
        return Err(Error::Unknown(format!(
            "{} is an edit, and no model: name the model that it was made of, and lay it on \
             (--edit)",
            path.display()
        )));
    }
    if let Some(file) = file.as_ref().filter(|file| !is_stylegan(file))
        && let Some(kind) = foreign_gan(file)
    {
        return Err(Error::Unknown(format!(
            "{} is {kind}; StyleGAN2 networks can be read",
            path.display()
        )));
    }
    let of_diffusion = settings.ema != EmaChoice::Auto
        || settings.config.is_some()
        || settings.prediction.is_some();
    if of_diffusion && file.as_ref().is_some_and(is_stylegan) {
        return Err(Error::Unknown(format!(
            "{} is a StyleGAN2: it has no UNet to choose (ema), no diffusers configuration \
             (config) and no prediction; leave them out",
            path.display()
        )));
    }
    Ok(Location {
        path,
        ema: settings.ema,
        config: settings
            .config
            .as_deref()
            .map(|path| shipped_or_path(&path.to_string_lossy()))
            .transpose()?,
        prediction: settings.prediction,
    })
}
