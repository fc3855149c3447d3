//! Prompts of an exact number of tokens, cut from documents, with the batch neighbours they run beside.
//!
//! A prompt is `prefix + N document tokens + suffix`. Prefix and suffix are what the model's chat template puts around
//! a placeholder in the user's message (the suffix begins with the instruction), each tokenized by itself once; the
//! document is tokenized whole, once, and cut by ids. So every prompt of a set has the same length to the token, no
//! padding is needed, and tokens are never merged across a cut. The model is fed the ids: decoding them and
//! tokenizing the text again may give other ids.
//!
//! Slice k of a document is its ids `[k·N, (k+1)·N)`. Reference k is slice k of the first document. Neighbours are the
//! slices of the second, third, … document in order, then those of the first document after the references; a slice
//! whose ids equal a reference's or an earlier neighbour's is skipped. They are dealt out in turns (first one to
//! each reference, then a second one to each), so that a set made for batch 4 begins with the neighbours of the set
//! made for batch 2. No neighbour serves two references.
//!
//! Left out: what a document is (see [`crate::document`]), padding, several turns.

use std::collections::{HashMap, HashSet};

use mantissa_model::{Message, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::LabError;

/// What follows the document unless said otherwise.
pub const INSTRUCTION: &str = "Provide a summary of the text above.";

/// Tokens at either end of a prompt that its source shows decoded.
const SHOWN: usize = 24;

/// Stands for the document while the chat template is rendered. Plain letters, which no template escapes.
const PLACEHOLDER: &str = "qMantissaDocumentGoesHereq";

/// What the prompts need of a tokenizer.
///
/// Example: [`PromptSet`].
pub trait Tokenize {
    /// Ids of `text`, with no token added at either end.
    fn encode(&self, text: &str) -> Result<Vec<u32>, String>;

    /// Text of `ids`; control tokens are left out if `skip_special`.
    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String>;

    /// The token that a text starts with when no template frames it.
    fn bos(&self) -> Result<Option<u32>, String>;

    /// The chat template's text for a system and a user message, ready for the model's turn; `None` without a template.
    fn render_chat(&self, system: Option<&str>, user: &str) -> Result<Option<String>, String>;
}

impl Tokenize for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        self.encode(text, false).map_err(|error| error.to_string())
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        self.decode(ids, skip_special).map_err(|error| error.to_string())
    }

    /// What the tokenizer puts before a text when it is asked for the tokens that texts start with.
    fn bos(&self) -> Result<Option<u32>, String> {
        let (bare, framed) =
            (Tokenize::encode(self, "a")?, self.encode("a", true).map_err(|error| error.to_string())?);
        Ok(match framed.split_first() {
            Some((first, rest)) if framed.len() > bare.len() && rest.starts_with(&bare) => Some(*first),
            _ => None,
        })
    }

    fn render_chat(&self, system: Option<&str>, user: &str) -> Result<Option<String>, String> {
        if !self.has_chat_template() {
            return Ok(None);
        }
        let system = system.map(|system| Message::new("system", system));
        let messages: Vec<Message> = system.into_iter().chain([Message::new("user", user)]).collect();
        self.apply_chat_template(&messages, true).map(Some).map_err(|error| error.to_string())
    }
}

/// Which prompts to cut.
///
/// Example: [`PromptSet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptSpec {
    /// Document tokens of every prompt.
    pub document_tokens: usize,
    /// Prompts that are measured: consecutive slices of the first document.
    pub references: usize,
    /// Prompts beside each reference in its largest batch: the largest batch size less one.
    pub neighbours: usize,
    /// What follows the document.
    pub instruction: String,
    /// System message, if any; templates may have one of their own.
    pub system: Option<String>,
    /// Whether the model's chat template frames the prompt. If not, it is: beginning-of-sequence token if the tokenizer
    /// has one, system message if any, document, instruction.
    pub chat_template: bool,
}

impl Default for PromptSpec {
    fn default() -> Self {
        Self {
            document_tokens: 512,
            references: 1,
            neighbours: 0,
            instruction: INSTRUCTION.to_owned(),
            system: None,
            chat_template: true,
        }
    }
}

/// Token ids, their text, and where they come from.
///
/// Example: [`PromptSet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// What is fed.
    pub ids: Vec<u32>,
    /// The ids decoded, control tokens included: for people, not for feeding.
    pub text: String,
    /// Provenance.
    pub source: PromptSource,
}

/// Where a prompt comes from: enough to cut it again and to see at a glance what was fed.
///
/// Example: [`PromptSet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSource {
    /// Name of the document.
    pub document: String,
    /// Digest of the document's file, hexadecimal.
    pub file_blake3: String,
    /// Digest of the document's text, hexadecimal.
    pub text_blake3: String,
    /// Tokens in the whole document.
    pub document_tokens: usize,
    /// First document token of this prompt.
    pub start: usize,
    /// One past its last document token.
    pub end: usize,
    /// Tokens before the document.
    pub prefix_tokens: usize,
    /// Tokens after the document: instruction and generation prompt.
    pub suffix_tokens: usize,
    /// What frames the document.
    pub frame: Frame,
    /// The first tokens, decoded.
    pub head: String,
    /// The last tokens, decoded.
    pub tail: String,
}

