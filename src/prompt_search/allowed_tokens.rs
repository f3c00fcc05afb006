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
    /// All tokens but start, end and filling: what is found need not be written down.
    ///
    /// # Errors
    /// There are no others.
    pub fn all(model: &dyn Denoiser) -> Result<Self, Error> {
        Self::those(model, |_| true, &[])
    }

    /// The tokens that a text can have (no half of a character, no capital, no control character:
    /// what is read back from such a text would be other tokens) but those of the banned words. A
    /// word in several pieces bans each of them.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn without(model: &dyn Denoiser, banned: &[String]) -> Result<Self, Error> {
        let may = |id| {
            let text = model.text_of(&[id]);
            is_writable(&text) && !banned.iter().any(|words| holds(words, &text))
        };
        Self::those(model, may, banned)
    }

    fn those(
        model: &dyn Denoiser,
        may: impl Fn(i64) -> bool,
        banned: &[String],
    ) -> Result<Self, Error> {
        let mut left: Vec<bool> = (0..model.vocabulary()).map(may).collect();
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
        self.banned.iter().any(|words| names_in_part(text, words))
    }
}

/// Whether a token with this text can stand in a text that is read back as it was.
fn is_writable(text: &str) -> bool {
    let lost = |c: char| c.is_uppercase() || c.is_control() || c == char::REPLACEMENT_CHARACTER;
    !text.is_empty() && !text.contains(lost)
}

/// Whether a token's text is one of these words: a word may have a token at the end of a word and
/// another inside one.
fn holds(words: &str, text: &str) -> bool {
    words.split_whitespace().any(|word| word.to_lowercase() == text)
}

/// Whether a text has these words in it, whatever their case and the spaces between their letters,
/// or their plural: "mo sa ic" names a mosaic, "tomcat" names no cat.
pub fn names(text: &str, words: &str) -> bool {
    let wanted = letters(words).concat();
    let plural = [format!("{wanted}s"), format!("{wanted}es")];
    let text = letters(text);
    let spelled = |from: usize| {
        let mut run = String::new();
        text[from..].iter().any(|word| {
            run.push_str(word);
            run == wanted || plural.contains(&run)
        })
    };
    !wanted.is_empty() && (0..text.len()).any(spelled)
}

/// Whether a text has one of these words in it: "gogh" is enough of "Van Gogh". Shorter ones than
/// three letters stand for nothing alone.
pub fn names_in_part(text: &str, words: &str) -> bool {
    let long = words.split_whitespace().filter(|word| word.chars().count() >= 3);
    names(text, words) || long.into_iter().any(|word| names(text, word))
}

/// The words of a text, of letters and digits alone and in small letters. Each character of a
/// script without spaces is one.
fn letters(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.chars() {
        let stands_alone = is_unspaced(c);
        if (stands_alone || !c.is_alphanumeric()) && words.last().is_some_and(|w| !w.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        if stands_alone {
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a character is of a script without spaces between words: Chinese, Japanese, Korean.
pub fn is_unspaced(char: char) -> bool {
    ('\u{2e80}'..='\u{d7ff}').contains(&char)
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
        assert!(allowed.spells_banned("a cat, pi xel"), "a part of a name is banned too");
        assert!(!allowed.spells_banned("a cat"));
        let all: Vec<String> = (0..model.vocabulary()).map(|id| model.text_of(&[id])).collect();
        assert!(AllowedTokens::without(&model, &all).is_err());
    }

    #[test]
    fn a_name_is_found_in_pieces_too() {
        assert!(names("mo sa ic", "Mosaic") && names("NEON, lines", "Neon Lines"));
        assert!(!names("a mosaik", "Mosaic") && !names("anything", ""));
        assert!(names("two cats.", "Cat") && names("可爱的猫照片", "猫"));
        assert!(!names("a tomcat, education", "Cat"));
        assert!(names_in_part("a go gh", "Van Gogh") && !names_in_part("a tree", "A Cat"));
    }

    #[test]
    fn what_no_text_has_cannot_be_chosen() {
        let model = miniature();
        let ids = AllowedTokens::without(&model, &[]).unwrap().ids;
        for id in Vec::<i64>::try_from(ids).unwrap() {
            let text = model.text_of(&[id]);
            assert_eq!(text, model.text_of(&model.tokens(&text)), "{id}");
        }
    }
}
