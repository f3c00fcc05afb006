//! Pictures to the numbers that a CLIP was trained on, as its processor's file says: as a rule
//! shortest edge to the model's size (bicubic, in 8 bits, as Pillow does), the middle square, mean
//! and deviation of each channel.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Error;
use crate::fields::{self, Class, Configuration, Rule};
use crate::pictures::Picture;
use crate::torch::{Kind, Tensor};

/// `preprocessor_config.json`, or `image_processor` in the `processor_config.json` that
/// transformers 5 writes.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
struct Processor {
    #[serde(default = "yes")]
    do_resize: bool,
    #[serde(default)]
    size: Option<Size>,
    #[serde(default = "bicubic")]
    resample: i64,
    #[serde(default = "yes")]
    do_center_crop: bool,
    #[serde(default)]
    crop_size: Option<Size>,
    #[serde(default = "yes")]
    do_rescale: bool,
    #[serde(default = "one_byte")]
    rescale_factor: f64,
    #[serde(default = "yes")]
    do_normalize: bool,
    #[serde(default = "openai_mean")]
    image_mean: [f32; 3],
    #[serde(default = "openai_std")]
    image_std: [f32; 3],
}

/// A size as the versions of transformers write it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    /// Of the shortest edge, or of a square that is cut out.
    Number(i64),
    Shortest {
        shortest_edge: i64,
    },
    Both {
        height: i64,
        width: i64,
    },
}

const KIND: &str = "pictures are prepared as CLIP's processor does";
const CALL: Rule = Rule::Harmless("of a Python call");

impl Configuration for Processor {
    const CLASS: Class = Class {
        name: "CLIPImageProcessor",
        fields: &[&[
            ("image_processor_type", Rule::Only(PROCESSORS, KIND)),
            ("feature_extractor_type", Rule::Only(PROCESSORS, KIND)),
            ("do_resize", Rule::Honoured),
            ("size", Rule::Honoured),
            ("resample", Rule::Only(&["3", "2"], "bicubic (3) and bilinear (2) are built")),
            ("do_center_crop", Rule::Honoured),
            ("crop_size", Rule::Honoured),
            ("do_rescale", Rule::Honoured),
            ("rescale_factor", Rule::Honoured),
            ("do_normalize", Rule::Honoured),
            ("image_mean", Rule::Honoured),
            ("image_std", Rule::Honoured),
            ("do_convert_rgb", Rule::Harmless("pictures are RGB when they come here")),
            ("default_to_square", Rule::Only(&["null", "false"], KIND)),
            ("use_square_size", Rule::Only(&["null", "false"], KIND)),
            ("do_pad", Rule::Only(&["null", "false"], KIND)),
            ("pad_size", Rule::Only(&["null"], KIND)),
            ("size_divisor", Rule::Only(&["null"], KIND)),
            ("image_seq_length", Rule::Harmless("of language models that read pictures")),
            ("processor_class", Rule::Harmless("which class joins it with a tokenizer")),
            ("_valid_processor_keys", CALL),
            ("_processor_class", CALL),
            ("auto_map", Rule::Only(&["null", "{}"], "code of others is not run")),
            ("crop_pct", Rule::Only(&["null"], KIND)),
            ("data_format", CALL),
            ("input_data_format", CALL),
            ("device", CALL),
            ("return_tensors", CALL),
            ("disable_grouping", CALL),
        ]],
    };
}

const PROCESSORS: &[&str] = &[
    "\"CLIPImageProcessor\"",
    "\"CLIPImageProcessorFast\"",
    "\"CLIPImageProcessorPil\"",
    "\"CLIPFeatureExtractor\"",
];

fn yes() -> bool {
    true
}

fn bicubic() -> i64 {
    3
}

fn one_byte() -> f64 {
    1.0 / 255.0
}

fn openai_mean() -> [f32; 3] {
    [0.481_454_66, 0.457_827_5, 0.408_210_73]
}

fn openai_std() -> [f32; 3] {
    [0.268_629_55, 0.261_302_6, 0.275_777_1]
}

/// The steps before a vision tower.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Preprocess {
    /// What the tower takes, on a side.
    side: i64,
    resize: Option<Resize>,
    /// Whether resizing is bilinear; bicubic if not.
    bilinear: bool,
    /// Height and width of what is cut out of the middle.
    crop: Option<[i64; 2]>,
    scale: f64,
    mean: [f32; 3],
    std: [f32; 3],
}

/// What pictures are brought to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
enum Resize {
    Shortest(i64),
    Exactly([i64; 2]),
}

