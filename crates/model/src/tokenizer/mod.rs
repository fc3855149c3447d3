//! Text ↔ token ids, and messages → prompt text, as the model's makers defined them.
//!
//! Wraps the `tokenizers` crate: a folder is opened as transformers opens it (`folder`); GGUF metadata is translated
//! into the structure of a `tokenizer.json` (`gguf`). Left out: cutting documents into prompts (lab).

mod chat;
mod day;
mod folder;
mod gguf;
mod python;

use std::path::Path;

pub use chat::Message;
use chat::Template;

use crate::checkpoint::gguf_in;
use crate::decision::{Decision, Decisions};
use crate::error::{ModelError, present, shown, shown_path};
use crate::gguf::Gguf;
use crate::mapped::Mapped;

/// The tokenizer of one model.
///
/// ```
/// use mantissa_model::{Arch, Message, Tokenizer};
/// use mantissa_model::synth::{SynthSpec, write};
///
/// # let folder = tempfile::tempdir()?;
/// write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
/// let tokenizer = Tokenizer::open(folder.path())?;
/// let ids = tokenizer.encode("bit for bit", false)?;
/// assert_eq!(tokenizer.decode(&ids, false)?, "bit for bit");
/// let prompt = tokenizer.apply_chat_template(&[Message::new("user", "hi")], true)?;
/// assert!(prompt.contains("<|im_start|>user\nhi<|im_end|>"), "{prompt}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tokenizer {
    /// Where it came from, for messages.
    file: String,
    /// Without its post-processor, which would trim the places of tokens.
    inner: tokenizers::Tokenizer,
    /// What puts tokens around a text.
    ends: Option<tokenizers::PostProcessorWrapper>,
    template: Option<Template>,
    decisions: Vec<Decision>,
}

