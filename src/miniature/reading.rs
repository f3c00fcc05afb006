//! A text encoder learns to tell its words apart: each hidden state says which word it is the state
//! of, by the encoder's own table of words, as a language model's output layer does that shares its
//! weights with its input (Press & Wolf 2017, 1608.05859).
//!
//! Pictures alone do not teach this. Words for the same thing would have one state, and words that
//! no picture was named by would have none; a real CLIP keeps a kitten, a cat and a tomcat apart.

use super::canvas_images::cells;
use crate::canvas::{Language, captions};
use crate::model::clip::Clip;
use crate::text::Tokenizer;
use crate::torch::{Device, Kind, Rng, Tensor};

/// Captions to be read word by word.
#[derive(Debug)]
pub(super) struct WordReading {
    /// Token ids of every caption, `[captions, tokens]`.
    ids: Tensor,
    /// Which of them are words: neither start nor end nor filling; `[captions, tokens]`.
    is_word: Tensor,
    device: Device,
}

impl WordReading {
    /// Of all captions.
    pub(super) fn new(language: Language, tokenizer: &Tokenizer, device: Device) -> Self {
        let all = cells().flat_map(|(style, object)| captions(language, style, object));
        let ids: Vec<Tensor> =
            all.map(|caption| Tensor::from_slice(&tokenizer.encode(&caption.text).ids)).collect();
        let ids = Tensor::stack(&ids, 0);
        // The empty prompt is start, end and filling, and nothing else.
        let mut is_word = ids.ones_like().to_kind(Kind::Bool);
        let mut empty = tokenizer.encode("").ids;
        empty.sort_unstable();
        empty.dedup();
        for id in empty {
            is_word = is_word.logical_and(&ids.ne(id));
        }
        Self { ids, is_word, device }
    }

    /// The cross entropy of the words of `n` captions, a scalar.
    pub(super) fn loss(&self, clip: &Clip, n: i64, rng: &mut Rng) -> Tensor {
        let rows = rng.below(self.ids.size()[0], &[n]);
        let here = |tensor: &Tensor| tensor.index_select(0, &rows).to_device(self.device.tch());
        let (ids, is_word) = (here(&self.ids), here(&self.is_word));
        let words = is_word.flatten(0, -1).nonzero().squeeze_dim(1);
        let states = clip.text_states(&ids).flatten(0, 1).index_select(0, &words);
        let logits = clip.word_logits(&states).to_kind(Kind::Float);
        logits.cross_entropy_for_logits(&ids.flatten(0, -1).index_select(0, &words))
    }
}
