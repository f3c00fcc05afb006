//! `tokenizer_config.json` and `special_tokens_map.json`: which tokens begin, end and fill prompts,
//! and how long prompts are.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{END, START};
use crate::fields::{Class, Configuration, Rule};

/// A token by its text, or with how it is looked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Token {
    Text(String),
    Described(DescribedToken),
}

/// A token and how it is looked for in texts.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
pub(super) struct DescribedToken {
    pub(super) content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    /// In the text as it is, if not as the tokenizer sees it.
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Token {
    pub(super) fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Described(token) => &token.content,
        }
    }
}

/// `tokenizer_config.json`, and before transformers 5 `special_tokens_map.json` beside it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenizerSettings {
    model_max_length: Option<f64>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    pad_token: Option<Token>,
    #[serde(default)]
    pub(super) added_tokens_decoder: BTreeMap<String, DescribedToken>,
}

pub(super) const KIND: &str = "texts are split as CLIP's tokenizer does";
pub(super) const CALL: Rule = Rule::Harmless("of a Python call");
const LISTED: Rule = Rule::Harmless("added tokens are listed with their ids beside it");

impl Configuration for TokenizerSettings {
    const CLASS: Class = Class {
        name: "CLIPTokenizer",
        fields: &[&[
            (
                "tokenizer_class",
                Rule::Only(&["\"CLIPTokenizer\"", "\"CLIPTokenizerFast\"", "null"], KIND),
            ),
            ("model_max_length", Rule::Honoured),
            ("bos_token", Rule::Honoured),
            ("eos_token", Rule::Honoured),
            ("unk_token", Rule::Honoured),
            ("pad_token", Rule::Honoured),
            ("added_tokens_decoder", Rule::Honoured),
            ("additional_special_tokens", LISTED),
            ("extra_special_tokens", LISTED),
            ("model_specific_special_tokens", LISTED),
            ("padding_side", Rule::Only(&["\"right\"", "null"], KIND)),
            ("truncation_side", Rule::Only(&["\"right\"", "null"], KIND)),
            ("split_special_tokens", Rule::Only(&["false", "null"], KIND)),
            ("add_prefix_space", Rule::Harmless("CLIP's tokens end words and do not begin them")),
            ("do_lower_case", Rule::Only(&["true", "null"], KIND)),
            ("clean_up_tokenization_spaces", Rule::Harmless("of the way back to text")),
            ("errors", Rule::Harmless("of the way back to text")),
            ("name_or_path", Rule::Harmless("where it was loaded from")),
            ("special_tokens_map_file", Rule::Harmless("where it was loaded from")),
            ("tokenizer_file", Rule::Harmless("where it was loaded from")),
            ("processor_class", Rule::Harmless("which class joins it with an image processor")),
            ("auto_map", Rule::Only(&["null"], "code of others is not run")),
            ("trim_offsets", CALL),
            ("use_fast", CALL),
            ("backend", CALL),
            ("is_local", CALL),
            ("local_files_only", CALL),
            ("max_length", CALL),
            ("padding", CALL),
            ("stride", CALL),
            ("truncation_strategy", CALL),
            ("truncation", CALL),
            ("pad_to_multiple_of", CALL),
            ("pad_token_type_id", CALL),
            ("return_tensors", CALL),
        ]],
    };
}

impl DescribedToken {
    /// A token that is looked for without further conditions.
    pub(super) fn plain(content: String) -> Self {
        Self {
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special: false,
        }
    }

    /// As the engine takes it.
    pub(super) fn engine(self) -> tokenizers::AddedToken {
        tokenizers::AddedToken::from(self.content, self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

impl TokenizerSettings {
    pub(super) fn padded_with(pad: &str) -> Self {
        Self { pad_token: Some(Token::Text(pad.to_owned())), ..Self::default() }
    }

    /// These settings, and what `other` says that they leave out. Added tokens are not taken from
    /// there.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            model_max_length: self.model_max_length.or(other.model_max_length),
            bos_token: self.bos_token.or(other.bos_token),
            eos_token: self.eos_token.or(other.eos_token),
            unk_token: self.unk_token.or(other.unk_token),
            pad_token: self.pad_token.or(other.pad_token),
            added_tokens_decoder: self.added_tokens_decoder,
        }
    }

    /// Whether they name a token that fills prompts, and another than `other` has.
    pub(super) fn pads_unlike(&self, other: &Self) -> bool {
        self.pad_token.as_ref().is_some_and(|pad| pad.content() != other.pad())
    }

    /// Whether prompts begin and end as CLIP's do; an error says what stands there instead.
    pub(super) fn clip_ends(&self) -> Result<(), String> {
        let ends = [(&self.bos_token, START), (&self.eos_token, END), (&self.unk_token, END)];
        for (given, known) in ends {
            if let Some(given) = given.as_ref().filter(|given| given.content() != known) {
                return Err(format!(
                    "`{}` stands where CLIP's tokenizer has `{known}`; other tokens at a prompt's \
                     ends are not built",
                    given.content()
                ));
            }
        }
        Ok(())
    }

    /// The token that fills prompts.
    pub(super) fn pad(&self) -> &str {
        self.pad_token.as_ref().map_or(END, Token::content)
    }

    /// Tokens of every prompt, where the files say it: transformers writes 1e30 for «no limit».
    pub(super) fn length(&self) -> Option<usize> {
        self.model_max_length.filter(|&n| n < 100_000.0).map(|n| n.max(0.0) as usize)
    }
}
