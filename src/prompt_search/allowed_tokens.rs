//! The words that a search may choose from.

use super::Error;
use crate::generator::Denoiser;
use crate::torch::Tensor;

/// The tokens that may be chosen, with the vectors that the text encoder has for them.
#[derive(Debug)]
pub struct AllowedTokens {
    /// Their ids, `[v]`.
    ids: Tensor,
    /// Their vectors, `[v, width]`.
    pub(super) vectors: Tensor,
    banned: Vec<String>,
}

impl AllowedTokens {
    /// All tokens but start, end and filling, and those of the banned words. A word in several
    /// pieces bans each of them.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn without(model: &dyn Denoiser, banned: &[String]) -> Result<Self, Error> {
        let mut left = vec![true; model.vocabulary() as usize];
        let special = Vec::<i64>::try_from(model.token_ids(&[""]).flatten(0, -1));
        let pieces = banned.iter().flat_map(|words| model.tokens(words));
        for id in special.unwrap_or_default().into_iter().chain(pieces) {
            if let Some(left) = left.get_mut(id as usize) {
                *left = false;
            }
        }
        let ids: Vec<i64> = (0..).zip(left).filter_map(|(id, left)| left.then_some(id)).collect();
        if ids.is_empty() {
            return Err(Error::Search(format!(
                "the {} banned words are all tokens of the text encoder; ban fewer",
                banned.len()
            )));
        }
        let ids = Tensor::from_slice(&ids).to_device(model.compute().device.tch());
        let vectors = model.embed(&ids.unsqueeze(0)).squeeze_dim(0).detach();
        Ok(Self { ids, vectors, banned: banned.to_vec() })
    }

    /// How many there are.
    pub fn count(&self) -> i64 {
        self.ids.size()[0]
    }

    /// Ids of tokens by their index among those that may be chosen.
    pub fn tokens(&self, chosen: &Tensor) -> Tensor {
        self.ids.index_select(0, &chosen.flatten(0, -1)).view_as(chosen)
    }

    /// Vectors of tokens by their index `[…]`, `[…, width]`.
    pub fn vectors(&self, chosen: &Tensor) -> Tensor {
        let size = [chosen.size(), vec![self.vectors.size()[1]]].concat();
        self.vectors.index_select(0, &chosen.flatten(0, -1)).view(size.as_slice())
    }

    /// The word nearest to each vector `[…, width]` by the cosine of their angle, as an index
    /// (Wen et al. 2023, 2302.03668).
    pub fn nearest(&self, vectors: &Tensor) -> Tensor {
        let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2, -1, true).clamp_min(1e-12);
        unit(vectors).matmul(&unit(&self.vectors).tr()).argmax(-1, false)
    }

    /// Whether a text has a banned word in it after all: pieces that are allowed can spell one.
    pub fn spells_banned(&self, text: &str) -> bool {
        self.banned.iter().any(|words| names(text, words))
    }
}

/// Whether a text has these words in it, whatever their case and the spaces between their letters.
pub fn names(text: &str, words: &str) -> bool {
    let letters = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let wanted = letters(words);
    !wanted.is_empty() && letters(text).contains(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::small::miniature;

    #[test]
    fn banned_words_cannot_be_chosen() {
        let model = miniature();
        let banned = ["Pixel Art".to_owned(), "zebra".to_owned()];
        let allowed = AllowedTokens::without(&model, &banned).unwrap();
        let ids: Vec<i64> = Vec::try_from(&allowed.ids).unwrap();
        let gone = model.tokens("pixel art zebra");
        assert!(gone.iter().all(|id| !ids.contains(id)));
        assert!(!ids.contains(&(model.vocabulary() - 1)));
        let word = model.tokens("cat")[0];
        let index = ids.iter().position(|id| *id == word).unwrap() as i64;
        let chosen = Tensor::from_slice(&[index]);
        assert!(allowed.nearest(&(allowed.vectors(&chosen) * 3.0)).equal(&chosen));
        assert!(allowed.tokens(&chosen).equal(&Tensor::from_slice(&[word])));
        assert!(allowed.spells_banned("a ze bra crossing"));
        assert!(!allowed.spells_banned("pixel, a cat"));
        let all: Vec<String> = (0..model.vocabulary()).map(|id| model.text_of(&[id])).collect();
        assert!(AllowedTokens::without(&model, &all).is_ok(), "halves of characters are no words");
    }

    #[test]
    fn a_name_is_found_in_pieces_too() {
        assert!(names("mo sa ic", "Mosaic") && names("NEON, lines", "Neon Lines"));
        assert!(!names("a mosaik", "Mosaic") && !names("anything", ""));
    }
}
