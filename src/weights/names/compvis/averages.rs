//! The two sets of UNet weights that a checkpoint may carry: those of the training's end, and their
//! exponential moving average.

use super::UNET;
use crate::torch::{Kind, Tensor, no_grad};
use crate::weights::{Error, Weights};

/// Which of the two sets of UNet weights is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmaChoice {
    /// The last ones, as diffusers takes, with a warning where there are averaged ones that differ.
    #[default]
    Auto,
    /// The averaged ones, or an error.
    Yes,
    /// The last ones of the training.
    No,
}

impl std::str::FromStr for EmaChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "yes" => Ok(Self::Yes),
            "no" => Ok(Self::No),
            other => Err(format!("ema is auto, yes or no; found `{other}`")),
        }
    }
}

/// The second set of a UNet's weights.
#[derive(Debug, Clone, Copy)]
pub struct Averages {
    /// Whether it was taken.
    taken: bool,
    /// How far it lies from the first, relative to that one's length.
    distance: f64,
    /// Whether the user said which is to be taken.
    asked: bool,
}

impl Averages {
    /// The averages of a file, where `pairs` are its tensors that have an averaged copy; `None`
    /// where there are none.
    ///
    /// # Errors
    /// Averaged weights that are asked for and missing, or of other shapes than the last ones.
    pub(super) fn find(
        file: &Weights,
        pairs: &[(&str, String)],
        ema: EmaChoice,
    ) -> Result<Option<Self>, Error> {
        let taken = ema == EmaChoice::Yes;
        if taken && pairs.is_empty() {
            return Err(Error::unfit(
                file.path(""),
                "it has no averaged weights (model_ema.…) besides those of the training's end; \
                 leave ema out",
            ));
        }
        let all = file.names().filter(|name| name.starts_with(UNET)).count();
        if taken && pairs.len() < all {
            return Err(Error::unfit(
                file.path(""),
                format!(
                    "it has averaged weights of {} of {all} tensors only, which are no model; \
                     leave ema out",
                    pairs.len()
                ),
            ));
        }
        if pairs.is_empty() {
            return Ok(None);
        }
        let distance = distance(file, pairs)?;
        Ok(Some(Self { taken, distance, asked: ema != EmaChoice::Auto }))
    }

    /// What the user must know: that there are two, how far apart, and which was taken. `None`
    /// where both are equal.
    pub fn warning(&self, path: &std::path::Path) -> Option<String> {
        let taken = if self.taken { "averaged" } else { "last" };
        let other = if self.taken {
            "--ema no takes the last ones"
        } else {
            "--ema yes takes the averaged ones"
        };
        let how = if self.asked { "as was asked for" } else { "as diffusers takes them" };
        (self.distance > 0.0).then(|| {
            format!(
                "{} holds two UNets, which differ by {:.3} % of their length: the {taken} weights \
                 were taken, {how}; {other}",
                path.display(),
                100.0 * self.distance
            )
        })
    }
}

/// The UNet's tensors that have an averaged copy in a file, each with the name of the copy.
pub(super) fn averaged_pairs(file: &Weights) -> Vec<(&str, String)> {
    file.names()
        .filter(|name| name.starts_with(UNET))
        .filter_map(|name| Some((name, averaged_name(file, name)?)))
        .collect()
}

/// The name of a tensor's averaged copy; `None` where the file has none.
pub(super) fn averaged_name(file: &Weights, name: &str) -> Option<String> {
    // The averaged copies are named by their module without its dots.
    let rest = name.strip_prefix("model.")?;
    let spellings = [format!("model_ema.{}", rest.replace('.', "")), format!("model_ema.{rest}")];
    spellings.into_iter().find(|name| file.contains(name))
}

/// How far the averaged weights lie from the last ones, relative to these.
fn distance(file: &Weights, pairs: &[(&str, String)]) -> Result<f64, Error> {
    let (mut difference, mut whole) = (0.0, 0.0);
    for (name, averaged) in pairs {
        let [last, average] =
            [file.tensor(name)?, file.tensor(averaged)?].map(|tensor| tensor.to_kind(Kind::Float));
        if last.size() != average.size() {
            return Err(Error::unfit(
                file.path(name),
                format!(
                    "`{averaged}` is {:?}, `{name}` is {:?}; they should be alike",
                    average.size(),
                    last.size()
                ),
            ));
        }
        let square = |x: &Tensor| no_grad(|| x.square().sum(Kind::Double).double_value(&[]));
        difference += square(&(&last - average));
        whole += square(&last);
    }
    Ok((difference / whole.max(f64::MIN_POSITIVE)).sqrt())
}