/// A token of a text, and where in it.
///
/// Example: [`Tokenizer::encode_placed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The token.
    pub id: u32,
    /// The bytes of the text that it stands for, white space included; none for tokens that were put around the text.
    /// Tokens that are parts of one character have its bytes in common.
    pub bytes: Option<(usize, usize)>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Opens the tokenizer of a checkpoint: a folder with `tokenizer.json`, a GGUF file, or a folder with one.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let meta = std::fs::metadata(path).map_err(|e| ModelError::io(path, "open", e))?;
        if !meta.is_dir() {
            return Self::open_gguf(path);
        }
        match present(path, "tokenizer.json") {
            Some(json) => Self::open_folder(path, &json),
            None if present(path, "config.json").is_some() => Err(ModelError::NotFound {
                spec: shown_path(path),
                fault: "no tokenizer.json beside config.json".into(),
                remedy: "save it with AutoTokenizer.from_pretrained(…).save_pretrained(…)".into(),
            }),
            None => Self::open_gguf(&gguf_in(path)?),
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, ModelError> {
        let mapped = Mapped::open(path)?;
        from_gguf_bytes(&shown_path(path), mapped.bytes())
    }

    fn open_folder(folder: &Path, json: &Path) -> Result<Self, ModelError> {
        let folder::Opened { inner, template, decisions } = folder::open(folder, json)?;
        Self::new(shown_path(json), inner, template, decisions)
    }

    fn new(
        file: String,
        mut inner: tokenizers::Tokenizer,
        template: Option<Template>,
        decisions: Decisions,
    ) -> Result<Self, ModelError> {
        // Saved batch settings would cut or pad prompts silently.
        inner
            .with_padding(None)
            .with_truncation(None)
            .map_err(|e| ModelError::damaged(&file, "truncation", shown(&e.to_string())))?;
        let ends = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        Ok(Self { file, inner, ends, template, decisions: decisions.into_list() })
    }

    /// The ids of `text`. Control tokens such as `<|im_start|>` written in it become their single ids;
    /// `add_special` also puts the beginning- and end-of-text tokens where the tokenizer wants them.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, ModelError> {
        let bare = self.inner.encode_fast(text, false).map_err(|e| self.unencodable(&e.to_string()))?;
        let whole = if add_special { self.framed(bare)? } else { bare };
        Ok(whole.get_ids().to_vec())
    }

    /// The tokens of `text` with their places, as [`Self::encode`] has them.
    ///
    /// ```
    /// # use mantissa_model::{Arch, Tokenizer, synth::{SynthSpec, write}};
    /// # let folder = tempfile::tempdir()?;
    /// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
    /// let tokens = Tokenizer::open(folder.path())?.encode_placed("a bit", false)?;
    /// assert_eq!(tokens.iter().map(|token| token.bytes).collect::<Vec<_>>(), [Some((0, 1)), Some((1, 5))]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode_placed(&self, text: &str, add_special: bool) -> Result<Vec<Placed>, ModelError> {
        let bare = self.inner.encode(text, false).map_err(|e| self.unencodable(&e.to_string()))?;
        let tokens = bare.get_ids().iter().zip(bare.get_offsets());
        let mut placed: Vec<_> = tokens.map(|(id, bytes)| Placed { id: *id, bytes: Some(*bytes) }).collect();
        if add_special {
            let whole = self.framed(bare)?;
            let ids = whole.get_ids();
            let of: Vec<u32> = placed.iter().map(|token| token.id).collect();
            let first = ids.windows(of.len().max(1)).position(|ids| ids == of).unwrap_or(0);
            let (before, after) = (&ids[..first], ids.get(first + of.len()..).unwrap_or_default());
            let around = |ids: &[u32]| -> Vec<Placed> {
                ids.iter().map(|id| Placed { id: *id, bytes: None }).collect()
            };
            placed = [around(before), placed, around(after)].concat();
        }
        Ok(placed)
    }

    /// An encoding with the tokens that the tokenizer puts around it.
    fn framed(&self, encoding: tokenizers::Encoding) -> Result<tokenizers::Encoding, ModelError> {
        use tokenizers::PostProcessor as _;
        match &self.ends {
            Some(ends) => ends.process(encoding, None, true).map_err(|e| self.unencodable(&e.to_string())),
            None => Ok(encoding),
        }
    }

    fn unencodable(&self, reason: &str) -> ModelError {
        ModelError::Damaged {
            file: self.file.clone(),
            place: "text to encode".into(),
            fault: shown(reason),
            remedy: "shorten the text or remove long runs of white space",
        }
    }

    /// The pieces of `text` within which tokens are merged, as spelled in it.
    ///
    /// ```
    /// # use mantissa_model::{Arch, Tokenizer, synth::{SynthSpec, write}};
    /// # let folder = tempfile::tempdir()?;
    /// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
    /// let tokenizer = Tokenizer::open(folder.path())?;
    /// assert_eq!(tokenizer.pieces("bit for bit")?, ["bit", " for", " bit"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pieces<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, ModelError> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};
        let mut split = PreTokenizedString::from(text);
        if let Some(rule) = self.inner.get_pre_tokenizer() {
            rule.pre_tokenize(&mut split).map_err(|e| self.unencodable(&e.to_string()))?;
        }
        let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(splits.into_iter().filter_map(|(_, (start, end), _)| text.get(start..end)).collect())
    }

    /// The text of `ids`; bytes that are no UTF-8 become U+FFFD. `skip_special` leaves control tokens out.
    /// Ids beyond the vocabulary stand for nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, ModelError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|e| ModelError::damaged(&self.file, "ids to decode", shown(&e.to_string())))
    }

    /// The vocabulary's own spelling of one token (`Ġthe`), which loses nothing; `None` beyond the vocabulary.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token in the vocabulary's own spelling.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Number of tokens, added ones included. A model's embedding may have more rows (padding).
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// What was decided where its files contradict each other or leave something open: a GGUF file without a split
    /// rule, say.
    ///
    /// Example: [`Decision`].
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// Whether the model brought a chat template.
    #[must_use]
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The prompt text of a conversation; `add_generation_prompt` opens the assistant's turn.
    ///
    /// Encode the result without special tokens: the template writes them. Dates in templates are fixed, so
    /// that the same messages give the same prompt on any day.
    pub fn apply_chat_template(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        match &self.template {
            Some(template) => template.render(messages, add_generation_prompt),
            None => Err(ModelError::Template {
                file: self.file.clone(),
                fault: "the model has none".into(),
                remedy: "record without a chat template",
            }),
        }
    }
}

/// Builds the tokenizer of a GGUF file in memory; `file` names it in errors.
///
/// ```
/// use mantissa_model::tokenizer::from_gguf_bytes;
/// use mantissa_testkit::gguf::Builder;
///
/// let error = from_gguf_bytes("model.gguf", &Builder::default().build()).expect_err("nothing in it");
/// assert!(error.to_string().starts_with("model.gguf: tokenizer.ggml"), "{error}");
/// ```
pub fn from_gguf_bytes(file: &str, bytes: &[u8]) -> Result<Tokenizer, ModelError> {
    let gguf = Gguf::parse(file, bytes)?;
    let gguf::Parts { inner, template, decisions } = gguf::parts(&gguf)?;
    Tokenizer::new(gguf.file().to_owned(), inner, template, decisions)
}
