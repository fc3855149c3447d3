//! Prompts of an exact number of tokens, cut from documents, with the batch neighbours they run beside.
//!
//! A prompt is a text, `before + slice + after`, and the ids of that text, encoded whole: what a model is fed for it.
//! The slice is a part of a document; before and after are what the model's chat template puts around it (after begins
//! with the instruction), or the instruction alone.
//!
//! Every prompt has the same number of tokens: `prefix + N + suffix`, where N tokens have some of the slice in them. So
//! no padding is needed. A slice is N tokens of the document, encoded whole, wherever the prompt's ids are then those
//! of its three parts. Where they are not (a tokenizer that puts a space before a text, a token that would join the
//! slice and the instruction, a template that strips what it is given), the slice begins at the first character
//! behind that is no white space, and ends where the whole text's ids have N of it; if none ends so, the next token
//! begins it.
//!
//! Slices follow each other: slice k of a document is its tokens `[k·N, (k+1)·N)` unless one before it began later.
//! Reference k is slice k of the first document. Neighbours are the slices of the second, third, … document in order,
//! then those of the first document after the references; a slice whose ids equal a reference's or an earlier
//! neighbour's is skipped. They are dealt out in turns (first one to each reference, then a second one to each), so
//! that a set made for batch 4 begins with the neighbours of the set made for batch 2. No neighbour serves two
//! references.
//!
//! Prompts may also be given as they are ([`given`]).
//!
//! Left out: what a document is (see [`crate::document`]), padding.

use std::collections::{HashMap, HashSet};

use mantissa_model::Message;
pub use mantissa_model::tokenizer::Placed;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::LabError;

mod fault;
pub mod given;
pub mod taken;
mod tokenize;

pub use fault::PromptFault;
use given::Given;
pub use tokenize::Tokenize;

/// What follows the document unless said otherwise.
pub const INSTRUCTION: &str = "Provide a summary of the text above.";

/// Tokens at either end of a prompt that its source shows decoded.
const SHOWN: usize = 24;

/// Tokens that are tried one after the other as the first of a slice.
const STARTS: usize = 512;

/// Ends that are tried for one beginning: each is nearer by the tokens that are missing or too many.
const ENDS: usize = 12;

/// Stands for the document while the chat template is rendered. Plain letters, which no template escapes.
const PLACEHOLDER: &str = "qMantissaDocumentGoesHereq";

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
    /// Prompts that are taken as they are instead ([`taken::set`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// Whether the model's chat template frames the prompt. If not, it is: system message if any, document,
    /// instruction, with the tokens that the tokenizer puts around a text.
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
            given: None,
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
    /// The text whose ids they are.
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
    /// First document token of this prompt, of the document encoded whole.
    pub start: usize,
    /// `start` and the number of tokens that the slice has in the prompt.
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
    /// Nothing: a text as it was given, with the tokens that the tokenizer puts around one.
    Text,
    /// Nothing: ids as they were given.
    Ids,
}

/// References and, for each, its neighbours.
///
/// ```
/// use mantissa_lab::document::Document;
/// use mantissa_model::Message;
/// use mantissa_lab::prompt::{Frame, Placed, PromptSet, PromptSpec, Tokenize};
///
/// /// A token for each character.
/// struct Characters;
///
/// impl Tokenize for Characters {
///     fn encode(&self, text: &str, _special: bool) -> Result<Vec<Placed>, String> {
///         let placed = |(at, c): (usize, char)| Placed { id: u32::from(c), bytes: Some((at, at + c.len_utf8())) };
///         Ok(text.char_indices().map(placed).collect())
///     }
///
///     fn decode(&self, ids: &[u32], _skip_special: bool) -> Result<String, String> {
///         ids.iter().map(|id| char::from_u32(*id).ok_or_else(|| format!("no character {id}"))).collect()
///     }
///
///     fn render(&self, _: &[Message], _: bool) -> Result<Option<String>, String> {
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
        let mut cutter = Cutter { tokenizer, spec, frame, around: None };
        let mut first = Slices::new(first, tokenizer)?;
        let references = cutter.references(&mut first)?;
        let neighbours = cutter.neighbours(documents, first, &references)?;
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

/// The text around every slice.
struct Framing {
    frame: Frame,
    before: String,
    after: String,
    /// Tokens of either, each encoded by itself.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    /// Tokens behind a slice that ends in letters.
    behind: usize,
}

