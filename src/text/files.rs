//! The files of a `tokenizer/` folder: words and merges, tokens that were added to them, and what
//! is said of both.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::models::bpe::BPE;

use super::tokenizer_config::{DescribedToken, Token, TokenizerSettings};
use super::tokenizer_json::{AddedEntry, TokenizerJson, check_model, is_clip};
use super::{END, Error, START};
use crate::fields::{self, Class, Configuration as _};

/// The classes of files that are read, for those who list them.
pub(super) const CLASSES: [Class; 2] = [TokenizerSettings::CLASS, TokenizerJson::CLASS];

/// Everything that a folder says.
pub(super) struct TokenizerFiles {
    pub(super) bpe: BPE,
    pub(super) settings: TokenizerSettings,
    /// Tokens beside the words, with their ids, in the order of these.
    pub(super) added: Vec<(i64, tokenizers::AddedToken)>,
    /// Hash of all of it.
    pub(super) fingerprint: String,
}

impl TokenizerFiles {
    pub(super) fn open(folder: &Path, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut reader = FolderReader {
            folder,
            notes,
            hasher: blake3::Hasher::new(),
            settings: TokenizerSettings::default(),
            added: BTreeMap::new(),
            lists_added: false,
            special_tokens: Vec::new(),
        };
        let (vocab, whole) = (folder.join("vocab.json"), folder.join("tokenizer.json"));
        let bpe = if !vocab.exists() && whole.exists() {
            reader.read_tokenizer_json(&whole)?
        } else {
            reader.read_vocab_and_merges(&vocab)?
        };
        // As transformers has it: where tokenizer_config.json lists added tokens, it is all that
        // counts; before, what special_tokens_map.json says came last (Stable Diffusion 2 fills
        // prompts by that alone), and tokens were added by files of their own.
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            reader.read_settings(name)?;
        }
        if !reader.lists_added {
            if vocab.exists() && whole.exists() {
                reader.read_added_of_tokenizer_json(&whole)?;
            }
            reader.read_added_tokens_json()?;
        }
        reader.check_special_tokens(&bpe)?;
        reader.settings.clip_ends().map_err(|why| reader.broken(why))?;
        let FolderReader { settings, added, hasher, .. } = reader;
        let added = added.into_iter().map(|(id, token)| (id, token.engine())).collect();
        Ok(Self { bpe, settings, added, fingerprint: hasher.finalize().to_hex().to_string() })
    }
}

/// A folder, and what was read of it so far.
struct FolderReader<'a> {
    folder: &'a Path,
    notes: &'a mut Vec<String>,
    hasher: blake3::Hasher,
    settings: TokenizerSettings,
    /// Tokens that were added to the words, by their ids.
    added: BTreeMap<i64, DescribedToken>,
    /// Whether the settings list the added tokens.
    lists_added: bool,
    /// Tokens that are listed as special ones, without their ids.
    special_tokens: Vec<Token>,
}

impl FolderReader<'_> {
    fn broken(&self, why: String) -> Error {
        Error::Broken { folder: self.folder.to_path_buf(), why }
    }

    /// The words, merges and added tokens of a `tokenizer.json`.
    fn read_tokenizer_json(&mut self, path: &Path) -> Result<BPE, Error> {
        let json = fields::open(path)?;
        self.hasher.update(json.to_string().as_bytes());
        check_model(&json, path, self.notes)?;
        is_clip(&json).map_err(|why| self.broken(format!("tokenizer.json: {why}")))?;
        let file: TokenizerJson = fields::read(&json, path, self.notes)?;
        self.added.extend(file.added_tokens.into_iter().map(|entry| (entry.id, entry.token)));
        file.model.build().map_err(|why| self.broken(format!("tokenizer.json: {why}")))
    }

    /// The words of a `vocab.json` and the merges of the `merges.txt` beside it.
    fn read_vocab_and_merges(&mut self, vocab: &Path) -> Result<BPE, Error> {
        let merges = self.folder.join("merges.txt");
        for file in [vocab, &merges] {
            self.hasher.update(&fs_err::read(file)?);
        }
        BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy())
            .end_of_word_suffix("</w>".to_owned())
            .unk_token(END.to_owned())
            .build()
            .map_err(|error| self.broken(error.to_string()))
    }

    /// `tokenizer_config.json` or `special_tokens_map.json`, where it is there.
    fn read_settings(&mut self, name: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        if !path.exists() {
            return Ok(());
        }
        let json = fields::open(&path)?;
        for field in ["additional_special_tokens", "extra_special_tokens"] {
            self.special_tokens
                .extend(fields::parsed::<Vec<Token>>(&json[field], &path).unwrap_or_default());
        }
        if self.lists_added {
            let ignored: TokenizerSettings = fields::read(&json, &path, self.notes)?;
            if ignored.pads_unlike(&self.settings) {
                self.notes.push(format!(
                    "{}: another pad_token stands here than in tokenizer_config.json, which is \
                     taken, as transformers does",
                    path.display()
                ));
            }
            return Ok(());
        }
        self.lists_added = json.get("added_tokens_decoder").is_some();
        self.hasher.update(json.to_string().as_bytes());
        let mut found: TokenizerSettings = fields::read(&json, &path, self.notes)?;
        for (id, token) in std::mem::take(&mut found.added_tokens_decoder) {
            let id = id
                .parse()
                .map_err(|_| self.broken(format!("{name}: `{id}` is no id of a token")))?;
            self.added.insert(id, token);
        }
        self.settings = found.or(std::mem::take(&mut self.settings));
        Ok(())
    }

    /// The added tokens of a `tokenizer.json` whose words are not read.
    fn read_added_of_tokenizer_json(&mut self, path: &Path) -> Result<(), Error> {
        let json = fields::open(path)?;
        let entries: Vec<AddedEntry> =
            fields::parsed(&json["added_tokens"], path).unwrap_or_default();
        for entry in entries {
            self.hasher.update(format!("{} {}", entry.id, entry.token.content).as_bytes());
            self.added.insert(entry.id, entry.token);
        }
        Ok(())
    }

    /// `added_tokens.json`, where it is there.
    fn read_added_tokens_json(&mut self) -> Result<(), Error> {
        let path = self.folder.join("added_tokens.json");
        if !path.exists() {
            return Ok(());
        }
        let json = fields::open(&path)?;
        self.hasher.update(json.to_string().as_bytes());
        let ids: BTreeMap<String, i64> = fields::parsed(&json, &path)?;
        for (content, id) in ids {
            self.added.entry(id).or_insert(DescribedToken::plain(content));
        }
        Ok(())
    }

    /// Whether every special token has an id.
    fn check_special_tokens(&self, bpe: &BPE) -> Result<(), Error> {
        let known = |text: &str| {
            [START, END].contains(&text)
                || self.added.values().any(|token| token.content == text)
                || bpe.get_vocab().contains_key(text)
        };
        match self.special_tokens.iter().find(|token| !known(token.content())) {
            // transformers gives it one, behind all others.
            Some(strange) => Err(self.broken(format!(
                "`{}` is a special token without an id here; list it in added_tokens.json, with \
                 the row of the text encoder that is its own",
                strange.content()
            ))),
            None => Ok(()),
        }
    }
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