/// What stands around the document.
///
/// Example: [`PromptSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The model's chat template.
    ChatTemplate,
    /// No template: beginning of sequence, document, instruction.
    BosDocumentInstruction,
    /// No template and no beginning-of-sequence token: document, instruction.
    DocumentInstruction,
}

/// References and, for each, its neighbours.
///
/// ```
/// use mantissa_lab::document::Document;
/// use mantissa_lab::prompt::{Frame, PromptSet, PromptSpec, Tokenize};
///
/// /// A token for each character.
/// struct Characters;
///
/// impl Tokenize for Characters {
///     fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
///         Ok(text.chars().map(u32::from).collect())
///     }
///
///     fn decode(&self, ids: &[u32], _skip_special: bool) -> Result<String, String> {
///         ids.iter().map(|id| char::from_u32(*id).ok_or_else(|| format!("no character {id}"))).collect()
///     }
///
///     fn bos(&self) -> Result<Option<u32>, String> {
///         Ok(None)
///     }
///
///     fn render_chat(&self, _: Option<&str>, _: &str) -> Result<Option<String>, String> {
///         Ok(None)
///     }
/// }
///
/// let document = Document::from_text("abc.txt", "abcdefgh".as_bytes())?;
/// let spec = PromptSpec {
///     document_tokens: 3,
///     references: 2,
///     instruction: "!".to_owned(),
///     chat_template: false,
///     ..PromptSpec::default()
/// };
/// let set = PromptSet::cut(&[document], &spec, &Characters)?;
/// let prompt = &set.references[1];
/// assert_eq!((prompt.source.start, prompt.source.end), (3, 6));
/// assert_eq!(prompt.source.frame, Frame::DocumentInstruction);
/// assert_eq!(prompt.text, "def\n\n!\n");
/// assert_eq!(set.batch(1, 1).map(|rows| rows.len()), Some(1));
/// # Ok::<(), mantissa_lab::LabError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSet {
    /// The prompts that are measured.
    pub references: Vec<Prompt>,
    /// For each reference, the prompts beside it in its largest batch.
    pub neighbours: Vec<Vec<Prompt>>,
}

impl PromptSet {
    /// Cuts the prompts that `spec` asks for.
    pub fn cut(
        documents: &[Document],
        spec: &PromptSpec,
        tokenizer: &impl Tokenize,
    ) -> Result<Self, LabError> {
        let (length, count) = (spec.document_tokens, spec.references);
        let Some(first) = documents.first() else {
            return Err(LabError::PromptEmpty { what: "the number of documents" });
        };
        if length == 0 {
            return Err(LabError::PromptEmpty { what: "document_tokens" });
        }
        if count == 0 {
            return Err(LabError::PromptEmpty { what: "references" });
        }
        let frame = Framing::new(spec, tokenizer)?;
        let cutter = Cutter { tokenizer, frame, length, count, beside: spec.neighbours };
        let ids = encode(tokenizer, first.text(), first.name())?;
        let references = cutter.references(first, &ids)?;
        let neighbours = cutter.neighbours(documents, &ids)?;
        Ok(Self { references, neighbours })
    }

    /// The rows of a batch: the reference, then the first `batch_size − 1` of its neighbours.
    ///
    /// `None` if there is no such reference, the batch is empty, or the set was cut for smaller batches.
    #[must_use]
    pub fn batch(&self, reference: usize, batch_size: usize) -> Option<Vec<&Prompt>> {
        let beside = self.neighbours.get(reference)?.get(..batch_size.checked_sub(1)?)?;
        Some([self.references.get(reference)?].into_iter().chain(beside).collect())
    }
}

/// The tokens around every document slice.
struct Framing {
    frame: Frame,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl Framing {
    fn new(spec: &PromptSpec, tokenizer: &impl Tokenize) -> Result<Self, LabError> {
        let instruction = &spec.instruction;
        if !spec.chat_template {
            let asked =
                |reason| LabError::Tokenizer { what: "asking for the first token".to_owned(), reason };
            let bos = tokenizer.bos().map_err(asked)?;
            let system = spec.system.as_ref().map_or_else(String::new, |system| format!("{system}\n\n"));
            let mut prefix: Vec<u32> = bos.into_iter().collect();
            prefix.extend(encode(tokenizer, &system, "the system message")?);
            let suffix = encode(tokenizer, &format!("\n\n{instruction}\n"), "the instruction")?;
            let frame =
                if bos.is_some() { Frame::BosDocumentInstruction } else { Frame::DocumentInstruction };
            return Ok(Self { frame, prefix, suffix });
        }
        let rendered = tokenizer
            .render_chat(spec.system.as_deref(), &format!("{PLACEHOLDER}\n\n{instruction}"))
            .map_err(|reason| LabError::Tokenizer { what: "rendering the chat template".to_owned(), reason })?
            .ok_or(LabError::NoChatTemplate)?;
        let parts: Vec<&str> = rendered.split(PLACEHOLDER).collect();
        let [before, after] = parts[..] else {
            return Err(LabError::ChatTemplateOpaque { times: parts.len() - 1 });
        };
        Ok(Self {
            frame: Frame::ChatTemplate,
            prefix: encode(tokenizer, before, "the chat template's prefix")?,
            suffix: encode(tokenizer, after, "the chat template's suffix")?,
        })
    }
}

struct Cutter<'a, T> {
    tokenizer: &'a T,
    frame: Framing,
    length: usize,
    count: usize,
    beside: usize,
}

