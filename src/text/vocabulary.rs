//! CLIP's own vocabulary, and small ones in its form from a corpus: all bytes, and merges until
//! every word of the corpus is one token. The files are what `CLIPTokenizer` reads.

use std::collections::BTreeMap;
use std::path::Path;

use super::{END, START};

/// Tokens by id, and merges by rank.
#[derive(Debug)]
pub struct Vocabulary {
    tokens: Vec<String>,
    merges: Vec<(String, String)>,
}

/// GPT-2's printable stand-in for each byte.
pub(super) fn stand_in(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + rank).unwrap_or('?')
}

/// CLIP's order: printable bytes first, then the others; then the same at a word's end.
fn bytes() -> Vec<String> {
    let mut bytes: Vec<char> = (0..=255).map(stand_in).collect();
    bytes.sort_unstable();
    let mut tokens: Vec<String> = bytes.iter().map(char::to_string).collect();
    tokens.extend(bytes.iter().map(|c| format!("{c}</w>")));
    tokens
}

/// The merges of CLIP's published vocabulary (`bpe_simple_vocab_16e6`, the 48,894 that CLIP uses),
/// by `OpenAI` under the MIT licence.
const CLIP_MERGES: &str = include_str!("clip_merges.txt");

impl Vocabulary {
    /// CLIP's own 49,408 tokens, which Stable Diffusion 1.x and 2.x have.
    pub fn clip() -> Self {
        let merges: Vec<(String, String)> = CLIP_MERGES
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect();
        let mut tokens = bytes();
        tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
        tokens.extend([START.to_owned(), END.to_owned()]);
        Self { tokens, merges }
    }

    /// Merges the most frequent neighbours until each word is whole, or its pieces would have more
    /// than `longest` letters together. Words are split at white space and in lower case, as the
    /// tokenizer sees them.
    pub fn of<'a>(corpus: impl IntoIterator<Item = &'a str>, longest: usize) -> Self {
        let letters = |token: &str| token.trim_end_matches("</w>").chars().count();
        let mut words: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for text in corpus {
            let text = text.to_lowercase();
            for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                let mut symbols: Vec<String> =
                    word.bytes().map(|b| stand_in(b).to_string()).collect();
                if let Some(last) = symbols.last_mut() {
                    last.push_str("</w>");
                }
                *words.entry(symbols).or_default() += 1;
            }
        }
        let mut tokens = bytes();
        let mut merges = Vec::new();
        loop {
            let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
            for (symbols, count) in &words {
                for pair in symbols.windows(2) {
                    if letters(&pair[0]) + letters(&pair[1]) > longest {
                        continue;
                    }
                    *pairs.entry((&pair[0], &pair[1])).or_default() += count;
                }
            }
            // The first of the most frequent, so that the result does not depend on any order.
            let Some((pair, _)) = pairs.iter().rev().max_by_key(|&(_, count)| count) else { break };
            let pair = (pair.0.to_owned(), pair.1.to_owned());
            let whole = format!("{}{}", pair.0, pair.1);
            words = std::mem::take(&mut words)
                .into_iter()
                .map(|(symbols, count)| (join(symbols, &pair, &whole), count))
                .collect();
            tokens.push(whole);
            merges.push(pair);
        }
        tokens.extend([START.to_owned(), END.to_owned()]);
        Self { tokens, merges }
    }

    /// How many tokens.
    pub fn size(&self) -> usize {
        self.tokens.len()
    }

    /// Words and merges as the engine wants them.
    pub(super) fn into_parts(self) -> (Vec<String>, Vec<(String, String)>) {
        (self.tokens, self.merges)
    }

    /// Writes the files of a `tokenizer/` folder; prompts will be `length` tokens long, filled with
    /// `pad`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path, length: usize, pad: &str) -> std::io::Result<()> {
        let vocab: serde_json::Map<String, serde_json::Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let mut merges = String::from("#version: 0.2\n");
        for (a, b) in &self.merges {
            for part in [a, " ", b, "\n"] {
                merges.push_str(part);
            }
        }
        let special = serde_json::json!({
            "bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad
        });
        let mut config = special.clone();
        config["model_max_length"] = length.into();
        config["tokenizer_class"] = "CLIPTokenizer".into();
        crate::files::write(
            &folder.join("vocab.json"),
            serde_json::Value::Object(vocab).to_string().as_bytes(),
        )?;
        crate::files::write(&folder.join("merges.txt"), merges.as_bytes())?;
        crate::files::write_json(&folder.join("special_tokens_map.json"), &special)?;
        crate::files::write_json(&folder.join("tokenizer_config.json"), &config)
    }
}

fn join(symbols: Vec<String>, pair: &(String, String), whole: &str) -> Vec<String> {
    let mut joined: Vec<String> = Vec::with_capacity(symbols.len());
    let mut i = 0;
    while i < symbols.len() {
        if i + 1 < symbols.len() && symbols[i] == pair.0 && symbols[i + 1] == pair.1 {
            joined.push(whole.to_owned());
            i += 2;
        } else {
            joined.push(symbols[i].clone());
            i += 1;
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tokenizer;

    #[test]
    fn long_words_stay_in_pieces() {
        let vocabulary = Vocabulary::of(["a watercolor", "a mosaic of water"], 6);
        let has = |token: &str| vocabulary.tokens.iter().any(|known| known == token);
        assert!(has("mosaic</w>") && has("water</w>") && !has("watercolor</w>"));
        assert!(
            vocabulary.tokens.iter().all(|token| token.starts_with('<')
                || token.trim_end_matches("</w>").chars().count() <= 6)
        );
    }

    #[test]
    fn words_of_the_corpus_are_one_token_and_others_are_spelt() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = ["A Cat image in Pixel Art style.", "a picture of a Cat"];
        let vocabulary = Vocabulary::of(corpus, usize::MAX);
        vocabulary.save(folder.path(), 12, END).unwrap();
        let tokenizer = Tokenizer::open(folder.path(), 77, &mut Vec::new()).unwrap();
        let cat = tokenizer.encode("A Cat image in Pixel  Art style.");
        assert_eq!(cat.ids.len(), 12);
        assert_eq!(cat.dropped, 0);
        // start, seven words, the full stop, end, padding
        assert_eq!(cat.ids.iter().position(|&id| id == vocabulary.size() as i64 - 1), Some(9));
        assert_eq!(tokenizer.encode("CAT").ids[1], tokenizer.encode("cat").ids[1]);
        assert_eq!(tokenizer.encode("zebra crossing ahead").dropped, 18 - 10);
        let text = "cat's, ü pixel";
        let ids = tokenizer.encode(text).ids;
        assert_eq!(tokenizer.encode(&tokenizer.decode(&ids)).ids, ids);
        assert_eq!(tokenizer.decode(&cat.ids), "a cat image in pixel art style .");
        let empty = tokenizer.encode("").ids;
        assert_eq!(empty[0], vocabulary.size() as i64 - 2);
        assert!(empty[1..].iter().all(|&id| id == vocabulary.size() as i64 - 1));
    }
}
