//! What a picture that was drawn says about itself in its file.

use super::ImageRequest;

/// What every picture of a run carries beside its own settings.
#[derive(Debug, Clone, Copy)]
pub struct Provenance<'a> {
    /// Hash of the model.
    pub model: &'a str,
    /// Whether it is not for every eye: it is blurred wherever it is laid out.
    pub sensitive: bool,
}

impl Provenance<'_> {
    /// A PNG's texts: A1111's line for other programs, JSON for this one.
    pub fn texts(self, request: &ImageRequest) -> [(&'static str, String); 2] {
        [("parameters", request.parameters(self.model)), (ABOUT, self.about(request).to_string())]
    }

    /// What the chunk [`ABOUT`] has of a picture that was asked for with `request`.
    pub fn about(self, request: &ImageRequest) -> serde_json::Value {
        let mut json = serde_json::json!({"request": request, "model": self.model});
        if self.sensitive {
            json["sensitive"] = true.into();
        }
        json
    }
}

/// The text chunk in which this program's pictures say what they are.
pub const ABOUT: &str = "unsee";