impl Framing {
    fn new(spec: &PromptSpec, tokenizer: &impl Tokenize) -> Result<Self, LabError> {
        let instruction = &spec.instruction;
        if !spec.chat_template {
            let before = spec.system.as_ref().map_or_else(String::new, |system| format!("{system}\n\n"));
            let after = format!("\n\n{instruction}\n");
            let framed = encode(tokenizer, "a", true, "a letter")?;
            let put = |token: &&Placed| token.bytes.is_none();
            let begins: Vec<u32> = framed.iter().take_while(put).map(|token| token.id).collect();
            let ends = framed.iter().rev().take_while(put).map(|token| token.id);
            let frame =
                if begins.is_empty() { Frame::DocumentInstruction } else { Frame::BosDocumentInstruction };
            let mut found = Self::of(frame, before, after, spec, tokenizer)?;
            found.prefix.splice(0..0, begins);
            found.suffix.extend(ends.collect::<Vec<_>>().into_iter().rev());
            return Ok(found);
        }
        let rendered = render(spec, PLACEHOLDER, tokenizer)?;
        let parts: Vec<&str> = rendered.split(PLACEHOLDER).collect();
        let [before, after] = parts[..] else {
            return Err(LabError::ChatTemplateOpaque { times: parts.len() - 1 });
        };
        Self::of(Frame::ChatTemplate, before.to_owned(), after.to_owned(), spec, tokenizer)
    }

    fn of(
        frame: Frame,
        before: String,
        after: String,
        spec: &PromptSpec,
        tokenizer: &impl Tokenize,
    ) -> Result<Self, LabError> {
        let ids = |tokens: Vec<Placed>| tokens.into_iter().map(|token| token.id).collect();
        let prefix = ids(encode(tokenizer, &before, false, "what stands before the document")?);
        let suffix = ids(encode(tokenizer, &after, false, "what stands behind the document")?);
        let probe = format!("{before}{PLACEHOLDER}{after}");
        let probe = encode(tokenizer, &probe, !spec.chat_template, "what stands around the document")?;
        let end = before.len() + PLACEHOLDER.len();
        let behind =
            probe.iter().rev().take_while(|token| token.bytes.is_none_or(|(from, _)| from >= end)).count();
        Ok(Self { frame, before, after, prefix, suffix, behind })
    }
}

/// The chat template's text for a slice.
fn render(spec: &PromptSpec, slice: &str, tokenizer: &impl Tokenize) -> Result<String, LabError> {
    let user = Message::new("user", format!("{slice}\n\n{}", spec.instruction));
    let system = spec.system.as_deref().map(|system| Message::new("system", system));
    let messages: Vec<Message> = system.into_iter().chain([user]).collect();
    tokenizer
        .render(&messages, true)
        .map_err(|reason| LabError::Tokenizer { what: "rendering the chat template".to_owned(), reason })?
        .ok_or(LabError::NoChatTemplate)
}

/// A document with its tokens, cut from the beginning on.
struct Slices<'d> {
    document: &'d Document,
    tokens: Vec<Placed>,
    /// First token that no slice has.
    next: usize,
}

impl<'d> Slices<'d> {
    fn new(document: &'d Document, tokenizer: &impl Tokenize) -> Result<Self, LabError> {
        let tokens = encode(tokenizer, document.text(), false, document.name())?;
        Ok(Self { document, tokens, next: 0 })
    }

    /// The bytes of a token.
    fn bytes(&self, token: usize) -> Option<(usize, usize)> {
        self.tokens.get(token)?.bytes
    }
}

/// A slice in its prompt.
struct Fitted {
    /// First token of the slice, of the document's.
    start: usize,
    /// First token of the document that no part of the slice is in.
    end: usize,
    text: String,
    ids: Vec<u32>,
    /// Tokens before the slice and behind it.
    around: [usize; 2],
}

/// The text of a prompt around a slice, and its tokens.
struct Whole {
    /// Bytes of the slice in the document.
    place: (usize, usize),
    text: String,
    tokens: Vec<Placed>,
}

/// What became of a slice of N tokens of the document.
enum Tried {
    Fits(Fitted),
    /// The whole text has other ids; itself, where it was encoded.
    Differs(Option<Whole>),
}

struct Cutter<'a, T> {
    tokenizer: &'a T,
    spec: &'a PromptSpec,
    frame: Framing,
    /// Tokens around the slice of every prompt, as the first has them.
    around: Option<[usize; 2]>,
}

