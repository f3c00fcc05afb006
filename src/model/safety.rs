//! The safety checker that Stable Diffusion folders carry: CLIP's vision tower and 20 directions of
//! its space, each with a threshold.
//!
//! Names and arithmetic: `StableDiffusionSafetyChecker` of diffusers.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use super::clip::{ClipConfig, VisionConfig, VisionModel, unit};
use super::layers::Linear;
use super::parameters::{Builder, Init, Parameters};
use crate::fields;
use crate::torch::Tensor;

/// `safety_checker/config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SafetyCheckerConfig {
    /// The vision tower.
    pub vision_config: VisionConfig,
    /// Width of the space in which pictures and concepts are compared.
    pub projection_dim: i64,
}

impl SafetyCheckerConfig {
    /// Reads a `safety_checker/config.json`, which is a whole CLIP's: its text tower is not there.
    ///
    /// # Errors
    /// A field that is refused, a value of the wrong type.
    pub fn read(json: &Value, path: &Path, notes: &mut Vec<String>) -> Result<Self, fields::Error> {
        let mut json = json.clone();
        if let Some(fields) = json.as_object_mut() {
            // Its own class, and what versions before transformers 5 wrote about towers that it
            // does not have.
            fields.remove("architectures");
            fields.insert("text_config".to_owned(), Value::Null);
            fields.insert("text_config_dict".to_owned(), Value::Null);
        }
        let ClipConfig { vision_config, projection_dim, .. } =
            ClipConfig::read(&json, path, notes)?;
        Ok(Self { vision_config, projection_dim })
    }
}

/// Concepts that are looked for.
pub const CONCEPTS: i64 = 17;
/// Concepts in whose presence the others are looked for more strictly.
pub const SPECIAL: i64 = 3;

/// The network.
#[derive(Debug)]
pub struct SafetyChecker {
    vision: VisionModel,
    projection: Linear,
    concepts: Directions,
    special: Directions,
    parameters: Parameters,
}

/// Directions `[k, width]` and the cosine `[k]` from which each counts as present.
#[derive(Debug)]
struct Directions {
    directions: Tensor,
    thresholds: Tensor,
}

impl Directions {
    fn new(b: &Builder, name: &str, k: i64, width: i64) -> Result<Self, Error> {
        Ok(Self {
            directions: b.get(name, &[k, width], Init::Normal(1.0))?,
            thresholds: b.get(&format!("{name}_weights"), &[k], Init::Value(1.0))?,
        })
    }

    /// How far above its threshold each direction is, `[n, k]`.
    fn above(&self, features: &Tensor) -> Tensor {
        features.matmul(&unit(&self.directions).tr()) - &self.thresholds
    }
}

impl SafetyChecker {
    /// The checker of a `safety_checker/` folder.
    ///
    /// # Errors
    /// Weights that are missing or of another shape.
    pub fn new(config: &SafetyCheckerConfig, b: Builder) -> Result<Self, Error> {
        let width = config.projection_dim;
        // transformers 5 leaves the inner module's name out.
        let doubled = b.at("vision_model.vision_model");
        let single = b.at("vision_model");
        let tower = if doubled.has("embeddings.class_embedding") { &doubled } else { &single };
        let mut checker = Self {
            vision: VisionModel::new(&config.vision_config, tower)?,
            projection: Linear::without_bias(
                &b.at("visual_projection"),
                config.vision_config.hidden_size,
                width,
            )?,
            concepts: Directions::new(&b, "concept_embeds", CONCEPTS, width)?,
            special: Directions::new(&b, "special_care_embeds", SPECIAL, width)?,
            parameters: Parameters::default(),
        };
        checker.parameters = b.finish();
        Ok(checker)
    }

    /// Normalised pictures `[n, 3, side, side]` to how far each lies above the thresholds, as
    /// cosines: of the special concepts `[n, 3]` and of the concepts `[n, 17]`.
    pub fn forward(&self, pictures: &Tensor) -> (Tensor, Tensor) {
        let features = unit(&self.projection.forward(&self.vision.pooled(pictures)));
        (self.special.above(&features), self.concepts.above(&features))
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}