impl<T: Tokenize> Cutter<'_, T> {
    /// The first slices of `document`.
    fn references(&self, document: &Document, ids: &[u32]) -> Result<Vec<Prompt>, LabError> {
        let needed = self.count as u128 * self.length as u128;
        if (ids.len() as u128) < needed {
            return Err(LabError::DocumentTooShort {
                document: document.name().to_owned(),
                tokens: ids.len(),
                references: self.count,
                document_tokens: self.length,
                needed,
            });
        }
        let mut seen = HashMap::new();
        for (second, slice) in ids.chunks_exact(self.length).take(self.count).enumerate() {
            if let Some(first) = seen.insert(slice, second) {
                let (document, document_tokens) = (document.name().to_owned(), self.length);
                return Err(LabError::ReferencesEqual { document, first, second, document_tokens });
            }
        }
        (0..self.count).map(|slice| self.prompt(document, ids, slice)).collect()
    }

    /// For each reference its neighbours; `ids` are those of the first document.
    fn neighbours(&self, documents: &[Document], ids: &[u32]) -> Result<Vec<Vec<Prompt>>, LabError> {
        let needed = self.count as u128 * self.beside as u128;
        let mut taken: HashSet<Vec<u32>> =
            ids.chunks_exact(self.length).take(self.count).map(<[u32]>::to_vec).collect();
        let mut found: Vec<Prompt> = Vec::new();
        for (turn, document) in documents[1..].iter().chain(documents.first()).enumerate() {
            let last = turn + 1 == documents.len();
            let tokenized =
                if last { Vec::new() } else { encode(self.tokenizer, document.text(), document.name())? };
            let (from, theirs) = if last { (self.count, ids) } else { (0, &tokenized[..]) };
            for (slice, of) in theirs.chunks_exact(self.length).enumerate().skip(from) {
                if found.len() as u128 == needed {
                    break;
                }
                if taken.insert(of.to_vec()) {
                    found.push(self.prompt(document, theirs, slice)?);
                }
            }
        }
        if (found.len() as u128) < needed {
            return Err(LabError::NeighboursTooFew {
                found: found.len(),
                needed,
                document_tokens: self.length,
                documents: documents.len(),
                references: self.count,
                batch_size: self.beside.saturating_add(1),
            });
        }
        let mut dealt = vec![Vec::with_capacity(self.beside); self.count];
        for (turn, prompt) in found.into_iter().enumerate() {
            dealt[turn % self.count].push(prompt);
        }
        Ok(dealt)
    }

    fn prompt(&self, document: &Document, ids: &[u32], slice: usize) -> Result<Prompt, LabError> {
        let (start, end) = (slice * self.length, (slice + 1) * self.length);
        let cut = &ids[start..end];
        // Text that spells `<|im_end|>` would end the user's turn in the middle of the document.
        if self.decode(cut, true)? != self.decode(cut, false)? {
            return Err(LabError::ControlToken { document: document.name().to_owned(), start, end });
        }
        let Framing { frame, prefix, suffix } = &self.frame;
        let ids_fed = [prefix, cut, suffix].concat();
        let (head, tail) =
            (&ids_fed[..ids_fed.len().min(SHOWN)], &ids_fed[ids_fed.len().saturating_sub(SHOWN)..]);
        Ok(Prompt {
            text: self.decode(&ids_fed, false)?,
            source: PromptSource {
                document: document.name().to_owned(),
                file_blake3: document.file_blake3().to_hex().to_string(),
                text_blake3: document.text_blake3().to_hex().to_string(),
                document_tokens: ids.len(),
                start,
                end,
                prefix_tokens: prefix.len(),
                suffix_tokens: suffix.len(),
                frame: *frame,
                head: self.decode(head, false)?,
                tail: self.decode(tail, false)?,
            },
            ids: ids_fed,
        })
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, LabError> {
        let failed = |reason| LabError::Tokenizer { what: format!("decoding {} tokens", ids.len()), reason };
        self.tokenizer.decode(ids, skip_special).map_err(failed)
    }
}

fn encode(tokenizer: &impl Tokenize, text: &str, of: &str) -> Result<Vec<u32>, LabError> {
    tokenizer.encode(text).map_err(|reason| LabError::Tokenizer { what: format!("encoding {of}"), reason })
}