impl<T: Tokenize> Cutter<'_, T> {
    /// The first slices of a document.
    fn references(&mut self, from: &mut Slices<'_>) -> Result<Vec<Prompt>, LabError> {
        let (count, length) = (self.spec.references, self.spec.document_tokens);
        let needed = count as u128 * length as u128;
        let short = |tokens| LabError::DocumentTooShort {
            document: from.document.name().to_owned(),
            tokens,
            references: count,
            document_tokens: length,
            needed,
        };
        let tokens = from.tokens.len();
        if (tokens as u128) < needed {
            return Err(short(tokens));
        }
        let short = short(tokens);
        let mut seen = HashMap::new();
        let mut prompts = Vec::with_capacity(count);
        for second in 0..count {
            let Some(fitted) = self.fit(from)? else { return Err(short) };
            if let Some(first) = seen.insert(slice_of(&fitted).to_vec(), second) {
                let (document, document_tokens) = (from.document.name().to_owned(), length);
                return Err(LabError::ReferencesEqual { document, first, second, document_tokens });
            }
            prompts.push(self.prompt(from, fitted)?);
        }
        Ok(prompts)
    }

    /// For each reference its neighbours; `first` is what the references left of the first document.
    fn neighbours(
        &mut self,
        documents: &[Document],
        first: Slices<'_>,
        references: &[Prompt],
    ) -> Result<Vec<Vec<Prompt>>, LabError> {
        let (count, beside) = (self.spec.references, self.spec.neighbours);
        let needed = count as u128 * beside as u128;
        let of = |prompt: &Prompt| {
            prompt.ids[prompt.source.prefix_tokens..prompt.ids.len() - prompt.source.suffix_tokens].to_vec()
        };
        let mut taken: HashSet<Vec<u32>> = references.iter().map(of).collect();
        let mut found: Vec<Prompt> = Vec::new();
        let mut left = Some(first);
        for document in documents[1..].iter().map(Some).chain([None]) {
            if found.len() as u128 == needed {
                break;
            }
            let slices = match document {
                Some(document) => Some(Slices::new(document, self.tokenizer)?),
                None => left.take(),
            };
            let Some(mut slices) = slices else { break };
            while (found.len() as u128) < needed {
                let Some(fitted) = self.fit(&mut slices)? else { break };
                if taken.insert(slice_of(&fitted).to_vec()) {
                    found.push(self.prompt(&slices, fitted)?);
                }
            }
        }
        if (found.len() as u128) < needed {
            return Err(LabError::NeighboursTooFew {
                found: found.len(),
                needed,
                document_tokens: self.spec.document_tokens,
                documents: documents.len(),
                references: count,
                batch_size: beside.saturating_add(1),
            });
        }
        let mut dealt = vec![Vec::with_capacity(beside); count];
        for (turn, prompt) in found.into_iter().enumerate() {
            dealt[turn % count].push(prompt);
        }
        Ok(dealt)
    }

    /// The next slice of a document; `None` where its tokens are too few.
    fn fit(&mut self, from: &mut Slices<'_>) -> Result<Option<Fitted>, LabError> {
        let length = self.spec.document_tokens;
        let first = from.next;
        for start in first..first.saturating_add(STARTS) {
            if start.checked_add(length).is_none_or(|end| end > from.tokens.len()) {
                return Ok(None);
            }
            let fitted = match self.parts(from, start)? {
                Tried::Fits(fitted) => Some(fitted),
                Tried::Differs(encoded) => self.search(from, start, encoded)?,
            };
            if let Some(fitted) = fitted {
                self.around = Some(fitted.around);
                from.next = fitted.end;
                return Ok(Some(fitted));
            }
        }
        let document = from.document.name().to_owned();
        Err(PromptFault::NoExactSlice { document, document_tokens: length, start: first, tried: STARTS }
            .into())
    }

    /// The slice of N tokens from `start` on, if the ids of the whole text are those of its parts.
    fn parts(&self, from: &Slices<'_>, start: usize) -> Result<Tried, LabError> {
        let Framing { prefix, suffix, .. } = &self.frame;
        let end = start + self.spec.document_tokens;
        let (Some((begin, _)), Some((_, stop))) = (from.bytes(start), from.bytes(end - 1)) else {
            return Ok(Tried::Differs(None));
        };
        let Some(whole) = self.whole(from, begin, stop)? else { return Ok(Tried::Differs(None)) };
        let cut = from.tokens[start..end].iter().map(|token| token.id);
        let ids: Vec<u32> = prefix.iter().copied().chain(cut).chain(suffix.iter().copied()).collect();
        let around = [prefix.len(), suffix.len()];
        let same = whole.tokens.iter().map(|token| token.id).eq(ids.iter().copied());
        Ok(if same && self.around.is_none_or(|of| of == around) {
            Tried::Fits(Fitted { start, end, text: whole.text, ids, around })
        } else {
            Tried::Differs(Some(whole))
        })
    }

    /// The slice from the first character of token `start` on that is no white space, of which the whole text has N
    /// tokens; its end is looked for from where N tokens of the document end. `encoded` was encoded before.
    fn search(
        &self,
        from: &Slices<'_>,
        start: usize,
        mut encoded: Option<Whole>,
    ) -> Result<Option<Fitted>, LabError> {
        let length = self.spec.document_tokens;
        let Some((at, _)) = from.bytes(start) else { return Ok(None) };
        // A token within a character that another begins.
        let inside = start > 0 && from.bytes(start - 1).is_some_and(|(_, end)| end > at);
        let Some(rest) = from.document.text().get(at..).filter(|_| !inside) else { return Ok(None) };
        let begin = at + (rest.len() - rest.trim_start().len());
        let mut last = start + length - 1;
        for _ in 0..ENDS {
            let Some((_, stop)) = from.bytes(last).filter(|(_, stop)| *stop > begin) else { return Ok(None) };
            let whole = match encoded.take().filter(|whole| whole.place == (begin, stop)) {
                None => self.whole(from, begin, stop)?,
                known => known,
            };
            let Some(Whole { text, tokens, .. }) = whole else { return Ok(None) };
            let (offset, end) = (self.frame.before.len(), self.frame.before.len() + (stop - begin));
            let touches = |token: &Placed| token.bytes.is_some_and(|(a, b)| a < end && b > offset);
            let (Some(one), Some(other)) =
                (tokens.iter().position(touches), tokens.iter().rposition(touches))
            else {
                return Ok(None);
            };
            let (count, around) = (other - one + 1, [one, tokens.len() - 1 - other]);
            if count == length {
                let wanted = self.around.unwrap_or([one, self.frame.behind]);
                let behind =
                    from.tokens[last..].iter().position(|token| token.bytes.is_some_and(|(a, _)| a >= stop));
                let ids = tokens.iter().map(|token| token.id).collect();
                let end = behind.map_or(from.tokens.len(), |more| last + more).max(start + length);
                return Ok((around == wanted).then_some(Fitted { start, end, text, ids, around }));
            }
            let Some(next) = (last + length).checked_sub(count).filter(|next| *next != last) else {
                return Ok(None);
            };
            last = next;
        }
        Ok(None)
    }

    /// The text around the bytes of a document, and its tokens; `None` where they are no characters, or the template
    /// would show something else.
    fn whole(&self, from: &Slices<'_>, begin: usize, stop: usize) -> Result<Option<Whole>, LabError> {
        let Some(slice) = from.document.text().get(begin..stop) else { return Ok(None) };
        let text = [self.frame.before.as_str(), slice, &self.frame.after].concat();
        let shown = !self.spec.chat_template || render(self.spec, slice, self.tokenizer)? == text;
        if !shown {
            return Ok(None);
        }
        let tokens = encode(self.tokenizer, &text, !self.spec.chat_template, from.document.name())?;
        Ok(Some(Whole { place: (begin, stop), text, tokens }))
    }

    fn prompt(&self, from: &Slices<'_>, fitted: Fitted) -> Result<Prompt, LabError> {
        let document = from.document;
        let (start, end) = (fitted.start, fitted.start + self.spec.document_tokens);
        let cut = slice_of(&fitted);
        // Text that spells `<|im_end|>` would end the user's turn in the middle of the document.
        if self.decode(cut, true)? != self.decode(cut, false)? {
            return Err(LabError::ControlToken { document: document.name().to_owned(), start, end });
        }
        let Fitted { text, ids, around, .. } = fitted;
        let (head, tail) = (&ids[..ids.len().min(SHOWN)], &ids[ids.len().saturating_sub(SHOWN)..]);
        Ok(Prompt {
            text,
            source: PromptSource {
                document: document.name().to_owned(),
                file_blake3: document.file_blake3().to_hex().to_string(),
                text_blake3: document.text_blake3().to_hex().to_string(),
                document_tokens: from.tokens.len(),
                start,
                end,
                prefix_tokens: around[0],
                suffix_tokens: around[1],
                frame: self.frame.frame,
                head: self.decode(head, false)?,
                tail: self.decode(tail, false)?,
            },
            ids,
        })
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, LabError> {
        let failed = |reason| LabError::Tokenizer { what: format!("decoding {} tokens", ids.len()), reason };
        self.tokenizer.decode(ids, skip_special).map_err(failed)
    }
}

/// The ids of a prompt that have some of the slice in them.
fn slice_of(fitted: &Fitted) -> &[u32] {
    &fitted.ids[fitted.around[0]..fitted.ids.len() - fitted.around[1]]
}

fn encode(tokenizer: &impl Tokenize, text: &str, special: bool, of: &str) -> Result<Vec<Placed>, LabError> {
    let failed = |reason| LabError::Tokenizer { what: format!("encoding {of}"), reason };
    tokenizer.encode(text, special).map_err(failed)
}
