//! Where the free tokens of a search stand in prompts.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::generator::Denoiser;
use crate::torch::Tensor;

/// Where free tokens stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Before the prompt.
    Prefix,
    /// Behind it.
    Suffix,
    /// In its place: nothing of the prompt is read.
    Replace,
    /// On the prompt's own tokens, as many as it has: what is found is added to them.
    Add,
    /// One after every three tokens of the prompt (P4D-K's).
    Spread,
}

/// Tokens of the prompt after which one is free, where they are spread.
const SPREAD: usize = 3;

/// Prompts with free tokens, a row each.
#[derive(Debug)]
pub struct Frames {
    /// What the text encoder reads, `[n, tokens]`; what stands at the free places does not matter.
    ids: Tensor,
    /// The free places in `ids`, `[n, k]`. A prompt that has fewer than others has places behind
    /// its last token, which nothing reads.
    free: Tensor,
}

impl Frames {
    /// Puts `k` free tokens into each prompt; as many as it has of its own where they are added,
    /// and one after every three where they are spread.
    ///
    /// # Errors
    /// A prompt that is too long together with them, one that is too short for a free token.
    pub fn new(
        model: &dyn Denoiser,
        prompts: &[&str],
        placement: Placement,
        k: usize,
    ) -> Result<Self, Error> {
        let tokens: Vec<Vec<i64>> = prompts.iter().map(|prompt| model.tokens(prompt)).collect();
        Self::of_tokens(model, &tokens, placement, k)
    }

