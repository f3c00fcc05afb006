//! The files of a `tokenizer/` folder: words and merges, tokens that were added to them, and what
//! is said of both.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};

use super::{END, Error, START, engine};
use crate::fields::{self, Class, Configuration, Field, Rule};

/// A token by its text, or with how it is looked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described(Described),
}

/// A token and how it is looked for in texts.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
struct Described {
    content: String,
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
    fn content(&self) -> &str {
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
    added_tokens_decoder: BTreeMap<String, Described>,
}

const KIND: &str = "texts are split as CLIP's tokenizer does";
const CALL: Rule = Rule::Harmless("of a Python call");
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

/// `tokenizer.json`, as far as it is read: how CLIP splits text is known here. The engine's own
/// reader would panic on some damaged files (tokenizers 0.23, `decoders/mod.rs`; found by fuzzing).
#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Words,
}

#[derive(Debug, Clone, Deserialize)]
struct Added {
    id: i64,
    #[serde(flatten)]
    token: Described,
}

#[derive(Deserialize)]
struct Words {
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

impl Configuration for Whole {
    const CLASS: Class = Class {
        name: "tokenizer.json",
        fields: &[&[
            ("version", Rule::Harmless("of the layout")),
            ("truncation", CALL),
            ("padding", CALL),
            ("added_tokens", Rule::Honoured),
            // What these are is looked at in `is_clip`.
            ("normalizer", Rule::Honoured),
            ("pre_tokenizer", Rule::Honoured),
            ("post_processor", Rule::Honoured),
            ("decoder", Rule::Harmless("of the way back to text")),
            ("model", Rule::Honoured),
        ]],
    };
}

const MODEL: &[Field] = &[
    ("type", Rule::Only(&["\"BPE\"", "null"], "CLIP's is a byte-pair encoding")),
    ("dropout", Rule::Only(&["null", "0"], KIND)),
    ("unk_token", Rule::Harmless("every byte has a token")),
    ("continuing_subword_prefix", Rule::Only(&["\"\"", "null"], KIND)),
    ("end_of_word_suffix", Rule::Only(&["\"</w>\""], KIND)),
    ("fuse_unk", Rule::Harmless("every byte has a token")),
    ("byte_fallback", Rule::Only(&["false", "null"], KIND)),
    ("ignore_merges", Rule::Only(&["false", "null"], KIND)),
    ("vocab", Rule::Honoured),
    ("merges", Rule::Honoured),
];

/// The classes of files that are read, for those who list them.
pub(super) const CLASSES: [Class; 2] = [TokenizerSettings::CLASS, Whole::CLASS];

/// Everything that a folder says.
pub(super) struct Files {
    pub(super) bpe: BPE,
    pub(super) settings: TokenizerSettings,
    /// Tokens beside the words, with their ids, in the order of these.
    pub(super) added: Vec<(i64, tokenizers::AddedToken)>,
    /// Hash of all of it.
    pub(super) fingerprint: String,
}

impl Files {
    pub(super) fn open(folder: &Path, notes: &mut Vec<String>) -> Result<Self, Error> {
        let broken = |why: String| Error::Broken { folder: folder.to_path_buf(), why };
        let mut hasher = blake3::Hasher::new();
        let mut added: BTreeMap<i64, Described> = BTreeMap::new();
        let (vocab, merges, whole) =
            (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
        let bpe = if !vocab.exists() && whole.exists() {
            let json = fields::open(&whole)?;
            hasher.update(json.to_string().as_bytes());
            let mut class = Vec::new();
            fields::check(
                &Class { name: "BPE", fields: &[MODEL] },
                &json["model"],
                &whole,
                &mut class,
            )?;
            notes.extend(class);
            is_clip(&json).map_err(|why| broken(format!("tokenizer.json: {why}")))?;
            let own: Whole = fields::read(&json, &whole, notes)?;
            added.extend(own.added_tokens.into_iter().map(|own| (own.id, own.token)));
            words_of(own.model).map_err(|why| broken(format!("tokenizer.json: {why}")))?
        } else {
            for file in [&vocab, &merges] {
                hasher.update(&fs_err::read(file)?);
            }
            BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy())
                .end_of_word_suffix("</w>".to_owned())
                .unk_token(END.to_owned())
                .build()
                .map_err(|error| broken(error.to_string()))?
        };
        let mut settings = TokenizerSettings::default();
        // As transformers has it: where tokenizer_config.json lists added tokens, it is all that
        // counts; before, what special_tokens_map.json says came last (Stable Diffusion 2 fills
        // prompts by that alone), and tokens were added by files of their own.
        let (mut lists, mut special_tokens) = (false, Vec::new());
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = folder.join(name);
            if !path.exists() {
                continue;
            }
            let json = fields::open(&path)?;
            for field in ["additional_special_tokens", "extra_special_tokens"] {
                special_tokens
                    .extend(fields::parsed::<Vec<Token>>(&json[field], &path).unwrap_or_default());
            }
            if lists {
                let said: TokenizerSettings = fields::read(&json, &path, notes)?;
                if said.pad_token.as_ref().is_some_and(|pad| pad.content() != settings.pad()) {
                    notes.push(format!(
                        "{}: another pad_token stands here than in tokenizer_config.json, which is \
                         taken, as transformers does",
                        path.display()
                    ));
                }
                continue;
            }
            lists = json.get("added_tokens_decoder").is_some();
            hasher.update(json.to_string().as_bytes());
            let found: TokenizerSettings = fields::read(&json, &path, notes)?;
            settings.model_max_length = found.model_max_length.or(settings.model_max_length);
            settings.pad_token = found.pad_token.or(settings.pad_token);
            settings.bos_token = found.bos_token.or(settings.bos_token);
            settings.eos_token = found.eos_token.or(settings.eos_token);
            settings.unk_token = found.unk_token.or(settings.unk_token);
            for (id, token) in found.added_tokens_decoder {
                let id = id
                    .parse()
                    .map_err(|_| broken(format!("{name}: `{id}` is no id of a token")))?;
                added.insert(id, token);
            }
        }
        let extra = folder.join("added_tokens.json");
        if !lists && vocab.exists() && whole.exists() {
            let json = fields::open(&whole)?;
            let own: Vec<Added> = fields::parsed(&json["added_tokens"], &whole).unwrap_or_default();
            for own in own {
                hasher.update(format!("{} {}", own.id, own.token.content).as_bytes());
                added.insert(own.id, own.token);
            }
        }
        if !lists && extra.exists() {
            let json = fields::open(&extra)?;
            hasher.update(json.to_string().as_bytes());
            let own: BTreeMap<String, i64> = fields::parsed(&json, &extra)?;
            for (content, id) in own {
                let token = Described {
                    content,
                    single_word: false,
                    lstrip: false,
                    rstrip: false,
                    normalized: None,
                    special: false,
                };
                added.entry(id).or_insert(token);
            }
        }
        let known = |text: &str| {
            [START, END].contains(&text)
                || added.values().any(|token| token.content == text)
                || bpe.get_vocab().contains_key(text)
        };
        if let Some(strange) = special_tokens.iter().find(|token| !known(token.content())) {
            // transformers gives it one, behind all others.
            return Err(broken(format!(
                "`{}` is a special token without an id here; list it in added_tokens.json, with \
                 the row of the text encoder that is its own",
                strange.content()
            )));
        }
        settings.clip_ends().map_err(broken)?;
        let added = added.into_iter().map(|(id, token)| (id, token.engine())).collect();
        Ok(Self { bpe, settings, added, fingerprint: hasher.finalize().to_hex().to_string() })
    }
}