impl Preprocess {
    /// Reads what a folder says, for a tower that takes pictures of `side` pixels; `OpenAI`'s
    /// numbers where it says nothing.
    pub(super) fn open(folder: &Path, side: i64, notes: &mut Vec<String>) -> Result<Self, Error> {
        let (nested, flat) =
            (folder.join("processor_config.json"), folder.join("preprocessor_config.json"));
        let inside = if nested.exists() {
            fields::open(&nested)?["image_processor"].take()
        } else {
            Value::Null
        };
        let (json, path) = match (inside.is_null(), flat.exists()) {
            (false, also) => {
                if also {
                    notes.push(format!(
                        "{}: its image_processor is taken, as transformers does, and \
                         preprocessor_config.json beside it is not",
                        nested.display()
                    ));
                }
                (inside, nested)
            }
            (true, true) => (fields::open(&flat)?, flat),
            (true, false) => {
                notes.push(format!(
                    "{} has no preprocessor_config.json: it is assumed that pictures are brought \
                     to {side} pixels (bicubic) and normalised as OpenAI's CLIPs want them",
                    folder.display()
                ));
                let size = serde_json::json!({"size": {"shortest_edge": side}, "crop_size": side});
                (size, flat)
            }
        };
        let json = without_nulls(json);
        Self::of(fields::read(&json, &path, notes)?, side)
            .map_err(|why| fields::Error::Broken { path, why }.into())
    }

    fn of(file: Processor, side: i64) -> Result<Self, String> {
        let resize = match file.size.unwrap_or(Size::Number(224)) {
            Size::Number(n) | Size::Shortest { shortest_edge: n } => Resize::Shortest(n),
            Size::Both { height, width } => Resize::Exactly([height, width]),
        };
        let crop = match file.crop_size.unwrap_or(Size::Number(224)) {
            Size::Number(n) | Size::Shortest { shortest_edge: n } => [n, n],
            Size::Both { height, width } => [height, width],
        };
        let steps = Self {
            side,
            resize: file.do_resize.then_some(resize),
            bilinear: file.resample == 2,
            crop: file.do_center_crop.then_some(crop),
            scale: if file.do_rescale { file.rescale_factor } else { 1.0 },
            mean: if file.do_normalize { file.image_mean } else { [0.0; 3] },
            std: if file.do_normalize { file.image_std } else { [1.0; 3] },
        };
        let shown = match (steps.crop, steps.resize) {
            (Some(crop), _) => Some(crop),
            (None, Some(Resize::Exactly(size))) => Some(size),
            (None, Some(Resize::Shortest(n))) => Some([n, n]),
            (None, None) => None,
        };
        if let Some([height, width]) = shown
            && [height, width] != [side, side]
        {
            return Err(format!(
                "it makes pictures of {width}x{height} pixels, config.json says that the network \
                 takes {side}x{side}; do both files belong together?"
            ));
        }
        if let (Some(Resize::Shortest(n)), Some([height, width])) = (steps.resize, steps.crop)
            && n < height.max(width)
        {
            return Err(format!(
                "it brings pictures to {n} pixels and cuts {width}x{height} out of them"
            ));
        }
        let numbers = steps.std.iter().chain(&steps.mean).all(|n| n.is_finite());
        if !numbers || steps.std.contains(&0.0) || !steps.scale.is_finite() || steps.scale <= 0.0 {
            return Err(
                "image_mean, image_std and rescale_factor must be numbers, and not 0".to_owned()
            );
        }
        Ok(steps)
    }

    /// Pictures of any sizes to `[n, 3, side, side]`, f32.
    ///
    /// # Errors
    /// A picture that does not come to the network's size where the file asks for no cutting out.
    pub(super) fn apply(&self, pictures: &[Picture]) -> Result<Tensor, Error> {
        let each =
            pictures.iter().map(|picture| self.square(picture)).collect::<Result<Vec<_>, _>>()?;
        let batch = Tensor::stack(&each, 0).to_kind(Kind::Float);
        let batch = if self.scale.total_cmp(&one_byte()).is_eq() {
            batch / 255.0
        } else {
            batch * self.scale
        };
        let channel = |values: &[f32; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]);
        Ok((batch - channel(&self.mean)) / channel(&self.std))
    }

    /// One picture to `[3, side, side]`, u8.
    fn square(&self, picture: &Picture) -> Result<Tensor, Error> {
        let (w, h) = (picture.width as i64, picture.height as i64);
        let pixels =
            Tensor::from_slice(&picture.rgb).view([h, w, 3]).permute([2, 0, 1]).contiguous();
        let [nh, nw] = match self.resize {
            // transformers: the longer edge is cut down to a whole number.
            Some(Resize::Shortest(n)) => [h, w].map(|edge| edge * n / w.min(h)),
            Some(Resize::Exactly(size)) => size,
            None => [h, w],
        };
        let resized = if [nh, nw] == [h, w] {
            pixels
        } else {
            let one = pixels.unsqueeze(0);
            let scaled = if self.bilinear {
                one.internal_upsample_bilinear2d_aa([nh, nw], false, None, None)
            } else {
                one.internal_upsample_bicubic2d_aa([nh, nw], false, None, None)
            };
            scaled.squeeze_dim(0)
        };
        let [ch, cw] = self.crop.unwrap_or([nh, nw]);
        if [ch, cw] != [self.side, self.side] || nh < ch || nw < cw {
            return Err(Error::Head(format!(
                "a picture of {w}x{h} pixels comes to {}x{} by the judge's \
                 preprocessor_config.json, and the network takes {2}x{2}",
                nw.min(cw),
                nh.min(ch),
                self.side
            )));
        }
        Ok(resized.narrow(1, (nh - ch) / 2, ch).narrow(2, (nw - cw) / 2, cw))
    }
}

