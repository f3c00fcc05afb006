//! The pictures that a method learns from.

use crate::pictures::Picture;

/// A picture and the place of its prompt in the task.
#[derive(Debug, Clone)]
pub struct PromptedImage {
    /// The picture.
    pub picture: Picture,
    /// Index into `pairs` or `keep` of a [`Task`](super::Task).
    pub prompt: usize,
}

/// Pictures to forget and pictures to keep.
#[derive(Debug, Clone, Default)]
pub struct TrainingImages {
    /// Pictures of the concept.
    pub forget: Vec<PromptedImage>,
    /// Pictures of everything else.
    pub remain: Vec<PromptedImage>,
}

impl TrainingImages {
    /// A hash of all pictures, and of what each is of.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (which, examples) in [("forget", &self.forget), ("remain", &self.remain)] {
            for PromptedImage { picture, prompt } in examples {
                hasher.update(
                    format!("{which} {prompt} {}x{}", picture.width, picture.height).as_bytes(),
                );
                hasher.update(&picture.rgb);
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// What is wrong with it, if anything, for a task of so many prompts to forget and to keep.
    pub fn complaint(&self, concept: &str, pairs: usize, keep: usize) -> Option<String> {
        if self.forget.is_empty() {
            return Some(format!("there is no picture of {concept} to forget"));
        }
        let bad = |examples: &[PromptedImage], prompts: usize| {
            examples.iter().any(|e| e.prompt >= prompts)
        };
        (bad(&self.forget, pairs) || bad(&self.remain, keep))
            .then(|| "a picture belongs to a prompt that the task does not have".to_owned())
    }
}
