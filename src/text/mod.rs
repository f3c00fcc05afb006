//! Prompts to token ids: CLIP's byte-pair encoding from `vocab.json` and `merges.txt`, or from the
//! `tokenizer.json` that transformers 5 writes instead.
//!
//! The engine is Hugging Face's own `tokenizers`, put together as `CLIPTokenizer` does, so that ids
//! are equal by construction. This module also makes the small vocabulary of the miniature.

mod files;
mod tokenizer_config;
mod tokenizer_json;
mod vocabulary;

use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

pub use vocabulary::Vocabulary;

use self::files::TokenizerFiles;
use self::tokenizer_config::TokenizerSettings;

/// Why a tokenizer cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The files are not what they should be.
    #[error("the tokenizer in {folder} cannot be used: {why}")]
    Broken {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A field of its configuration.
    #[error(transparent)]
    Fields(crate::fields::Error),
    /// A word that cannot be learned.
    #[error(
        "`{0}` cannot be a new word: it is empty or in the vocabulary already; name another one"
    )]
    Word(String),
}

const START: &str = "<|startoftext|>";
/// The token at a prompt's end, which in most models fills the rest too.
pub const END: &str = "<|endoftext|>";
/// Tokens of every prompt of Stable Diffusion 1.x and 2.x.
pub const LENGTH: usize = 77;

/// What CLIP takes for a word, in the syntax of regular expressions.
const WORD: &str = concat!(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d",
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
);

/// The classes of the files that are read.
pub fn classes() -> [crate::fields::Class; 2] {
    files::CLASSES
}

/// CLIP's tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    start: i64,
    end: i64,
    pad: i64,
    length: usize,
    /// Words that were learned, each with the ids of its vectors.
    learned: Vec<(String, Vec<i64>)>,
    fingerprint: String,
}

/// Token ids of a prompt, padded to the model's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Start token, words, end token, padding.
    pub ids: Vec<i64>,
    /// How many tokens of the prompt did not fit and were left out.
    pub dropped: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("length", &self.length).finish_non_exhaustive()
    }
}

/// CLIP's engine for these words and merges.
fn engine(
    vocab: tokenizers::models::bpe::Vocab,
    merges: Vec<(String, String)>,
) -> tokenizers::Result<BPE> {
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .end_of_word_suffix("</w>".to_owned())
        .unk_token(END.to_owned())
        .build()
}

impl Tokenizer {
    /// Reads a `tokenizer/` folder for a text encoder that reads prompts of at most `longest`
    /// tokens. What is ignored or assumed is added to `notes`.
    ///
    /// # Errors
    /// Files that are missing or do not belong together, a tokenizer of another kind, prompts that
    /// are too long.
    pub fn open(folder: &Path, longest: usize, notes: &mut Vec<String>) -> Result<Self, Error> {
        let broken = |why: String| Error::Broken { folder: folder.to_path_buf(), why };
        let TokenizerFiles { bpe, settings, added, fingerprint } =
            TokenizerFiles::open(folder, notes)?;
        let length = settings.length().unwrap_or(longest);
        if !(2..=longest).contains(&length) {
            return Err(broken(format!(
                "model_max_length is {length}; at least 2 are needed, and the text encoder reads \
                 {longest} tokens at most (max_position_embeddings)"
            )));
        }
        Self::build(bpe, &settings, length, added, fingerprint)
            .map_err(|error| broken(error.to_string()))
    }

    /// The tokenizer of Stable Diffusion 1.x and 2.x, for files that bring none: CLIP's own
    /// vocabulary, prompts of 77 tokens, filled with `pad`.
    ///
    /// # Errors
    /// None that was seen: the vocabulary is part of the program.
    pub fn clip(pad: &str) -> Result<Self, Error> {
        let broken = |error: tokenizers::Error| Error::Broken {
            folder: PathBuf::from("the program itself"),
            why: error.to_string(),
        };
        let (tokens, merges) = Vocabulary::clip().into_parts();
        let vocab = tokens.into_iter().zip(0..).collect::<tokenizers::models::bpe::Vocab>();
        let bpe = engine(vocab, merges).map_err(broken)?;
        let fingerprint = format!("CLIP's own, filled with {pad}");
        Self::build(bpe, &TokenizerSettings::padded_with(pad), LENGTH, Vec::new(), fingerprint)
            .map_err(broken)
    }