    /// The same for prompts of these tokens.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_tokens(
        model: &dyn Denoiser,
        prompts: &[Vec<i64>],
        placement: Placement,
        k: usize,
    ) -> Result<Self, Error> {
        let arranged = |prompt: &Vec<i64>| {
            let (ids, places) = arranged(prompt, placement, k);
            Arranged { ids, places, text: model.text_of(prompt) }
        };
        Self::of_arranged(model, prompts.iter().map(arranged).collect())
    }

    /// Prompts in which each `word` is `k` free tokens, as a word that was learned later is.
    ///
    /// # Errors
    /// A prompt that is too long then, one without the word.
    pub fn at_word(
        model: &dyn Denoiser,
        prompts: &[&str],
        word: &str,
        k: usize,
    ) -> Result<Self, Error> {
        let arranged = |prompt: &&str| {
            let (mut ids, mut places) = (Vec::new(), Vec::new());
            for (i, piece) in prompt.split(word).enumerate() {
                if i > 0 {
                    places.extend(ids.len()..ids.len() + k);
                    ids.extend(std::iter::repeat_n(BLANK, k));
                }
                ids.extend(model.tokens(piece));
            }
            Arranged { ids, places, text: (*prompt).to_owned() }
        };
        Self::of_arranged(model, prompts.iter().map(arranged).collect())
    }

    fn of_arranged(model: &dyn Denoiser, prompts: Vec<Arranged>) -> Result<Self, Error> {
        let empty: Vec<i64> = Vec::try_from(model.token_ids(&[""]).get(0)).unwrap_or_default();
        let [start, end, ..] = empty[..] else {
            return Err(Error::Search("the text encoder reads fewer than two tokens".to_owned()));
        };
        let length = empty.len();
        let filling = empty.get(2).copied().unwrap_or(end);
        let (mut ids, mut free) = (Vec::new(), Vec::new());
        for Arranged { ids: words, places, text } in prompts {
            if words.len() + 2 > length {
                return Err(Error::Search(format!(
                    "«{text}» and {} free tokens are {} tokens together; the text encoder reads {}",
                    places.len(),
                    words.len(),
                    length - 2
                )));
            }
            if places.is_empty() {
                return Err(Error::Search(format!("«{text}» has no place for a free token")));
            }
            let mut row = vec![start];
            row.extend(words.iter().map(|id| if *id == BLANK { end } else { *id }));
            row.push(end);
            row.resize(length, filling);
            ids.push(Tensor::from_slice(&row));
            free.push(places.iter().map(|place| *place as i64 + 1).collect::<Vec<_>>());
        }
        let most = free.iter().map(Vec::len).max().unwrap_or_default();
        for places in &mut free {
            places.resize(most, length as i64);
        }
        let device = model.compute().device.tch();
        let free: Vec<Tensor> = free.iter().map(|places| Tensor::from_slice(places)).collect();
        Ok(Self {
            ids: Tensor::stack(&ids, 0).to_device(device),
            free: Tensor::stack(&free, 0).to_device(device),
        })
    }

    /// Prompts.
    pub fn count(&self) -> i64 {
        self.ids.size()[0]
    }

    /// Free tokens of each.
    pub fn free(&self) -> i64 {
        self.free.size()[1]
    }

    /// Some of the prompts, by their index `[m]`.
    #[must_use]
    pub fn select(&self, rows: &Tensor) -> Self {
        Self { ids: self.ids.index_select(0, rows), free: self.free.index_select(0, rows) }
    }

    /// The prompts' vectors `[n, tokens, width]` with these at the free places, `[n, k, width]`.
    /// Records a graph where these require gradients.
    pub fn fill(&self, model: &dyn Denoiser, vectors: &Tensor) -> Tensor {
        let rest = model.embed(&with_unread(&self.ids));
        let places = self.free.unsqueeze(-1).expand([-1, -1, rest.size()[2]], false);
        rest.scatter(1, &places, vectors).narrow(1, 0, self.ids.size()[1])
    }

    /// What stands at the free places by itself, `[n, k, width]`: the prompt's own tokens where
    /// what is found is added to them.
    pub fn own(&self, model: &dyn Denoiser) -> Tensor {
        model.embed(&with_unread(&self.ids).gather(1, &self.free, false))
    }

    /// The text of each prompt with these tokens at the free places, `[n, k]`.
    pub fn texts(&self, model: &dyn Denoiser, found: &Tensor) -> Vec<String> {
        let filled = with_unread(&self.ids).scatter(1, &self.free, found);
        each_text(model, &filled.narrow(1, 0, self.ids.size()[1]))
    }

    /// The text of the free tokens of each prompt alone.
    pub fn found_texts(&self, model: &dyn Denoiser, found: &Tensor) -> Vec<String> {
        // Of places that nothing reads nothing is said.
        let read = self.free.lt(self.ids.size()[1]);
        let start = self.ids.narrow(1, 0, 1).expand_as(found);
        each_text(model, &found.where_self(&read, &start))
    }
}

/// Ids with a place behind them that nothing reads.
fn with_unread(ids: &Tensor) -> Tensor {
    Tensor::cat(&[ids, &ids.narrow(1, -1, 1)], 1)
}

/// The text of each row of ids.
fn each_text(model: &dyn Denoiser, ids: &Tensor) -> Vec<String> {
    let rows = (0..ids.size()[0]).map(|row| Vec::<i64>::try_from(ids.get(row)));
    rows.map(|ids| model.text_of(&ids.unwrap_or_default())).collect()
}

/// Stands for a free token; no token has this id.
const BLANK: i64 = -1;

/// A prompt with free tokens in it.
struct Arranged {
    ids: Vec<i64>,
    /// Where they stand.
    places: Vec<usize>,
    /// The prompt itself, for messages.
    text: String,
}