/// Null is what is not said.
fn without_nulls(json: Value) -> Value {
    match json {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>(),
        ),
        other => other,
    }
}

/// The processor's fields, for those who list them.
pub(super) const CLASS: Class = Processor::CLASS;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn opened(files: &[(&str, Value)]) -> Result<(Preprocess, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, json) in files {
            crate::files::write_json(&folder.path().join(name), json).unwrap();
        }
        let mut notes = Vec::new();
        let steps =
            Preprocess::open(folder.path(), 8, &mut notes).map_err(|error| error.to_string())?;
        Ok((steps, notes))
    }

    #[test]
    fn every_way_to_say_a_size() {
        let plain = json!({"size": 8, "crop_size": 8});
        let (known, notes) = opened(&[("preprocessor_config.json", plain.clone())]).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        for other in [
            json!({
                "size": {"shortest_edge": 8},
                "crop_size": {"height": 8, "width": 8},
                "do_pad": null,
            }),
            json!({
                "image_processor_type": "CLIPFeatureExtractor",
                "size": 8, "crop_size": 8, "resample": 3,
            }),
        ] {
            assert_eq!(opened(&[("preprocessor_config.json", other.clone())]).unwrap().0, known);
            let nested = json!({"processor_class": "CLIPProcessor", "image_processor": other});
            assert_eq!(opened(&[("processor_config.json", nested)]).unwrap().0, known);
        }
        let (assumed, notes) = opened(&[]).unwrap();
        assert_eq!(assumed, known);
        assert!(notes[0].contains("assumed"), "{notes:?}");
        // transformers reads the nested one.
        let other =
            json!({"image_processor": {"size": 8, "crop_size": 8, "image_mean": [0.1, 0.1, 0.1]}});
        let (nested, notes) =
            opened(&[("processor_config.json", other), ("preprocessor_config.json", plain)])
                .unwrap();
        assert!((nested.mean[0] - 0.1).abs() < 1e-6 && notes[0].contains("is taken"), "{notes:?}");
    }

    #[test]
    fn honoured_or_refused() {
        let error =
            |json: Value| opened(&[("preprocessor_config.json", json)]).map(drop).unwrap_err();
        for (json, words) in [
            (json!({"size": 8, "crop_size": 8, "resample": 1}), "`resample`"),
            (json!({"size": 8, "crop_size": 8, "do_pad": true}), "`do_pad`"),
            (json!({"image_processor_type": "ViTImageProcessor"}), "`image_processor_type`"),
            (json!({"size": 16, "crop_size": 16}), "16x16"),
            (json!({"size": 4, "crop_size": 8}), "cuts 8x8"),
            (json!({"size": 8, "crop_size": 8, "image_std": [0, 1, 1]}), "image_std"),
            (json!({"size": {"longest_edge": 8}}), "`size`"),
        ] {
            assert!(error(json).contains(words), "{words}");
        }
        let text = json!({
            "size": 10, "crop_size": 8, "resample": 2, "do_normalize": false, "rescale_factor": 0.5,
        });
        let (steps, _) = opened(&[("preprocessor_config.json", text)]).unwrap();
        let picture = Picture::filled(20, 30, [2, 4, 6]);
        let numbers = steps.apply(&[picture]).unwrap();
        assert_eq!(numbers.size(), [1, 3, 8, 8]);
        let means = numbers.mean_dim([0_i64, 2, 3].as_slice(), false, Kind::Float);
        assert_eq!(Vec::<f32>::try_from(means).unwrap(), [1.0, 2.0, 3.0]);
        let square = json!({"size": 8, "do_center_crop": false});
        let (steps, _) = opened(&[("preprocessor_config.json", square)]).unwrap();
        assert!(steps.apply(&[Picture::filled(9, 9, [0; 3])]).is_ok());
        let error = steps.apply(&[Picture::filled(9, 12, [0; 3])]).unwrap_err().to_string();
        assert!(error.contains("9x12") && error.contains("8x8"), "{error}");
    }
}
