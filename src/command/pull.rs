//! Brings a model that unsee can use from the hub.

use crate::hub::{HubSettings, Name, Pulled};
use crate::pipeline::lacking;
use crate::run::Error;
use crate::run::opening::say_commit;
use crate::watch::Watch;

/// Brings a Stable Diffusion, or a CLIP that judges, into the cache.
///
/// # Errors
/// No such model, no permission, a network that fails again and again, a disk that is full,
/// interruption.
pub fn pull(name: &Name, watch: &mut dyn Watch) -> Result<Pulled, Error> {
    let choose = |files: &[String]| {
        let model = crate::generator::needed(files);
        if model.is_empty() { crate::judge::needed(files) } else { model }
    };
    let pulled = crate::hub::pull(&HubSettings::from_environment(), name, choose, &lacking, watch)?;
    say_commit(&pulled.path, watch);
    Ok(pulled)
}