/// A prompt's tokens with free ones among them, and their places.
fn arranged(prompt: &[i64], placement: Placement, k: usize) -> (Vec<i64>, Vec<usize>) {
    let free = vec![BLANK; k];
    match placement {
        Placement::Prefix => ([free, prompt.to_vec()].concat(), (0..k).collect()),
        Placement::Suffix => {
            ([prompt.to_vec(), free].concat(), (prompt.len()..prompt.len() + k).collect())
        }
        Placement::Replace => (free, (0..k).collect()),
        Placement::Add => (prompt.to_vec(), (0..prompt.len()).collect()),
        Placement::Spread => {
            let (mut tokens, mut places) = (Vec::new(), Vec::new());
            for group in prompt.chunks(SPREAD) {
                tokens.extend(group);
                if group.len() == SPREAD {
                    places.push(tokens.len());
                    tokens.push(BLANK);
                }
            }
            (tokens, places)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::small::miniature;
    use crate::torch::Rng;

    #[test]
    fn free_tokens_stand_where_they_are_said_to() {
        let of = |placement| arranged(&[1, 2, 3, 4], placement, 2);
        assert_eq!(of(Placement::Prefix), (vec![-1, -1, 1, 2, 3, 4], vec![0, 1]));
        assert_eq!(of(Placement::Suffix), (vec![1, 2, 3, 4, -1, -1], vec![4, 5]));
        assert_eq!(of(Placement::Replace), (vec![-1, -1], vec![0, 1]));
        assert_eq!(of(Placement::Add), (vec![1, 2, 3, 4], vec![0, 1, 2, 3]));
        assert_eq!(of(Placement::Spread), (vec![1, 2, 3, -1, 4], vec![3]));
    }

    /// What a search stands on: a prompt whose free tokens are a word's own is that prompt.
    #[test]
    fn filled_with_words_it_is_the_prompt_to_the_bit() {
        let model = miniature();
        let frames =
            Frames::new(&model, &["image in Mosaic style."], Placement::Prefix, 2).unwrap();
        let words = model.tokens("a cat");
        let found = Tensor::from_slice(&words).unsqueeze(0);
        let prompt = "a cat image in mosaic style.";
        let wanted = model.condition(&[prompt]).unwrap().states;
        let vectors = model.embed(&found);
        let filled = crate::torch::no_grad(|| model.encode(&frames.fill(&model, &vectors)).states);
        assert!(filled.equal(&wanted));
        assert_eq!(frames.texts(&model, &found), ["a cat image in mosaic style ."]);
        let added = Frames::new(&model, &["a cat"], Placement::Add, 9).unwrap();
        assert!(added.own(&model).equal(&vectors));
        // Beside a batch too.
        let rest = Rng::new(1).normal(&[1, 2, vectors.size()[2]]);
        let both = Frames::new(&model, &["a cat", "a car"], Placement::Suffix, 2).unwrap();
        let filled = both.fill(&model, &Tensor::cat(&[&vectors, &rest], 0));
        assert!(filled.get(1).narrow(0, 3, 2).equal(&rest.get(0)));
    }

    #[test]
    fn a_prompt_that_is_too_long_is_refused() {
        let model = miniature();
        let long = "a cat image ".repeat(10);
        let error = Frames::new(&model, &[&long], Placement::Prefix, 3).unwrap_err().to_string();
        assert!(error.contains("33 tokens together; the text encoder reads 30"), "{error}");
        let error = Frames::new(&model, &["a cat"], Placement::Spread, 0).unwrap_err();
        assert!(error.to_string().contains("«a cat» has no place"), "{error}");
    }

    #[test]
    fn prompts_may_have_different_numbers_of_free_tokens() {
        let model = miniature();
        let prompts = ["a cat image", "a cat image in mosaic style"];
        let frames = Frames::new(&model, &prompts, Placement::Spread, 0).unwrap();
        assert_eq!((frames.count(), frames.free()), (2, 2));
        let tree = model.tokens("tree")[0];
        let car = model.tokens("car")[0];
        let found = Tensor::from_slice(&[tree, car, tree, car]).view([2, 2]);
        let texts = ["a cat image tree", "a cat image tree in mosaic style car"];
        assert_eq!(frames.texts(&model, &found), texts);
        assert_eq!(frames.found_texts(&model, &found), ["tree", "tree car"]);
        let filled = frames.fill(&model, &model.embed(&found));
        let wanted = model.embed(&model.token_ids(&texts));
        assert!(filled.equal(&wanted));
    }
}
