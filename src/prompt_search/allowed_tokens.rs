//! The words that a search may choose from.

use std::collections::HashSet;

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
        let special = special(model);
        Self::those(model, &|id| !special.contains(&id), &[])
    }

    /// The tokens that a text can have (no half of a character, no capital, no control character:
    /// what is read back from such a text would be other tokens) but those of the banned words. A
    /// word in several pieces bans each of them.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn without(model: &dyn Denoiser, banned: &[String]) -> Result<Self, Error> {
        Self::those(model, &may_be_found(model, banned), banned)
    }

    /// Whether [`Self::without`] leaves something.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn leaves_some(model: &dyn Denoiser, banned: &[String]) -> Result<(), Error> {
        let left = (0..model.vocabulary()).any(may_be_found(model, banned));
        if left { Ok(()) } else { Err(nothing_left(banned)) }
    }

    fn those(
        model: &dyn Denoiser,
        may: &dyn Fn(i64) -> bool,
        banned: &[String],
    ) -> Result<Self, Error> {
        let ids: Vec<i64> = (0..model.vocabulary()).filter(|id| may(*id)).collect();
        if ids.is_empty() {
            return Err(nothing_left(banned));
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

/// The ids of start, end and filling.
fn special(model: &dyn Denoiser) -> HashSet<i64> {
    let ids = Vec::<i64>::try_from(model.token_ids(&[""]).flatten(0, -1));
    ids.unwrap_or_default().into_iter().collect()
}

/// Whether a token can stand in a text that is read back as it was, and is none of the banned
/// words', by itself or by its text: a word may have a token at the end of a word and another
/// inside one.
fn may_be_found<'a>(model: &'a dyn Denoiser, banned: &'a [String]) -> impl Fn(i64) -> bool + 'a {
    let lost = |c: char| c.is_uppercase() || c.is_control() || c == char::REPLACEMENT_CHARACTER;
    let is_one =
        |text: &str, words: &str| words.split_whitespace().any(|word| word.to_lowercase() == text);
    let mut gone = special(model);
    gone.extend(banned.iter().flat_map(|words| model.tokens(words)));
    move |id| {
        let text = model.text_of(&[id]);
        let is_banned = |words: &String| names_in_part(&text, words) || is_one(&text, words);
        let writable = !text.is_empty() && !text.contains(lost);
        writable && !gone.contains(&id) && !banned.iter().any(is_banned)
    }
}

fn nothing_left(banned: &[String]) -> Error {
    Error::Search(format!(
        "the {} banned words are all tokens of the text encoder; ban fewer",
        banned.len()
    ))
}

/// Whether a text has these words in it, whatever their case and the spaces between their letters,
/// in singular or plural: "mo sa ic" names a mosaic, "tomcat" names no cat.
pub fn names(text: &str, words: &str) -> bool {
    let wanted = letters(words).concat();
    let is_plural = |many: &str, one: &str| {
        many.strip_prefix(one).is_some_and(|ending| ending == "s" || ending == "es")
    };
    let text = letters(text);
    let spelled = |from: usize| {
        let mut run = String::new();
        text[from..].iter().any(|word| {
            run.push_str(word);
            run == wanted || is_plural(&run, &wanted) || is_plural(&wanted, &run)
        })
    };
    !wanted.is_empty() && (0..text.len()).any(spelled)
}

/// Whether a text has one of these words in it: "gogh" is enough of "Van Gogh". Shorter ones than
/// three letters stand for nothing alone.
pub fn names_in_part(text: &str, words: &str) -> bool {
    let mut long = words.split_whitespace().filter(|word| word.chars().count() >= 3);
    names(text, words) || long.any(|word| names(text, word))
}

/// The words of a text, of letters and digits alone and in small letters. Where spaces do not tell
/// words apart, each character is one.
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

/// Whether a character is Chinese, Japanese or Korean: there words are not told apart by spaces
/// alone.
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
        assert!(names("two cats.", "Cat") && names("a cat", "Cats") && names("可爱的猫照片", "猫"));
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
            assert!(!text.contains(|c: char| c == '\u{fffd}' || c.is_control()), "{id}");
        }
    }
}