impl Described {
    fn engine(self) -> tokenizers::AddedToken {
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

    /// Whether prompts begin and end as CLIP's do; an error says what stands there instead.
    fn clip_ends(&self) -> Result<(), String> {
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

/// Whether a `tokenizer.json` splits texts as CLIP does.
fn is_clip(json: &Value) -> Result<(), String> {
    let known = [
        "Sequence",
        "NFC",
        "Replace",
        "Lowercase",
        "Split",
        "ByteLevel",
        "RobertaProcessing",
        "TemplateProcessing",
    ];
    for (part, wanted) in [
        ("normalizer", &["Lowercase"][..]),
        ("pre_tokenizer", &["Split", "ByteLevel"]),
        ("post_processor", &[]),
    ] {
        let mut types = Vec::new();
        types_in(&json[part], &mut types);
        // Damaged and old files without it have no other way to split than the known one.
        if json[part].is_null() {
            continue;
        }
        let strange = types.iter().find(|own| !known.contains(&own.as_str()));
        if let Some(strange) = strange {
            return Err(format!("its {part} is a {strange}, which CLIP's tokenizer does not have"));
        }
        if let Some(missing) = wanted.iter().find(|&&own| !types.iter().any(|found| found == own)) {
            return Err(format!("its {part} has no {missing}, which CLIP's tokenizer has"));
        }
    }
    Ok(())
}

/// Every `type` in a part of a `tokenizer.json`.
fn types_in(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            found.extend(fields.get("type").and_then(Value::as_str).map(str::to_owned));
            for key in ["normalizers", "pretokenizers", "processors"] {
                fields.get(key).into_iter().for_each(|inner| types_in(inner, found));
            }
        }
        Value::Array(all) => all.iter().for_each(|inner| types_in(inner, found)),
        _ => {}
    }
}

/// The byte-pair encoding of a `tokenizer.json`.
fn words_of(words: Words) -> Result<BPE, String> {
    let pair = |merge: Merge| match merge {
        Merge::Pair(a, b) => Ok((a, b)),
        Merge::Text(text) => text
            .split_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .ok_or_else(|| format!("the merge `{text}` is no pair")),
    };
    let merges = words.merges.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    engine(words.vocab.into_iter().collect::<Vocab>(), merges).map_err(|error| error.to_string())
}

impl From<fields::Error> for Error {
    fn from(error: fields::Error) -> Self {
        match error {
            fields::Error::Broken { path, why } => Self::Broken {
                folder: path.parent().unwrap_or(Path::new("")).to_path_buf(),
                why: format!("{}: {why}", path.file_name().unwrap_or_default().to_string_lossy()),
            },
            refused @ fields::Error::Refused(_) => Self::Fields(refused),
        }
    }
}
