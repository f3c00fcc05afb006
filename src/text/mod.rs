//! Prompts to token ids: CLIP's byte-pair encoding from `vocab.json` and `merges.txt`, or from the
//! `tokenizer.json` that transformers 5 writes instead.
//!
//! The engine is Hugging Face's own `tokenizers`, put together as `CLIPTokenizer` does, so that ids
//! are equal by construction. This room also makes the small vocabulary of the miniature.

mod vocabulary;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

pub use vocabulary::Vocabulary;

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
    /// A word that cannot be learned.
    #[error("`{0}` cannot be a new word: it is empty or in the vocabulary already; name another one")]
    Word(String),
}

const START: &str = "<|startoftext|>";
/// The token at a prompt's end, which in most models fills the rest too.
pub const END: &str = "<|endoftext|>";

/// The keys of `tokenizer_config.json` and `special_tokens_map.json` that matter.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    model_max_length: Option<f64>,
    pad_token: Option<PadToken>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PadToken {
    Text(String),
    Token { content: String },
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

/// `tokenizer.json`, as far as it is read: how CLIP splits text is known here. The engine's own reader would panic
/// on some damaged files (tokenizers 0.23, `decoders/mod.rs`; found by fuzzing).
#[derive(Deserialize)]
struct Whole {
    model: Words,
}

#[derive(Deserialize)]
struct Words {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: std::collections::HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Two tokens: as a pair, or before tokenizers 0.20 as one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

/// The byte-pair encoding of a `tokenizer.json`.
fn words_of(text: &str) -> Result<BPE, String> {
    let whole: Whole = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if whole.model.kind.is_some_and(|kind| kind != "BPE") {
        return Err("it holds no byte-pair encoding, which CLIP's is".to_owned());
    }
    let pair = |merge: Merge| match merge {
        Merge::Pair(a, b) => Ok((a, b)),
        Merge::Text(text) => text
            .split_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .ok_or_else(|| format!("the merge `{text}` is no pair")),
    };
    let merges = whole.model.merges.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let vocab = whole.model.vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>();
    engine(vocab, merges).map_err(|error| error.to_string())
}

/// CLIP's engine for these words and merges.
fn engine(vocab: tokenizers::models::bpe::Vocab, merges: Vec<(String, String)>) -> tokenizers::Result<BPE> {
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .end_of_word_suffix("</w>".to_owned())
        .unk_token(END.to_owned())
        .build()
}

impl Tokenizer {
    /// Reads a `tokenizer/` folder.
    ///
    /// # Errors
    /// Files that are missing or do not belong together.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let broken = |why: String| Error::Broken { folder: folder.to_path_buf(), why };
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let whole = folder.join("tokenizer.json");
        let bpe = if !vocab.exists() && whole.exists() {
            let text = fs_err::read_to_string(&whole)?;
            words_of(&text).map_err(|why| broken(format!("tokenizer.json: {why}")))?
        } else {
            for file in [&vocab, &merges] {
                fs_err::metadata(file)?;
            }
            BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy())
                .end_of_word_suffix("</w>".to_owned())
                .unk_token(END.to_owned())
                .build()
                .map_err(|error| broken(error.to_string()))?
        };
        let mut settings = Settings::default();
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            if let Ok(text) = fs_err::read_to_string(folder.join(name)) {
                let found: Settings =
                    serde_json::from_str(&text).map_err(|error| broken(format!("{name}: {error}")))?;
                settings.model_max_length = found.model_max_length.or(settings.model_max_length);
                settings.pad_token = found.pad_token.or(settings.pad_token);
            }
        }
        Self::build(bpe, &settings).map_err(|error| broken(error.to_string()))
    }

    /// The tokenizer of Stable Diffusion 1.x and 2.x, for files that bring none: CLIP's own vocabulary, prompts
    /// of 77 tokens, filled with `pad`.
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
        let pad_token = Some(PadToken::Text(pad.to_owned()));
        Self::build(bpe, &Settings { pad_token, model_max_length: None }).map_err(broken)
    }

    fn build(bpe: BPE, settings: &Settings) -> tokenizers::Result<Self> {
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let _ = tokenizer.with_normalizer(Some(Normalizers::new(vec![
            NFC.into(),
            Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned()), " ")?
                .into(),
            Lowercase.into(),
        ])));
        let words = Split::new(
            SplitPattern::Regex(
                r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+".to_owned(),
            ),
            SplitDelimiterBehavior::Removed,
            true,
        )?;
        let _ = tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
            words.into(),
            ByteLevel::new(false, true, true).into(),
        ])));
        tokenizer.add_special_tokens([AddedToken::from(START, true), AddedToken::from(END, true)])?;
        let id = |token: &str| {
            tokenizer.token_to_id(token).map(i64::from).ok_or_else(|| format!("there is no token `{token}`"))
        };
        let pad = match &settings.pad_token {
            Some(PadToken::Text(text) | PadToken::Token { content: text }) => text.as_str(),
            None => END,
        };
        let (start, end, pad) = (id(START)?, id(END)?, id(pad)?);
        // transformers writes 1e30 for «no limit»
        let length = settings.model_max_length.filter(|&n| n < 100_000.0).map_or(77, |n| n as usize);
        Ok(Self { bpe: tokenizer, start, end, pad, length, learned: Vec::new() })
    }

    /// Adds a word that stands for `vectors` new ids, in prompts written just so; the first of the ids is `first`.
    ///
    /// # Errors
    /// A word that is empty or known already.
    pub fn learn(&mut self, word: &str, first: i64, vectors: i64) -> Result<(), Error> {
        let known = self.learned.iter().any(|(own, _)| own == word) || self.bpe.token_to_id(word).is_some();
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
        let Some(((word, own), rest)) = learned.split_first() else {
            let encoding = self.bpe.encode(text, false).expect("every byte has a token");
            ids.extend(encoding.get_ids().iter().map(|&id| i64::from(id)));
            return;
        };
        for (n, piece) in text.split(word.as_str()).enumerate() {
            if n > 0 {
                ids.extend(own);
            }
            self.words(piece, rest, ids);
        }
    }

    /// Tokens of every encoded prompt.
    pub fn length(&self) -> usize {
        self.length
    }
}