    fn build(
        bpe: BPE,
        settings: &TokenizerSettings,
        length: usize,
        added: Vec<(i64, AddedToken)>,
        fingerprint: String,
    ) -> tokenizers::Result<Self> {
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let _ = tokenizer.with_normalizer(Some(Normalizers::new(vec![
            NFC.into(),
            Replace::new(
                tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned()),
                " ",
            )?
            .into(),
            Lowercase.into(),
        ])));
        let words = Split::new(
            SplitPattern::Regex(WORD.to_owned()),
            SplitDelimiterBehavior::Removed,
            true,
        )?;
        let _ = tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
            words.into(),
            ByteLevel::new(false, true, true).into(),
        ])));
        tokenizer
            .add_special_tokens([AddedToken::from(START, true), AddedToken::from(END, true)])?;
        for (id, token) in added {
            let content = token.content.clone();
            tokenizer.add_tokens([token])?;
            let found = tokenizer.token_to_id(&content).map(i64::from);
            if found != Some(id) {
                let found = found.map_or_else(|| "none".to_owned(), |id| id.to_string());
                return Err(format!(
                    "the added token `{content}` has the id {id} in the files, and {found} behind \
                     the words; do the files belong together?"
                )
                .into());
            }
        }
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .map(i64::from)
                .ok_or_else(|| format!("there is no token `{token}`"))
        };
        let (start, end, pad) = (id(START)?, id(END)?, id(settings.pad())?);
        Ok(Self { bpe: tokenizer, start, end, pad, length, learned: Vec::new(), fingerprint })
    }

    /// Adds a word that stands for `vectors` new ids in prompts, in capitals or not; the first of
    /// the ids is `first`.
    ///
    /// # Errors
    /// A word that is empty or known already.
    pub fn learn(&mut self, word: &str, first: i64, vectors: i64) -> Result<(), Error> {
        let lower = word.to_lowercase();
        let known = self.learned.iter().any(|(other, _)| other.to_lowercase() == lower)
            || self.bpe.token_to_id(word).is_some();
        if word.is_empty() || known {
            return Err(Error::Word(word.to_owned()));
        }
        self.learned.push((word.to_owned(), (first..first + vectors).collect()));
        // A word that contains another one is looked for first.
        self.learned.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        Ok(())
    }

    /// The ids of a prompt, padded or cut to the model's length. The end token is always there.
    pub fn encode(&self, prompt: &str) -> Tokens {
        let mut words = Vec::new();
        self.words(prompt, &self.learned, &mut words);
        let kept = words.len().min(self.length - 2);
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        ids.extend(&words[..kept]);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        Tokens { ids, dropped: words.len() - kept }
    }

    /// The ids of a piece of a prompt, learned words taken out of it first.
    fn words(&self, text: &str, learned: &[(String, Vec<i64>)], ids: &mut Vec<i64>) {
        let Some(((word, word_ids), rest)) = learned.split_first() else {
            let encoding = self.bpe.encode(text, false).expect("every byte has a token");
            ids.extend(encoding.get_ids().iter().map(|&id| i64::from(id)));
            return;
        };
        let mut from = 0;
        for position in places(text, word) {
            self.words(&text[from..position.start], rest, ids);
            ids.extend(word_ids);
            from = position.end;
        }
        self.words(&text[from..], rest, ids);
    }

    /// The text that tokens stand for, start, end and filling left out; what is no UTF-8 becomes �.
    /// To encode it again may give other ids: neighbours that have a token together become it.
    pub fn decode(&self, ids: &[i64]) -> String {
        let byte = |c: char| (0..=u8::MAX).find(|byte| vocabulary::stand_in(*byte) == c);
        let mut bytes = Vec::new();
        for &id in ids {
            if let Some((word, _)) = self.learned.iter().find(|(_, of)| of.first() == Some(&id)) {
                bytes.extend([b" ", word.as_bytes(), b" "].concat());
                continue;
            }
            let token = u32::try_from(id).ok().and_then(|id| self.bpe.id_to_token(id));
            let Some(token) = token.filter(|token| token != START && token != END) else {
                continue;
            };
            let letters = token.strip_suffix("</w>");
            bytes.extend(letters.unwrap_or(&token).chars().filter_map(byte));
            bytes.extend(letters.map(|_| b' '));
        }
        let text = String::from_utf8_lossy(&bytes);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Which of the learned words a prompt names.
    pub fn named<'a>(&'a self, prompt: &'a str) -> impl Iterator<Item = &'a str> {
        let words = self.learned.iter().map(|(word, _)| word.as_str());
        words.filter(|word| !places(prompt, word).is_empty())
    }

    /// The id of the token at a prompt's end.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// The highest id of a word.
    pub fn highest(&self) -> i64 {
        self.bpe.get_vocab(true).values().max().map_or(0, |&id| i64::from(id))
    }

    /// Hash of the files that it was read from.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Tokens of every encoded prompt.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// Where a word stands in a text, whatever its case, and not as a part of another word.
fn places(text: &str, word: &str) -> Vec<Range<usize>> {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (first, last) = (letter(word.chars().next()), letter(word.chars().next_back()));
    let mut found: Vec<Range<usize>> = Vec::new();
    for (start, _) in text.char_indices() {
        if found.last().is_some_and(|before| start < before.end) {
            continue;
        }
        let Some(end) = prefix(&text[start..], word).map(|length| start + length) else { continue };
        let inside = (first && letter(text[..start].chars().next_back()))
            || (last && letter(text[end..].chars().next()));
        if !inside {
            found.push(start..end);
        }
    }
    found
}

/// The length of what a text begins with, where that is `word` in capitals or not.
fn prefix(text: &str, word: &str) -> Option<usize> {
    let (mut letters, mut length) = (text.chars(), 0);
    for c in word.chars() {
        let found = letters.next()?;
        if found != c && !found.to_lowercase().eq(c.to_lowercase()) {
            return None;
        }
        length += found.len_utf8();
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn a_word_is_found_whatever_its_case_and_on_its_own() {
        assert_eq!(places("Art and party, ART-deco art", "art"), [0..3, 15..18, 24..27]);
        assert_eq!(places("a <cat-toy>s <CAT-toy>", "<cat-toy>"), [2..11, 13..22]);
        assert_eq!(
            places("EasyNegative, easynegative_2, easyNegative", "easynegative"),
            [0..12, 30..42]
        );
        assert_eq!(places("Über über", "über"), [0..5, 6..11]);
        assert!(places("", "x").is_empty() && places("xx", "x").is_empty());
    }
}
